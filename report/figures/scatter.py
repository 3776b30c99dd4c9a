"""Right against stable: a label can stay because it was right, or stay wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from leaderboard.board.build import Row, Standings, Value
from leaderboard.board.facts import RunFacts
from report.figures import style
from report.figures.drawing import Drawing
from report.figures.rows import Record, at_own_severities, best_and_worst, closing, counted, has

_CORNERS: Final = {
    (1, 1): "stable and right",
    (0, 1): "unstable, yet right",
    (1, 0): "stable, yet wrong",
    (0, 0): "unstable and wrong",
}


@style.styled()
def right_and_stable(standings: Standings) -> Drawing | None:
    """Accuracy when perturbed against stability: a small mark for each condition, a large one for the method's mean.

    Returns:
        None where no truth is known.
    """
    if not has(standings, "accuracy"):
        return None
    found = at_own_severities(standings)
    methods, facts = standings.group.methods, standings.group.about_run
    figure = style.figure_of(style.WIDTH, 3.6)
    axes = style.axes_at(figure, 0.5, 0.42, 4.3, 3.1)
    looks = style.looks(methods, facts)
    for method in methods:
        own = [row for (name, _), row in found.items() if name == method]
        axes.scatter(
            [row["stability"] for row in own],
            [row["accuracy"] for row in own],
            s=12,
            marker=looks[method].marker,
            color=looks[method].colour,
            alpha=0.4,
            linewidths=0.6 if looks[method].floor else 0,
            label=method,
        )
    for row in standings.of_suite():
        if "stability" in row.values and "accuracy" in row.values:
            _mean(axes, row, looks[row.method])
    _frame(axes, [row["stability"] for row in found.values()])
    figure.legend(
        [style.handle(looks[name], line=False) for name in methods],
        [style.method_title(name, facts, 24) for name in methods],
        loc="upper left",
        bbox_to_anchor=(4.9 / style.WIDTH, 3.55 / 3.6),
        borderaxespad=0.0,
        handletextpad=0.3,
    )
    return Drawing(figure, _caption(standings, found), _alternative(standings.of_suite(), facts))


def _mean(axes: Axes, row: Row, look: style.Look) -> None:
    x, y = row.values["stability"], row.values["accuracy"]
    axes.errorbar(
        [x.mean],
        [y.mean],
        xerr=_arms(x),
        yerr=_arms(y),
        fmt=look.marker,
        color=look.colour,
        markersize=8,
        markeredgecolor="white" if not look.floor else look.colour,
        markeredgewidth=0.8 if not look.floor else 1.6,
        elinewidth=1.1,
        zorder=4,
        label=f"mean {row.method}",
    )


def _arms(value: Value) -> list[list[float]]:
    ends = (value.low, value.high)
    return [[math.nan if end is None else abs(end - value.mean)] for end in ends]


def _frame(axes: Axes, stability: Sequence[float]) -> None:
    low = np.nanmin([0.0, *stability])
    axes.set_xlim(max(low, -1.0) - 0.06, 1.06)
    # Room for the words in the corners, above and below everything.
    axes.set_ylim(-0.14, 1.1)
    style.grid(axes)
    axes.set_xlabel("Stability")
    axes.set_ylabel("Accuracy when perturbed")
    for (right, up), words in _CORNERS.items():
        axes.text(
            0.99 if right else 0.01,
            0.985 if up else 0.015,
            words,
            transform=axes.transAxes,
            ha="right" if right else "left",
            va="top" if up else "bottom",
            color=style.MUTED,
        )


def _caption(standings: Standings, found: Mapping[tuple[str, str], Record]) -> str:
    known, units = counted(row["known"] for row in found.values()), counted(row["units"] for row in found.values())
    return (
        "Accuracy when perturbed against stability. Small marks: one perturbation each, at the task's own severities; "
        f"large marks: the mean over all of them with 95 % bootstrap intervals, of stability over {units} units and of "
        f"accuracy over the {known} whose truth is known. Trivial baselines in grey. {closing(standings)}"
    )


def _alternative(rows: Sequence[Row], facts: RunFacts) -> str:
    complete = [row for row in rows if "accuracy" in row.values and "stability" in row.values]
    said = [
        best_and_worst({row.method: row.values[name].mean for row in complete}, words, facts)
        for name, words in (("stability", "mean stability"), ("accuracy", "mean accuracy when perturbed"))
    ]
    floors = [row for row in complete if row.floor]
    if floors:
        highest = max(row.values["accuracy"].mean for row in floors)
        said.append(f"The trivial baselines reach an accuracy of {highest:.2f} at most.")
    return " ".join(["Scatter plot of accuracy when perturbed against stability.", *filter(None, said)])
