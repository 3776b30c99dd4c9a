"""The results tables of a run as files: LaTeX and Markdown from one content; same data, same bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.store import atomic
from leaderboard.view.content import Table
from leaderboard.view.results import result_tables
from leaderboard.view.ties import Kind, RowKey, Ties
from leaderboard.view.truth import accuracy_by_truth, right_and_stable
from report.latex import latex_tables
from report.markdown import markdown_tables

_KINDS: Final[tuple[Kind, ...]] = ("stability", "accuracy")


def write_tables(
    run_folder: str | os.PathLike[str],
    summary: pd.DataFrame,
    facts: RunFacts,
    scores: pd.DataFrame | None = None,
    ties: Mapping[RowKey, Ties] | None = None,
) -> list[Path]:
    """Write the tables of a run, see ``document_tables``, as ``tables/NAME.tex`` and ``tables/NAME.md``.

    Returns:
        What was written.

    Raises:
        StoreError: A file cannot be written.
    """
    written = []
    for name, tables in document_tables(summary, facts, scores, ties).items():
        for suffix, text in (("tex", latex_tables(tables)), ("md", markdown_tables(tables))):
            path = Path(run_folder) / "tables" / f"{name}.{suffix}"
            atomic.write_bytes(path, text.encode())
            written.append(path)
    return written


def document_tables(
    summary: pd.DataFrame,
    facts: RunFacts,
    scores: pd.DataFrame | None = None,
    ties: Mapping[RowKey, Ties] | None = None,
) -> dict[str, list[Table]]:
    """The tables of a run by name, each a list of one table per task and profile; names without any are left out.

    ``stability`` always; where the truth is known also ``accuracy`` and, from the scores, ``right_and_stable`` and
    ``accuracy_by_truth``.

    Args:
        summary: Rows of ``leaderboard.store.schema.SUMMARY``.
        scores: Rows of ``leaderboard.store.schema.SCORES``.
        ties: What a test between methods found, see ``leaderboard.view.ties``; without it, ties are methods that print
            the same.
    """
    found = {str(kind): result_tables(summary, kind, facts, ties) for kind in _KINDS}
    if scores is not None:
        found |= {
            "right_and_stable": right_and_stable(scores, facts),
            "accuracy_by_truth": accuracy_by_truth(scores, facts),
        }
    return {name: tables for name, tables in found.items() if tables}
