"""CLEAR on a world of two halves, stripes in colours on the left and rough ground on the right: truth by arithmetic."""

from __future__ import annotations

import json
import weakref
from collections import Counter
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from baselines.clear.method import Clear
from baselines.contexts import SEEN, Context, tools_in
from baselines.dnd.adaptive import Drawing
from baselines.drawing import ConceptBank
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.models.counting_summariser import CountingSummariser
from tasks.observation import Observation, Toolbox

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230)}
RED, STRIPED, ROUGH, DEAD = range(4)
EDGE, HALF = 32, 16
FAST = {
    "contexts": "foreground_blur:5,background_blur:5,gaussian_blur:5",
    "images_per_concept": 4,
    "control": 40,
    "crops": False,
    "probes": "",
}


def paint(colour, striped, rough, rng):
    image = np.full((3, EDGE, EDGE), 110.0) + rng.normal(0, 2, (3, EDGE, EDGE))
    rows = np.arange(EDGE) % 2 if striped else np.ones(EDGE)
    image[:, :, :HALF] = np.array(COLOURS[colour])[:, None, None] * (0.3 + 0.7 * rows[:, None])
    if rough:
        image[:, :, HALF:] += 60 * (np.arange(EDGE)[:, None] % 2 * 2 - 1)
    return image.clip(0, 255).astype(np.uint8)


def read(image):
    """Colour, whether there are stripes on the left, and whether the ground is rough, by the pixels."""
    left = image[:, :, : HALF - 4].float().mean(dim=(1, 2))
    jump = (image.float()[:, 1:] - image.float()[:, :-1]).abs().mean(0)
    return list(COLOURS)[int(left.argmax())], float(jump[:, : HALF - 4].mean()), float(jump[:, HALF + 4 :].mean())


class World:
    """Every role, by arithmetic; ``haze`` is what the captioner says of everything."""

    def __init__(self, haze=""):
        self.haze, self.asked = haze, []

    def activate(self, images):
        rows = []
        for image in images:
            red, green, blue = image[:, :, : HALF - 4].double().mean(dim=(1, 2)).tolist()
            _, left, right = read(image)
            # Coarse shares: dark stripes are as red as plain ones, and no colour is more striped than another.
            rows.append(
                (round(red / (red + green + blue), 1), round(left / max(red, green, blue), 1), right // 25, 1.0)
            )
        return torch.tensor(rows, dtype=torch.float32)

    def caption(self, images):
        said = []
        for image in images:
            colour, left, right = read(image)
            pattern, ground = ("striped" if left > 20 else "plain"), ("rough" if right > 20 else "smooth")
            said.append(f"a {self.haze} {pattern} {colour} thing on {ground} ground")
        return said

    def generate(self, concept, count, seed, template="{concept}", first=0):
        self.asked.append((concept, seed))
        words = concept.split()
        images = []
        for number in range(first, first + count):
            rng = generator(seed, "world", concept, number)
            colour = next((c for c in COLOURS if c in words), list(COLOURS)[rng.integers(3)])
            striped = "striped" in words or ("plain" not in words and rng.random() < 0.5)
            rough = "rough" in words or ("smooth" not in words and rng.random() < 0.5)
            images.append(paint(colour, striped, rough, rng))
        return torch.from_numpy(np.stack(images))

    def encode_images(self, images):
        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).flatten(1)
        return torch.nn.functional.normalize(small + 0.1, dim=1)

    def encode_text(self, texts):
        raise AssertionError("CLEAR embeds no text")


class Layer(World):
    """Many units, each a mixture of the others."""

    weights = torch.from_numpy(np.random.default_rng(2).normal(size=(66, 4)).astype(np.float32))

    def activate(self, images):
        return (super().activate(images)[:, None, :] * self.weights).sum(dim=2)


def foreground(images):
    mask = torch.zeros(len(images), EDGE, EDGE, dtype=torch.bool)
    mask[:, :, :HALF] = True
    return mask


def observe(world, condition="clean", repeat=0):
    rng = np.random.default_rng(4)
    drawn = [(list(COLOURS)[i % 3], rng.random() < 0.4, rng.random() < 0.4) for i in range(60)]
    images = torch.from_numpy(np.stack([paint(*one, rng) for one in drawn]))
    activations = world.activate(images)
    activations[:, DEAD] = 1.0
    return Observation(
        layer="layer4",
        kind="vector",
        condition=condition,
        severity=0 if condition == "clean" else 3,
        repeat=repeat,
        image_ids=tuple(map(str, range(60))),
        activations=activations,
        maps=None,
        clip_embeddings=world.encode_images(images),
        images=lambda indices: images[list(indices)],
    )


def toolbox(world, **others):
    roles = {"clip": world, "captioner": world, "summariser": CountingSummariser(), "generator": world}
    background = {word: 0.3 for word in ("striped", "plain", "rough", "smooth", *COLOURS)}
    known = {"background": lambda: {**background, "thing": 1.0, "ground": 1.0}, "foreground": foreground}
    return Toolbox(seed=0, activate=world.activate, **{**roles, **known, **others})


@pytest.fixture(scope="module")
def found():
    world = World()
    return Clear(**FAST).label(observe(world), [RED, STRIPED, ROUGH, DEAD], toolbox(world))


def test_units_get_what_they_detect(found):
    assert [unit.ranked[0].text if unit.ranked else None for unit in found] == ["red", "striped", "rough", None]
    assert found[DEAD].extra == {"dead": True}
    for unit in found[:DEAD]:
        scores = [label.score for label in unit.ranked]
        assert scores == sorted(scores, reverse=True)
        assert len(unit.evidence) == 10


def test_what_is_told_of_a_unit_is_json_with_terms_of_every_context(found):
    for unit in found[:DEAD]:
        assert json.loads(json.dumps(unit.extra)) == unit.extra
        best = unit.extra["tested"][0]
        assert best["concept"] == unit.ranked[0].text
        assert list(best["contexts"]) == unit.extra["contexts"]
        values = [value for terms in best["contexts"].values() for value in terms.values()]
        assert all(0 <= value <= 1 for value in (*values, best["distinctness"], best["specificity"]))


def test_dependence_on_foreground_and_background_is_found(found):
    striped, rough = found[STRIPED].extra["dependence"], found[ROUGH].extra["dependence"]
    assert striped["foreground"] > 0.5 > 0.1 > striped["background"]
    assert rough["background"] > 0.5 > 0.1 > rough["foreground"]
    assert striped["parts"] == [{"part": "striped", "foreground": 1.0, "background": 0.0}]
    assert rough["parts"] == [{"part": "rough", "foreground": 0.0, "background": 1.0}]
    assert 0 < striped["context"] <= 1


def test_probes_tell_what_a_unit_depends_on_and_choose_nothing(found):
    world = World()
    options = {**FAST, "contexts": "", "probes": "foreground_grey:5,background_grey:5"}
    probed = Clear(**options).label(observe(world), [STRIPED, ROUGH], toolbox(world))
    plain = Clear(**{**options, "probes": ""}).label(observe(world), [STRIPED, ROUGH], toolbox(world))
    assert [unit.ranked for unit in probed] == [unit.ranked for unit in plain]
    striped, rough = (unit.extra["dependence"] for unit in probed)
    assert striped["foreground"] > 0.5 > 0.1 > striped["background"]
    assert rough["background"] > 0.5 > 0.1 > rough["foreground"]
    assert plain[0].extra["dependence"]["context"] is None


def test_one_unit_alone_in_any_batch_gets_the_same(found):
    world = World()
    seen, tools = observe(world), toolbox(world)
    for unit in (ROUGH, RED):
        alone = Clear(**FAST, batch_size=7).label(seen, [unit], tools)[0]
        assert alone == found[unit]
    again = Clear(**FAST, unit_block=1).label(seen, [DEAD, ROUGH, RED, ROUGH], tools)
    assert again == [found[DEAD], found[ROUGH], found[RED], found[ROUGH]]


@pytest.mark.parametrize("draw", get_args(Drawing))
def test_a_unit_alone_in_a_block_of_any_size_and_in_the_whole_layer_gets_the_same(draw):
    layer = Layer()
    seen, units = observe(layer), range(66)

    def run(units, block, tools):
        labels = Clear(**FAST, draw=draw, unit_block=block).label(seen, units, tools)
        return dict(zip(units, labels, strict=True))

    tools = toolbox(layer)
    whole = run(units, len(units), tools)
    assert len(whole) == seen.activations.shape[1]
    for block in (7, 64):
        assert run(units, block, tools) == whole
    assert run(units[:3], 1, toolbox(layer)) == {unit: whole[unit] for unit in units[:3]}
    assert run([65], 64, toolbox(layer))[65] == whole[65]


def test_an_adaptive_choice_draws_less_and_chooses_among_finalists_with_all_images(found):
    world = World()
    labels = Clear(**FAST, draw="adaptive").label(observe(world), [RED, STRIPED, ROUGH], toolbox(world))
    for unit, full in zip(labels, found, strict=False):
        assert unit.ranked[0].text == full.ranked[0].text
        whole = Clear(**FAST).images_per_concept
        images = [one["images"] for one in unit.extra["tested"]]
        assert images == sorted(images, reverse=True)
        assert images[0] == whole
        drawn = unit.extra["trace"]["synthesis"]["images"]
        assert sum(images) <= drawn < whole * unit.extra["candidates"]


def test_what_captions_say_of_everything_is_no_label():
    world = World(haze="white")
    labels = Clear(**FAST).label(observe(world, "fog"), [RED, STRIPED], toolbox(world))
    assert [unit.ranked[0].text for unit in labels] == ["red", "striped"]


def test_a_word_that_summaries_lose_is_found_among_the_parts():
    class Mumbling(CountingSummariser):
        def summarise(self, captions, seed, background=None):
            return "thing"

    world = World()
    tools = toolbox(world, summariser=Mumbling())
    assert Clear(**FAST, parts=0).label(observe(world), [ROUGH], tools)[0].ranked[0].text == "thing"
    assert Clear(**FAST).label(observe(world), [ROUGH], tools)[0].ranked[0].text == "rough"


def test_both_methods_test_a_concept_on_the_same_images_and_repeats_do_not():
    world = World()
    tools = toolbox(world)
    Clear(**{**FAST, "contexts": ""}).label(observe(world), [RED], tools)
    first = dict(world.asked)
    assert all(world.asked.count(one) == 1 for one in world.asked), "each concept is drawn once"
    Clear(**{**FAST, "contexts": ""}).label(observe(world, "fog"), [RED], tools)
    assert dict(world.asked) == first
    Clear(**{**FAST, "contexts": ""}).label(observe(world, repeat=1), [RED], tools)
    again = dict(world.asked[len(first) :])
    assert again
    assert all(first.get(concept) != seed for concept, seed in again.items())


def test_a_context_has_one_toolbox_that_goes_with_the_first():
    tools, blur = toolbox(World()), Context("gaussian_blur", 3)
    seen = weakref.ref(tools_in(tools, blur))
    assert seen() is tools_in(tools, blur) is not tools
    assert tools_in(tools, SEEN) is tools
    assert tools_in(tools, Context("fog", 3)) is not seen()
    assert tools_in(replace(tools), blur) is not seen()
    del tools
    assert seen() is None


def test_contexts_of_one_part_need_a_segmenter_and_others_do_not():
    world = World()
    tools = replace(toolbox(world), foreground=None)
    with pytest.raises(UserError, match="segmenter"):
        Clear(**FAST).label(observe(world), [RED], tools)
    label = Clear(**{**FAST, "contexts": "gaussian_blur:3"}).label(observe(world), [RED], tools)[0]
    assert label.ranked[0].text == "red"
    assert label.extra["dependence"]["foreground"] is None


def test_a_method_says_which_perturbations_it_practises():
    assert Clear().uses_perturbations == ("foreground_blur", "background_blur", "gaussian_blur")
    assert Clear(contexts="fog:1,fog:3").uses_perturbations == ("fog",)
    assert Clear(**Clear.variants["no_contexts"]).uses_perturbations == ()
    # As the command line gives an empty value.
    assert Clear(contexts=None, probes=None).uses_perturbations == ()


@pytest.mark.parametrize("variant", Clear.variants)
def test_every_variant_is_another_method(variant):
    changed, usual = Clear(**Clear.variants[variant]), Clear()
    differing = [key for key in vars(usual) if not np.array_equal(vars(usual)[key], vars(changed)[key])]
    assert len(differing) == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"aggregate": "best"}, "'best'.*spread, worst"),
        ({"control": 0}, "control is 0, but must be at least 1"),
        ({"spread": -1.0}, "spread is -1, but must be at least 0"),
        ({"brevity": float("nan")}, "brevity is nan"),
        ({"activation_weight": 0.0, "image_weight": 0.0, "caption_weight": 0.0}, "image_weight.* must be above 0"),
        ({"contexts": "blurr:3"}, "Unknown perturbation 'blurr'"),
        ({"probes": "background_grey"}, "needs a severity from 1 to 5"),
        ({"contexts": "fog:3,fog:3"}, "named twice"),
    ],
)
def test_wrong_options_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Clear(**options)


def test_the_foreground_of_the_same_images_is_found_once_for_all_contexts():
    world, asked = World(), []

    def counting(images):
        asked.append(images)
        return foreground(images)

    Clear(**FAST, batch_size=16).label(observe(world), [RED], toolbox(world, foreground=counting))
    assert len(asked) > 1
    assert not any(
        one.shape == other.shape and torch.equal(one, other)
        for number, one in enumerate(asked)
        for other in asked[:number]
    )


class CountingWorld(World):
    """Counts the images that each role is given."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def activate(self, images):
        self.counts["activated"] += len(images)
        return super().activate(images)

    def caption(self, images):
        self.counts["captioned"] += len(images)
        return super().caption(images)

    def encode_images(self, images):
        self.counts["embedded"] += len(images)
        return super().encode_images(images)

    def generate(self, concept, count, seed, template="{concept}", first=0):
        self.counts["generated"] += count
        return super().generate(concept, count, seed, template, first)


class CountingWords(CountingSummariser):
    def __init__(self, counts):
        super().__init__()
        self.counts = counts

    def simplify(self, caption, seed):
        self.counts["simplified"] += 1
        return super().simplify(caption, seed)

    def summarise(self, captions, seed, background=None):
        self.counts["summarised"] += 1
        return super().summarise(captions, seed, background)


@pytest.mark.parametrize("capacity", [10, 2000])
@pytest.mark.parametrize(
    "options",
    [
        {"unit_block": 1, "top_images": 3, "candidates": 2},
        {"probes": "foreground_grey:5", "images_per_concept": 2},
        Clear.variants["no_contexts"],
        Clear.variants["no_parts"],
        Clear.variants["no_pairs"],
    ],
)
def test_a_cell_asks_no_more_than_its_stated_cost(options, capacity, monkeypatch):
    monkeypatch.setattr("baselines.clear.cost.CAPACITY", capacity)
    monkeypatch.setattr(ConceptBank.__init__, "__defaults__", (capacity,))
    world = CountingWorld()
    method = Clear(**{**FAST, **options})
    seen, tools = observe(world), toolbox(world, summariser=CountingWords(world.counts))
    world.counts.clear()
    method.label(seen, [RED, STRIPED, ROUGH], tools)
    cost, did = method.cost(3, 60), world.counts
    assert 0 < did["generated"] <= cost.generated.most
    assert cost.generated.expected <= cost.generated.most
    # The network reads and CLIP embeds every generated image.
    assert did["activated"] - did["generated"] <= cost.activated.most
    assert did["embedded"] - did["generated"] <= cost.embedded.most
    assert did["captioned"] <= cost.captioned.most
    assert did["simplified"] == cost.simplified.most
    assert did["summarised"] <= cost.summarised.most


def test_no_units_cost_no_images():
    cost = Clear().cost(0, 100)
    assert cost.generated.most == cost.captioned.most == cost.activated.most == 0


def test_a_method_that_forgets_what_it_drew_states_that_it_draws_again():
    assert Clear().cost(10, 500).generated.most == 10 * (40 + 32 + 6) * 2 * 10
    # 64 units of a block may have more concepts than the bank remembers.
    assert Clear().cost(100, 500).generated.most == 100 * (40 + 32 + 6) * 2 * 4 * 10
