"""What Describe-and-Dissect states that it costs, over all its options; what CLEAR does is in its own tests."""

from __future__ import annotations

import pytest

from baselines.costs import NOTHING
from baselines.dnd.cost import dnd_cost
from baselines.dnd.method import DescribeAndDissect

VARIANTS = [
    {},
    {"crops": False},
    {"scoring": "none"},
    {"summarise": False},
    {"describe": "words"},
    {"describe": "vision"},
]


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("mode", ["fixed", "code"])
def test_no_more_is_expected_than_can_be(options, mode):
    method = DescribeAndDissect(**{**options, "mode": mode})
    for units in (1, 48):
        cost = dnd_cost(method, units, 500)
        for name in ("activated", "embedded", "captioned", "generated", "simplified", "summarised", "described"):
            amount = getattr(cost, name)
            assert amount.expected is None or amount.expected <= amount.most, name


def generated(**options) -> float | None:
    return dnd_cost(DescribeAndDissect(**options), 48, 300).generated.expected


def test_few_words_are_drawn_and_captions_are_drawn_whole():
    usual = generated()
    # Measured: 96 different names of 234 (the same 48 units, three conditions), and 507 of 683 captions.
    assert generated(describe="words") < usual < generated(summarise=False)
    assert generated(describe="words") / 480 == pytest.approx(96 / 3 / 48, rel=0.05)
    assert generated(summarise=False) / 480 == pytest.approx(507 / 3 / 48, rel=0.05)
    assert generated(describe="vision") is None
    assert dnd_cost(DescribeAndDissect(scoring="none"), 48, 300).generated == NOTHING


def test_captions_come_again_less_often_than_names():
    shares = [dnd_cost(DescribeAndDissect(**o), 4, 50).shared for o in ({}, {"summarise": False}, {"mode": "code"})]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == 0
