"""One number has one interval, whatever shows it: board.json, the report, a terminal."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console, RenderableType
from small_runs import write_run

from leaderboard.board.build import Board, build_board
from leaderboard.board.facts import RunFacts
from leaderboard.board.intervals import RESAMPLES
from leaderboard.board.merge import merge_runs
from leaderboard.board.summary import FAITHFULNESS_MEANS
from leaderboard.pages.board_files import as_json
from leaderboard.pages.site import write_site
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import FAITHFULNESS
from leaderboard.view.content import Cell
from leaderboard.view.faithfulness import faithfulness_tables
from leaderboard.view.results import result_tables
from leaderboard.view.terminal import terminal_tables
from leaderboard.view.truth import accuracy_by_truth
from leaderboard.view.words import printed
from report.document.parts import generated_files

METHODS = {"clip_dissect": 0.15, "dnd": 0.6, "random_label": 1.0, "constant_label": 0.0}
SUITES = {"gaussian_blur": (("gaussian_blur", 1), ("gaussian_blur", 3)), "weather": (("fog", 1), ("fog", 3))}
SEED = 7


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "run", METHODS, suites=SUITES, seed=SEED, thumbnails=False)
    return folder


@pytest.fixture(scope="module")
def board(root: Path) -> Board:
    return build_board(merge_runs(root))


@pytest.fixture(scope="module")
def told(board: Board, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Method → measure → value, as the site's ``board.json`` has it."""
    site = tmp_path_factory.mktemp("site")
    write_site(board, site)
    whole = json.loads((site / "board.json").read_text())
    assert whole == json.loads(json.dumps(as_json(board)))
    return {row["method"]: row["values"] for row in whole["groups"][0]["rows"] if row["suite"] == "all"}


def text(value: dict[str, Any]) -> str:
    return f"{printed(value['mean'])} [{printed(value['low'])}, {printed(value['high'])}]"


def shown(cell: Cell) -> str:
    return f"{printed(cell.value)} [{printed(cell.low)}, {printed(cell.high)}]"


def printed_on_screen(parts: Iterable[RenderableType]) -> Iterator[str]:
    for part in parts:
        console = Console(width=300, record=True, file=io.StringIO())
        console.print(part)
        yield console.export_text()


def lines(markdown: str) -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if line.startswith("|")]
    return {row[0].replace("\\", ""): [cell.replace("\\", "").replace("*", "") for cell in row[1:]] for row in rows}


def test_faithfulness(board, told, root):
    files = generated_files(board, ())
    table = RunFolder(root / "run").read_table("faithfulness")
    facts = board.standings[0].group.about_run
    (terminal,) = faithfulness_tables(table, facts)
    screen = "\n".join(printed_on_screen(terminal_tables([terminal], 300)))
    report = lines(files["tables/faithfulness-toy_task-v1-toy.md"])
    for measure in FAITHFULNESS_MEANS:
        row = next(row for row in terminal.rows if row.name.startswith(FAITHFULNESS.column(measure).title))
        expected = [text(told[method][measure]) for method in terminal.columns]
        assert [shown(cell) for cell in row.cells] == expected
        assert [cell.partition("†")[0].strip() for cell in report[row.name]] == expected
        found, own = told["dnd"][measure], row.cells[terminal.columns.index("dnd")]
        assert (found["low"], found["high"]) == (own.low, own.high)
        assert set(expected) <= set(re.findall(r"-?[\d.]+ \[-?[\d.]+, -?[\d.]+\]", screen))
    (other,) = faithfulness_tables(table, dataclasses.replace(facts, seed=SEED + 1))
    assert other.rows != terminal.rows, "the seed decides digits, or this test would find nothing"


def test_stability_and_accuracy(board, told):
    chapter = board.standings[0]
    (stability,), (accuracy,) = (
        result_tables(chapter.own_summary, "stability", RunFacts()),
        result_tables(chapter.own_summary, "accuracy", RunFacts()),
    )
    (by_truth,) = accuracy_by_truth(chapter.own_scores, chapter.group.about_run)
    steady, right, rows = ({row.name: row.cells for row in one.rows} for one in (stability, accuracy, by_truth))
    for number, method in enumerate(stability.columns):
        own = told[method]
        assert shown(steady["mean of all"][number]) == text(own["stability"])
        assert shown(right["mean of all"][number]) == text(own["accuracy"])
        assert shown(rows["all perturbed (4)"][number]) == text(own["accuracy"])
        assert shown(right["clean"][number]) == shown(rows["clean"][number]) == text(own["accuracy_clean"])
    report = lines(generated_files(board, ())["tables/standings-toy_task-v1-toy.md"])
    assert report["dnd"][0] == text(told["dnd"]["stability"])


def test_comparisons_have_the_intervals_of_the_means(board, told):
    compared = board.standings[0].comparisons
    for row in compared[compared["kind"] == "method"].to_dict("records"):
        found = told[row["first"]][row["measure"]]
        assert (found["low"], found["high"]) == pytest.approx((row["low"], row["high"]), abs=1e-12)


def test_the_report_says_how_often_it_resampled(board):
    assert rf"\def\CLEARresamples{{{RESAMPLES:,}}}" in generated_files(board, ())["parts/numbers.tex"]
