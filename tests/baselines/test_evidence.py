from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.evidence import check_units, dead_units, top_image_table, top_images
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
def test_ties_go_to_the_smaller_index_and_nan_never_shows(convert):
    values = convert([1.0, 3.0, float("nan"), 3.0, 2.0])
    assert top_images(values, 3) == [1, 3, 4]
    assert top_images(values, 9) == [1, 3, 4, 0]
    assert top_images(values, 0) == []


def test_the_table_agrees_with_the_single_unit():
    activations = torch.randint(0, 5, (40, 7), generator=torch.Generator().manual_seed(0)).float()
    table = top_image_table(activations, 6)
    assert table.tolist() == [top_images(activations[:, unit], 6) for unit in range(7)]
    assert top_image_table(torch.zeros(3, 0), 2).shape == (0, 2)


@pytest.mark.parametrize("unit", [-1, 4])
def test_a_unit_out_of_range_is_refused(unit):
    with pytest.raises(UserError, match=f"Unit {unit} does not exist.* 0 to 3"):
        check_units([0, unit], 4)
