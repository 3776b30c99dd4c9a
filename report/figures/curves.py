"""Stability and accuracy against severity, a small panel for each perturbation; dots where only one severity ran."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from leaderboard.board.build import Standings
from leaderboard.board.comparison.between import SUBJECTS
from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import conditions_of
from leaderboard.store.schema import SUMMARY
from report.figures import style
from report.figures.drawing import Drawing
from report.figures.rows import (
    Point,
    best_and_worst,
    closing,
    counted,
    has,
    point,
    records,
    severities_of,
    unperturbed,
    words,
)

Measure = Literal["stability", "accuracy"]
_NONE: Final[Point] = (math.nan, math.nan, math.nan)
_COLUMNS: Final = 5
_DODGE: Final = 0.14
"""Severity steps between two methods, whose intervals would hide each other."""


@style.styled()
def severity_curves(standings: Standings, measure: Measure = "stability") -> Drawing | None:
    """The measure against severity, with 95 % intervals over units; trivial baselines thin and grey, without intervals.

    At severity 0 stands what the method reaches without a perturbation: the stability from one clean run to another
    with a new seed, which is its noise floor, or its accuracy on clean images.

    Args:
        measure: ``accuracy`` only where the truth is known.

    Returns:
        None without a perturbed condition that has a value.
    """
    if not has(standings, measure):
        return None
    severities = severities_of(conditions_of(standings.group.scores))
    methods, facts = standings.group.methods, standings.group.about_run
    points = {
        (row["method"], row["perturbation"], row["severity"]): point(row, measure) for row in records(standings.summary)
    }
    start = unperturbed(standings, measure)
    levels = {level for found in severities.values() for level in found}
    if len(levels) > 1:
        figure = _panels(methods, facts, severities, points, start, measure)
    else:
        figure = _dots(methods, facts, severities, points, start, measure)
    return Drawing(
        figure, _caption(standings, measure, sorted(levels), bool(start)), _alternative(standings, measure, severities)
    )


# ---- panels ----


def _panels(
    methods: Sequence[str],
    facts: RunFacts,
    severities: Mapping[str, Sequence[int]],
    points: Mapping[tuple[str, str, str], Point],
    start: Mapping[str, Point],
    measure: Measure,
) -> Figure:
    names = facts.in_order(severities)
    columns = min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    left, right, below, gap, title = 0.48, 0.06, 0.38, 0.1, 0.21
    legend = style.legend_height(len(methods))
    width = (style.WIDTH - left - right - gap * (columns - 1)) / columns
    height = min(0.95, 0.8 * width) if columns == _COLUMNS else min(1.6, 0.8 * width)
    figure = style.figure_of(style.WIDTH, below + rows * (height + title) + legend)
    style.legend_above(figure, methods, facts)
    low = min([0.0, *(low for _, low, _ in (*points.values(), *start.values()) if not math.isnan(low))])
    for number, name in enumerate(names):
        row, column = divmod(number, columns)
        bottom = below + (rows - 1 - row) * (height + title)
        axes = style.axes_at(figure, left + column * (width + gap), bottom, width, height)
        axes.set_label(name)
        _curves(axes, methods, facts, name, severities[name], points, start)
        _limits(axes, low, column == 0, number + columns >= len(names))
        axes.set_title(style.title_of(name, 24), loc="left", pad=3, fontsize=8 if len(name) < 18 else style.SMALL)
    up = figure.get_figheight()
    figure.supxlabel(_axis_words(measure, bool(start)), y=0.04 / up, va="bottom", fontsize=8, x=0.5 + left / 13)
    figure.supylabel(_title(measure), x=0.04 / style.WIDTH, ha="left", fontsize=8, y=(below + (up - legend)) / 2 / up)
    return figure


def _curves(
    axes: Axes,
    methods: Sequence[str],
    facts: RunFacts,
    perturbation: str,
    severities: Sequence[int],
    points: Mapping[tuple[str, str, str], Point],
    start: Mapping[str, Point],
) -> None:
    found, real = style.looks(methods, facts), facts.rivals(methods)
    x = np.array([*([0] if start else []), *severities], dtype=np.float64)
    for method in methods:
        own = [start.get(method, _NONE)] if start else []
        own += [points.get((method, perturbation, str(level)), _NONE) for level in severities]
        y, low, high = np.array(own, dtype=np.float64).T
        look = found[method]
        shift = 0.0 if look.floor else (real.index(method) - (len(real) - 1) / 2) * _DODGE
        axes.plot(
            x + shift,
            y,
            color=look.colour,
            linestyle=look.dash,
            linewidth=0.8 if look.floor else 1.2,
            marker=None if look.floor else look.marker,
            markersize=3,
            zorder=1.5 if look.floor else 3,
            label=method,
        )
        if not look.floor:
            axes.vlines(x + shift, low, high, color=look.colour, linewidth=0.8, alpha=0.75, zorder=2)
    axes.set_xticks(x)


def _limits(axes: Axes, low: float, first: bool, last: bool) -> None:
    axes.set_ylim(max(low, -1.0) - 0.04, 1.05)
    axes.set_xlim(-0.5, 5.5)
    axes.yaxis.set_major_locator(MultipleLocator(0.5))
    style.grid(axes, "y")
    axes.tick_params(labelleft=first, labelbottom=last, pad=1.5)


# ---- dots ----


def _dots(
    methods: Sequence[str],
    facts: RunFacts,
    severities: Mapping[str, Sequence[int]],
    points: Mapping[tuple[str, str, str], Point],
    start: Mapping[str, Point],
    measure: Measure,
) -> Figure:
    groups = facts.in_groups(severities)
    names = [name for group in groups for name in group]
    step = 0.08 + 0.05 * (len(facts.rivals(methods)) + 1)
    left, right, below, legend = style.names_width(["noise floor", *names]), 0.1, 0.4, style.legend_height(len(methods))
    count = len(names) + bool(start)
    figure = style.figure_of(style.WIDTH, below + count * step + legend)
    style.legend_above(figure, methods, facts, line=False)
    axes = style.axes_at(figure, left, below, style.WIDTH - left - right, count * step)
    found, y = style.looks(methods, facts), np.arange(count, dtype=np.float64)
    lows = [0.0]
    for method in methods:
        own = [start.get(method, _NONE)] if start else []
        own += [points.get((method, name, str(severities[name][0])), _NONE) for name in names]
        x, low, high = np.array(own, dtype=np.float64).T
        lows += low[~np.isnan(low)].tolist()
        _method_dots(axes, found[method], method, (x, low, high), y + _slot(methods, facts, method))
    _dot_axes(axes, [len(group) for group in groups], bool(start), min(lows))
    first = ["noise floor" if measure == "stability" else "clean"] if start else []
    axes.set_yticks(y, [*first, *(style.title_of(name) for name in names)], fontsize=8)
    axes.set_xlabel(_title(measure))
    return figure


def _slot(methods: Sequence[str], facts: RunFacts, method: str) -> float:
    """Where in its row a method lies; the trivial baselines, which have no intervals, share the last place."""
    rivals = facts.rivals(methods)
    place = rivals.index(method) if method in rivals else len(rivals)
    return (place - len(rivals) / 2) * 0.75 / max(len(rivals) + 1, 2)


def _method_dots(
    axes: Axes,
    look: style.Look,
    method: str,
    places: tuple[Float[np.ndarray, " rows"], ...],
    y: Float[np.ndarray, " rows"],
) -> None:
    x, low, high = places
    axes.plot(x, y, linestyle="none", marker=look.marker, color=look.colour, markersize=3.5, label=method)
    if not look.floor:
        axes.hlines(y, low, high, color=look.colour, linewidth=0.9)


def _dot_axes(axes: Axes, sizes: Sequence[int], start: bool, low: float) -> None:
    """Best at the right; a faint line between the groups of perturbations."""
    edges = np.cumsum([*([1] if start else []), *sizes])
    axes.hlines(edges[:-1] - 0.5, 0, 1, transform=axes.get_yaxis_transform(), color=style.FAINT, linewidth=0.6)
    axes.set_ylim(edges[-1] - 0.5, -0.5)
    axes.set_xlim(max(low, -1.0) - 0.03, 1.03)
    style.grid(axes, "x")
    axes.tick_params(axis="y", length=0)


# ---- words ----


def _title(measure: Measure) -> str:
    return SUMMARY.column(measure).title


def _axis_words(measure: Measure, start: bool) -> str:
    if not start:
        return "severity"
    return "severity (0: noise floor)" if measure == "stability" else "severity (0: clean images)"


def _caption(standings: Standings, measure: Measure, levels: Sequence[int], start: bool) -> str:
    rows = [row for row in records(standings.summary) if row["perturbation"] != "clean"]
    units = counted(row["units" if measure == "stability" else "known"] for row in rows)
    several = len(levels) > 1
    zero = {
        "stability": "the noise floor, which is the stability between two clean runs with different seeds",
        "accuracy": "the accuracy on clean images",
    }[measure]
    where = "Severity 0" if several else "The first row"
    scale = "1: labels unchanged; 0: as if another unit's label were drawn. " if measure == "stability" else ""
    start_words = f"{where} is {zero}. " if start else "There are no clean repeats, so no noise floor is shown. "
    head = (
        f"{_title(measure)} of unit labels against severity, one panel per perturbation. "
        if several
        else f"{_title(measure)} of unit labels at severity {levels[0]}, the only one that ran. "
    )
    return (
        f"{head}{scale}{start_words}{'Bars' if several else 'Lines'}: 95 % intervals over {units} units"
        f"{' whose truth is known' if measure == 'accuracy' else ''}; trivial baselines (grey) without. "
        f"{closing(standings)}"
    )


def _alternative(standings: Standings, measure: Measure, severities: Mapping[str, Sequence[int]]) -> str:
    """The methods' order at the highest severities, and the perturbations that harm most and least."""
    facts = standings.group.about_run
    values: dict[str, list[float]] = {}
    harm: dict[str, list[float]] = {}
    for row in records(standings.summary):
        name, value = row["perturbation"], row[measure]
        if name in severities and row["severity"] == str(severities[name][-1]) and not math.isnan(value):
            values.setdefault(row["method"], []).append(value)
            if not facts.is_floor(row["method"]):
                harm.setdefault(name, []).append(value)
    what = SUBJECTS[measure]
    said = best_and_worst(
        {m: float(np.mean(v)) for m, v in values.items()}, f"{what} at the highest severity that ran", facts
    )
    if len(harm) > 1:
        means = {name: float(np.mean(found)) for name, found in harm.items()}
        worst, best = min(means, key=lambda name: means[name]), max(means, key=lambda name: means[name])
        said += f" Over the methods it is lowest under {words(worst)} ({means[worst]:.2f}), "
        said += f"highest under {words(best)} ({means[best]:.2f})."
    kind = "curves" if any(len(levels) > 1 for levels in severities.values()) else "dots"
    return f"{_title(measure)} {kind} for {len(severities)} perturbations. {said}".strip()
