"""What planted units should detect, how they are measured, and how they are fitted, on few scenes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_scenes import drawn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score, roc_auc_score

from tasks.miniature.scene import Scene, Wish, draw_scene, scene_at
from tasks.miniature.training import planted
from tasks.miniature.training.data import _render_chunk, grid_of
from tasks.miniature.training.evaluate import cell_centres
from tasks.miniature.training.planted import Sample, draw_pairs, fit_detectors, passes
from tasks.miniature.training.planted_truth import auroc, in_cells, measure, occurrence, overlap, positions
from tasks.miniature.vocabulary import CATEGORIES, CATEGORY_OF, CONCEPTS, GRID, HELD_OUT, PARTS_OF
from tasks.models.planted_facts import PlantedUnit


def scene(*wishes: Wish, background: str = "brick wall") -> Scene:
    return draw_scene(np.random.default_rng(0), background=background, wishes=wishes)


SCENES = (
    scene(Wish("fish", "red", "solid"), Wish("car", "blue", "dotted")),
    scene(Wish("fish", "blue", "dotted"), Wish("car", "red", "solid")),
    scene(Wish("fish", "red", "dotted"), background="cloudy sky"),
    scene(Wish("tree", "green", "solid"), background="cloudy sky"),
)


@pytest.mark.parametrize(
    ("op", "concepts", "expected"),
    [
        ("single", ["red"], [1, 1, 1, 0]),
        ("and", ["fish", "red"], [1, 0, 1, 0]),
        ("and", ["red", "solid"], [1, 1, 0, 0]),
        ("and", ["red", "cloudy sky"], [0, 0, 1, 0]),
        ("and", ["solid", "brick wall"], [1, 1, 0, 0]),
        ("or", ["green", "car"], [1, 1, 0, 1]),
        ("or", ["brick wall", "cloudy sky"], [1, 1, 1, 1]),
    ],
)
def test_an_object_must_carry_both_concepts_of_and(op, concepts, expected):
    assert occurrence(SCENES, op, concepts).astype(int).tolist() == expected


@pytest.fixture(scope="module")
def pictures():
    scenes = [scene for scene, _ in drawn()]
    return scenes, cell_centres([picture for _, picture in drawn()])


def test_the_grid_is_that_of_the_rendered_data(pictures):
    rows = _render_chunk(("test", 0, 3))
    assert np.array_equal(np.stack([grid_of(layers) for layers in rows["layers"]]), pictures[1][:3])


def test_positions_agree_with_occurrence(pictures):
    """A scene shows a unit's truth exactly where some position does; the cell centres find every body colour."""
    scenes, grid = pictures
    for op, concepts in (
        ("single", ("fish",)),
        ("and", ("red", "solid")),
        ("and", ("tree", "brick wall")),
        ("and", ("dotted", "cloudy sky")),
        ("or", ("blue", "cup")),
        ("or", ("starry night", "sandy beach")),
    ):
        found = positions(scenes, grid, op, concepts)
        assert found.shape == (len(scenes), GRID, GRID)
        assert np.array_equal(found.any((1, 2)), occurrence(scenes, op, concepts)), (op, concepts)


def test_cells_hold_what_a_position_in_them_shows():
    shown = np.zeros((2, 16, 16), bool)
    shown[0, 7, 8], shown[1, 15, 0] = True, True
    assert in_cells(shown, 2).astype(int).tolist() == [[[0, 1], [0, 0]], [[0, 0], [1, 0]]]
    assert in_cells(shown, 16).tolist() == shown.tolist()


def test_auroc_and_overlap_are_scikit_learns():
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 9, 80) / 8, rng.random(80) < 0.3
    assert auroc(scores[truth], scores[~truth]) == pytest.approx(roc_auc_score(truth, scores))
    found, shown = rng.random((5, 4, 4)) < 0.4, rng.random((5, 4, 4)) < 0.5
    assert overlap(found, shown) == pytest.approx(jaccard_score(shown.ravel(), found.ravel()))
    assert auroc(scores[truth], scores[:0]) == auroc(scores[:0], scores) == overlap(found & False, shown & False) == 0


def perfect(scenes, grid, op, concepts):
    return torch.from_numpy(in_cells(positions(scenes, grid, op, concepts), 2)).float()


@pytest.mark.parametrize(
    ("op", "concepts"), [("single", ("red",)), ("and", ("red", "solid")), ("or", ("red", "solid"))]
)
def test_a_perfect_unit_measures_one_and_an_inverted_one_zero(pictures, op, concepts):
    scenes, grid = pictures
    maps = perfect(scenes, grid, op, concepts)
    unit = measure(op, concepts, maps, scenes, grid)
    assert (unit.auroc, unit.strict_auroc, unit.cell_iou) == (1, 1, 1)
    assert 0 < unit.iou < 1
    assert unit.share == pytest.approx(occurrence(scenes, op, concepts).mean(), abs=1e-4)
    assert passes(unit)
    assert measure(op, concepts, 1 - maps, scenes, grid).strict_auroc == 0


def many(count: int = 600):
    scenes = [scene_at("test", number) for number in range(count)]
    return scenes, np.zeros((count, 4, 16, 16), np.uint8)


def pooled(shown) -> torch.Tensor:
    return torch.from_numpy(np.asarray(shown, dtype=np.float32))[:, None, None].expand(-1, 2, 2)


def test_the_strict_figure_refuses_shortcuts():
    """Each unit here looks good against all images, and detects something simpler than it says."""
    scenes, grid = many()
    red, solid, fish = (occurrence(scenes, "single", [name]) for name in ("red", "solid", "fish"))
    owned = occurrence(scenes, "or", ["car", "house"])
    apart = measure("and", ("red", "solid"), pooled(red & solid), scenes, grid)
    one = measure("and", ("red", "solid"), pooled(red), scenes, grid)
    half = measure("or", ("fish", "blue"), pooled(fish), scenes, grid)
    owner = measure("single", ("window",), pooled(owned), scenes, grid)
    assert min(apart.auroc, one.auroc, owner.auroc) > 0.9
    assert apart.strict_auroc == one.strict_auroc == half.strict_auroc == owner.strict_auroc == 0.5
    plain = measure("single", ("fish",), pooled(fish | red), scenes, grid)
    assert plain.strict_auroc == plain.auroc < 1


def test_drawn_pairs_are_seeded_common_and_sensible():
    scenes = [scene_at("train", number) for number in range(700)]
    concepts = [name for name in CONCEPTS if name not in ("striped", "checked")]
    pairs = draw_pairs(concepts, scenes)
    assert pairs == draw_pairs(concepts, scenes)
    assert len({(op, frozenset(pair)) for op, pair in pairs}) == len(pairs) > 80
    held_out = {frozenset(pair) for pair in HELD_OUT}
    for op, pair in pairs:
        assert planted.LEAST_SHARE <= occurrence(scenes, op, pair).mean() <= planted.GREATEST_SHARE
        categories = tuple(CATEGORY_OF[name] for name in pair)
        assert (op, *categories) in planted.PAIRS
        assert op == "or" or frozenset(pair) not in held_out
    without = draw_pairs([name for name in concepts if name not in CATEGORIES["scene"]], scenes)
    assert [pair for pair in pairs if pair[0] == "and" and CATEGORY_OF[pair[1][1]] != "scene"] == [
        pair for pair in without if pair[0] == "and"
    ]


def test_parts_that_their_kind_never_lacks_are_not_planted():
    always = {part for parts in PARTS_OF.values() for part in parts} - set(planted.SINGLES)
    assert always == {"eye", "tail", "roof", "trunk", "wheel", "mast", "stem"}
    scenes, _ = many(300)
    for part in always:
        owners = [kind for kind, parts in PARTS_OF.items() if part in parts]
        assert np.array_equal(occurrence(scenes, "single", [part]), occurrence(scenes, "or", owners))


def test_detectors_are_the_penalised_logistic_regression(monkeypatch, pictures):
    scenes, grid = pictures
    monkeypatch.setattr(planted, "PENALTY", 0.01)
    features = torch.randn(len(scenes), 5, 2, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1
    cells = in_cells(positions(scenes, grid, "single", ["solid"]), 2)
    features[:, 0] += torch.from_numpy(cells).float() * 12
    found = fit_detectors(Sample(scenes, grid, features))
    assert found["weight"].shape == (len(CONCEPTS), 5)
    x = features.permute(0, 2, 3, 1).flatten(0, 2)
    mean, scale = x.mean(0), x.std(0)
    # The mean loss plus 0.01 · |w|² / 2 is scikit-learn's objective over C · n.
    reference = LogisticRegression(C=1 / (0.01 * len(x)), tol=1e-10).fit(((x - mean) / scale).numpy(), cells.ravel())
    row = CONCEPTS.index("solid")
    slope = torch.from_numpy(reference.coef_[0]).float() / scale
    intercept = float(reference.intercept_[0]) - float(slope @ mean)
    shown = torch.from_numpy(cells.ravel())
    louder = planted.STRENGTH / float((x @ slope + intercept)[shown].median())
    assert 0 < louder < planted.STRENGTH
    assert torch.allclose(found["weight"][row], louder * slope, atol=0.01)
    assert float(found["bias"][row]) == pytest.approx(louder * intercept, rel=0.01)


@pytest.mark.parametrize("figure", ["auroc", "strict_auroc", "cell_iou"])
def test_each_bar_counts(figure):
    good = {"share": 0.1, "auroc": 0.96, "strict_auroc": 0.96, "iou": 0.0, "cell_iou": 0.6}
    assert passes(PlantedUnit(op="single", concepts=("red",), **good))
    assert not passes(PlantedUnit(op="single", concepts=("red",), **{**good, figure: 0.49}))
