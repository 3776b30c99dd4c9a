"""The whole site, written page by page; what an earlier build left and this one does not make goes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pandas as pd

from leaderboard.board.build import Board
from leaderboard.pages.about_pages import licences_page, reading_page
from leaderboard.pages.board_files import as_frame, as_json
from leaderboard.pages.board_page import board_page, distinctions
from leaderboard.pages.bottleneck_page import bottleneck_page
from leaderboard.pages.frame import Page, render
from leaderboard.pages.search import search_page
from leaderboard.pages.task_page import task_page
from leaderboard.pages.unit_pages import unit_pages
from leaderboard.store import atomic, escape
from leaderboard.store.errors import StoreError

MANIFEST: Final = "site.json"
"""Lists every file of the build, so that the next one knows what it may remove."""


def write_site(board: Board, out: Path) -> list[Path]:
    """Write every page, ``board.json``, ``board.csv`` and the manifest.

    The same board gives the same bytes. Files that the folder's manifest lists and this build does not make are
    removed; nothing else in the folder is touched.

    Args:
        out: Folder of the site; made if it is not there.

    Returns:
        The files, in the order in which they were written; the manifest last.

    Raises:
        StoreError: A file cannot be written, or the folder's manifest cannot be read.
    """
    earlier = _listed(out)
    written: list[str] = []
    for path, data in _files(board):
        atomic.write_bytes(out / path, data, durable=False)
        written.append(path)
    _remove(out, earlier - {*written, MANIFEST})
    atomic.write_json(out / MANIFEST, {"files": sorted(written)})
    return [out / path for path in (*written, MANIFEST)]


def board_csv(frame: pd.DataFrame) -> str:
    """The flat board as CSV: no cell can be read as a formula, an absent value is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows([_csv_cell(value) for value in row] for row in frame.astype(object).itertuples(index=False))
    return buffer.getvalue()


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str):
        return escape.csv(value)
    return "" if pd.isna(value) else value


def _files(board: Board) -> Iterator[tuple[str, bytes]]:
    units: set[str] = set()
    for page in unit_pages(board):
        units.add(page.path)
        yield page.path, render(page).encode()
    for page in _other_pages(board, units):
        yield page.path, render(page).encode()
    yield "board.json", _json(as_json(board))
    yield "board.csv", board_csv(as_frame(board)).encode()


def _other_pages(board: Board, units: set[str]) -> Iterator[Page]:
    which = distinctions(board.runs.every)
    for standings in board.standings:
        yield task_page(standings, which[standings.group.slug], units)
    for group in board.runs.bottlenecks:
        yield bottleneck_page(group, which[group.slug])
    yield search_page(board)
    yield reading_page()
    yield licences_page(board)
    # The way in comes last: by then everything that it leads to is there.
    yield board_page(board)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n").encode()


def _listed(out: Path) -> set[str]:
    """The files that an earlier build made here."""
    try:
        files = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"]
        names = {str(name) for name in files}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{out / MANIFEST} cannot be read ({error}): remove the folder, or choose another --out."
        ) from error
    return names


def _remove(out: Path, names: set[str]) -> None:
    for name in sorted(names):
        parts = PurePosixPath(name)
        # The manifest is a file like any other: what it says must not lead out of the site.
        if parts.is_absolute() or ".." in parts.parts or not (out / name).is_file():
            continue
        if not (out / name).resolve().is_relative_to(out.resolve()):
            continue
        (out / name).unlink()
        for folder in (out / name).parents:
            if folder == out or any(folder.iterdir()):
                break
            folder.rmdir()
