"""``python -m leaderboard``."""

from __future__ import annotations

import sys
from pathlib import Path

# A file metrics.py in the folder where one runs must not be taken for one of our packages.
sys.path.insert(0, str(Path(__file__).parents[1]))
import metrics  # noqa: F401
from leaderboard.cli import app

if __name__ == "__main__":
    app(prog_name="python -m leaderboard")
