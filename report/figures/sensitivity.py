"""How many units respond to each perturbation, and how well a layer's best units together find degraded images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import of_task
from leaderboard.board.merge import Group
from leaderboard.board.names import SIGNIFICANT
from leaderboard.view.responses import PART, Responses, responses
from metrics.sensitivity import BAR
from report.figures import style
from report.figures.drawing import Drawing

_ROW: Final = 0.165
"""Inches."""

_LEFT, _MIDDLE, _RIGHT, _BELOW, _ABOVE = 1.42, 0.98, 0.12, 0.42, 0.28
_CURVES: Final = 1.75
"""Inches that the curves take."""

# Okabe and Ito's colours, as for the methods, but the families are no methods.
_LOOKS: Final = {
    "blur": ("#0072B2", "o"),
    "noise": ("#D55E00", "s"),
    "weather": ("#009E73", "^"),
    "digital": ("#CC79A7", "D"),
    PART: ("#56B4E9", "v"),
}
_OTHER: Final = (style.INK, "P")


def study_figure(group: Group) -> Drawing | None:
    """The figure of one group; None without measurements."""
    return sensitivity_figure(group.tables["sensitivity"], group.tables["detectors"], group.about_run)


@style.styled()
def sensitivity_figure(units: pd.DataFrame, detectors: pd.DataFrame, facts: RunFacts) -> Drawing | None:
    """Each perturbation's AUROC over the units, and detectors' AUROC against their size; None without rows.

    Args:
        units: Rows of ``leaderboard.store.analysis_schema.SENSITIVITY`` of one task.
        detectors: Rows of ``leaderboard.store.analysis_schema.DETECTORS``.
    """
    for found in responses(units):
        return _drawing(found, _curves(detectors, found), facts.planted_from.get(found.task), facts.notes)
    return None


def _curves(detectors: pd.DataFrame, found: Responses) -> pd.DataFrame:
    """The rows of detectors that have not seen the family that they are tested on, its mean."""
    if not len(detectors):
        return detectors
    own = of_task(detectors, found.task, found.profile)
    mine = own["trained_on"].str.startswith("all but") & (own["perturbation"] == "all")
    return own.loc[mine.to_numpy()].sort_values("count")


def _drawing(found: Responses, curves: pd.DataFrame, planted_from: int | None, notes: Sequence[str]) -> Drawing:
    height = _ROW * len(found.conditions)
    # A few conditions leave the curves and their words too little room.
    height = max(height, 1.5)
    curved = bool(len(curves))
    wide = style.WIDTH - _LEFT - _RIGHT - (_MIDDLE + _CURVES if curved else 0.62)
    figure = style.figure_of(style.WIDTH, _BELOW + height + _ABOVE)
    axes = style.axes_at(figure, _LEFT, _BELOW, wide, height)
    axes.set_label("units")
    _spreads(axes, found, planted_from)
    if curved:
        beside = style.axes_at(figure, _LEFT + wide + _MIDDLE, _BELOW, _CURVES, height)
        beside.set_label("detectors")
        _lines(beside, found, curves)
    caption = " ".join([_caption(found, curved, planted_from), *notes])
    return Drawing(figure, caption, _alternative(found, curves, planted_from))


def _spreads(axes: Axes, found: Responses, planted_from: int | None) -> None:
    own = np.ones(len(found.units), dtype=bool) if not planted_from else found.units < planted_from
    for row, (name, severity) in enumerate(found.conditions):
        colour, _ = _LOOKS.get(found.families[row], _OTHER)
        values = found.auroc[row, own]
        values = values[~np.isnan(values)]
        if len(values):
            low, some, middle, most, high = np.quantile(values, [0, 0.05, 0.5, 0.95, 1])
            axes.hlines(row, low, high, color=colour, linewidth=0.8)
            axes.hlines(row, some, most, color=colour, linewidth=4, alpha=0.45)
            axes.plot([middle], [row], "|", color=style.INK, markersize=5)
        rise, fall = found.past_the_bar(row)
        past = found.auroc[row, (rise | fall) & own]
        axes.plot(
            past, np.full(len(past), row), "o", color=colour, markersize=1.6, alpha=0.5, label=f"{name} {severity}"
        )
        axes.text(1.1, row, str(int(fall.sum())), ha="right", va="center_baseline", fontsize=style.SMALL)
        axes.text(1.21, row, str(int(rise.sum())), ha="right", va="center_baseline", fontsize=style.SMALL)
        planted = found.auroc[row, ~own]
        axes.plot(
            planted,
            np.full(len(planted), row),
            "*",
            color=style.INK,
            markersize=5,
            clip_on=False,
            zorder=4,
            label=f"planted {name} {severity}",
        )
    for place, words in ((1.1, "fall"), (1.21, "rise")):
        axes.text(place, -1.0, words, ha="right", va="center_baseline", fontsize=style.SMALL, color=style.MUTED)
    for bar in (1 - BAR, BAR):
        axes.axvline(bar, color=style.MUTED, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0)
    axes.axvline(0.5, color=style.FAINT, linewidth=0.8, zorder=0)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(found.conditions) - 0.4, -0.6)
    axes.set_xticks([0, 0.1, 0.5, 0.9, 1], ["0", "0.1", "0.5", "0.9", "1"])
    severities = {severity for _, severity in found.conditions}
    names = [
        style.title_of(name if len(severities) == 1 else f"{name} {severity}") for name, severity in found.conditions
    ]
    axes.set_yticks(range(len(names)), names)
    for label, family in zip(axes.get_yticklabels(), found.families, strict=True):
        label.set_color(_LOOKS.get(family, _OTHER)[0])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("AUROC of a unit, perturbed against clean images", loc="left")


def _lines(axes: Axes, found: Responses, curves: pd.DataFrame) -> None:
    counts = sorted(curves["count"].unique().tolist())
    place = {count: number for number, count in enumerate(counts)}
    families = [family for family in found.whole_families if family in set(curves["family"])]
    for number, family in enumerate(families):
        colour, marker = _LOOKS.get(family, _OTHER)
        shift = (number - (len(families) - 1) / 2) * 0.08
        for selection in ("best", "random"):
            own = curves.loc[((curves["family"] == family) & (curves["selection"] == selection)).to_numpy()]
            x = [place[count] + shift for count in own["count"]]
            best = selection == "best"
            axes.plot(
                x,
                own["auroc"],
                color=colour,
                marker=marker if best else None,
                markersize=3,
                linewidth=1.2 if best else 0.8,
                linestyle="solid" if best else (0, (1, 1.2)),
                label=f"{selection} {family}",
            )
            if best:
                axes.vlines(x, own["low"], own["high"], color=colour, linewidth=0.8, alpha=0.75)
    axes.set_xticks(range(len(counts)), [str(count) for count in counts])
    axes.set_ylim(min(0.48, float(curves["low"].to_numpy().min()) - 0.02), 1.0)
    axes.set_xlabel("units of the detector")
    axes.set_ylabel("AUROC, family not seen")
    style.grid(axes, "y")
    handles = [
        Line2D([], [], color=_LOOKS.get(f, _OTHER)[0], marker=_LOOKS.get(f, _OTHER)[1], markersize=3) for f in families
    ]
    handles.append(Line2D([], [], color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 1.2))))
    words = [*(style.title_of(family) for family in families), "random units"]
    axes.legend(handles, words, loc="upper left", fontsize=style.SMALL, handlelength=1.6, labelspacing=0.25)


# ---- words ----


def _caption(found: Responses, curved: bool, planted_from: int | None) -> str:
    images = sorted(set(found.images.tolist()))
    counted = f"{images[-1]}" if len(images) == 1 else f"{images[0]} to {images[-1]}"
    parts = [
        f"Perturbation-sensitive units of {found.task}: AUROC of a unit's activation between perturbed and clean "
        f"versions of {counted} images, over {len(found.units)} units: range (thin), 5 to 95 % of them (thick) and "
        f"median (tick). Dashed: the bars of a detector, {1 - BAR:.1f} and {BAR:g}; the numbers count the units beyond "
        f"them, falling and rising (Wilcoxon's signed-rank test, Holm-corrected over all units and conditions, p < "
        f"{SIGNIFICANT:g})."
    ]
    if planted_from:
        parts.append("Star: the planted unit.")
    if curved:
        parts.append(
            "Right: linear discriminants on the most sensitive units, fitted without any perturbation of the tested "
            "family and on other images; mean AUROC over the family, 95 % bootstrap intervals over images. Dotted: as "
            "many units drawn at random."
        )
    return " ".join(parts)


def _alternative(found: Responses, curves: pd.DataFrame, planted_from: int | None) -> str:
    parts = ["Spread of AUROC over units for each perturbation."]
    counts = [int(sum(side.sum() for side in found.past_the_bar(row))) for row in range(len(found.conditions))]
    most = int(np.argmax(counts))
    name = " ".join(map(str, found.conditions[most])).replace("_", " ")
    if counts[most]:
        without = sum(count == 0 for count in counts)
        parts.append(
            f"Most detectors has {name}, {counts[most]} units; {without} of {len(counts)} conditions have none."
        )
    else:
        parts.append("No unit detects any of them.")
    if planted_from:
        parts.append(_planted_words(found, planted_from))
    best = _largest(curves)
    if len(best):
        top, least = best.loc[best["auroc"].idxmax()], best.loc[best["auroc"].idxmin()]
        parts.append(
            f"With {top['count']} units, images of an unseen family are found best for {top['family']} "
            f"({top['auroc']:.2f}) and worst for {least['family']} ({least['auroc']:.2f})."
        )
    return " ".join(filter(None, parts))


def _planted_words(found: Responses, planted_from: int) -> str:
    values = np.abs(found.auroc[:, found.units >= planted_from] - 0.5)
    return "" if np.isnan(values).all() else f"A planted unit reaches an AUROC of up to {0.5 + np.nanmax(values):.2f}."


def _largest(curves: pd.DataFrame) -> pd.DataFrame:
    if not len(curves):
        return curves
    best: Sequence[bool] = ((curves["selection"] == "best") & (curves["count"] == curves["count"].max())).tolist()
    return curves.loc[best]
