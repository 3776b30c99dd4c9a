"""CLEAR on a world of two halves, stripes in colours on the left and rough ground on the right: truth by arithmetic."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines.clear.method import Clear
from tasks.activations.sparse import SparseColumns, sparse_rows
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.observation import Observation, Toolbox

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230)}
RED, STRIPED, ROUGH, DEAD = range(4)
EDGE, HALF = 32, 16
FAST = {"control": 40, "probes": "foreground_blur:5,background_blur:5,gaussian_blur:5"}
CONCEPTS = ("red", "green", "blue", "striped", "plain", "rough", "smooth", "striped red", "rough ground", "boat")


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
        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)
        texture = torch.tensor([read(image)[1:] for image in images]) / 50
        return torch.nn.functional.normalize(torch.cat([small, texture], dim=1) + 0.1, dim=1)

    def encode_text(self, texts):
        """What such images look like on average; nothing is drawn for it, so nothing is counted."""
        drawn = [World().encode_images(World().generate(text, 8, 1)).mean(dim=0) for text in texts]
        return torch.nn.functional.normalize(torch.stack(drawn), dim=1)


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
    roles = {"clip": world, "captioner": world, "generator": world, "foreground": foreground, "concepts": CONCEPTS}
    return Toolbox(seed=0, activate=world.activate, **{**roles, **others})


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


def test_what_is_told_of_a_unit_is_json_with_all_terms_of_its_shortlist(found):
    method = Clear(**FAST)
    for unit in found[:DEAD]:
        assert json.loads(json.dumps(unit.extra)) == unit.extra
        tested = unit.extra["tested"]
        assert [one["concept"] for one in tested] == [label.text for label in unit.ranked]
        assert len(tested) == method.shortlist <= unit.extra["candidates"]
        for one in tested:
            assert set(one["terms"]) == set(method.weights)
            assert all(-1 <= value <= 1 for value in one["terms"].values())
            assert 0 < one["activation"] < 1


def test_dependence_on_foreground_and_background_is_found(found):
    striped, rough = found[STRIPED].extra["dependence"], found[ROUGH].extra["dependence"]
    assert striped["foreground"] > 0.5 > 0.1 > striped["background"]
    assert rough["background"] > 0.5 > 0.1 > rough["foreground"]
    assert striped["parts"] == [{"part": "striped", "foreground": 1.0, "background": 0.0}]
    assert rough["parts"] == [{"part": "rough", "foreground": 0.0, "background": 1.0}]
    assert 0 < striped["context"] <= 1


def test_probes_choose_nothing(found):
    world = World()
    plain = Clear(**{**FAST, "probes": ""}).label(observe(world), [STRIPED, ROUGH], toolbox(world))
    assert [unit.ranked for unit in plain] == [found[unit].ranked for unit in (STRIPED, ROUGH)]
    assert plain[0].extra["dependence"]["context"] is None


def test_one_unit_alone_in_any_batch_gets_the_same(found):
    world = World()
    seen, tools = observe(world), toolbox(world)
    for unit in (ROUGH, RED):
        alone = Clear(**FAST, batch_size=7).label(seen, [unit], tools)[0]
        assert alone == found[unit]
    again = Clear(**FAST, unit_block=1).label(seen, [DEAD, ROUGH, RED, ROUGH], tools)
    assert again == [found[DEAD], found[ROUGH], found[RED], found[ROUGH]]


def test_a_unit_alone_in_a_block_of_any_size_and_in_the_whole_layer_gets_the_same():
    layer = Layer()
    seen, units = observe(layer), range(66)

    def run(units, block, tools):
        labels = Clear(**FAST, unit_block=block).label(seen, units, tools)
        return dict(zip(units, labels, strict=True))

    tools = toolbox(layer)
    whole = run(units, len(units), tools)
    assert len(whole) == seen.activations.shape[1]
    for block in (7, 64):
        assert run(units, block, tools) == whole
    assert run(units[:3], 1, toolbox(layer)) == {unit: whole[unit] for unit in units[:3]}
    assert run([65], 64, toolbox(layer))[65] == whole[65]


def test_latents_of_which_only_some_values_are_stored_get_the_same_and_no_dense_layer(found, monkeypatch):
    world = World()
    seen = observe(world)
    stored = replace(seen, activations=SparseColumns.stacked([sparse_rows(seen.activations)]))
    monkeypatch.setattr(SparseColumns, "to_dense", lambda _: pytest.fail("the whole layer was asked for"))
    assert Clear(**FAST).label(stored, [RED, STRIPED, ROUGH, DEAD], toolbox(world)) == found


def test_what_captions_say_of_everything_is_no_label():
    world = World(haze="white")
    labels = Clear(**FAST).label(observe(world, "fog"), [RED, STRIPED], toolbox(world))
    assert [unit.ranked[0].text for unit in labels] == ["red", "striped"]


def test_a_word_that_the_concept_set_lacks_is_found_in_the_captions():
    world = World()
    tools = toolbox(world, concepts=("green", "blue", "boat"))
    labels = Clear(**FAST).label(observe(world), [RED, ROUGH], tools)
    assert [unit.ranked[0].text for unit in labels] == ["red", "rough"]


@pytest.mark.parametrize("without", ["follows", "contrast", "captions"])
def test_two_terms_make_up_for_a_third(without):
    world = World()
    labels = Clear(**FAST, **{without: 0.0}).label(observe(world), [RED, STRIPED, ROUGH], toolbox(world))
    assert [unit.ranked[0].text for unit in labels] == ["red", "striped", "rough"]


def test_a_shortlist_of_one_draws_nothing():
    world = World()
    labels = Clear(**FAST, shortlist=1).label(observe(world), [RED], toolbox(world))
    assert world.asked == []
    assert len(labels[0].ranked) == 1
    assert labels[0].extra["trace"]["drawn"] is False


def test_each_concept_is_drawn_once_for_all_conditions_and_anew_for_repeats():
    world = World()
    tools = toolbox(world)
    Clear(**FAST).label(observe(world), [RED, ROUGH], tools)
    first = dict(world.asked)
    assert all(world.asked.count(one) == 1 for one in world.asked)
    Clear(**FAST).label(observe(world, "fog"), [RED, ROUGH], tools)
    assert dict(world.asked) == first
    Clear(**FAST).label(observe(world, repeat=1), [RED], tools)
    again = dict(world.asked[len(first) :])
    assert again
    assert all(first.get(concept) != seed for concept, seed in again.items())


def test_probes_of_one_part_need_a_segmenter_and_others_do_not():
    world = World()
    tools = replace(toolbox(world), foreground=None)
    with pytest.raises(UserError, match="segmenter"):
        Clear(**FAST).label(observe(world), [RED], tools)
    label = Clear(**{**FAST, "probes": "gaussian_blur:3"}).label(observe(world), [RED], tools)[0]
    assert label.ranked[0].text == "red"
    assert label.extra["dependence"]["foreground"] is None


def test_it_needs_a_concept_set():
    world = World()
    with pytest.raises(UserError, match="concept set"):
        Clear(**FAST).label(observe(world), [RED], toolbox(world, concepts=()))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"control": 0}, "control is 0, but must be at least 1"),
        ({"evidence_weight": -1.0}, "evidence_weight is -1, but must be at least 0"),
        ({"brevity": float("nan")}, "brevity is nan"),
        ({"follows": 0.0, "contrast": 0.0, "captions": 0.0}, "follows.* must be above 0"),
        ({"probes": "blurr:3"}, "Unknown perturbation 'blurr'"),
        ({"probes": "background_grey"}, "needs a severity from 1 to 5"),
        ({"probes": "fog:3,fog:3"}, "named twice"),
    ],
)
def test_wrong_options_are_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Clear(**options)


def test_the_foreground_of_the_same_images_is_found_once_for_all_probes():
    world, asked = World(), []

    def counting(images):
        asked.append(images)
        return foreground(images)

    Clear(**FAST, batch_size=4).label(observe(world), [RED], toolbox(world, foreground=counting))
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


@pytest.mark.parametrize(
    "options",
    [
        {"unit_block": 1, "top_images": 3},
        {"probes": "foreground_grey:5", "images_per_concept": 2},
        {"probes": "", "shortlist": 3},
        {"shortlist": 1},
    ],
)
def test_a_cell_asks_no_more_than_its_stated_cost(options):
    world = CountingWorld()
    method = Clear(**{**FAST, **options})
    seen, tools = observe(world), toolbox(world)
    world.counts.clear()
    method.label(seen, [RED, STRIPED, ROUGH], tools)
    cost, did = method.cost(3, 60), world.counts
    assert did["generated"] <= cost.generated.most
    assert cost.generated.expected <= cost.generated.most
    # The network reads and CLIP embeds every generated image.
    assert did["activated"] - did["generated"] <= cost.activated.most
    assert did["embedded"] == did["generated"]
    assert 0 < did["captioned"] <= cost.captioned.most


def test_no_units_cost_no_images():
    cost = Clear().cost(0, 100)
    assert cost.generated.most == cost.captioned.most == cost.activated.most == 0
