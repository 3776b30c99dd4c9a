"""What signals are worth: how well each tells a method's right labels from its wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from leaderboard.board.build import Standings
from leaderboard.board.trust import SIGNALS, Trust, labels_with_signals, trust
from metrics.trust import FEWEST
from report.figures import style
from report.figures.drawing import Drawing

_LEFT, _RIGHT, _BELOW, _ABOVE = 1.75, 0.12, 0.42, 0.1
_ROW: Final = 0.26


@style.styled()
def trust_figure(standings: Standings) -> Drawing | None:
    """AUROC of "the clean label is right" by each signal, with its interval; one mark per method.

    Returns:
        None where no method has enough right and wrong labels.
    """
    group = standings.group
    labels = labels_with_signals(group.tables, group.about_run)
    found = [one for one in trust(labels, kinds=False) if any(not each.reason for each in one.clean.values())]
    if not found:
        return None
    shown = [name for name in SIGNALS if any(not one.clean[name].reason for one in found)]
    methods = [one.method for one in found]
    legend = style.legend_height(len(methods))
    height = len(shown) * _ROW
    figure = style.figure_of(style.WIDTH, _BELOW + height + _ABOVE + legend)
    style.legend_above(figure, methods, labels.facts, line=False)
    axes = style.axes_at(figure, _LEFT, _BELOW, style.WIDTH - _LEFT - _RIGHT, height)
    looks = style.looks(methods, labels.facts)
    for number, one in enumerate(found):
        rows = np.arange(len(shown)) + (number - (len(found) - 1) / 2) * 0.6 / len(found)
        intervals, look = [one.clean[name] for name in shown], looks[one.method]
        axes.hlines(rows, [i.low for i in intervals], [i.high for i in intervals], color=look.colour, linewidth=1)
        values = [i.estimate for i in intervals]
        axes.plot(values, rows, look.marker, color=look.colour, markersize=4, linestyle="none", label=one.method)
    axes.axvline(0.5, color=style.MUTED, linewidth=0.8, zorder=0)
    axes.set_yticks(np.arange(len(shown)), [SIGNALS[name] for name in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("AUROC of “the clean label is right”")
    style.grid(axes, "x")
    return Drawing(figure, _caption(found), _alternative(found, shown))


def _caption(found: Sequence[Trust]) -> str:
    counts = ", ".join(f"{one.method}: {one.right} right and {one.wrong} wrong" for one in found)
    return (
        "What signals that need no truth are worth: AUROC of “the clean label is right” by each of them, with 95 % "
        f"bootstrap intervals over units; the line at 0.5 is chance. Labels of {counts}; signals or methods with fewer "
        f"than {FEWEST} of either are left out."
    )


def _alternative(found: Sequence[Trust], shown: Sequence[str]) -> str:
    said = []
    for one in found:
        having = {name: one.clean[name].estimate for name in shown if not one.clean[name].reason}
        best = max(having, key=lambda name: having[name])
        stability = f", stability {having['stability']:.2f}" if "stability" in having else ""
        said.append(f"{one.method}: {SIGNALS[best]} is worth most with {having[best]:.2f}{stability}.")
    return " ".join(["Dot plot of AUROC by signal and method.", *said])
