from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from small_observation import observation, toolbox

from baselines.trivial import ConstantLabel, RandomLabel
from tasks.common.errors import UserError

CONCEPTS = tuple(f"concept {index}" for index in range(10))


def activations(units=400):
    return torch.rand(5, units, generator=torch.Generator().manual_seed(0))


def texts(units=range(400), **where):
    labels = RandomLabel().label(observation(activations(), **where), units, toolbox(concepts=CONCEPTS))
    return [item.ranked[0].text for item in labels]


def test_random_labels_are_uniform():
    counts = [texts().count(concept) for concept in CONCEPTS]
    assert sum(counts) == 400
    assert stats.chisquare(counts).pvalue > 0.001


def test_random_labels_follow_their_address_alone():
    assert texts() == texts()
    assert texts([399, 7]) == [texts()[399], texts()[7]]
    others = [texts(repeat=1), texts(condition="fog", severity=1), texts(condition="fog", severity=2)]
    for first in range(3):
        agreement = sum(a == b for a, b in zip(texts(), others[first], strict=True))
        assert 15 < agreement < 75
        assert all(others[first] != other for other in others[:first])


def test_random_label_changes_with_the_run_seed():
    seen = observation(activations())
    labels = RandomLabel().label(seen, range(400), toolbox(concepts=CONCEPTS, seed=1))
    assert [item.ranked[0].text for item in labels] != texts()


def test_the_constant_label():
    labels = ConstantLabel().label(observation(activations(3)), [2, 0], toolbox())
    assert [(item.unit, item.ranked[0].text) for item in labels] == [(2, "depiction"), (0, "depiction")]
    assert all(math.isnan(item.ranked[0].score) for item in labels)
    assert all(item.evidence == () for item in labels)


@pytest.mark.parametrize("method", [RandomLabel(), ConstantLabel()])
def test_dead_units_get_none_and_wrong_units_an_error(method):
    values = activations(3)
    values[:, 1] = 0.0
    labels = method.label(observation(values), range(3), toolbox(concepts=CONCEPTS))
    assert [len(item.ranked) for item in labels] == [1, 0, 1]
    with pytest.raises(UserError, match="Unit 3 does not exist"):
        method.label(observation(values), [3], toolbox(concepts=CONCEPTS))


def test_random_label_needs_concepts():
    with pytest.raises(UserError, match="needs a concept set"):
        RandomLabel().label(observation(activations(3)), [0], toolbox())
