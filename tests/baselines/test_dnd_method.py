"""Describe-and-Dissect on a world of flat colours whose truth is plain arithmetic."""

from __future__ import annotations

import json
import math
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from baselines.dnd.method import DescribeAndDissect
from baselines.dnd.refined import Probing, RefinedDescribeAndDissect, consistency
from baselines.dnd.vision import VisionDescribeAndDissect
from baselines.drawing import Request, bank_of, draw, reduce_images
from baselines.semantic_lens import Csp, contrastive_images
from tasks.activations.maps import MemoryMaps
from tasks.cache.roles import KeptMeasurements
from tasks.cache.store import Cache
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.language.chat import Reply
from tasks.language.summariser import LanguageModelSummariser
from tasks.models.counting_summariser import CountingSummariser, caption_background
from tasks.observation import Observation, Toolbox

COLOURS = {
    "red": (220, 20, 20),
    "green": (20, 200, 20),
    "blue": (20, 20, 230),
    "white": (240, 240, 240),
    "black": (8, 8, 8),
}
THINGS = ("disc", "square", "ring", "cross")
RED, GREEN, BLUE, DEAD, LIGHT = range(5)
EDGE = 24


def paint(colour, rng):
    """A grey image with a coloured left half."""
    image = np.full((3, EDGE, EDGE), 110.0)
    image[:, :, : EDGE // 2] = np.array(colour)[:, None, None]
    return (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)


def colourfulness(images):
    """How red, green and blue the pixels are beyond grey, [n, 3, h, w] in [0, 1]."""
    pixels = images.float() / 255
    return (pixels - pixels.mean(dim=1, keepdim=True)).clamp(min=0)


def maps_of(images):
    tint = torch.nn.functional.adaptive_avg_pool2d(colourfulness(images), 4)
    light = torch.nn.functional.adaptive_avg_pool2d(images.float().mean(1, keepdim=True) / 255, 4)
    return torch.cat([tint, torch.zeros_like(light), light], dim=1)


class Models:
    """Every role, by arithmetic, counting what it is asked."""

    def __init__(self):
        self.generated, self.captioned, self.activated = [], 0, 0

    def activate(self, images):
        self.activated += len(images)
        return maps_of(images).mean(dim=(2, 3))

    def caption(self, images):
        self.captioned += len(images)
        left = images[:, :, :, : EDGE // 4].float().mean(dim=(2, 3))
        names = list(COLOURS)
        table = torch.tensor([COLOURS[name] for name in names]).float()
        nearest = torch.cdist(left, table).argmin(dim=1)
        # The thing is noise that a summary must see through: it follows the pixels but no unit.
        things = [THINGS[int(image.sum()) % len(THINGS)] for image in images]
        return [f"a {names[i]} {thing} on a grey table" for i, thing in zip(nearest, things, strict=True)]

    def generate(self, concept, count, seed, template="{concept}", first=0):
        assert template == "One realistic image of {concept}"
        self.generated.append((concept, seed))
        named = [colour for word, colour in COLOURS.items() if word in concept.split()]
        painted = []
        for number in range(first, first + count):
            rng = generator(seed, "fake", concept, number)
            painted.append(paint(named[0] if named else list(COLOURS.values())[rng.integers(len(COLOURS))], rng))
        return torch.from_numpy(np.stack(painted))

    def encode_images(self, images):
        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)
        return torch.nn.functional.normalize(small + 0.1, dim=1)

    def encode_text(self, texts):
        raise AssertionError("Describe-and-Dissect embeds no text")


class Scripted:
    """A summariser that says what it is told, in turn."""

    uses_background = False
    cleans_replies = False

    def __init__(self, *replies):
        self.replies, self.seeds = replies, []

    def simplify(self, caption, seed):
        return caption

    def summarise(self, captions, seed, background=None):
        self.seeds.append(seed)
        return self.replies[(len(self.seeds) - 1) % len(self.replies)]


def world(models, kind="spatial", repeat=0, condition="clean", severity=0, count=60):
    rng = np.random.default_rng(5)
    names = [list(COLOURS)[i] for i in rng.integers(len(COLOURS), size=count)]
    images = torch.from_numpy(np.stack([paint(COLOURS[name], rng) for name in names]))
    maps = maps_of(images)
    return Observation(
        layer="layer4",
        kind=kind,
        condition=condition,
        severity=severity,
        repeat=repeat,
        image_ids=tuple(map(str, range(count))),
        activations=maps.mean(dim=(2, 3)),
        maps=MemoryMaps(maps) if kind == "spatial" else None,
        clip_embeddings=models.encode_images(images),
        images=lambda indices: images[list(indices)],
    )


def toolbox(models, summariser=None, seed=0):
    captions = models.caption(world(models).images(range(60)))
    models.captioned = 0
    return Toolbox(
        seed=seed,
        activate=models.activate,
        clip=models,
        captioner=models,
        summariser=summariser or CountingSummariser(),
        generator=models,
        background=lambda: caption_background(captions),
    )


@pytest.fixture
def models():
    return Models()


def named(labels):
    return [unit.ranked[0].text if unit.ranked else None for unit in labels]


@pytest.mark.parametrize("kind", ["spatial", "vector", "tokens"])
@pytest.mark.parametrize("method", [DescribeAndDissect, RefinedDescribeAndDissect])
def test_a_unit_that_sees_red_is_named_red(models, method, kind):
    labels = method().label(world(models, kind), [RED, GREEN, BLUE], toolbox(models))
    assert named(labels) == ["red", "green", "blue"]
    assert [unit.unit for unit in labels] == [RED, GREEN, BLUE]


@pytest.mark.parametrize("mode", ["fixed", "code"])
@pytest.mark.parametrize(
    "scoring", ["topk_compare", "topk_sq_mean", "mean", "median", "sq_mean", "image_products", "none"]
)
def test_every_scoring_prefers_the_true_colour(models, mode, scoring):
    summariser = Scripted("green", "red", "blue", "red", "black")
    if scoring == "none":
        summariser = Scripted("red", "green")
    (unit,) = DescribeAndDissect(mode=mode, scoring=scoring).label(world(models), [RED], toolbox(models, summariser))
    assert unit.ranked[0].text == "red"
    scores = [label.score for label in unit.ranked]
    if scoring == "none":
        assert len(summariser.seeds) == 1
        assert math.isnan(scores[0])
        assert not models.generated
    else:
        assert [label.text for label in unit.ranked].count("red") == 1
        assert len(scores) == 4
        assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("mode", ["fixed", "code"])
@pytest.mark.parametrize("method", [DescribeAndDissect, RefinedDescribeAndDissect])
def test_a_unit_alone_gets_what_it_gets_among_others(method, mode):
    def run(units, **options):
        models = Models()
        labels = method(mode=mode, **options).label(world(models), units, toolbox(models))
        return {unit.unit: unit for unit in labels}

    together = run([GREEN, LIGHT, RED, BLUE])
    assert run([RED])[RED] == together[RED]
    assert run([LIGHT])[LIGHT] == together[LIGHT]
    assert run([BLUE, GREEN, RED, LIGHT], batch_size=7, unit_block=1) == together


class Layer(Models):
    """Many units, each a mixture of the others."""

    weights = torch.from_numpy(np.random.default_rng(2).normal(size=(80, 4)).astype(np.float32))

    def activate(self, images):
        self.activated += len(images)
        # Unit by unit: a matrix product's last bits may depend on the number of rows.
        seen = maps_of(images).mean(dim=(2, 3))[:, [RED, GREEN, BLUE, LIGHT]]
        return (seen[:, None, :] * self.weights).sum(dim=2)


@pytest.mark.parametrize(
    "method",
    [DescribeAndDissect, partial(DescribeAndDissect, draw="adaptive"), RefinedDescribeAndDissect],
    ids=["dnd", "dnd adaptive", "dnd_refined"],
)
def test_a_unit_alone_in_a_block_of_any_size_and_in_the_whole_layer_gets_the_same(method):
    def run(units, block):
        layer = Layer()
        seen = replace(world(layer, "vector"), activations=layer.activate(world(layer).images(range(60))))
        labels = method(unit_block=block, batch_size=1 + block).label(seen, units, toolbox(layer))
        return dict(zip(units, map(repr, labels), strict=True))  # a score may be NaN, which equals nothing

    whole = run(range(80), 80)
    assert len(set(whole.values())) == 80
    for block in (1, 7, 64):
        assert run(range(80), block) == whole
    for unit in (0, 41, 79):
        assert run([unit], 64)[unit] == whole[unit]


def test_an_adaptive_choice_draws_less_and_a_single_candidate_needs_no_images(models):
    summariser = Scripted("red", "green", "blue", "white", "black")
    (full,) = DescribeAndDissect(crops=False).label(world(models), [RED], toolbox(models, summariser))
    drawn, models.activated = models.activated, 0
    adaptive = DescribeAndDissect(crops=False, draw="adaptive")
    (unit,) = adaptive.label(world(models), [RED], toolbox(models, summariser))
    assert unit.ranked[0].text == full.ranked[0].text == "red"
    assert {label.text for label in unit.ranked} == {label.text for label in full.ranked}
    trace = unit.extra["trace"]
    assert models.activated == trace["synthesis"]["images"] <= 0.4 * drawn
    assert all(len(one["image_ranks"]) == one["images"] for one in trace["tested"])
    models.generated.clear()
    (unit,) = adaptive.label(world(models), [RED], toolbox(models, Scripted("red")))
    assert unit.ranked[0].text == "red"
    assert math.isnan(unit.ranked[0].score)
    assert not models.generated


def test_another_process_need_not_draw_what_one_measured(models, tmp_path):
    noted: list[str] = []

    def tools(cache: Cache) -> Toolbox:
        kept = KeptMeasurements(cache, {"what": "measurements of generated images"}, noted.append)
        return replace(toolbox(models, Scripted("red", "green disc")), kept=kept)

    plain = DescribeAndDissect().label(world(models), [RED, GREEN], toolbox(models, Scripted("red", "green disc")))
    DescribeAndDissect(images_per_concept=3).label(world(models), [RED], tools(Cache(tmp_path)))
    models.generated.clear()
    assert DescribeAndDissect().label(world(models), [RED, GREEN], tools(Cache(tmp_path))) == plain
    assert len(models.generated) == 2, "the images after the third"
    models.generated.clear()
    noted.clear()
    assert DescribeAndDissect().label(world(models), [RED, GREEN], tools(Cache(tmp_path))) == plain
    assert not models.generated
    assert sorted(noted) == ["green disc", "red"]
    DescribeAndDissect().label(world(models), [RED], replace(tools(Cache(tmp_path)), seed=1))
    assert len(models.generated) == 2


def test_conditions_and_methods_share_images_and_nothing_else(models):
    used, tools = DescribeAndDissect(), toolbox(models)
    first = used.label(world(models), [RED, GREEN], tools)
    drawn = len(models.generated)
    blurred = world(models, condition="blur", severity=3)
    second = used.label(blurred, [GREEN, RED], tools)
    refined = RefinedDescribeAndDissect(max_rounds=1).label(blurred, [RED], tools)
    assert len(models.generated) == drawn > 0, "the same concepts were drawn again"
    assert second == DescribeAndDissect().label(blurred, [GREEN, RED], toolbox(models))
    assert refined == RefinedDescribeAndDissect(max_rounds=1).label(blurred, [RED], toolbox(models))
    assert used.label(world(models), [RED, GREEN], tools) == first


def test_each_concept_is_drawn_once_for_all_units(models):
    summariser = Scripted("red", "green")
    DescribeAndDissect().label(world(models), [RED, GREEN, BLUE], toolbox(models, summariser))
    assert sorted(concept for concept, _ in models.generated) == ["green", "red"]
    models.generated.clear()
    DescribeAndDissect(mode="code").label(world(models), [RED, GREEN, BLUE], toolbox(models, summariser))
    assert len(models.generated) == len(set(models.generated)) == 6


def test_repeats_draw_anew_and_conditions_share_the_images(models):
    def draws(**where):
        summariser = Scripted("red", "green")
        models.generated.clear()
        DescribeAndDissect().label(world(models, **where), [RED], toolbox(models, summariser))
        return dict(models.generated), summariser.seeds

    (images, seeds), (again, seeds_again), (blurred, seeds_blurred) = (
        draws(),
        draws(repeat=1),
        draws(condition="blur", severity=2),
    )
    assert images == blurred
    assert all(images[concept] != again[concept] for concept in images)
    assert len({*seeds, *seeds_again, *seeds_blurred}) == 15


def test_another_target_does_not_see_the_memory_of_the_first(models):
    tools = toolbox(models, Scripted("red", "green"))
    method = DescribeAndDissect()
    assert named(method.label(world(models), [RED], tools)) == ["red"]
    # A network that sees the opposite: the same concept and layer name, other activations.
    other = replace(tools, activate=lambda images: 1 - models.activate(images))
    (unit,) = method.label(world(models, "vector"), [RED], other)
    assert unit.ranked[0].text == "green"


def test_the_memory_goes_with_its_toolbox(models):
    tools = toolbox(models)
    bank = weakref.ref(bank_of(tools))
    assert bank() is bank_of(tools)
    assert bank_of(replace(tools)) is not bank()
    del tools
    assert bank() is None


def test_a_small_memory_changes_nothing(models, monkeypatch):
    units = [RED, GREEN, LIGHT]
    summariser = Scripted("red", "green", "blue")
    roomy = DescribeAndDissect().label(world(models), units, toolbox(models, summariser))
    tools = toolbox(models, Scripted("red", "green", "blue"))
    monkeypatch.setattr(bank_of(tools), "capacity", 1)
    method = DescribeAndDissect(batch_size=3, unit_block=1)
    assert method.label(world(models), units, tools) == roomy
    assert len(models.generated) > 6


@pytest.mark.parametrize("method", [DescribeAndDissect, RefinedDescribeAndDissect])
def test_dead_units_and_empty_summaries_get_no_label(models, method):
    tools = toolbox(models)
    dead, red = method().label(world(models), [DEAD, RED], tools)
    assert dead.ranked == ()
    assert dead.extra["dead"] is True
    assert red.ranked
    silent = method().label(world(models), [RED], replace(tools, summariser=Scripted("", " ", ".")))
    assert silent[0].ranked == ()
    assert silent[0].extra["trace"]["chosen"] is None
    assert method().label(world(models), [], tools) == []
    partly = DescribeAndDissect().label(world(models), [RED], replace(tools, summariser=Scripted("", "red.")))
    assert [label.text for label in partly[0].ranked] == ["red"]


def test_the_trace_tells_the_procedure_and_is_json(models):
    observation = world(models)
    (unit,) = DescribeAndDissect().label(observation, [RED], toolbox(models, Scripted("red", "green", "white design")))
    trace = json.loads(json.dumps(unit.extra["trace"], allow_nan=False))
    top = torch.argsort(observation.activations[:, RED], descending=True, stable=True)[:10].tolist()
    assert trace["top_images"] == top == list(unit.evidence)
    assert trace["candidates"] == ["red", "green", "white design", "white design background"]
    assert trace["chosen"] == "red"
    described = [item["activation"] for item in trace["described"]]
    assert described == sorted(described, reverse=True)
    assert {item["image"] for item in trace["described"]} <= set(top)
    # The left half is what excites the unit, so crops of it beat the originals.
    boxes = [item["box"] for item in trace["described"]]
    assert all(box is not None and box[2] < 300 for box in boxes)
    assert len(trace["captions"]) == len(trace["simplified"]) == 10
    assert all(caption.startswith("a red ") for caption in trace["captions"])
    ranks = [rank for tested in trace["tested"] for rank in tested["ranks"]]
    assert sorted(ranks) == list(range(40))
    for tested in trace["tested"]:
        assert tested["ranks"] == sorted(tested["ranks"])
        assert tested["topk_sq_mean"] == pytest.approx(np.mean(np.square(tested["ranks"][:5])))
        again = models.generate(tested["concept"], 10, tested["seed"], trace["synthesis"]["template"])
        assert again.shape == (10, 3, EDGE, EDGE)


def test_without_crops_only_originals_are_described(models):
    (unit,) = DescribeAndDissect(crops=False).label(world(models), [RED], toolbox(models))
    assert all(item["box"] is None for item in unit.extra["trace"]["described"])
    assert models.activated == 10 * len(unit.extra["trace"]["candidates"])
    assert named([unit]) == ["red"]


def test_the_described_images_are_the_best_of_the_units_own_originals_and_crops(models):
    observation, tools = world(models), toolbox(models)
    (unit,) = DescribeAndDissect(top_images=6).label(observation, [LIGHT], tools)
    described = unit.extra["trace"]["described"]
    assert len(described) == 6
    for item in described:
        if item["box"] is None:
            assert item["activation"] == pytest.approx(float(observation.activations[item["image"], LIGHT]))


def test_synthetic_images_are_reduced_to_32_pixels_in_code_mode_only():
    assert DescribeAndDissect().synth_px is None
    assert DescribeAndDissect(mode="code").synth_px == 32
    assert DescribeAndDissect(mode="code", synth_px=None).synth_px is None
    image = torch.full((2, 3, 96, 80), 77, dtype=torch.uint8)
    assert torch.equal(reduce_images(image, 32), torch.full((2, 3, 32, 32), 77, dtype=torch.uint8))
    request = Request("red", 2, 1, 12, "layer4")
    assert draw(request, Models()).shape == (2, 3, 12, 12)
    assert draw(request, Models(), reduced=False).shape == (2, 3, EDGE, EDGE)


class Seeing:
    """A vision-language model by arithmetic: it names the colour of most pictures, and keeps what it was shown."""

    def __init__(self, models):
        self.models, self.shown = models, []

    def describe(self, pictures, seed):
        assert all(picture.dtype == torch.uint8 and picture.ndim == 3 for picture in pictures)
        said = [self.models.caption(picture[None])[0].split()[1] for picture in pictures]
        self.shown.append((seed, [int(picture.int().sum()) for picture in pictures]))
        return max(sorted(set(said)), key=said.count)


def test_a_vision_model_sees_the_pictures_in_place_of_captions(models):
    tools = replace(toolbox(models), captioner=None, summariser=None, describer=Seeing(models))
    labels = VisionDescribeAndDissect().label(world(models), [RED, GREEN, DEAD], tools)
    assert named(labels) == ["red", "green", None]
    assert DescribeAndDissect(describe="vision").label(world(models), [RED, GREEN, DEAD], tools) == labels
    shown = tools.describer.shown[:5]
    assert len({seed for seed, _ in shown}) == 5
    assert len({tuple(pictures) for _, pictures in shown}) == 5, "each time in another order"
    assert len({tuple(sorted(pictures)) for _, pictures in shown}) == 1, "but the same ten pictures"
    trace = json.loads(json.dumps(labels[0].extra["trace"], allow_nan=False))
    assert trace["describe"] == "vision"
    assert trace["captions"] == trace["simplified"] == [""] * 10
    assert trace["replies"] == ["red"] * 5
    alone = replace(tools, describer=Seeing(models))
    assert VisionDescribeAndDissect(unit_block=1).label(world(models), [GREEN], alone) == [labels[1]]
    with pytest.raises(UserError, match="'dnd_vision' needs a describer"):
        VisionDescribeAndDissect().label(world(models), [RED], toolbox(models))


class Contrasting(Seeing):
    """One that also looks at the contrast, and keeps both groups."""

    uses_contrast = True

    def __init__(self, models):
        super().__init__(models)
        self.groups = []

    def describe(self, pictures, seed, contrast=()):
        self.groups.append([[picture.numpy().tobytes() for picture in group] for group in (pictures, contrast)])
        return super().describe(pictures, seed)


def contrasted(models, **options):
    describer = Contrasting(models)
    tools = replace(toolbox(models), captioner=None, summariser=None, describer=describer)
    method = VisionDescribeAndDissect(contrast=True, **options)
    return method.label(world(models), [RED, GREEN, DEAD], tools), describer


def test_with_contrast_the_model_also_sees_the_look_alikes_of_csp(models):
    labels, describer = contrasted(models)
    assert named(labels) == ["red", "green", None]
    observed = world(models)
    tops, alikes = contrastive_images(observed.activations, observed.clip_embeddings, top_images=9)
    assert len(describer.groups) == 2 * 3, "three requests a unit"
    for place, unit in enumerate((RED, GREEN)):
        trace = labels[place].extra["trace"]
        assert trace["look_alikes"] == alikes[unit].tolist()
        assert trace["no_contrast"] is None
        assert [one["image"] for one in trace["described"]] == trace["top_images"] == tops[unit].tolist()
        mean = observed.activations[:, unit].double().mean()
        assert (observed.activations[alikes[unit], unit] < mean).all()
        pairs = zip(tops[unit].tolist(), alikes[unit].tolist(), strict=True)
        pixels = [tuple(observed.images([one])[0].numpy().tobytes() for one in pair) for pair in pairs]
        for shown, beside in describer.groups[3 * place : 3 * place + 3]:
            assert sorted(zip(shown, beside, strict=True)) == sorted(pixels), "each beside its own look-alike"
    alone = VisionDescribeAndDissect(contrast=True, unit_block=1)
    tools = replace(toolbox(models), captioner=None, summariser=None, describer=Contrasting(models))
    assert alone.label(world(models), [GREEN], tools) == [labels[1]]


def test_a_model_that_uses_no_contrast_is_shown_none_and_the_trace_says_so(models):
    tools = replace(toolbox(models), captioner=None, summariser=None, describer=Seeing(models))
    (found,) = VisionDescribeAndDissect(contrast=True).label(world(models), [RED], tools)
    assert (found.extra["trace"]["look_alikes"], found.extra["trace"]["no_contrast"]) == (
        [],
        "the describer uses none",
    )
    (same,) = VisionDescribeAndDissect(crops=False, top_images=9, candidates=3).label(world(models), [RED], tools)
    assert found.ranked == same.ranked
    assert "look_alikes" not in same.extra["trace"]


def test_without_an_image_below_the_mean_there_is_no_contrast(models, monkeypatch):
    monkeypatch.setattr("baselines.dnd.contrast.look_alikes", lambda activations, images, top: np.full(len(top), -1))
    labels, describer = contrasted(models)
    assert named(labels) == ["red", "green", None]
    assert labels[0].extra["trace"]["no_contrast"] == "no image activates the unit less than its mean"
    assert all(beside == [] for _, beside in describer.groups)


def test_csp_chooses_among_the_candidates_of_the_unit_alone(models):
    table = {name: models.generate(name, 1, 0, "One realistic image of {concept}") for name in COLOURS}
    models.generated.clear()

    class Reading(Models):
        def encode_text(self, texts):
            return torch.cat([self.encode_images(table[text]) for text in texts])

    class Undecided(Contrasting):
        def describe(self, pictures, seed, contrast=()):
            return ("red", "green", "blue")[len(self.groups) % 3] if super().describe(pictures, seed, contrast) else ""

    describer = Undecided(models)
    given = {"captioner": None, "summariser": None, "generator": None, "clip": Reading(), "describer": describer}
    tools = replace(toolbox(models), **given)
    method = VisionDescribeAndDissect(contrast=True, scoring="csp")
    assert "generator" not in method.asks
    assert method.cost(2, 40).generated.most == 0
    labels = method.label(world(models), [RED, GREEN], tools)
    assert named(labels) == ["red", "green"]
    assert {label.text for label in labels[0].ranked} == {"red", "green", "blue"}
    concepts = tuple(labels[0].extra["trace"]["candidates"])
    (csp,) = Csp().label(world(models), [RED], replace(tools, concepts=concepts))
    assert labels[0].ranked == csp.ranked
    assert labels[0].extra["trace"]["tested"] == []
    assert not models.generated


def test_clip_may_describe_each_picture_by_a_word(models):
    """Its nearest concept, as published for the variant with CLIP in place of the captioner."""
    table = {name: models.generate(name, 1, 0, "One realistic image of {concept}") for name in COLOURS}

    class Naming(Models):
        def encode_text(self, texts):
            return torch.cat([self.encode_images(table[text]) for text in texts])

    tools = replace(toolbox(models), clip=Naming(), captioner=None, concepts=tuple(COLOURS))
    labels = DescribeAndDissect(describe="words", crops=False).label(world(models), [RED, BLUE], tools)
    assert named(labels) == ["red", "blue"]
    trace = labels[0].extra["trace"]
    assert trace["captions"] == trace["simplified"]
    assert set(trace["captions"]) == {"red"}
    with pytest.raises(UserError, match="needs a concept set"):
        DescribeAndDissect(describe="words").label(world(models), [RED], replace(tools, concepts=()))


def test_without_a_language_model_captions_are_the_candidates(models):
    tools = replace(toolbox(models), summariser=None)
    (unit,) = DescribeAndDissect(summarise=False, candidates=3).label(world(models), [RED], tools)
    trace = unit.extra["trace"]
    assert trace["replies"] == trace["captions"][:3] == trace["simplified"][:3]
    assert [label.text for label in unit.ranked] != []
    assert {label.text for label in unit.ranked} == set(trace["captions"][:3])


def test_a_reply_is_cleaned_once(models):
    """By the method, or by a summariser that says it does so itself."""
    replies = ("label: red, shiny", "a: green, flat")
    raw = Scripted(*replies)
    (unit,) = DescribeAndDissect(candidates=1).label(world(models), [RED], toolbox(models, raw))
    assert len(raw.seeds) == 2, "the pieces of a list are summarised once more"
    assert unit.extra["trace"]["replies"] == ["green, flat"]
    finished = Scripted(*replies)
    finished.cleans_replies = True
    (unit,) = DescribeAndDissect(candidates=1).label(world(models), [RED], toolbox(models, finished))
    assert len(finished.seeds) == 1
    assert unit.extra["trace"]["replies"] == ["label: red, shiny"]


@pytest.mark.parametrize("mode", ["code", "fixed"])
def test_a_language_model_is_asked_as_often_as_released(models, mode):
    class Listing:
        """Answers with a list, whatever it is asked."""

        identity = "listing"
        asked = 0

        def chat(self, messages, *, temperature, max_tokens, seed):
            self.asked += 1
            return Reply("Label: red, green" if len(messages) > 1 else "Label: red, blue: x", 1, 1, "listing")

    model = Listing()
    tools = toolbox(models, LanguageModelSummariser(model, mode))
    (unit,) = DescribeAndDissect(mode=mode, simplify=False).label(world(models), [RED], tools)
    assert model.asked == 10, "five summaries, and each list once more without examples"
    assert unit.extra["trace"]["replies"] == (["red, blue"] * 5 if mode == "code" else [""] * 5)


def test_mistakes_are_named(models):
    tools = toolbox(models)
    with pytest.raises(UserError, match="generator"):
        DescribeAndDissect().label(world(models), [RED], replace(tools, generator=None))
    with pytest.raises(UserError, match="Unit 5 does not exist"):
        DescribeAndDissect().label(world(models), [5], tools)
    with pytest.raises(UserError, match="maps"):
        DescribeAndDissect().label(replace(world(models), maps=None), [RED], tools)
    with pytest.raises(UserError, match="topk_compare"):
        DescribeAndDissect(scoring="topk-compare")
    with pytest.raises(UserError, match="fixed"):
        DescribeAndDissect(mode="fix")
    with pytest.raises(UserError, match="vision"):
        DescribeAndDissect(describe="visions")
    with pytest.raises(UserError, match="describe=vision makes none"):
        DescribeAndDissect(describe="vision", summarise=False)
    with pytest.raises(UserError, match="needs a captioner and a summariser, which"):
        DescribeAndDissect().label(world(models), [RED], replace(tools, captioner=None, summariser=None))
    with pytest.raises(UserError, match="at least 1"):
        DescribeAndDissect(candidates=0)
    with pytest.raises(UserError, match="pass_quantile"):
        RefinedDescribeAndDissect(pass_quantile=90)


def test_the_loop_stops_at_once_when_the_images_activate_the_unit(models):
    (unit,) = RefinedDescribeAndDissect().label(world(models), [RED], toolbox(models))
    (only,) = unit.extra["trace"]["rounds"]
    assert (only["best"], only["passed"], only["stopped"]) == ("red", True, "passed")
    json.dumps(unit.extra, allow_nan=False)


class Refining(Scripted):
    """Wrong about the described images, right once it also sees captions of synthetic images."""

    def summarise(self, captions, seed, background=None):
        self.seeds.append(len(captions))
        return "colourful square" if len(captions) == 10 else "red square"


def test_failing_images_send_the_unit_round_again_until_they_pass(models):
    summariser = Refining()
    (unit,) = RefinedDescribeAndDissect().label(world(models), [RED], toolbox(models, summariser))
    first, second = unit.extra["trace"]["rounds"]
    assert (first["best"], first["passed"], first["stopped"]) == ("colourful square", False, None)
    assert (second["best"], second["passed"], second["stopped"]) == ("red square", True, "passed")
    assert unit.ranked[0].text == "red square"
    assert summariser.seeds == [10] * 5 + [15] * 5
    assert len(second["synthetic"]) == 5
    # The synthetic images shown again are those that activate the unit most, strongest first.
    drawn = models.generate("colourful square", 10, second["synthetic"][0]["seed"], "One realistic image of {concept}")
    strongest = torch.argsort(models.activate(drawn)[:, RED], descending=True, stable=True)[:5]
    assert [image["number"] for image in second["synthetic"]] == strongest.tolist()
    assert [image["caption"] for image in second["synthetic"]] == models.caption(drawn[strongest])
    json.dumps(unit.extra, allow_nan=False)


def test_the_loop_is_bounded_and_stops_when_nothing_new_is_proposed(models):
    tools = toolbox(models, Scripted("black"))
    (unit,) = RefinedDescribeAndDissect().label(world(models), [RED], tools)
    assert [r["stopped"] for r in unit.extra["trace"]["rounds"]] == [None, "nothing new"]

    class Restless(Scripted):
        def summarise(self, captions, seed, background=None):
            self.seeds.append(seed)
            return f"black thing {len(self.seeds)}"

    (unit,) = RefinedDescribeAndDissect(max_rounds=3).label(world(models), [RED], toolbox(models, Restless()))
    rounds = unit.extra["trace"]["rounds"]
    assert len(rounds) <= 3
    assert rounds[-1]["stopped"] in ("no improvement", "last round")
    (unit,) = RefinedDescribeAndDissect(max_rounds=1).label(world(models), [RED], toolbox(models, Restless()))
    assert [r["stopped"] for r in unit.extra["trace"]["rounds"]] == ["last round"]


def test_refined_scores_against_scikit_learn_and_counting(models):
    from sklearn.metrics import roc_auc_score

    observation = world(models)
    probing = Probing.of(observation)
    synthetic = models.activate(models.generate("red", 10, 3, "One realistic image of {concept}")).numpy()
    control = observation.activations.numpy()
    truth = np.r_[np.zeros(len(control)), np.ones(10)]
    for unit in (RED, GREEN, LIGHT):
        expected = roc_auc_score(truth, np.r_[control[:, unit], synthetic[:, unit]])
        assert probing.auc(unit, synthetic[:, unit]) == pytest.approx(expected)
    assert probing.auc(DEAD, synthetic[:, DEAD]) == 0.5
    # Red images excite the red unit most of the four live ones; the dead one does not count.
    assert probing.specificity(RED, synthetic) == 1.0
    excited = (synthetic.mean(0) - control.mean(0)) / np.where(control.std(0) > 0, control.std(0), 1)
    below = sum(excited[v] < excited[GREEN] for v in (RED, BLUE, LIGHT))
    assert probing.specificity(GREEN, synthetic) == pytest.approx(below / 3)


def test_consistency_is_the_mean_best_overlap_with_each_round():
    assert consistency("red fish", [["red fish", "boat"]]) == 1.0
    assert consistency("red fish", [["boat", "fish"], ["red fish"]]) == pytest.approx((0.5 + 1) / 2)
    assert consistency("red fish", [["red fish"], []]) == 0.5
    assert consistency("red fish", []) == 0.0
