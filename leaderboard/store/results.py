"""Where boards and reports find their runs: the user's own, or the small set shipped with CLEAR."""

from __future__ import annotations

from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).parents[1] / "results"
"""Runs committed to the repository, reduced by ``leaderboard.board.pack``."""

USUAL: Final = Path("runs")
"""Where ``python -m benchmark run`` writes unless told otherwise."""


def runs_folder(given: Path | None) -> Path:
    """The folder of runs to read: the given one, else ``runs`` if it contains a run, else CLEAR's own results."""
    if given is not None:
        return given
    return USUAL if any(USUAL.glob("*/run.json")) else RESULTS
