"""Labels against the share of perturbed probing images, and errors of networks tuned on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import Group
from leaderboard.view.content import Cell
from leaderboard.view.tuning import CLEAN, HELD_OUT, NETWORK, PROBING, TUNED_ON, Study, studies
from report.figures import style
from report.figures.drawing import Drawing

_HEIGHT, _BELOW, _ABOVE = 1.6, 0.5, 0.26
_LEFT, _GAP, _RIGHT = 0.52, 0.55, 0.08
_NAMES: Final = 0.95
"""Inches for the names of the ways to tune."""

_GROUPS: Final = ((TUNED_ON, style.MUTED, "v"), (HELD_OUT, style.INK, "P"))


def study_figure(group: Group) -> Drawing | None:
    """The figure of one group; None without measurements."""
    return tuning_figure(group.tables["tuning"], group.about_run)


@style.styled()
def tuning_figure(table: pd.DataFrame, facts: RunFacts) -> Drawing | None:
    """Accuracy and stability against the share of perturbed images, and the tuned networks' errors; None without rows.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.TUNING`` of one task.
    """
    probing, network = (next(studies(table, study), None) for study in (PROBING, NETWORK))
    return None if probing is None else _drawing(probing, network, facts)


def _drawing(shares: Study, networks: Study | None, facts: RunFacts) -> Drawing:
    panels = 2 if networks is None else 3
    names = _NAMES if networks else 0.0
    wide = (style.WIDTH - _LEFT - _RIGHT - names - (panels - 1) * _GAP) / panels
    legend = style.legend_height(len(shares.methods))
    figure = style.figure_of(style.WIDTH, _BELOW + _HEIGHT + _ABOVE + legend)
    style.legend_above(figure, shares.methods, facts, line=False)
    for place, measure in enumerate(("accuracy", "stability")):
        axes = style.axes_at(figure, _LEFT + place * (wide + _GAP), _BELOW, wide, _HEIGHT)
        axes.set_label(measure)
        _curves(axes, shares, measure, style.looks(shares.methods, facts))
    if networks:
        left = _LEFT + 2 * (wide + _GAP) + names - _GAP / 2
        axes = style.axes_at(figure, left, _BELOW, wide + _GAP / 2, _HEIGHT)
        axes.set_label("networks")
        _ratios(axes, networks)
    return Drawing(figure, _caption(shares, networks, facts.notes), _alternative(shares, networks))


def _curves(axes: Axes, study: Study, measure: str, looks: Mapping[str, style.Look]) -> None:
    x = np.array([float(arm) for arm in study.arms])
    for number, method in enumerate(study.methods):
        look, shift = looks[method], (number - (len(study.methods) - 1) / 2) * 0.02
        for group in (HELD_OUT, CLEAN) if measure == "accuracy" else (HELD_OUT,):
            cells = [study.cell(arm, method, measure, group) for arm in study.arms]
            held_out = group == HELD_OUT
            axes.plot(
                x + shift,
                [cell.value for cell in cells],
                color=look.colour,
                marker=look.marker,
                markersize=3.5,
                markerfacecolor=look.colour if held_out else "white",
                linestyle="solid" if held_out else (0, (1, 1.2)),
                linewidth=1.2 if held_out else 0.8,
                label=f"{method} {group}",
            )
            if held_out:
                axes.vlines(
                    x + shift,
                    [cell.low for cell in cells],
                    [cell.high for cell in cells],
                    color=look.colour,
                    linewidth=0.8,
                    alpha=0.7,
                )
    axes.set_xticks(x, study.arms)
    axes.set_xlabel("share of perturbed images")
    axes.set_title(measure, loc="left")
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.0)
    style.grid(axes, "y")


def _ratios(axes: Axes, study: Study) -> None:
    arms = [arm for arm in study.arms if arm != "untuned"]
    for number, (group, colour, marker) in enumerate(_GROUPS):
        cells = [study.cell(arm, NETWORK, "error_ratio", group) for arm in arms]
        rows = np.arange(len(arms)) + (number - 0.5) * 0.26
        axes.hlines(rows, [cell.low for cell in cells], [cell.high for cell in cells], color=colour, linewidth=1)
        values = [cell.value for cell in cells]
        axes.plot(values, rows, marker, color=colour, markersize=4, linestyle="none", label=group)
    axes.axvline(1, color=style.MUTED, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0)
    axes.set_yticks(range(len(arms)), [style.title_of(arm) for arm in arms])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.set_xlabel("error by the untuned one's")
    handles = [Line2D([], [], color=colour, marker=marker, markersize=4) for _, colour, marker in _GROUPS]
    words = [group for group, *_ in _GROUPS]
    axes.legend(handles, words, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, handlelength=1.2, borderaxespad=0.2)


# ---- words ----


def _caption(shares: Study, networks: Study | None, notes: Sequence[str]) -> str:
    methods = shares.methods
    count = shares.count(methods[0], "stability", HELD_OUT) if methods else "0"
    parts = [
        f"Labels of {shares.task} found with probing sets of which a share is replaced by perturbed images: accuracy "
        "under held-out conditions (filled) and on otherwise clean images (open, dotted), and stability under held-out "
        f"conditions; {count} units, 95 % bootstrap intervals over units."
    ]
    if networks:
        images = networks.count(NETWORK, "error", CLEAN)
        parts.append(
            f"Right: mean over conditions of the error of networks whose last stage was tuned, by that of the untuned "
            f"one, on {images} test scenes with 95 % bootstrap intervals; below 1 is better."
        )
    return " ".join([*parts, *notes])


def _alternative(shares: Study, networks: Study | None) -> str:
    parts = ["Curves of label accuracy and stability over the share of perturbed probing images."]
    first, last = shares.arms[0], shares.arms[-1]
    for method in shares.methods:
        before, after = (shares.cell(arm, method, "stability", HELD_OUT).value for arm in (first, last))
        parts.append(f"{style.title_of(method)}: stability {before:.2f} at share {first}, {after:.2f} at {last}.")
    if networks:
        least = _least(networks.arms, lambda arm: networks.cell(arm, NETWORK, "error_ratio", HELD_OUT))
        if least:
            value = networks.cell(least, NETWORK, "error_ratio", HELD_OUT).value
            parts.append(f"Under held-out conditions, tuning on {least} leaves the smallest error, {value:.2f}.")
    return " ".join(parts)


def _least(arms: Sequence[str], cell: Callable[[str], Cell]) -> str:
    values = {arm: cell(arm).value for arm in arms if arm != "untuned"}
    known = {arm: value for arm, value in values.items() if not np.isnan(value)}
    return min(known, key=lambda arm: known[arm]) if known else ""
