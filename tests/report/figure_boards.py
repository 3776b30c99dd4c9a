"""Small boards for the tests of the figures, each built once."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import small_runs

from leaderboard.board.build import Board, Standings, build_board
from leaderboard.board.merge import merge_runs

HOSTILE = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text(encoding="utf-8"))

SUITES = {"blur": (("gaussian_blur", 1), ("gaussian_blur", 3), ("gaussian_blur", 5)), "weather": (("fog", 3),)}
METHODS = {"clip_dissect": 0.1, "dnd": 0.9, "constant_label": 0.0}

KINDS: dict[str, dict[str, Any]] = {
    "toy": {},
    "one severity": {"suites": {"few": (("snow", 3), ("fog", 3), ("mine", 3))}, "truth": False},
    "incomplete": {"lacking": {"dnd": [("gaussian_blur", 3)]}, "thumbnails": False},
    "hostile": {
        "methods": {"clip_dissect": 0.3, "$x_1$ \x1b[31m": 0.5, "_魚\u202e\n" * 40: 0.5},
        "words": [word for word in HOSTILE if word.strip()],
        "note": "$\\undefinedmacro$ 魚",
        "units": 24,
        "suites": {"few": (("fog", 3), ("$y_2$ _{", 3))},
    },
}


def write_run(path: Path, kind: str = "toy") -> Path:
    return small_runs.write_run(path, **{"methods": METHODS, "units": 9, "suites": SUITES, **KINDS[kind]})


@functools.cache
def board(kind: str = "toy") -> Board:
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder) / "run", kind)
        return build_board(merge_runs(folder))


def standings(kind: str = "toy") -> Standings:
    return board(kind).standings[0]


def with_group(given: Standings, **changes: Any) -> Standings:
    return dataclasses.replace(given, group=dataclasses.replace(given.group, **changes))


def with_severities(given: Standings, *severities: int) -> Standings:
    """The same results of a task that asks for those severities of the blur only."""
    suites = {"blur": [["gaussian_blur", severity] for severity in severities], "weather": [["fog", 3]]}
    return with_group(given, about={**given.group.about, "suites": suites})
