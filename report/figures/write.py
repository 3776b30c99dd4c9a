"""All figures of a board as files, with a list of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, get_args

from leaderboard.board.bottlenecks import BottleneckGroup
from leaderboard.board.build import RANKED, Board, Standings
from leaderboard.board.groups import AnyGroup
from leaderboard.board.parallel import for_each
from leaderboard.store import atomic
from leaderboard.store.analysis_schema import STUDIES
from report.figures.bottleneck import decision_figures
from report.figures.cost import cost_figure
from report.figures.critical_difference import critical_difference
from report.figures.curves import severity_curves
from report.figures.drawing import Drawing, Format
from report.figures.gallery import gallery
from report.figures.heatmap import heat_map
from report.figures.scatter import right_and_stable
from report.figures.trust import trust_figure

_Written = tuple[dict[str, Any], dict[str, bytes]]
"""A figure's entry in the list, and its files' names and contents."""

MANIFEST: Final = "figures.json"
MANIFEST_VERSION: Final = 1
"""Schema of the list; raised whenever a key changes its meaning or goes."""


def _of_study(name: str) -> Callable[[Standings], Drawing | None]:
    """What draws a study: ``study_figure`` of the module of its name."""
    drawn = import_module(f"report.figures.{name}").study_figure
    return lambda standings: drawn(standings.group)


FIGURES: Final[dict[str, Callable[[Standings], Drawing | None]]] = {
    "stability_curves": functools.partial(severity_curves, measure="stability"),
    "accuracy_curves": functools.partial(severity_curves, measure="accuracy"),
    "heat_map": heat_map,
    **{f"critical_difference_{name}": functools.partial(critical_difference, measure=name) for name in RANKED},
    "right_and_stable": right_and_stable,
    "gallery": gallery,
    "trust": trust_figure,
    "cost": cost_figure,
    **{name: _of_study(name) for name in STUDIES if find_spec(f"report.figures.{name}")},
}
"""Stem of the file name → what draws it, in the order of the report."""


def write_figures(board: Board, out: Path) -> list[Path]:
    """Write every figure of every group as ``<figure>-<slug>.pdf`` and ``.png``, and ``figures.json``.

    ``figures.json`` holds ``schema_version`` and ``figures``, each with ``figure``, ``group`` (the slug), ``task``,
    ``profile``, ``caption``, ``alternative`` (text for who cannot see it; both plain, not escaped) and ``files``
    (format → file name). The same board gives the same bytes.

    Args:
        board: From ``leaderboard.board.build.build_board``.
        out: The folder; made if it is not there.

    Returns:
        What was written.

    Raises:
        StoreError: A file cannot be written.
    """
    out, written, entries = Path(out), [], []
    every = [*for_each(_drawn, board.standings, board.runs.rows), *map(_of_bottleneck, board.runs.bottlenecks)]
    for drawn in every:
        for entry, files in drawn:
            for name, data in files.items():
                atomic.write_bytes(out / name, data)
                written.append(out / name)
            entries.append(entry)
    atomic.write_json(out / MANIFEST, {"schema_version": MANIFEST_VERSION, "figures": entries})
    return [*written, out / MANIFEST]


def _drawn(standings: Standings) -> list[_Written]:
    """The figures of one group."""
    drawn = ((name, draw(standings)) for name, draw in FIGURES.items())
    return [_written(name, standings.group, drawing) for name, drawing in drawn if drawing is not None]


def _of_bottleneck(group: BottleneckGroup) -> list[_Written]:
    """Its single decisions, where it has any."""
    drawn = decision_figures(group.tables["decisions"], group.tables["thumbnails"], group.about_run)
    return [_written("bottleneck", group, drawing) for drawing in drawn.values()]


def _written(name: str, group: AnyGroup, drawing: Drawing) -> _Written:
    files: dict[Format, str] = {form: f"{name}-{group.slug}.{form}" for form in get_args(Format)}
    entry = {
        "figure": name,
        "group": group.slug,
        "task": group.task,
        "profile": group.profile,
        "caption": drawing.caption,
        "alternative": drawing.alternative,
        "files": files,
    }
    return entry, {file: drawing.data(form) for form, file in files.items()}
