"""Right labels against what they cost: accuracy by measured seconds per label, with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from leaderboard.board.build import Standings
from leaderboard.board.cost import Cost, costs
from leaderboard.view.words import listed
from report.figures import style
from report.figures.drawing import Drawing

_LEFT, _RIGHT, _BELOW, _ABOVE, _HEIGHT = 0.5, 1.2, 0.42, 0.1, 2.4
_DASHES: Final = {"perturbed": "solid", "clean": (0, (1, 1.2))}
"""Measure → line of its front, the filled marks first."""


@style.styled()
def cost_figure(standings: Standings) -> Drawing | None:
    """Accuracy against seconds per label on a logarithmic axis: open marks clean, filled ones perturbed.

    Returns:
        None where no truth or no time is known.
    """
    group = standings.group
    found = costs(group.summary, group.about_run, group.task, group.profile)
    if not found:
        return None
    methods, facts = [one.method for one in found], group.about_run
    legend = style.legend_height(len(methods))
    figure = style.figure_of(style.WIDTH, _BELOW + _HEIGHT + _ABOVE + legend)
    style.legend_above(figure, methods, facts, line=False)
    axes = style.axes_at(figure, _LEFT, _BELOW, style.WIDTH - _LEFT - _RIGHT, _HEIGHT)
    looks = style.looks(methods, facts)
    powers = [math.log10(one.seconds) for one in found]
    ends = [10.0**power for power in range(math.floor(min(powers)), math.floor(max(powers)) + 2)]
    for measure, dash in _DASHES.items():
        for one in found:
            _mark(axes, one, measure, looks[one.method])
        _front(axes, [one for one in found if measure in one.front], measure, dash, ends[-1])
    axes.set_xscale("log")
    axes.set_xlim(ends[0], ends[-1])
    axes.set_xticks(ends, [f"{end:g}" for end in ends])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("seconds per label")
    axes.set_ylabel("accuracy")
    style.grid(axes)
    handles = [
        Line2D(
            [], [], color=style.MUTED, marker="o", markersize=5, linewidth=0.8, linestyle=dash,
            markerfacecolor=style.MUTED if measure == "perturbed" else "white",
        )
        for measure, dash in _DASHES.items()
    ]  # fmt: skip
    axes.legend(handles, list(_DASHES), loc="upper left", bbox_to_anchor=(1.01, 1), handlelength=2.4)
    return Drawing(figure, _caption(standings, found), _alternative(found))


def _mark(axes: Axes, one: Cost, measure: str, look: style.Look) -> None:
    accuracy, filled = one.accuracy[measure], measure == "perturbed"
    # Both marks of a method stand at one time; a little apart, their intervals can be read.
    place = one.seconds * (1.0 if filled else 1.06)
    axes.vlines(place, accuracy.low, accuracy.high, color=look.colour, linewidth=0.8, alpha=0.75)
    axes.plot(
        [place],
        [accuracy.estimate],
        look.marker,
        color=look.colour,
        markersize=6,
        markerfacecolor=look.colour if filled else "white",
        linestyle="none",
        zorder=3,
        label=f"{one.method} {measure}",
    )


def _front(axes: Axes, found: Sequence[Cost], measure: str, dash: object, last: float) -> None:
    """What the methods reach within a time: a step up at each method of the front."""
    if not found:
        return
    ordered = sorted(found, key=lambda one: one.seconds)
    x = np.array([one.seconds for one in ordered])
    y = np.array([one.accuracy[measure].estimate for one in ordered])
    axes.step(
        [*x, last], [*y, y[-1]], where="post", color=style.MUTED, linewidth=0.8, linestyle=dash, zorder=1,
        label=f"front {measure}",
    )  # fmt: skip


def _caption(standings: Standings, found: Sequence[Cost]) -> str:
    known = max(one.accuracy["clean"].n for one in found)
    return " ".join(
        [
            "Right labels against what they cost: accuracy on clean images (open) and in the mean over the perturbed "
            "conditions that ran (filled) by measured seconds to label one unit once, without the pass through the "
            f"network, which methods share; {known} units of known truth, 95 % intervals. Lines: the Pareto front, "
            "without the trivial baselines, in grey.",
            *standings.group.about_run.notes,
        ]
    )


def _alternative(found: Sequence[Cost]) -> str:
    said = [
        f"On the front when {measure}: {names}."
        for measure in _DASHES
        if (names := listed(one.method for one in found if measure in one.front))
    ]
    times = "; ".join(f"{one.method} {one.seconds:.2g} s" for one in found)
    return " ".join(["Scatter plot of accuracy against seconds per label.", *said, f"{times}."])
