from __future__ import annotations

import dataclasses
import itertools

import pandas as pd
import pytest
from figure_boards import standings
from scipy import stats

from leaderboard.board.build import RANKED
from report.figures import critical_difference
from report.figures.critical_difference import average_ranks, groups, unit_values

METHODS = ("clip_dissect", "dnd", "constant_label")


def with_letters(given, measure, letters):
    rows = given.comparisons.copy()
    own = (rows["measure"] == measure) & (rows["kind"] == "method")
    rows.loc[own, "letters"] = [letters[name] for name in rows.loc[own, "first"]]
    return dataclasses.replace(given, comparisons=rows)


def lines_of(drawing) -> dict:
    (axes,) = drawing.figure.axes
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


@pytest.mark.parametrize("measure", RANKED)
def test_the_values_are_those_that_the_tests_compared(measure):
    found = standings()
    methods, values = unit_values(found, measure, METHODS)
    rows = found.comparisons
    rows = rows[(rows["measure"] == measure) & (rows["kind"] == "method")].set_index("first")
    assert dict(zip(methods, values.mean(axis=0), strict=True)) == pytest.approx(rows["value_first"].to_dict())
    assert len(values) == rows["n"].iloc[0]


def test_the_ranks_are_averages_over_units():
    found = standings()
    scores = found.group.scores
    perturbed = scores[(scores["perturbation"] != "clean") & ~scores["dead"]]
    wide = perturbed.pivot_table(index="unit", columns="method", values="stability").round(12)
    expected = pd.DataFrame(stats.rankdata(-wide, axis=1), columns=wide.columns).mean().to_dict()
    assert average_ranks(*unit_values(found, "stability", METHODS)) == pytest.approx(expected)
    drawn = lines_of(critical_difference(found))
    assert {name: float(drawn[name].get_xdata()[0]) for name in METHODS} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("letters", "bars"),
    [
        (("a", "b", "c"), []),
        (("a", "a", "b"), [("clip_dissect", "dnd")]),
        (("ab", "a", "b"), [("clip_dissect", "constant_label"), ("clip_dissect", "dnd")]),
        (("a", "a", "a"), [METHODS]),
    ],
)
def test_the_bars_are_the_groups_of_the_letters(letters, bars):
    found = with_letters(standings(), "stability", dict(zip(METHODS, letters, strict=True)))
    ranks = average_ranks(*unit_values(found, "stability", METHODS))
    drawing = critical_difference(found)
    drawn = [line for label, line in lines_of(drawing).items() if label.startswith("bar ")]
    members = [sorted(line.get_xdata()) for line in drawn]
    expected = sorted(sorted(ranks[name] for name in bar) for bar in bars)
    assert list(map(len, sorted(members))) == list(map(len, expected))
    assert list(itertools.chain(*sorted(members))) == pytest.approx(list(itertools.chain(*expected)))
    # No two bars overlap.
    assert len({float(line.get_ydata()[0]) for line in drawn}) == len(bars)
    assert ("All differences are significant" in drawing.alternative) == (not bars)


def test_groups_of_one_have_no_bar():
    assert groups({"a": "ab", "b": "b", "c": "c"}) == [("a", "b")]


def test_the_caption_says_which_test():
    found = standings()
    caption = critical_difference(found).caption
    pair = found.comparisons[(found.comparisons["kind"] == "pair") & (found.comparisons["measure"] == "stability")]
    assert pair["correction"].iloc[0] in caption
    assert "not Nemenyi's" in caption
    assert "McNemar" in critical_difference(found, "accuracy_clean").caption


def test_incomplete_methods_are_not_ranked():
    assert critical_difference(standings("incomplete")).alternative.count("dnd") == 0


def test_fewer_than_two_methods_have_no_diagram():
    found = standings()
    one = found.comparisons[found.comparisons["first"] == "dnd"]
    assert critical_difference(dataclasses.replace(found, comparisons=one)) is None
    assert critical_difference(dataclasses.replace(found, comparisons=one.iloc[:0])) is None
    assert critical_difference(standings("one severity"), "accuracy") is None
