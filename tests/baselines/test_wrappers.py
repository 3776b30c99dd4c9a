"""Methods around other methods: several labels per unit, and sets of labels from resampled probing sets."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_observation import TableEncoder, observation, toolbox

from baselines import registry
from baselines.base import Label, UnitLabels
from baselines.costs import Amount, Cost
from baselines.set_of import SetOf, labels_of_draws, resampled_images
from baselines.several import FEWEST, Several, clustered
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from tasks.common.errors import UserError
from tasks.observation import ConceptPresence, Segmentation

CONCEPTS = ("ant", "bee", "cow", "dog")
TOOLS = toolbox(clip=TableEncoder({c: row for c, row in zip(CONCEPTS, torch.eye(4), strict=True)}), concepts=CONCEPTS)
PLAIN = ("clip_dissect", "semantic_lens", "csp", "random_label", "constant_label")


def scenes(images: int = 400, units: int = 6, seed: int = 0):
    """Images of one of four concepts; unit 0 answers to ant or bee, the others to noise."""
    random = np.random.default_rng(seed)
    shown = random.integers(4, size=images)
    activations = torch.from_numpy(random.random((images, units))).float()
    activations[:, 0] += torch.from_numpy(10.0 * (shown < 2))
    embeddings = torch.eye(4)[shown] + 0.05 * torch.from_numpy(random.standard_normal((images, 4))).float()
    return observation(activations, clip_embeddings=torch.nn.functional.normalize(embeddings, dim=1))


class Recorder:
    """Labels by the strongest image, and remembers what it was shown."""

    name, version, needs = "recorder", "3", frozenset({"maps", "presence"})
    citation, uses_perturbations, tuned_on, split = ("some paper",), ("fog",), ("frost",), "units"

    def __init__(self) -> None:
        self.seen = []

    def cost(self, units, images):
        return Cost(generated=Amount(units, images), summary_captions=7)

    def label(self, seen, units, tools):
        self.seen.append(seen)
        best = [int(seen.activations[:, unit].argmax()) for unit in units]
        return [UnitLabels(u, (Label(seen.image_ids[image], 1.0),)) for u, image in zip(units, best, strict=True)]


# ---- names, options and facts ----


def test_a_wrapped_method_has_the_facts_of_the_method_inside():
    inner = Recorder()
    for outer, times in ((Several(inner, clusters=3), 3), (SetOf(inner, resamples=20), 20)):
        assert outer.name == f"{outer.wrapper}(recorder)"
        assert (outer.needs, outer.asks) == (inner.needs, inner.needs)
        assert outer.citation[1:] == inner.citation
        assert (outer.uses_perturbations, outer.tuned_on, outer.split) == (("fog",), ("frost",), "units")
        assert outer.version.endswith("+3")
        assert outer.cost(2, 50) == Cost(generated=Amount(2 * times, 50 * times), summary_captions=7)
    assert not hasattr(SetOf(replaced_cost()), "cost")


def replaced_cost():
    class Silent:
        name, version, needs = "silent", "1", frozenset()

        def label(self, seen, units, tools):
            raise AssertionError

    return Silent()


def test_entries_of_wrapped_methods_follow_from_the_inner_one_and_load_nothing():
    entry = registry.entry("set_of(several(csp))")
    assert entry.needs == registry.entry("csp").needs
    assert entry.version == "1+1+1"
    assert "csp" in entry.summary
    code = "import sys; from baselines import registry; registry.entry('several(dnd)'); print('torch' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "False"
    assert registry.innermost("set_of(several(csp))") == "csp"
    assert registry.innermost("csp") == "csp"


def test_options_go_to_the_wrapper_or_to_the_method_inside():
    method = registry.load("set_of(csp)", resamples="7", level="0.8", gamma="1", replacement="false")
    assert isinstance(method, SetOf)
    assert (method.labellings, method.level, method.replacement) == (7, 0.8, False)
    assert (method.inner._gamma, method.inner.top_images) == (1.0, 30)
    nested = registry.load("set_of(several(semantic_lens))", clusters=2, top_images=4, resamples=3)
    assert (nested.inner.clusters, nested.inner.inner.top_images) == (2, 4)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("several(nonesuch)", {}, "Unknown method 'nonesuch'"),
        ("several", {}, r"Unknown method 'several'\. Did you mean several\(METHOD\)\?"),
        ("several(csp)", {"gama": 1}, r"Unknown option of several\(csp\) 'gama'\. Did you mean gamma\?"),
        ("several(csp)", {"inner": 1}, r"Unknown option of several\(csp\) 'inner'"),
        ("several(csp)", {"clusters": 0}, r"clusters of several\(csp\) must be at least 1, not 0"),
        ("set_of(csp)", {"level": 0}, r"level of set_of\(csp\) must lie above 0"),
        ("set_of(csp)", {"resamples": "x"}, r"resamples of set_of\(csp\) cannot be 'x'"),
        ("set_of(dnd)", {}, r'allow it by --set "set_of\(dnd\)\.costly=true"'),
        ("set_of(several(clear))", {}, r"which uses the captioner, for 100 resampled probing sets"),
    ],
)
def test_mistakes_get_one_sentence(name, options, sentence):
    with pytest.raises(UserError, match=sentence):
        registry.load(name, **options)


def test_an_option_of_the_method_inside_alone_is_told_where_to_go():
    options = RunOptions(tasks=("resnet50_fc",), methods=("set_of(csp)",), method_options={"csp": {"gamma": 1}})
    with pytest.raises(UserError, match=r'For the one inside set_of\(csp\), use --set "set_of\(csp\)\.…"\.'):
        check(options)


def test_costly_methods_are_allowed_on_request():
    method = registry.load("set_of(dnd)", costly=True, resamples=10)
    once = method.inner.cost(4, 100)
    assert method.cost(4, 100).generated == once.generated * 10
    assert method.cost(4, 100).captioned.most == 10 * once.captioned.most


# ---- what both keep ----


@pytest.mark.parametrize("wrapper", ["several", "set_of"])
@pytest.mark.parametrize("inner", PLAIN)
def test_a_unit_alone_and_in_a_crowd_gets_the_same_labels_and_nothing_is_changed(wrapper, inner):
    seen = scenes(120)
    seen.activations[:, 3] = 1.0
    before = seen.activations.clone()
    method = registry.load(f"{wrapper}({inner})", **({"resamples": 4} if wrapper == "set_of" else {"clusters": 2}))
    together = method.label(seen, range(6), TOOLS)
    assert [method.label(seen, [unit], TOOLS)[0] for unit in (4, 0)] == [together[4], together[0]]
    assert together == registry.load(method.name, **options_of(method)).label(seen, range(6), TOOLS)
    assert torch.equal(seen.activations, before)
    assert (together[3].ranked, together[3].extra) == ((), {"dead": True})
    assert together[0].extra["labels"] == len(together[0].ranked)


def options_of(method):
    return {"resamples": 4} if isinstance(method, SetOf) else {"clusters": 2}


def test_a_unit_number_out_of_range_is_refused():
    for name in ("several(csp)", "set_of(csp)"):
        with pytest.raises(UserError, match="Unit 6 does not exist"):
            registry.load(name).label(scenes(60), [6], TOOLS)


def test_labels_of_a_broken_method_inside_are_refused_by_its_name():
    broken = Recorder()
    broken.label = lambda seen, units, tools: []
    for method in (Several(broken), SetOf(broken)):
        with pytest.raises(ValueError, match="the method recorder returned labels for 0 units"):
            method.label(scenes(60), [0], TOOLS)


# ---- several ----


def test_several_names_both_halves_of_an_or_unit():
    (found,) = registry.load("several(semantic_lens)", top_images=5, clusters=2).label(scenes(), [0], TOOLS)
    assert {label.text for label in found.ranked} == {"ant", "bee"}
    assert sum(label.score for label in found.ranked) == pytest.approx(1)
    assert [label.score for label in found.ranked] == sorted((label.score for label in found.ranked), reverse=True)
    facts = found.extra
    assert {one["label"] for one in facts["clusters"]} == {"ant", "bee"}
    assert sum(one["images"] for one in facts["clusters"]) == 20
    assert facts["polysemanticity"] > 0.8
    assert facts["label_cosine"] == pytest.approx(0)
    (plain,) = registry.load("semantic_lens", top_images=5).label(scenes(), [0], TOOLS)
    assert found.evidence == plain.evidence


def test_equal_labels_of_several_clusters_are_one():
    (found,) = registry.load("several(constant_label)").label(scenes(), [0], TOOLS)
    assert [(label.text, round(label.score, 9)) for label in found.ranked] == [("depiction", 1.0)]
    assert len(found.extra["clusters"]) > 1
    assert found.extra["label_cosine"] is None


def test_each_cluster_is_shown_without_the_unit_s_other_clusters():
    inner, seen = Recorder(), scenes()
    maps = seen.activations[:, :, None, None].expand(-1, -1, 2, 3).clone()
    given = observation(seen.activations, maps=maps, kind="spatial", clip_embeddings=seen.clip_embeddings)
    Several(inner, clusters=2).label(given, [0], toolbox())
    least = given.activations[:, 0].min()
    muted = [(shown.activations[:, 0] == least) & (given.activations[:, 0] > least) for shown in inner.seen]
    assert len(muted) == 2
    assert [int(images.sum()) for images in muted] == [20 - int(images.sum()) for images in reversed(muted)]
    assert not (muted[0] & muted[1]).any()
    for shown, images in zip(inner.seen, muted, strict=True):
        assert torch.equal(shown.activations[:, 1:], given.activations[:, 1:])
        assert torch.equal(shown.activations[~images, 0], given.activations[~images, 0])
        # Pooling the maps gives the activations, on these images too.
        assert torch.allclose(shown.maps.read(range(400), [2, 0]).mean(dim=(2, 3)), shown.activations[:, [2, 0]])
        blocks = torch.cat([block for _, block in shown.maps.blocks([0, 1])])
        assert torch.equal(blocks, shown.maps.read(range(400), [0, 1]))


def test_few_images_make_few_clusters():
    random = np.random.default_rng(0)
    points = random.standard_normal((40, 8))
    for clusters in (1, 2, 5, 30):
        assigned = clustered(points, clusters, np.random.default_rng(1))
        sizes = np.bincount(assigned)
        assert len(sizes) <= clusters
        assert sizes.min() >= FEWEST
    assert clustered(points[:2], 5, random).tolist() == [0, 0]
    assert clustered(np.ones((9, 4)), 5, random).tolist() == [0] * 9


def test_small_clusters_join_the_nearest():
    points = np.array([[0.0, 0]] * 5 + [[10.0, 0]] * 5 + [[9.0, 0]] * 2)
    assigned = clustered(points, 3, np.random.default_rng(0))
    assert len(set(assigned[5:])) == 1
    assert assigned[0] != assigned[5]


def test_draws_depend_on_seed_and_number_alone():
    inner, other, seen = Recorder(), Recorder(), scenes(50)
    moved = replace(seen, condition="fog", severity=3, repeat=1, activations=seen.activations.flip(1))
    labels_of_draws(inner, seen, [0], TOOLS, range(5))
    labels_of_draws(other, moved, [4, 2], TOOLS, range(5))
    assert [one.image_ids for one in inner.seen] == [one.image_ids for one in other.seen]
    assert len({one.image_ids for one in inner.seen}) == 5
    labels_of_draws(other, seen, [0], TOOLS, range(5), purpose="redraw")
    assert not {one.image_ids for one in inner.seen} & {one.image_ids for one in other.seen[5:]}
    assert (resampled_images(50, 3, 0) != resampled_images(50, 3, 1)).any()


def test_draws_with_and_without_replacement():
    twice = resampled_images(500, 0, 0)
    half = resampled_images(500, 0, 0, replacement=False)
    assert (len(twice), len(half), len(set(half.tolist()))) == (500, 250, 250)
    assert len(set(twice.tolist())) == pytest.approx(500 * (1 - np.exp(-1)), abs=40)


def test_each_draw_keeps_the_seed_of_the_cell_unless_asked():
    seen = replace(scenes(40), repeat=1)
    for reseed, repeats in ((False, {1}), (True, set(range(6)))):
        inner = Recorder()
        SetOf(inner, resamples=6, reseed=reseed).label(seen, [0], TOOLS)
        assert {one.repeat for one in inner.seen} == repeats


def test_everything_of_an_observation_is_resampled_alike():
    seen = scenes(30)
    maps = torch.arange(30.0)[:, None, None, None].expand(30, 6, 2, 2)
    whole = observation(
        seen.activations,
        maps=maps,
        clip_embeddings=seen.clip_embeddings,
        segmentation=Segmentation(("",), {}, lambda image: {"scene": [image]}, (2, 2)),
        presence=ConceptPresence(("ant",), np.arange(30)[:, None] % 2 == 0),
    )
    whole = replace(whole, images=lambda indices: torch.tensor(list(indices), dtype=torch.uint8)[:, None, None, None])
    rows = [4, 4, 29, 0]
    few = whole.of(rows)
    assert few.image_ids == tuple(f"image-{row}" for row in rows)
    assert torch.equal(few.activations, whole.activations[rows])
    assert torch.equal(few.clip_embeddings, whole.clip_embeddings[rows])
    assert few.maps.shape == (4, 6, 2, 2)
    assert few.maps.read([3, 1], [0])[:, 0, 0, 0].tolist() == [0, 4]
    assert torch.cat([block for _, block in few.maps.blocks()])[:, 5, 1, 1].tolist() == rows
    assert few.images([2, 0]).flatten().tolist() == [29, 4]
    assert few.segmentation.pixels(1) == {"scene": [4]}
    assert few.presence.shown[:, 0].tolist() == [True, True, False, True]


def test_a_set_holds_the_shares_of_the_draws():
    (found,) = registry.load("set_of(semantic_lens)", top_images=1, level=0.95).label(scenes(60), [0], TOOLS)
    drawn = [
        one[0]
        for one in labels_of_draws(registry.load("semantic_lens", top_images=1), scenes(60), [0], TOOLS, range(100))
    ]
    assert {label.text: label.score for label in found.ranked} == {
        label.text: drawn.count(label.text) / 100 for label in found.ranked
    }
    assert found.extra["reached"] >= 0.95
    assert found.extra["unnamed"] == 0
    shorter = registry.load("set_of(semantic_lens)", top_images=1, level=0.5).label(scenes(60), [0], TOOLS)[0]
    assert found.ranked[: len(shorter.ranked)] == shorter.ranked


def test_a_unit_that_few_images_excite_is_unnamed_in_some_draws():
    activations = torch.zeros(40, 1)
    activations[7] = 1.0
    seen = observation(activations, clip_embeddings=torch.eye(4)[torch.arange(40) % 4])
    (found,) = registry.load("set_of(semantic_lens)").label(seen, [0], TOOLS)
    missing = np.mean([7 not in resampled_images(40, number, 0) for number in range(100)])
    assert 0.2 < found.extra["unnamed"] == missing
    assert [label.text for label in found.ranked] == ["dog"]
