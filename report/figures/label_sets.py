"""Sets of labels: found coverage against the nominal level, of redraws and of the truth, and against the draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import Group
from leaderboard.view.content import Cell
from leaderboard.view.label_sets import SHOWN_LEVEL, Sets, sets_of_tasks
from leaderboard.view.words import percent
from report.figures import style
from report.figures.drawing import Drawing

_HEIGHT, _BELOW, _ABOVE = 1.6, 0.5, 0.26
_LEFT, _GAP, _RIGHT = 0.52, 0.45, 0.08
_OFFSET: Final = 0.006
"""Horizontal distance between methods, so that their intervals do not overlap, as a share of the axis."""


def study_figure(group: Group) -> Drawing | None:
    """The figure of one group; None without measurements."""
    return label_set_figure(group.tables["label_sets"], group.about_run)


@style.styled()
def label_set_figure(table: pd.DataFrame, facts: RunFacts) -> Drawing | None:
    """Coverage of redraws and of the truth by nominal level, and of redraws by number of draws; None without rows.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.LABEL_SETS`` of one task.
    """
    return next((_drawing(found, facts) for found in sets_of_tasks(table, facts)), None)


def _drawing(found: Sets, facts: RunFacts) -> Drawing:
    methods = facts.rivals(found.methods) or found.methods
    with_truth = any(not np.isnan(found.cell("truth", method).value) for method in methods)
    panels = 3 if with_truth else 2
    wide = (style.WIDTH - _LEFT - _RIGHT - (panels - 1) * _GAP) / panels
    figure = style.figure_of(style.WIDTH, _BELOW + _HEIGHT + _ABOVE + style.legend_height(len(methods)))
    style.legend_above(figure, methods, facts)
    looks = style.looks(methods, facts)
    places = [style.axes_at(figure, _LEFT + n * (wide + _GAP), _BELOW, wide, _HEIGHT) for n in range(panels)]
    for axes, measure in zip(places, ("coverage", "truth"), strict=False):
        if measure == "truth" and not with_truth:
            continue
        levels = found.levels
        _curves(axes, levels, methods, looks, lambda method, level, m=measure: found.cell(m, method, level=level))
        axes.plot((0, 1), (0, 1), color=style.MUTED, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0)
        axes.set_xlim(min(levels) - 0.05, 1.02)
        axes.set_xlabel("nominal level")
        _finish(axes, {"coverage": "coverage of redraws", "truth": "coverage of truth"}[measure])
    last = places[-1]
    counts = range(len(found.draws))
    _curves(last, counts, methods, looks, lambda method, n: found.cell("coverage", method, draws=found.draws[int(n)]))
    last.axhline(SHOWN_LEVEL, color=style.MUTED, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0)
    last.set_xticks(counts, [str(count) for count in found.draws])
    last.set_xlabel("draws")
    _finish(last, f"redraws, nominal {percent(SHOWN_LEVEL)}")
    return Drawing(figure, _caption(found, with_truth, facts.notes), _alternative(found, methods))


def _curves(
    axes: Axes,
    x: Sequence[float],
    methods: Sequence[str],
    looks: Mapping[str, style.Look],
    cell: Callable[[str, float], Cell],
) -> None:
    span = max(x) - min(x) or 1
    for number, method in enumerate(methods):
        look = looks[method]
        cells = [cell(method, place) for place in x]
        at = np.array(x, np.float64) + (number - (len(methods) - 1) / 2) * _OFFSET * span
        values = [one.value for one in cells]
        axes.plot(at, values, color=look.colour, marker=look.marker, markersize=3.5, linewidth=1.2, label=method)
        axes.vlines(
            at, [one.low for one in cells], [one.high for one in cells], color=look.colour, linewidth=0.8, alpha=0.7
        )


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left")
    axes.set_ylim(0, 1.03)
    style.grid(axes, "y")


def _caption(found: Sets, with_truth: bool, notes: Sequence[str]) -> str:
    parts = [
        f"Sets of labels for {found.units()} units of {found.task}, clean: share of further resampled probing sets "
        f"whose label is in the set, by nominal level ({found.draws[-1]} draws) and by the number of draws."
    ]
    if with_truth:
        parts.append("Middle: share of units whose set holds a right label, which no level promises.")
    parts.append("Dashed: found equals nominal. 95 % intervals over units.")
    return " ".join([*parts, *notes])


def _alternative(found: Sets, methods: Sequence[str]) -> str:
    parts = ["Curves of found coverage over the nominal level and over the number of draws."]
    for method in methods:
        cells = [found.cell(measure, method) for measure in ("coverage", "truth", "size")]
        covered, truth, size = (cell.shown for cell in cells)
        name = f"{style.title_of(method)} at nominal {percent(SHOWN_LEVEL)}"
        parts.append(f"{name}: redraws {covered}, truth {truth}, {size} labels.")
    return " ".join(parts)
