from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_observation import observation, toolbox

from baselines.network_dissection import (
    NetworkDissection,
    count_overlap,
    intersection_over_union,
    primary_categories,
    survey,
)
from baselines.network_dissection.thresholds import _Group
from tasks.activations.maps import MemoryMaps
from tasks.common.errors import UserError
from tasks.observation import Segmentation

LABELS = ("", "fish", "car", "red", "blue", "beach", "night")
CATEGORIES = {"object": (1, 2), "color": (3, 4), "scene": (5, 6)}


def segmentation(annotation, size=(8, 8), labels=LABELS, categories=CATEGORIES):
    return Segmentation(labels=labels, categories=categories, pixels=lambda image: annotation[image], size=size)


def thresholds(maps, quantile, mode="fixed"):
    return survey(MemoryMaps(maps), range(maps.shape[1]), quantile, mode).thresholds


def counted(maps, limits, segmented):
    return count_overlap(MemoryMaps(maps), range(maps.shape[1]), limits, segmented)


def random_case(units=4, images=30, side=3, seed=0):
    draw = np.random.default_rng(seed)
    annotation = [
        {
            "object": draw.choice([0, 0, 1, 2], (8, 8)),
            "color": np.kron(draw.choice([0, 3, 4], (2, 2)), np.ones((4, 4), dtype=np.int64)),
            "scene": [int(draw.choice([5, 6]))] if draw.random() < 0.5 else [],
        }
        for _ in range(images)
    ]
    annotation[3]["object"] = np.where(draw.random((8, 8)) < 0.3, 3, annotation[3]["object"])
    maps = torch.from_numpy(draw.gamma(0.5, size=(images, units, side, side)).astype(np.float32))
    return maps, segmentation(annotation)


def names_by_pixel(segmented, image):
    height, width = segmented.size
    parts = segmented.pixels(image).values()
    return {
        (y, x): set().union(*(value if isinstance(value, list) else {int(value[y, x])} for value in parts)) - {0}
        for y in range(height)
        for x in range(width)
    }


def by_loops(maps, limits, segmented):
    """The definition, pixel by pixel and label by label."""
    primary = {number: name for name, numbers in segmented.categories.items() for number in numbers}
    scores = np.zeros((maps.shape[1], len(segmented.labels)))
    for unit in range(maps.shape[1]):
        shared, total = dict.fromkeys(primary, 0), dict.fromkeys(primary, 0)
        area = dict.fromkeys(segmented.categories, 0)
        for image in range(len(maps)):
            large = torch.nn.functional.interpolate(maps[image, unit][None, None], segmented.size, mode="bilinear")
            # The image must exceed the threshold itself: interpolating equal values may round one bit upwards.
            mask = (large[0, 0] > limits[unit]) & (maps[image, unit].max() > limits[unit])
            seen = set()
            for place, numbers in names_by_pixel(segmented, image).items():
                for number in numbers:
                    total[number] += 1
                    shared[number] += int(mask[place])
                    seen |= {primary[number]} if mask[place] else set()
            for category in seen:
                area[category] += int(mask.sum())
        for number, name in primary.items():
            scores[unit, number] = shared[number] / (area[name] + total[number] - shared[number] + 1e-10)
    return scores


@pytest.mark.parametrize("side", [1, 3, 8, 11])
@pytest.mark.parametrize("quantile", [0.04, 0.3])
def test_iou_is_the_definition(side, quantile):
    maps, segmented = random_case(side=side)
    expected = by_loops(maps, thresholds(maps, quantile), segmented)
    assert expected.max() > 0.01
    method = NetworkDissection(quantile=quantile)
    labelled = method.label(
        observation(maps.mean((2, 3)), maps=maps, kind="spatial", segmentation=segmented), range(4), toolbox()
    )
    for unit, item in enumerate(labelled):
        order = np.argsort(-expected[unit], kind="stable")[:5]
        assert [label.text for label in item.ranked] == [
            LABELS[number] for number in order if expected[unit, number] > 0
        ]
        np.testing.assert_allclose(
            [label.score for label in item.ranked], [s for s in expected[unit, order] if s > 0], rtol=1e-12
        )
        for category, numbers in CATEGORIES.items():
            best = max(numbers, key=lambda number: expected[unit, number])
            assert item.extra["categories"][category]["label"] == LABELS[best]
            assert item.extra["categories"][category]["iou"] == pytest.approx(expected[unit, best], rel=1e-12)
        assert item.extra["detector"] is bool(expected[unit].max() > 0.04)
        assert item.extra["image_level"] is False
        json.dumps(item.extra)


def corner_case():
    """One unit that fires on the whole left half of image 0 only; the fish covers 3 of its 4 columns and one beyond."""
    fish = np.zeros((8, 8), dtype=np.int64)
    fish[:, 1:5] = 1
    annotation = [{"object": fish}] + [{"object": np.zeros((8, 8), dtype=np.int64)} for _ in range(9)]
    maps = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    maps[0, 0, :, :4] = 2 + maps[0, 0, :, :4]
    return maps, annotation


def label_one(maps, annotation, quantile=0.05, **options):
    seen = observation(maps.mean((2, 3)), maps=maps, kind="spatial", segmentation=segmentation(annotation))
    return NetworkDissection(quantile=quantile, **options).label(seen, [0], toolbox())[0]


def test_a_hand_made_overlap():
    maps, annotation = corner_case()
    item = label_one(maps, annotation)  # 640 positions, 32 above
    assert [label.text for label in item.ranked] == ["fish"]
    assert item.ranked[0].score == pytest.approx(24 / (32 + 32 - 24))
    assert item.evidence == (0,)
    assert item.extra["detector"] is True
    assert label_one(maps, annotation, detector=0.6).extra["detector"] is False


def test_the_detector_threshold_itself_is_no_detector():
    maps, annotation = corner_case()
    score = label_one(maps, annotation).ranked[0].score
    assert label_one(maps, annotation, detector=score).extra["detector"] is False


def test_label_area_counts_in_images_where_the_unit_is_silent():
    maps, annotation = corner_case()
    annotation[7] = {"object": np.ones((8, 8), dtype=np.int64)}
    assert label_one(maps, annotation).ranked[0].score == pytest.approx(24 / (32 + 32 + 64 - 24))


def test_activation_counts_only_where_the_mask_meets_the_category():
    maps, annotation = corner_case()
    maps[1] = maps[0] + 0.5
    annotation[1] = {"object": np.pad(np.full((8, 1), 2), ((0, 0), (7, 0)))}  # a car, but outside the mask
    item = label_one(maps, annotation, quantile=0.1)
    assert item.ranked[0].text == "fish"
    assert item.ranked[0].score == pytest.approx(24 / (32 + 32 - 24))
    annotation[1]["object"][0, 0] = 2
    assert label_one(maps, annotation, quantile=0.1).ranked[0].score == pytest.approx(24 / (64 + 32 - 24))


def test_image_level_labels_count_as_every_pixel():
    maps, annotation = corner_case()
    annotation[0]["scene"] = [5]
    annotation[1]["scene"] = [5]
    item = label_one(maps, annotation)
    assert item.extra["categories"]["scene"] == {"label": "beach", "iou": pytest.approx(32 / (32 + 128 - 32))}
    as_pixels = [dict(parts) for parts in annotation]
    for image in (0, 1):
        as_pixels[image]["scene"] = np.full((8, 8), 5)
    assert label_one(maps, as_pixels) == item


def test_one_unit_alone_gets_what_it_gets_among_all():
    maps, segmented = random_case(units=6)
    seen = observation(maps.mean((2, 3)), maps=maps, kind="spatial", segmentation=segmented)
    method = NetworkDissection(quantile=0.1)
    everything = method.label(seen, range(6), toolbox())
    assert method.label(seen, [4, 1], toolbox()) == [everything[4], everything[1]]
    assert method.label(seen, [], toolbox()) == []


def test_float16_maps_are_read():
    maps, segmented = random_case()
    half = maps.half()
    results = [
        NetworkDissection(quantile=0.1).label(
            observation(maps.mean((2, 3)), maps=some, kind="spatial", segmentation=segmented), range(4), toolbox()
        )
        for some in (half, half.float())
    ]
    assert results[0] == results[1]


def test_a_vector_layer_says_that_its_iou_is_image_level():
    _, segmented = random_case()
    activations = torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
    method = NetworkDissection(quantile=0.1)
    vector = method.label(observation(activations, segmentation=segmented), [0, 1], toolbox())
    assert all(item.extra["image_level"] is True for item in vector)
    maps = activations[:, :, None, None]
    spread = counted(maps, thresholds(maps, 0.1), segmented)
    assert (spread.mask % 64 == 0).all()
    assert spread.mask.tolist() == [3 * 64, 3 * 64]
    scores = intersection_over_union(spread, primary_categories(segmented))
    assert vector[1].ranked[0].score == scores[1].max().item()


@pytest.mark.parametrize("n", [200, 601, 1400])
def test_the_exact_quantile_leaves_the_stated_share_above(n):
    maps = torch.rand(n, 3, 1, 1, generator=torch.Generator().manual_seed(n))
    limits = thresholds(maps, 0.005)
    assert ((maps[:, :, 0, 0] > limits).sum(dim=0) == n // 200).all()
    expected = np.quantile(maps[:, :, 0, 0].numpy(), 0.995, axis=0, method="inverted_cdf")
    np.testing.assert_array_equal(limits.numpy(), expected)


def test_the_code_mode_reads_element_994_of_1000_quantiles():
    maps = torch.rand(500, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    values = maps.permute(1, 0, 2, 3).reshape(2, -1).numpy()
    readout = np.quantile(values, np.linspace(0, 1, 1000), axis=1)[994]
    np.testing.assert_allclose(thresholds(maps, 0.005, "code").numpy(), readout, rtol=1e-6)
    assert (thresholds(maps, 0.005, "code") < thresholds(maps, 0.005)).all() or not np.allclose(
        readout, thresholds(maps, 0.005).numpy()
    )


def test_dead_units_and_empty_masks_get_no_label():
    maps, segmented = random_case(units=6)
    maps[:, 0] = 0.0
    maps[:, 1] = 3.0
    maps[2, 2, 0, 0] = float("nan")
    maps[5, 3, 1, 1] = float("inf")
    maps[:, 4] = torch.where(maps[:, 4] > maps[:, 4].median(), 1.0, 0.0)  # the threshold is the maximum itself
    seen = observation(maps.mean((2, 3)), maps=maps, kind="spatial", segmentation=segmented)
    labels = NetworkDissection(quantile=0.1).label(seen, range(6), toolbox())
    assert [bool(item.ranked) for item in labels] == [False, False, False, False, False, True]
    assert all(item.evidence == () for item in labels[:5])


def test_a_layer_of_dead_units_gets_no_label():
    _, segmented = random_case()
    seen = observation(torch.zeros(30, 2), maps=torch.zeros(30, 2, 3, 3), kind="spatial", segmentation=segmented)
    assert [item.ranked for item in NetworkDissection(quantile=0.1).label(seen, [1, 0], toolbox())] == [(), ()]


def test_a_mask_that_meets_no_concept_is_no_label():
    maps, annotation = corner_case()
    annotation[0] = {"object": np.zeros((8, 8), dtype=np.int64)}
    annotation[4] = {"object": np.ones((8, 8), dtype=np.int64)}
    item = label_one(maps, annotation)
    assert item.ranked == ()
    assert item.extra["categories"] == {}


def test_mistakes_get_one_sentence():
    maps, segmented = random_case()
    seen = observation(maps.mean((2, 3)), maps=maps, kind="spatial", segmentation=segmented)
    with pytest.raises(UserError, match="needs a probing set with concept segmentation"):
        NetworkDissection().label(observation(torch.rand(5, 2)), [0], toolbox())
    with pytest.raises(UserError, match="maps of layer layer4, which were not collected"):
        NetworkDissection().label(
            observation(torch.rand(30, 2), kind="spatial", segmentation=segmented), [0], toolbox()
        )
    with pytest.raises(UserError, match=r"needs at least 200 positions .* 30 images of 1x1"):
        NetworkDissection().label(observation(torch.rand(30, 2), segmentation=segmented), [0], toolbox())
    with pytest.raises(UserError, match="Unit 4 does not exist"):
        NetworkDissection().label(seen, [4], toolbox())
    with pytest.raises(UserError, match="between 0 and 1"):
        NetworkDissection(quantile=0.0)
    with pytest.raises(UserError, match="Unknown mode"):
        NetworkDissection(mode="paper")


@pytest.mark.parametrize(
    ("annotation", "categories", "message"),
    [
        ({"object": np.full((8, 8), 9)}, CATEGORIES, "Concept 9 .* image 0 has no name"),
        ({"object": np.full((8, 8), 1)}, {"color": (3, 4)}, "Concept 1 .* no primary category"),
        ({"object": np.full((4, 4), 1)}, CATEGORIES, r"\(4, 4\), not \(8, 8\)"),
        ({"object": [1]}, {"object": (1, 2), "color": (2,)}, "'car' .* two primary categories"),
        ({"object": [1]}, {"object": (1, 12)}, "concept 12, which has no name"),
    ],
)
def test_a_broken_annotation_is_named(annotation, categories, message):
    segmented = segmentation([annotation], categories=categories)
    with pytest.raises(UserError, match=message):
        counted(torch.ones(1, 1, 2, 2), torch.zeros(1), segmented)


def counted_in_full(maps, limits, segmented):
    """|M ∩ L| and |M| from whole masks, up-sampled in float64."""
    shared = np.zeros((maps.shape[1], len(segmented.labels)))
    area = np.zeros(maps.shape[1])
    for image in range(len(maps)):
        large = torch.nn.functional.interpolate(maps[image : image + 1].double(), segmented.size, mode="bilinear")[0]
        masks = (large > limits.double()[:, None, None]).numpy()
        area += masks.sum(axis=(1, 2))
        for number in range(1, len(segmented.labels)):
            region = np.zeros(segmented.size, dtype=bool)
            for value in segmented.pixels(image).values():
                region |= np.array(number in value) if isinstance(value, list) else value == number
            shared[:, number] += (masks & region).sum(axis=(1, 2))
    return shared, area


@pytest.mark.parametrize("size", [(14, 130), (100, 70), (9, 64)])
@pytest.mark.parametrize("side", [(7, 7), (1, 3), (12, 5)])
@pytest.mark.parametrize("at_once", [1, 48])
def test_masks_counted_as_bits_are_the_masks(size, side, at_once, monkeypatch):
    monkeypatch.setattr("baselines.network_dissection.overlap._MAPS_AT_ONCE", at_once)
    draw = np.random.default_rng(0)
    annotation = [
        {
            "object": draw.choice([0, 0, 1, 2], size),
            "object 2": draw.choice([0, 0, 0, 1, 3], size),  # pixels annotated as 1 in both count once
            "scene": [5, 1] if image == 2 else [5] * (image % 2),
        }
        for image in range(9)
    ]
    maps = torch.from_numpy(draw.normal(size=(9, 11, *side)).astype(np.float32))
    segmented = segmentation(annotation, size)
    limits = thresholds(maps, 0.2) + 1e-4  # no map's own value: interpolating between equal values may round upwards
    found = counted(maps, limits, segmented)
    shared, area = counted_in_full(maps, limits, segmented)
    assert area.min() > 0
    np.testing.assert_array_equal(found.intersection.numpy(), shared)
    np.testing.assert_array_equal(found.mask.numpy(), area)


def test_pixels_between_cells_at_the_threshold_are_not_above_it():
    maps = torch.full((1, 1, 7, 7), 0.3)
    maps[0, 0, 0, 0] = 1.0
    nothing = segmentation([{"object": np.zeros((100, 70), dtype=np.int64)}], (100, 70))
    # Where the second row and the second column of cells have their centres.
    below, right = 1.5 * 100 / 7 - 0.5, 1.5 * 70 / 7 - 0.5
    assert counted(maps, torch.tensor([0.3]), nothing).mask.item() == math.ceil(below) * math.ceil(right)


def test_images_without_labels_and_masks_that_miss_every_pixel():
    maps = torch.zeros(2, 1, 9, 9)
    maps[0, 0, 0, 4] = 1.0  # the three rows of pixels lie at the map's rows 1, 4 and 7
    maps[1, 0, 4, 4] = 1.0
    found = counted(maps, torch.tensor([0.5]), segmentation([{}, {}], (3, 3)))
    assert found.mask.item() == 1
    assert found.intersection.sum() == 0
    assert found.activation.sum() == 0


class Blocks(MemoryMaps):
    """Maps in blocks of so many images, as from a disk; ``seen`` is the most images that any block had."""

    def __init__(self, maps, images):
        super().__init__(maps)
        self.images, self.passes, self.seen = images, 0, 0

    def blocks(self, units=None):
        self.passes += 1
        count = self.shape[0]
        for start in range(0, count, self.images):
            numbers = range(start, min(start + self.images, count))
            self.seen = max(self.seen, len(numbers))
            yield numbers, self.read(numbers, range(self.shape[1]) if units is None else units)


@pytest.mark.parametrize("mode", ["fixed", "code"])
@pytest.mark.parametrize("at_once", [1, 10**6])
@pytest.mark.parametrize("images", [4, 30])
def test_labels_do_not_depend_on_blocks_parts_or_threads(mode, at_once, images, monkeypatch):
    maps, segmented = random_case(units=6)
    maps[:, 2] = maps[:, 2].half().float().round(decimals=1)  # many equal values
    method = NetworkDissection(quantile=0.1, mode=mode)

    def label(some, units):
        seen = observation(maps.mean((2, 3)), maps=maps, kind="spatial", segmentation=segmented)
        return method.label(replace(seen, maps=some), units, toolbox())

    expected = label(MemoryMaps(maps), range(6))
    monkeypatch.setattr("baselines.network_dissection.thresholds._VALUES_AT_ONCE", at_once)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            blocks = Blocks(maps, images)
            assert label(blocks, [5, 2, 0]) == [expected[5], expected[2], expected[0]]
            assert blocks.passes == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("order", ["random", "rising", "falling", "equal"])
@pytest.mark.parametrize("images", [3, 50])
@pytest.mark.parametrize("quantile", [0.005, 0.3, 0.9])
def test_the_threshold_is_that_of_all_values_whatever_their_order(order, images, quantile):
    draw = torch.Generator().manual_seed(0)
    maps = torch.randn(400, 5, 2, 3, generator=draw).half().float()
    maps[:, 1] = maps[:, 1].relu()
    maps[:, 2] *= 1e-6
    if order == "equal":
        maps[:, 3] = -2.0
    elif order != "random":
        maps = maps.flatten().sort(descending=order == "falling").values.reshape(maps.shape)
    found = survey(Blocks(maps, images), [4, 3, 1, 2], quantile)
    values = maps[:, [4, 3, 1, 2]].permute(1, 0, 2, 3).flatten(1).numpy()
    expected = np.quantile(values, 1 - quantile, axis=1, method="inverted_cdf")
    np.testing.assert_array_equal(found.thresholds.numpy(), expected)
    code = survey(Blocks(maps, images), [4, 3, 1, 2], quantile, "code").thresholds
    place = int(1000 * (1 - quantile) - 1 + 1e-9) / 999
    np.testing.assert_allclose(code.numpy(), np.quantile(values.astype(np.float64), place, axis=1), rtol=1e-6)
    peaks = maps[:, [4, 3, 1, 2]].amax(dim=(2, 3)).numpy()
    np.testing.assert_array_equal(found.strongest.numpy(), np.argsort(-peaks, axis=0, kind="stable")[:11].T)


def test_the_evidence_leaves_out_what_ties_with_an_image_beyond_it():
    maps, annotation = corner_case()
    maps, annotation = torch.cat([maps[:1]] * 2 + [maps[1:]] * 2), [*annotation, *annotation]
    maps[2:] = 0.0
    assert label_one(maps, annotation, quantile=0.9).evidence == (0, 1)  # all values above 0
    maps[2:15, 0, 0, 0] = 1.0
    assert label_one(maps, annotation, quantile=0.9).evidence == (0, 1)
    maps[2:10, 0, 0, 0] = 1.5
    assert label_one(maps, annotation, quantile=0.9).evidence == tuple(range(10))


def test_the_threshold_of_many_images_keeps_few_values(monkeypatch):
    widths = []
    merge = _Group._merge
    monkeypatch.setattr(
        _Group, "_merge", lambda self: (widths.append(sum(x.shape[1] for x in self._waiting)), merge(self))[1]
    )
    maps = torch.rand(2000, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    survey(Blocks(maps, 20), [0, 1], 0.005)
    assert sum(widths) < 0.5 * 2000 * 16
    assert max(widths) <= 2 * 160 + 20 * 16
