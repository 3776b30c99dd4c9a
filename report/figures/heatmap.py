"""Method × perturbation as two maps side by side: stability, and accuracy where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from leaderboard.board.build import Standings
from leaderboard.board.names import SIGNIFICANT
from leaderboard.store.schema import SUMMARY
from leaderboard.view.words import printed
from report.figures import style
from report.figures.drawing import Drawing
from report.figures.rows import (
    Record,
    at_own_severities,
    best_and_worst,
    closing,
    counted,
    has,
    severities_of,
    unperturbed,
    words,
)

_ROW: Final = 0.19
"""Inches."""

MEAN: Final = "mean of all"


class Map(NamedTuple):
    """One map.

    Attributes:
        measure: Column of the summary.
        rows: Names of the rows, group by group: clean images, perturbations, the mean over all.
        values: NaN where there is none.
        marked: Whether the value differs from the method's own noise.
    """

    measure: str
    rows: tuple[tuple[str, ...], ...]
    values: Float[np.ndarray, "rows methods"]
    marked: Bool[np.ndarray, "rows methods"]


@style.styled()
def heat_map(standings: Standings) -> Drawing | None:
    """The tables' numbers in colour, at the task's own severities; blue is better.

    Stability has white at 0, where another unit's label would do as well.

    Returns:
        None without a perturbed condition that has a value.
    """
    found = at_own_severities(standings)
    measures = [name for name in ("stability", "accuracy") if has(standings, name)]
    groups = standings.group.about_run.in_groups({perturbation for _, perturbation in found})
    if not measures or not groups:
        return None
    maps = [_map(standings, name, groups, found) for name in measures]
    methods = standings.group.methods
    figure = _figure(maps, methods, len(standings.group.about_run.rivals(methods)))
    return Drawing(figure, _caption(standings, maps, found), _alternative(standings, maps))


def _map(
    standings: Standings, measure: str, groups: Sequence[tuple[str, ...]], found: Mapping[tuple[str, str], Record]
) -> Map:
    methods = standings.group.methods
    means = {row.method: row.values[measure].mean for row in standings.of_suite() if measure in row.values}
    edges = {"clean": {m: point[0] for m, point in unperturbed(standings, measure).items()}, MEAN: means}
    rows = (("clean",), *groups, (MEAN,))
    values = [
        [edges[name].get(m, math.nan) if name in edges else _value(found.get((m, name)), measure) for m in methods]
        for name in (name for group in rows for name in group)
    ]
    marked = [
        [measure == "stability" and _value(found.get((method, name)), "p_adjusted") < SIGNIFICANT for method in methods]
        for name in (name for group in rows for name in group)
    ]
    return Map(measure, rows, np.array(values, dtype=np.float64), np.array(marked, dtype=bool))


def _value(row: Record | None, column: str) -> float:
    return math.nan if row is None else float(row[column])


# ---- drawing ----


def _figure(maps: Sequence[Map], methods: Sequence[str], real: int) -> Figure:
    names = [name for group in maps[0].rows for name in group]
    titles = [style.title_of(name, 24) for name in methods]
    left, between, right, below = style.names_width(names), 0.15, 0.4, 0.52
    above = 0.1 + 0.04 * max(map(len, titles))
    cell = min(0.6, max(0.34, (style.WIDTH - left - right - between) / (len(maps) * len(methods))))
    wide, height = cell * len(methods), _ROW * len(names)
    width = left + right + len(maps) * (wide + between) - between
    figure = style.figure_of(max(style.WIDTH, width), below + height + above)
    for number, found in enumerate(maps):
        start = left + number * (wide + between)
        axes = style.axes_at(figure, start, below, wide, height)
        axes.set_label(found.measure)
        _cells(axes, found, real)
        axes.set_xticks(
            np.arange(len(methods)) + 0.5, titles, rotation=40, ha="left", rotation_mode="anchor", fontsize=8
        )
        axes.set_yticks(np.arange(len(names)) + 0.5, [style.title_of(name) for name in names], fontsize=8)
        axes.tick_params(length=0, pad=3, top=True, labeltop=True, labelbottom=False, labelleft=number == 0)
        _scale(figure, axes, found.measure, (start + 0.1 * wide, 0.32, 0.8 * wide, 0.07))
    return figure


def _cells(axes: Axes, found: Map, real: int) -> None:
    cmap, norm = _colours(found.measure)
    axes.pcolormesh(found.values, cmap=cmap, norm=norm, edgecolors="white", linewidth=0.6)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    edges = np.cumsum([len(group) for group in found.rows])[:-1]
    axes.hlines(edges, 0, found.values.shape[1], color="white", linewidth=4)
    if 0 < real < found.values.shape[1]:
        axes.vlines(real, 0, len(found.values), color="white", linewidth=4)
    for (row, column), value in np.ndenumerate(found.values):
        mark = "*" if found.marked[row, column] else ""
        place = (column + 0.5, row + 0.5)
        axes.text(*place, printed(value), ha="center", va="center_baseline", fontsize=style.SMALL)
        # Beside the number, so that numbers with and without a mark stand in line.
        if mark:
            offset = {"xytext": (8.5, 1), "textcoords": "offset points"}
            axes.annotate(mark, place, **offset, fontsize=style.SMALL, va="center_baseline")


def _colours(measure: str) -> tuple[Colormap, Normalize]:
    """Stability is worth 0 where it is at chance, so its map has a middle; accuracy goes one way."""
    # Without the dark ends, on which numbers would have to change their colour.
    name, low, high = ("RdBu", 0.15, 0.85) if measure == "stability" else ("Blues", 0.0, 0.7)
    cmap = LinearSegmentedColormap.from_list(name, colormaps[name](np.linspace(low, high, 256)))
    return cmap.with_extremes(bad="#eeeeee"), Normalize(-1.0 if measure == "stability" else 0.0, 1.0, clip=True)


def _scale(figure: Figure, axes: Axes, measure: str, place: tuple[float, float, float, float]) -> None:
    bar = style.axes_at(figure, *place)
    bar.set_label(f"scale of {measure}")
    mesh = axes.collections[0]
    ticks = [-1, 0, 1] if measure == "stability" else [0, 0.5, 1]
    figure.colorbar(mesh, cax=bar, orientation="horizontal", ticks=ticks)
    bar.set_xlabel(SUMMARY.column(measure).title, labelpad=1)
    for spine in bar.spines.values():
        spine.set_visible(False)


# ---- words ----


def _caption(standings: Standings, maps: Sequence[Map], found: Mapping[tuple[str, str], Record]) -> str:
    group = standings.group
    levels = sorted({s for found in severities_of(group.conditions).values() for s in found})
    at = f"severity {levels[0]}" if len(levels) == 1 else f"the mean over severities {', '.join(map(str, levels))}"
    parts = [f"Stability of unit labels at {at}, over {counted(row['units'] for row in found.values())} units"]
    if len(maps) > 1:
        known = counted(row["known"] for row in found.values())
        parts[0] += f" (left), and accuracy over the {known} of them whose truth is known (right)"
    parts[0] += "; blue is better, trivial baselines stand last."
    parts.append("Stability: white is 0, as if another unit's label were drawn; clean: between two clean runs.")
    if maps[0].marked.any():
        parts.append(
            "* Differs from the method's own noise: permutation test within units against clean repeats, "
            f"Holm-corrected, p < {SIGNIFICANT:g}."
        )
    if any(np.isnan(one.values).any() for one in maps):
        parts.append("Grey: no value.")
    return " ".join([*parts, closing(standings)])


def _alternative(standings: Standings, maps: Sequence[Map]) -> str:
    methods = standings.group.methods
    facts = standings.group.about_run
    real = [number for number, name in enumerate(methods) if not facts.is_floor(name)] or list(range(len(methods)))
    said = []
    for one in maps:
        names = [name for group in one.rows for name in group]
        inner = {name: one.values[number, real] for number, name in enumerate(names) if name not in ("clean", MEAN)}
        means = {name: float(np.nanmean(row)) for name, row in inner.items() if not np.isnan(row).all()}
        title = SUMMARY.column(one.measure).title
        said.append(
            best_and_worst(dict(zip(methods, one.values[-1].tolist(), strict=True)), f"mean {title.lower()}", facts)
        )
        if means:
            worst, best = min(means, key=lambda name: means[name]), max(means, key=lambda name: means[name])
            said.append(
                f"{title} suffers most under {words(worst)} ({means[worst]:.2f} over the methods) and least under "
                f"{words(best)} ({means[best]:.2f})."
            )
    marked = int(maps[0].marked[:-1, real].sum()) if maps[0].measure == "stability" else 0
    total = int((~np.isnan(maps[0].values[1:-1, real])).sum())
    said.append(
        f"In {marked} of {total} cells the labels' movement differs from the method's own noise." if total else ""
    )
    return " ".join(["Heat map of methods and perturbations.", *filter(None, said)])
