"""Runs cut down to what boards, pages and reports are made of, so that they can be published or kept in a repository.

Parts, locks and runners-up on perturbed images go. Numbers stay: a board built from packed runs is the same board.
Pictures take most of the room, so only some units keep theirs, smaller, under the task's own conditions.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from PIL import Image

from leaderboard.board import bottlenecks
from leaderboard.board.merge import find_runs
from leaderboard.store import atomic
from leaderboard.store.analysis_schema import STUDIES
from leaderboard.store.errors import StoreError
from leaderboard.store.identity import safe_name
from leaderboard.store.run_folder import RunFolder, finished, is_bottleneck, table_hashes
from leaderboard.store.schema import DEPENDENCE, EVIDENCE, FAITHFULNESS, LABELS, SCORES, SUMMARY, THUMBNAILS

RANKS: Final = 3
"""So many labels of a unit are kept on clean images: the label and its runners-up."""

_QUALITY: Final = 60


def pack_runs(
    root: str | os.PathLike[str], out: str | os.PathLike[str], units: int = 6, images: int = 4, pixels: int = 64
) -> dict[str, int]:
    """Write a packed copy of every finished run.

    Args:
        root: A folder of run folders, or one run folder.
        out: Where the copies go, one folder a run.
        units: How many units of each task keep their pictures: evenly spread over those that were labelled.
        images: How many top images of a unit are kept.
        pixels: Greatest side of a picture.

    Returns:
        Name of each copy → its size in bytes.

    Raises:
        StoreError: There is no run, one is damaged or unfinished, or the copies cannot be written.
    """
    sizes = {}
    for name, path in find_runs(root):
        copy = Path(out) / safe_name(name)
        pack_run(RunFolder(path), copy, units, images, pixels)
        sizes[copy.name] = sum(file.stat().st_size for file in copy.iterdir())
    if not sizes:
        raise StoreError(f"No run folder lies under {root}: name one that holds run folders with --runs.")
    return sizes


def pack_run(
    folder: RunFolder,
    copy: Path,
    units: int = 6,
    images: int = 4,
    pixels: int = 64,
    facts: Mapping[str, Any] | None = None,
    studies: bool = True,
) -> None:
    """Write a packed copy of one run.

    Args:
        copy: The folder of the copy.
        units: See ``pack_runs``, as for ``images`` and ``pixels``.
        facts: Instead of those in ``run.json``.
        studies: Whether to keep the tables of studies.

    Raises:
        StoreError: The run is damaged or unfinished, or the copy cannot be written.
    """
    info = folder.info()
    packed = RunFolder(copy)
    of_studies = [DEPENDENCE, *(schema for schemas in STUDIES.values() for schema in schemas)] if studies else []
    for schema in bottlenecks.TABLES if is_bottleneck(info) else of_studies:
        table = folder.read_table(schema.name)
        if schema is DEPENDENCE:
            table = table.loc[(table["repeat"].eq(0) & table["perturbation"].eq("clean")).to_numpy()]
        if len(table):
            packed.write_table(schema.name, table)
    if not is_bottleneck(info):
        _pack_labels(folder, packed, units, images, pixels)
    # Last, as everywhere: a folder with a run.json is whole.
    kept = info["facts"] if facts is None else facts
    atomic.write_json(copy / "run.json", info | {"facts": {**kept, "finished": finished(info, table_hashes(copy))}})


def _pack_labels(folder: RunFolder, packed: RunFolder, units: int, images: int, pixels: int) -> None:
    labels, evidence = folder.read_table(LABELS.name), folder.read_table(EVIDENCE.name)
    thumbnails = folder.read_table(THUMBNAILS.name)
    first = (labels["repeat"].to_numpy() == 0) & (labels["perturbation"].to_numpy() == "clean")
    best = first & (labels["rank"].to_numpy() <= RANKS)
    evidence = evidence.loc[evidence["rank"].to_numpy() <= images]
    evidence = evidence.loc[_shown(evidence, folder.info()["facts"]["tasks"], units)]
    kept = set(_places(evidence))
    thumbnails = thumbnails.loc[np.array([place in kept for place in _places(thumbnails)], dtype=bool)]
    smaller = [_smaller(webp, pixels) for webp in thumbnails["webp"]]
    for name in (SCORES.name, SUMMARY.name, FAITHFULNESS.name):
        packed.write_table(name, folder.read_table(name))
    packed.write_table(LABELS.name, labels.loc[best])
    packed.write_table(EVIDENCE.name, evidence)
    packed.write_table(THUMBNAILS.name, thumbnails.assign(webp=pd.Series(smaller, thumbnails.index, dtype=object)))


def _smaller(webp: bytes, pixels: int) -> bytes:
    picture = Image.open(io.BytesIO(webp))
    if max(picture.size) <= pixels:
        return webp
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY, method=6)
    return buffer.getvalue()


def _places(frame: pd.DataFrame) -> list[tuple[str, str, int, str]]:
    return list(zip(*(frame[name] for name in ("task", "perturbation", "severity", "image")), strict=True))


def _shown(evidence: pd.DataFrame, tasks: dict[str, dict], units: int) -> np.ndarray:
    """Which rows belong to a unit that keeps its pictures and to a condition of its task."""
    wanted = np.zeros(len(evidence), dtype=bool)
    places = list(zip(evidence["perturbation"], evidence["severity"], strict=True))
    for task in sorted(set(evidence["task"])):
        suites = tasks.get(task, {}).get("suites", {})
        own = {("clean", 0), *((name, severity) for pairs in suites.values() for name, severity in pairs)}
        here = evidence["task"].to_numpy() == task
        labelled = np.unique(evidence["unit"].to_numpy()[here])
        chosen = labelled[np.linspace(0, len(labelled) - 1, min(units, len(labelled))).round().astype(int)]
        standard = np.array([place in own for place in places], dtype=bool)
        wanted |= here & standard & np.isin(evidence["unit"].to_numpy(), chosen)
    return wanted
