from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.evidence import check_units, dead_units, order_among_ties, tied_images, top_image_table, top_images
from tasks.common.errors import UserError


def test_dead_units_are_those_without_usable_variation():
    activations = torch.tensor(
        [
            [0.0, 5.0, 1.0, 0.0, 0.0, 7.0],
            [0.0, 5.0, 2.0, float("nan"), 1.0, 7.000001],
            [0.0, 5.0, 3.0, 1.0, float("inf"), 7.0],
        ]
    )
    assert dead_units(activations).tolist() == [True, True, False, True, True, True]


def test_a_tiny_but_real_variation_is_alive_and_one_image_is_not_enough():
    assert dead_units(torch.tensor([[0.0], [1e-20]])).tolist() == [False]
    assert dead_units(torch.tensor([[3.0, 4.0]])).tolist() == [True, True]
    assert dead_units(torch.zeros(0, 2)).tolist() == [True, True]


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor])
def test_top_images_leave_out_what_ties_at_the_cut_and_nan(convert):
    values = convert([1.0, 3.0, float("nan"), 3.0, 2.0, 1.0])
    assert top_images(values, 3) == [1, 3, 4]
    assert top_images(values, 4) == [1, 3, 4]
    assert top_images(values, 9) == [1, 3, 4, 0, 5]
    assert top_images(values, 1) == [1]
    assert top_images(values, 0) == []


def test_the_order_of_the_images_changes_no_top_image():
    draw = torch.Generator().manual_seed(0)
    layer = torch.rand(60, 12, generator=draw)
    layer[:, :4] = (layer[:, :4] - 0.9).relu()  # about 6 images above 0
    layer[:, 4:8] = layer[:, 4:8].round()  # about 30 images at the highest activation
    order = torch.randperm(60, generator=draw)
    for unit in range(12):
        found = top_images(layer[:, unit], 10, among_ties=order_among_ties(layer))
        turned = top_images(layer[order, unit], 10, among_ties=order_among_ties(layer[order]))
        assert order[turned].tolist() == found
        assert (len(found) == 10) == (unit >= 4)
        assert (layer[found, unit] > 0).all()


def test_images_that_tie_at_the_cut_are_counted():
    layer = torch.tensor([[3.0, 0.0, 1.0], [2.0, 0.0, 1.0], [1.0, 5.0, 1.0], [0.0, 0.0, 0.0]])
    assert tied_images(layer, 2).tolist() == [0, 3, 3]
    assert tied_images(layer, 3).tolist() == [0, 3, 0]
    assert tied_images(layer, 4).tolist() == [0, 0, 0]


def test_the_table_agrees_with_the_single_unit():
    activations = torch.rand(40, 7, generator=torch.Generator().manual_seed(0))
    table = top_image_table(activations, 6)
    assert table.tolist() == [top_images(activations[:, unit], 6) for unit in range(7)]
    assert top_image_table(torch.tensor([[1.0], [2.0], [1.0], [2.0]]), 3).tolist() == [[1, 3, 0]]
    assert top_image_table(torch.zeros(3, 0), 2).shape == (0, 2)


@pytest.mark.parametrize("unit", [-1, 4])
def test_a_unit_out_of_range_is_refused(unit):
    with pytest.raises(UserError, match=f"Unit {unit} does not exist.* 0 to 3"):
        check_units([0, unit], 4)
