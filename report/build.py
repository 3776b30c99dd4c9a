"""Makes the report's folder: tables, figures, texts and ``main.tex``, then the PDF.

What a reader writes is the reader's: a ``main.tex`` or ``references.bib`` that is not as this module left it is kept.
Everything else is written anew, and what an earlier build wrote and this one does not is removed. ``build.json`` holds
the hashes that distinguish them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from leaderboard.board.build import Board, build_board
from leaderboard.board.merge import merge_runs
from leaderboard.store import atomic
from leaderboard.store.errors import StoreError
from report.document.compile import compile_pdf
from report.document.parts import generated_files
from report.document.results import Figure

MAIN: Final = "main.tex"
REFERENCES: Final = "references.bib"
RECORD: Final = "build.json"
RECORD_VERSION: Final = 1
"""Schema of ``build.json``."""

_SOURCES: Final = Path(__file__).parent


@dataclass(frozen=True)
class Build:
    """What a build did.

    Attributes:
        out: The report's folder.
        pdf: The report; None if it was not wanted or something is not installed.
        messages: Sentences for the reader.
    """

    out: Path
    pdf: Path | None
    messages: tuple[str, ...]


def build_report(runs: Path, out: Path, main: Path | None = None, pdf: bool = True) -> Build:
    """Make or refresh the report.

    Args:
        runs: A folder of run folders.
        out: The report's folder.
        main: A main file of the reader's own instead of CLEAR's; LaTeX also finds what lies beside it.

    Raises:
        StoreError: There are no runs, a file cannot be read or written, or LaTeX found an error.
    """
    if main is not None and not main.is_file():
        raise StoreError(f"There is no file {main}: name a LaTeX file with --main.")
    board = build_board(merge_runs(runs))
    if not board.standings and not board.runs.bottlenecks:
        raise StoreError(_nothing(runs, board))
    before = _record(out)
    messages: list[str] = []
    written, figures = _figures(board, out, messages)
    for name, text in generated_files(board, figures).items():
        atomic.write_bytes(out / name, text.encode())
        written[name] = _hash(text.encode())
    for name, source in ((MAIN, main or _SOURCES / MAIN), (REFERENCES, _SOURCES / REFERENCES)):
        written |= _kept_or_written(out / name, source, before, messages)
    _remove_stale(out, before, written)
    atomic.write_json(out / RECORD, {"schema_version": RECORD_VERSION, "files": written})
    if not pdf:
        return Build(out, None, tuple(messages))
    compiled = compile_pdf(out / MAIN, board.runs.newest, search=None if main is None else main.resolve().parent)
    if compiled.pdf is None:
        messages.append(f"No PDF: {compiled.missing} is not installed. {out / MAIN} is ready to compile.")
    return Build(out, compiled.pdf, tuple(messages))


def _nothing(runs: Path, board: Board) -> str:
    reasons = "".join(f" {left.run}: {left.reason}" for left in board.runs.left_out)
    what_to_do = "make one with `python -m benchmark run`, or name others with --runs."
    return f"There is no finished run under {runs}: {what_to_do}{reasons}"


def _figures(board: Board, out: Path, messages: list[str]) -> tuple[dict[str, str], tuple[Figure, ...]]:
    """Path → hash of what was drawn, and the manifest's figures; nothing but a message without Matplotlib."""
    try:
        from report.figures import write_figures
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        messages.append(
            "No figures: Matplotlib is not installed. Install it with: pip install 'clear-benchmark[report]'."
        )
        return {}, ()
    folder = out / "figures"
    paths = write_figures(board, folder)
    manifest = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return (
        {path.relative_to(out).as_posix(): _hash(path.read_bytes()) for path in paths},
        tuple(_figure(entry) for entry in manifest["figures"]),
    )


def _figure(entry: Mapping[str, Any]) -> Figure:
    file = f"figures/{entry['files']['pdf']}"
    return Figure(entry["figure"], entry["group"], file, entry["caption"], entry["alternative"])


def _kept_or_written(path: Path, source: Path, before: Mapping[str, str], messages: list[str]) -> dict[str, str]:
    """Copy a hand-written file unless the reader changed the copy; its hash as we wrote it, if we ever did."""
    wanted = source.read_bytes()
    known = before.get(path.name)
    if path.exists() and path.read_bytes() != wanted and _hash(path.read_bytes()) != known:
        messages.append(
            f"{path} was not written by this program or was changed since, and is kept; delete it to get a new one."
        )
        return {path.name: known} if known else {}
    if not path.exists() or path.read_bytes() != wanted:
        atomic.write_bytes(path, wanted)
    return {path.name: _hash(wanted)}


def _remove_stale(out: Path, before: Mapping[str, str], written: Mapping[str, str]) -> None:
    """Remove what an earlier build wrote, nobody changed, and this build does not write."""
    for name, known in before.items():
        path = out / name
        # The record is a file in the reader's folder: it must not lead elsewhere.
        inside = path.resolve().is_relative_to(out.resolve())
        if name not in written and inside and path.is_file() and _hash(path.read_bytes()) == known:
            path.unlink()


def _record(out: Path) -> dict[str, str]:
    path = out / RECORD
    if not path.is_file():
        return {}
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {str(name): str(known) for name, known in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(f"{path} is not as this program wrote it: delete it, or choose another --out.") from None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
