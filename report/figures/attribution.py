"""Who moved: what each method's labels lose to other activations and to other pictures, condition by condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import Group
from leaderboard.view.attribution import MEASURES, Blame, blames, to_blame
from leaderboard.view.words import condition_name, count_range, listed, printed
from metrics.statistics import Interval
from report.figures import style
from report.figures.drawing import Drawing

_ROW: Final = 0.165
"""Inches."""

_GAP, _RIGHT, _BELOW, _ABOVE, _LEGEND = 0.14, 0.06, 0.4, 0.22, 0.24

# Okabe and Ito's colours, as for the methods, but these are no methods.
_LOOKS: Final = {"network": ("#0072B2", "o"), "pictures": ("#D55E00", "s")}


def study_figure(group: Group) -> Drawing | None:
    """The figure of one group; None without measurements."""
    return attribution_figure(list(blames(group.tables["attribution"], group.about_run)), group.about_run)


@style.styled()
def attribution_figure(found: Sequence[Blame], facts: RunFacts) -> Drawing | None:
    """One panel per method and measure: the network's and the pictures' part of the loss, with intervals.

    Args:
        found: From ``leaderboard.view.attribution.blames``, of one task.
    """
    if not found:
        return None
    measures = [name for name in MEASURES if any(blame.measure == name for blame in found)]
    methods = list(dict.fromkeys(blame.method for blame in found))
    conditions = found[0].conditions
    severities = {severity for _, severity in conditions}
    names = [name if len(severities) == 1 else condition_name(name, severity) for name, severity in conditions]
    left, height = style.names_width([*names, "mean"]), _ROW * (len(names) + 1)
    wide = (style.WIDTH - left - _RIGHT - (len(methods) - 1) * _GAP) / len(methods)
    figure = style.figure_of(style.WIDTH, _LEGEND + len(measures) * (_BELOW + height + _ABOVE))
    for row, measure in enumerate(reversed(measures)):
        bottom = _BELOW + row * (_BELOW + height + _ABOVE)
        own = {blame.method: blame for blame in found if blame.measure == measure}
        ends = _ends(list(own.values()))
        for column, method in enumerate(methods):
            axes = style.axes_at(figure, left + column * (wide + _GAP), bottom, wide, height)
            axes.set_label(f"{measure} {method}")
            axes.set_title(style.method_title(method, facts), loc="left")
            axes.set_yticks(range(len(names) + 1), [*map(style.title_of, names), "mean"] if column == 0 else [])
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(len(names) + 0.6, -0.6)
            axes.set_xlim(*ends)
            if column == 0:
                axes.set_xlabel(f"loss of {measure}", loc="left")
            if method in own:
                _draw(axes, own[method])
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, linewidth=1) for colour, marker in _LOOKS.values()
    ]
    figure.legend(handles, list(_LOOKS), loc="upper center", ncols=2, borderaxespad=0.2, handlelength=1.4)
    return Drawing(figure, _caption(found, measures, facts.notes), _alternative(found))


def _draw(axes: Axes, blame: Blame) -> None:
    every = [*blame.each, blame.mean]
    for number, (name, (colour, marker)) in enumerate(_LOOKS.items()):
        parts: list[Interval] = [getattr(one, name) for one in every]
        rows = np.arange(len(parts)) + (number - 0.5) * 0.32
        axes.hlines(rows, [part.low for part in parts], [part.high for part in parts], color=colour, linewidth=0.8)
        for row, part, one in zip(rows, parts, every, strict=True):
            face = colour if to_blame(one) == name else "white"
            axes.plot([part.estimate], [row], marker, color=colour, markerfacecolor=face, markersize=3)
    axes.axvline(0, color=style.MUTED, linewidth=0.6, zorder=0)
    axes.axhline(len(every) - 1.5, color=style.FAINT, linewidth=0.6, zorder=0)
    style.grid(axes, "x")


def _ends(found: Sequence[Blame]) -> tuple[float, float]:
    parts = [part for blame in found for one in (*blame.each, blame.mean) for part in (one.network, one.pictures)]
    numbers = np.array([[part.low, part.estimate, part.high] for part in parts])
    return float(min(-0.05, np.nanmin(numbers) - 0.05)), float(max(0.2, np.nanmax(numbers) + 0.05))


# ---- words ----


def _caption(found: Sequence[Blame], measures: Sequence[str], notes: Sequence[str]) -> str:
    counts = {m: count_range([b.mean.loss.n for b in found if b.measure == m], "units") for m in measures}
    words = (
        f"Who moved, the network or the pictures: parts of the loss of {listed(measures)} of the labels of "
        f"{found[0].task} (Shapley values) that are due to other activations and maps, and to other pixels, image "
        f"embeddings and annotation; {listed(f'{n} ({m})' for m, n in counts.items())}, 95 % bootstrap intervals over "
        "units. Filled: significantly more than the other, where the loss is significant. Left of 0, labels get better."
    )
    return " ".join([words, *notes])


def _alternative(found: Sequence[Blame]) -> str:
    said = []
    for blame in found:
        loss, network, pictures = (printed(one.estimate) for one in blame.mean[:3])
        more = to_blame(blame.mean)
        verdict = f"; the {more} {'are' if more == 'pictures' else 'is'} more to blame" if more else ""
        said.append(
            f"{blame.method}, {blame.measure}: of a mean loss of {loss} the network has {network} and the pictures "
            f"{pictures}{verdict}."
        )
    return " ".join(["Dot plots of each part of the loss by condition.", *said])
