"""Where the instability of labels comes from: shares of the variance, and what is left if one factor alone changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes

from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import Group
from leaderboard.view.variance import CLIP, EFFECTS, TOTALS, Found, rows_of
from report.figures import style
from report.figures.drawing import Drawing

_LEFT, _MIDDLE, _RIGHT, _BELOW, _ABOVE = 1.85, 1.5, 0.12, 0.42, 0.1
_ROW: Final = 0.26


@style.styled()
def study_figure(group: Group) -> Drawing | None:
    """The figure of one group by CLIP text embeddings; None without measurements.

    Args:
        group: With the table ``variance``.
    """
    found, facts = rows_of(group.tables["variance"], CLIP), group.about_run
    measured = [name for (name, measure, _), row in found.items() if measure == "variance" and row["value"] > 0]
    methods = facts.ordered(measured)
    if not methods:
        return None
    legend, height = style.legend_height(len(methods)), len(EFFECTS) * _ROW
    figure = style.figure_of(style.WIDTH, _BELOW + height + _ABOVE + legend)
    style.legend_above(figure, methods, facts, line=False)
    wide = (style.WIDTH - _LEFT - _MIDDLE - _RIGHT) / 2
    for place, (measure, effects, words) in enumerate(
        (("share", EFFECTS, "share of the variance"), ("total", TOTALS, "share left if only this changes"))
    ):
        axes = style.axes_at(figure, _LEFT + place * (wide + _MIDDLE), _BELOW, wide, height)
        axes.set_label(measure)
        _dots(axes, found, methods, measure, effects, facts)
        axes.set_xlabel(words)
    return Drawing(figure, _caption(group, found, methods), _alternative(found, methods))


def _dots(
    axes: Axes, found: Found, methods: Sequence[str], measure: str, effects: Mapping[str, str], facts: RunFacts
) -> None:
    looks, rows = style.looks(methods, facts), np.arange(len(effects))
    for number, method in enumerate(methods):
        own = [found.get((method, measure, effect), {}) for effect in effects]
        places, look = rows + (number - (len(methods) - 1) / 2) * 0.6 / len(methods), looks[method]
        low, value, high = ([one.get(name, np.nan) for one in own] for name in ("low", "value", "high"))
        axes.hlines(places, low, high, color=look.colour, linewidth=1)
        axes.plot(value, places, look.marker, color=look.colour, markersize=4, linestyle="none", label=method)
    axes.set_yticks(rows, list(effects.values()))
    axes.set_ylim(len(EFFECTS) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(axis="y", length=0)
    style.grid(axes, "x")


def _caption(group: Group, found: Found, methods: Sequence[str]) -> str:
    units = sorted({int(found[method, "variance", "all"]["units"]) for method in methods})
    return " ".join(
        [
            f"Where the instability of the labels of {group.task} comes from: variance components of the labels’ CLIP "
            "text embeddings in a crossed design, as shares that sum to 1 (left), and the share that is left if all "
            f"other factors are held fixed (right); {'–'.join(map(str, units))} units, 95 % "
            "bootstrap intervals over units. Severity 0, which is clean, is one of the levels.",
            *group.about_run.notes,
        ]
    )


def _alternative(found: Found, methods: Sequence[str]) -> str:
    said = []
    for method in methods:
        shares = {words: found.get((method, "total", effect), {}).get("value", 0.0) for effect, words in TOTALS.items()}
        most = sorted(shares, key=lambda words: -shares[words])[:2]
        said.append(f"{style.title_of(method)}: " + ", ".join(f"{words} {shares[words]:.2f}" for words in most) + ".")
    return " ".join(
        ["Dot plots of the shares of variance by factor and method. Most is left if only this changes:", *said]
    )
