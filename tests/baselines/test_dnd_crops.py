"""Attention crops: heat maps, boxes and the greedy filter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops

from baselines.dnd.crops import (
    CROP_SIZE,
    accept_boxes,
    attention_boxes,
    crop_image,
    heat_map,
    hot_boxes,
    iou,
)

COORDINATES = st.tuples(*[st.integers(0, 40)] * 4)
BOXES = COORDINATES.map(lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]) + 1, max(c[1], c[3]) + 1))


def test_a_map_above_one_wraps_in_code_mode_only():
    activation = np.array([[0.0, 3.0], [0.9, 0.0]])
    code, fixed = heat_map(activation, 2, "code"), heat_map(activation, 2, "fixed")
    assert code.tolist() == [[0, 3 * 255 % 256], [229, 0]]
    assert fixed.tolist() == [[0, 255], [76, 0]]  # 0.9 / 3 × 255 = 76.5, rounded half to even
    # 3.02 × 255 = 770 wraps to 2: the strongest place goes dark.
    assert heat_map(np.array([[3.02]]), 1, "code").tolist() == [[2]]


def test_wrapping_moves_the_crop_away_from_the_strongest_place():
    activation = np.zeros((7, 7))
    activation[1, 1] = 3.02
    activation[5, 5] = 0.9
    (fixed,) = attention_boxes(activation, "fixed")
    (code,) = attention_boxes(activation, "code")
    assert max(fixed[2:]) < CROP_SIZE / 2 < min(code[:2])


def test_fixed_mode_ignores_scale_and_offset_and_flat_maps_give_no_crop():
    activation = np.random.default_rng(0).random((7, 7))
    assert attention_boxes(activation) == attention_boxes(40.0 * activation - 3.0)
    assert attention_boxes(np.full((7, 7), 2.5)) == []
    assert attention_boxes(np.zeros((7, 7)), "code") == []


def test_boxes_agree_with_an_independent_otsu_and_labelling():
    heat = heat_map(np.random.default_rng(3).random((5, 5)) ** 3, 100)
    regions = regionprops(label(heat > threshold_otsu(heat), connectivity=2))
    expected = {(r.bbox[1], r.bbox[0], r.bbox[3], r.bbox[2]) for r in regions}
    found = hot_boxes(heat)
    assert set(found) == expected
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in found]
    assert areas == sorted(areas, reverse=True)
    assert len(areas) > 1


def test_iou_on_continuous_coordinates():
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1.0
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0.0
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(50 / 150)


@given(BOXES, BOXES)
@settings(max_examples=60, deadline=None)
def test_iou_counts_pixels(first, second):
    def pixels(box):
        mask = np.zeros((42, 42), bool)
        mask[box[1] : box[3], box[0] : box[2]] = True
        return mask

    one, two = pixels(first), pixels(second)
    assert iou(first, second) == pytest.approx((one & two).sum() / (one | two).sum())


def test_overlap_of_exactly_one_half_is_accepted_and_more_is_not():
    assert iou((0, 0, 100, 100), (0, 0, 100, 50)) == 0.5
    assert accept_boxes([(0, 0, 100, 100), (0, 0, 100, 50)]) == [(0, 0, 100, 100), (0, 0, 100, 50)]
    assert accept_boxes([(0, 0, 100, 100), (0, 0, 100, 51)]) == [(0, 0, 100, 100)]


def test_four_fifths_of_the_image_is_too_much_and_just_less_is_not():
    assert accept_boxes([(0, 0, 375, 300)]) == []  # 300 / 375 is 0.8
    assert accept_boxes([(0, 0, 375, 299)]) == [(0, 0, 375, 299)]


def test_a_refused_box_does_not_block_others():
    whole, inner = (0, 0, 375, 320), (0, 0, 375, 200)
    assert accept_boxes([whole, inner]) == [inner]


def test_at_most_four():
    boxes = [(60 * i, 0, 60 * i + 50, 50 - i) for i in range(6)]
    assert accept_boxes(boxes) == boxes[:4]
    assert accept_boxes(boxes, most=2) == boxes[:2]


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 4, 7]), st.sampled_from(["fixed", "code"]))
@settings(max_examples=25, deadline=None)
def test_the_filter_holds_on_any_map(seed, edge, mode):
    activation = 3 * np.random.default_rng(seed).random((edge, edge)) ** 2
    boxes = attention_boxes(activation, mode)
    assert len(boxes) <= 4
    assert all(iou(box, (0, 0, 375, 375)) < 0.8 for box in boxes)
    assert all(iou(a, b) <= 0.5 for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_crop_shows_what_is_in_its_box():
    image = np.zeros((224, 224, 3), np.uint8)
    image[:112, :112] = (200, 10, 10)
    activation = np.zeros((4, 4))
    activation[0, 0] = 1.0
    (box,) = attention_boxes(activation)
    crop = crop_image(image, box)
    assert crop.shape == (375, 375, 3)
    assert np.abs(crop[20:-20, 20:-20].astype(int) - (200, 10, 10)).max() <= 2


def test_boxes_belong_to_the_stated_size():
    activation = np.zeros((4, 4))
    activation[3, 0] = 1.0
    (small,), (large,) = attention_boxes(activation, size=128), attention_boxes(activation, size=384)
    assert np.allclose(np.array(large) / 384, np.array(small) / 128, atol=0.02)
