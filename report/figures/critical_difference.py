"""The critical-difference diagram: average ranks on an axis, bars over methods that are not significantly different.

Drawn here and not by scikit-posthocs: its bars follow the order of Python's sets, so that the bytes differ from run to
run, and its bar over two methods runs unmarked across a third that differs from both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from scipy import stats

from leaderboard.board.build import Standings
from leaderboard.board.comparison.between import SUBJECTS, Measure
from leaderboard.board.comparison.panel import build_panel
from leaderboard.board.facts import RunFacts
from leaderboard.board.names import SIGNIFICANT
from metrics.statistics.result import DIGITS
from report.figures import style
from report.figures.drawing import Drawing
from report.figures.rows import Record, alive, closing, is_clean, listed, records, words

_LEVEL: Final = 0.13
_LINE: Final = 0.2


class _Bar(NamedTuple):
    members: tuple[str, ...]
    level: int


@style.styled()
def critical_difference(standings: Standings, measure: Measure = "stability") -> Drawing | None:
    """Average rank of each complete method over the units, best left; a bar for each group of the paired tests.

    The bars are the letters of ``comparisons``: a dot on a bar is a member, a method that the bar only passes is none.

    Args:
        measure: One of ``leaderboard.board.build.RANKED``.

    Returns:
        None where fewer than two methods were compared.
    """
    rows = [row for row in records(standings.comparisons) if row["measure"] == measure]
    letters = {
        row["first"]: row["letters"] for row in rows if row["kind"] == "method" and isinstance(row["letters"], str)
    }
    if len(letters) < 2:
        return None
    methods, values = unit_values(standings, measure, list(letters))
    ranks = average_ranks(methods, values)
    order = sorted(ranks, key=lambda name: (ranks[name], name))
    bars = _stacked(groups(letters), ranks)
    levels = 1 + max((bar.level for bar in bars), default=-1)
    depth = levels * _LEVEL + 0.14 + math.ceil(len(order) / 2) * _LINE
    margin = 1.9
    figure = style.figure_of(style.WIDTH, depth + 0.5)
    axes = style.axes_at(figure, margin, 0.05, style.WIDTH - 2 * margin, depth)
    _axis(axes, len(order), depth, len(values))
    _bars(axes, bars, ranks)
    facts = standings.group.about_run
    _labels(axes, order, ranks, facts, levels * _LEVEL + 0.14, depth)
    caption = _caption(standings, measure, rows, len(values))
    return Drawing(figure, caption, _alternative(measure, order, ranks, bars, facts))


def unit_values(
    standings: Standings, measure: Measure, methods: Sequence[str]
) -> tuple[tuple[str, ...], Float[np.ndarray, "units methods"]]:
    """Each unit's mean of the measure, over the units and conditions that the tests of ``comparisons`` compare.

    Args:
        measure: One of ``leaderboard.board.build.RANKED``.
        methods: Those that were compared.
    """
    scores = standings.own_scores
    scores = scores.loc[alive(scores) & scores["method"].isin(methods).to_numpy()]
    clean = is_clean(scores)
    if measure == "stability":
        panel = build_panel(scores.loc[~clean], "stability", methods)
    else:
        first = clean & (scores["repeat"].to_numpy() == 0)
        known = scores["truth"].notna().to_numpy() & (first if measure == "accuracy_clean" else ~clean)
        # A label that is missing is wrong.
        right: pd.Series = scores["right"].astype("boolean").fillna(False)
        panel = build_panel(scores.assign(right=right).loc[known], "right", methods)
    return panel.methods, panel.unit_means()


def average_ranks(methods: Sequence[str], values: Float[np.ndarray, "units methods"]) -> dict[str, float]:
    """Method → mean over units of its rank among the methods; 1 is the highest value, ties share their mean rank."""
    ranks = stats.rankdata(-np.round(values, DIGITS), axis=1).mean(axis=0)
    return dict(zip(methods, ranks.tolist(), strict=True))


def groups(letters: dict[str, str]) -> list[tuple[str, ...]]:
    """The methods of each letter that stands for two or more.

    Example:
        >>> groups({"a": "a", "b": "ab", "c": "b", "d": "c"})
        [('a', 'b'), ('b', 'c')]
    """
    every = sorted({letter for text in letters.values() for letter in text})
    found = [tuple(name for name, text in letters.items() if letter in text) for letter in every]
    return [group for group in found if len(group) > 1]


def _stacked(found: Sequence[tuple[str, ...]], ranks: dict[str, float]) -> list[_Bar]:
    """Bars that would touch lie on different levels, the upper ones first."""
    bars, ends = [], []
    for group in sorted(found, key=lambda group: sorted(ranks[name] for name in group)):
        low, high = min(ranks[name] for name in group), max(ranks[name] for name in group)
        level = next((number for number, end in enumerate(ends) if end < low - 0.05), len(ends))
        ends[level : level + 1] = [high]
        bars.append(_Bar(group, level))
    return bars


# ---- drawing: x is a rank, y is inches under the axis ----


def _axis(axes: Axes, methods: int, depth: float, units: int) -> None:
    axes.set_xlim(1, methods)
    axes.set_ylim(-depth, 0)
    axes.spines[["left", "bottom", "right"]].set_visible(False)
    axes.spines["top"].set_visible(True)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(1, methods + 1))
    axes.set_yticks([])
    axes.set_xlabel(f"average rank over {units} units (1 is best)", labelpad=4)


def _bars(axes: Axes, bars: Sequence[_Bar], ranks: dict[str, float]) -> None:
    for number, bar in enumerate(bars):
        x = sorted(ranks[name] for name in bar.members)
        y = [-(bar.level + 0.9) * _LEVEL] * len(x)
        axes.plot(x, y, color=style.INK, linewidth=2, marker="o", markersize=4, label=f"bar {number}", zorder=4)


def _labels(
    axes: Axes, order: Sequence[str], ranks: dict[str, float], facts: RunFacts, top: float, depth: float
) -> None:
    """Names at both sides, each with an elbow to its rank; the better half left."""
    half = math.ceil(len(order) / 2)
    looks, (low, high) = style.looks(order, facts), axes.get_xlim()
    reach = (high - low) * 0.04
    for place, name in enumerate(order):
        left = place < half
        line = place if left else len(order) - 1 - place
        x, y = (low - reach if left else high + reach), -(top + (line + 0.5) * _LINE)
        colour = style.MUTED if looks[name].floor else looks[name].colour
        axes.plot([x, ranks[name], ranks[name]], [y, y, 0], color=colour, linewidth=0.9, clip_on=False, zorder=2)
        axes.plot([ranks[name]], [0], marker=looks[name].marker, color=colour, markersize=5, clip_on=False, label=name)
        words = [style.method_title(name, facts, 24), f"{ranks[name]:.2f}"]
        shown = "  ".join(words if left else reversed(words))
        axes.annotate(
            shown, (x, y), (-4 if left else 4, 0), textcoords="offset points", ha="right" if left else "left",
            va="center", color=colour, annotation_clip=False,
        )  # fmt: skip


# ---- words ----


def _caption(standings: Standings, measure: Measure, rows: Sequence[Record], units: int) -> str:
    pairs = [row for row in rows if row["kind"] == "pair" and not pd.isna(row["p_corrected"])]
    tests = " or ".join(dict.fromkeys(str(row["test"]).partition(",")[0] for row in pairs))
    correction = pairs[0]["correction"] if pairs else "no test"
    return (
        f"Average rank by {SUBJECTS[measure]} over {units} units; 1 is best. A bar joins the methods, marked by dots "
        f"on it, that are not significantly different: {tests}, paired by unit, {correction}, p > {SIGNIFICANT:g}. "
        f"These are the tests of the tables, of means, and not Nemenyi's test of average ranks. {closing(standings)}"
    )


def _alternative(
    measure: Measure, order: Sequence[str], ranks: dict[str, float], bars: Sequence[_Bar], facts: RunFacts
) -> str:
    said = ", ".join(f"{words(name)} {ranks[name]:.2f}" for name in order)
    joined = "; ".join(listed(sorted(bar.members, key=lambda name: ranks[name])) for bar in bars)
    alone = [name for name in facts.rivals(order) if not any(name in bar.members for bar in bars)]
    found = f" Not significantly different: {joined}." if joined else " All differences are significant."
    found += f" Significantly different from all others: {listed(alone)}." if alone and joined else ""
    return f"Average ranks by {SUBJECTS[measure]}, best first: {said}.{found}"
