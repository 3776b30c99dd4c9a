"""Linear Explanations against the numbers of the release, and their properties."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from small_observation import TableEncoder, observation, toolbox

from baselines.linear import LinearExplanation, Prepared, calibrate, explain, probability
from baselines.linear.explanation import released_fit
from baselines.linear.method import split
from tasks.common.errors import UserError
from tasks.observation import ConceptPresence

GOLDEN = Path(__file__).parents[1] / "data" / "activation_methods.npz"
SPARSE = 22  # a unit at which the release stops with a TypeError
SETS = ("linear_label", "linear_siglip")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def cosines(golden):
    return golden["in/embeddings"] @ golden["in/text"].T


@pytest.fixture(scope="module")
def values(golden, cosines):
    scale, shift, _ = golden["calibration/clip"]
    return {
        "linear_label": golden["in/presence"].astype(np.float32),
        "linear_siglip": probability(cosines, scale, shift).astype(np.float32),
    }


def images(golden):
    return {"train": golden["in/train"], "validation": golden["in/validation"]}


def test_calibration_is_at_least_as_good_as_the_best_point_of_the_releases_grid(golden, cosines):
    scale, shift = calibrate(cosines, golden["in/presence"])
    best = golden["calibration/clip"]
    assert (scale, shift) == (pytest.approx(best[0], abs=0.5), pytest.approx(best[1], abs=0.01))
    chance, shown = probability(cosines.astype(float), scale, shift), golden["in/presence"]
    entropy = -np.where(shown, np.log(chance), np.log1p(-chance)).mean()
    assert best[2] - 1e-4 < entropy <= best[2]


@pytest.mark.parametrize("name", SETS)
def test_the_same_concepts_are_left_out_and_the_first_fit_is_that_of_the_release(name, golden, values):
    given = Prepared(values[name], golden["in/train"], "code")
    assert given.kept.tolist() == np.flatnonzero(golden[f"{name}/kept"]).tolist()
    for unit in (0, 7, 16, 20):
        weights = released_fit(given, golden["in/activations"][:, unit].astype(float), 0.05)
        assert np.abs(weights - golden[f"{name}/first_fit"][unit, given.kept]).max() < 3e-4


@pytest.mark.parametrize("name", SETS)
def test_with_its_candidates_code_chooses_what_the_release_chooses(name, golden, values):
    given = Prepared(values[name], golden["in/train"], "code")
    same = []
    units = (0, 3, 7, 11, 14, 16, 20)
    for unit in units:
        order = golden[f"{name}/order"][unit]
        found = explain(golden["in/activations"][:, unit], given, order=order, mode="code", **images(golden))
        assert found is not None
        wanted = golden[f"{name}/concepts"][unit]
        same.append(set(found.concepts) == set(wanted[wanted >= 0]))
        assert abs(found.correlation - golden[f"{name}/validation_correlation"][unit]) < 0.025
        if same[-1]:
            largest = np.abs(golden[f"{name}/weights"][unit]).max()
            assert (
                np.abs(np.array(found.weights) - golden[f"{name}/weights"][unit][: len(found.weights)]).max()
                < 0.1 * largest
            )
    # Seeds of the release agree with each other in 94 to 97 %.
    assert sum(same) >= len(units) - 1


def test_fixed_finds_the_planted_sums_and_simulates_them(golden, values):
    given = Prepared(values["linear_label"], golden["in/train"], "fixed")
    for unit in (6, 10, 16):
        found = explain(golden["in/activations"][:, unit], given, **images(golden))
        assert found is not None
        planted = re.findall(r"\d+(?![.\d])", str(golden["in/planted"][unit]).replace("*", " * "))
        assert found.concepts[0] in set(map(int, planted))
        assert list(found.weights) == sorted(found.weights, reverse=True)
        simulated = found.simulate(values["linear_label"])
        test = golden["in/test"]
        assert np.corrcoef(simulated[test], golden["in/activations"][test, unit])[0, 1] > 0.3


def test_names_belong_to_weights():
    draw = np.random.default_rng(0)
    concepts = (draw.random((300, 6)) < 0.4).astype(float)
    activations = 3 * concepts[:, 4] - 2 * concepts[:, 1] + concepts[:, 0] + 5
    for mode in ("fixed", "code"):
        found = explain(activations, concepts, train=np.arange(240), validation=np.arange(240, 300), mode=mode)
        assert found.concepts == (4, 0, 1)
        assert found.weights == pytest.approx((3, 1, -2), abs=1e-6 if mode == "fixed" else 0.3)
        assert found.correlation > 0.99
    assert found.simulate(concepts) == pytest.approx(activations, abs=0.6)


def test_rare_and_constant_concepts_explain_nothing_and_copies_are_no_hindrance():
    draw = np.random.default_rng(1)
    common = (draw.random(200) < 0.5).astype(float)
    rare, full, untrained = np.zeros(200), np.ones(200), np.zeros(200)
    rare[:2], untrained[160:] = 1, 1
    concepts = np.stack([rare, full, untrained, common, common], 1)
    given = Prepared(concepts, np.arange(160), "fixed")
    assert given.kept.tolist() == [3, 4]
    found = explain(common + 0.1 * draw.random(200), given, train=np.arange(160), validation=np.arange(160, 180))
    assert set(found.concepts) <= {3, 4}
    assert explain(rare, Prepared(concepts[:, :2], np.arange(160), "fixed"), train=np.arange(160)) is None
    assert explain(np.full(200, 2.0), given, train=np.arange(160)) is None


def labelled(golden, units, **options):
    names = tuple(f"c{number}" for number in range(60))
    seen = observation(
        torch.from_numpy(golden["in/activations"]),
        clip_embeddings=torch.from_numpy(golden["in/embeddings"]),
        presence=ConceptPresence(names, golden["in/presence"]),
    )
    tools = toolbox(
        clip=TableEncoder(dict(zip(names, torch.from_numpy(golden["in/text"]), strict=True))), concepts=names
    )
    return LinearExplanation(**options).label(seen, units, tools)


@pytest.mark.parametrize(
    "options", [{}, {"concepts": "clip", "scale": 11.7, "shift": -0.21}], ids=["annotation", "clip"]
)
def test_one_unit_alone_gets_what_it_gets_among_all(options, golden):
    together = labelled(golden, [20, 6, 0], **options)
    assert labelled(golden, [6], **options) == together[1:2]
    for labels in together:
        assert labels.ranked
        assert len(labels.extra["sum"]) <= 10
        assert labels.extra["correlation"] > 0.1
        positive = [name for name, weight in labels.extra["sum"] if weight > 0]
        assert labels.ranked[0].text == " ".join(positive)


def test_both_concepts_of_a_planted_and_are_named(golden):
    (found,) = labelled(golden, [6])
    first, second = str(golden["in/planted"][6]).split("&")
    assert {f"c{first}", f"c{second}"} <= set(found.ranked[0].text.split())
    assert found.extra["test_correlation"] > 0.4


def test_the_split_depends_on_identifiers_and_seed_alone():
    ids = [f"image-{number}" for number in range(200)]
    parts = split(ids, 3)
    assert [len(part) for part in parts] == [140, 20, 40]
    assert sorted(np.concatenate(parts)) == list(range(200))
    turned = split(ids[::-1], 3)
    assert {ids[place] for place in parts[0]} == {ids[::-1][place] for place in turned[0]}
    assert set(split(ids, 4)[0]) != set(parts[0])


def test_dead_units_and_units_without_a_positive_concept_get_no_label():
    shown = np.random.default_rng(2).random((100, 2)) < 0.5
    presence = ConceptPresence(("red", "fish"), shown)
    activations = torch.tensor(np.stack([np.zeros(100), -1.0 * shown[:, 0]], 1))
    dead, negative = LinearExplanation().label(observation(activations, presence=presence), [0, 1], toolbox())
    assert dead.ranked == negative.ranked == ()
    assert dead.extra == {"dead": True}
    assert negative.extra["sum"][0][0] == "red"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LinearExplanation(concepts="words"), "Unknown source of concepts 'words'"),  # type: ignore[arg-type]
        (lambda: LinearExplanation(width=0), "width of linear must be at least 1"),
        (lambda: LinearExplanation(scale=-1), "scale and penalty of linear must be positive"),
        (
            lambda: LinearExplanation().label(observation(torch.rand(9, 2)), [0], toolbox()),
            "linear needs images with concept annotation, which these do not have: use --set linear.concepts=clip",
        ),
        (
            lambda: LinearExplanation(concepts="clip").label(observation(torch.rand(9, 2)), [0], toolbox()),
            "linear needs a CLIP model",
        ),
    ],
)
def test_mistakes_get_one_sentence(call, message):
    with pytest.raises(UserError, match=message):
        call()
