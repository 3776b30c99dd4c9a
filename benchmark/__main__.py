"""``python -m benchmark``, and ``clear-benchmark``, which is the same."""

from __future__ import annotations

import sys
from pathlib import Path

# The folder where one runs comes first, so that functions of the user's are found; a file tasks.py there must not be
# taken for one of our packages.
sys.path.insert(0, str(Path(__file__).parents[1]))
import baselines  # noqa: F401
import leaderboard  # noqa: F401
import metrics  # noqa: F401
import report  # noqa: F401
import tasks  # noqa: F401

sys.path.pop(0)

from benchmark.cli import main


def script() -> None:
    """``clear-benchmark``: unlike with ``python -m``, the folder where one runs is not on the path yet."""
    sys.path.insert(0, "")
    main()


if __name__ == "__main__":
    main()
