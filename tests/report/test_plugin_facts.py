"""A method, a suite and a profile that CLEAR does not bring look as its own do, in tables, pages and report."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import write_run

from leaderboard.board.build import Board, build_board
from leaderboard.board.merge import merge_runs
from leaderboard.pages.site import write_site
from report.document.parts import generated_files
from report.figures import style

METHODS = {"dnd": 0.1, "clear": 0.2, "mine": 0.6, "guess": 0.9}
SUITES = {"weather": (("fog", 3), ("haze", 3)), "blur": (("gaussian_blur", 3),)}
NOTE = "Measured in my garden: it measures nothing else."
SLUG = "toy_task-v1-garden"
FACTS = {
    "methods": {
        "clear": {"summary": "CLEAR's own method.", "citation": ["dnd"], "uses_perturbations": ["fog"]},
        "mine": {"summary": "My method: 100 % intuition.", "citation": ["A. Author & Sons. Mine. 2026.", "netdissect"]},
        "guess": {"summary": "A guess.", "trivial": True},
    },
    "perturbations": {"haze": {"family": "weather", "description": "Haze (share that is hidden)"}},
}


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    folder = tmp_path_factory.mktemp("runs")
    write_run(
        folder / "run", METHODS, suites=SUITES, thumbnails=False, comparisons=False, profile="garden", note=NOTE,
        options={"clear": {"contexts": "fog:3"}}, facts=FACTS,
    )  # fmt: skip
    return build_board(merge_runs(folder))


@pytest.fixture(scope="module")
def files(board: Board) -> dict[str, str]:
    return generated_files(board, ())


def test_the_note_of_other_contexts_is_the_right_one(files):
    stability = files[f"tables/stability-{SLUG}.md"].replace("\\", "")
    (note,) = [line for line in stability.splitlines() if "used by the method" in line]
    start = "clear (contexts=fog:3): tuned on: fog; used by the method: fog; never seen: "
    assert note.removeprefix("- ").startswith(start)
    assert "gaussian_blur" not in note


def test_an_older_run_makes_no_claim_about_other_contexts(tmp_path):
    small = {"suites": {"few": (("fog", 3), ("gaussian_blur", 3))}, "units": 5, "thumbnails": False}
    write_run(tmp_path / "run", {"clear": 0.5, "dnd": 0.1}, options={"clear": {"contexts": "fog:3"}}, **small)
    made = generated_files(build_board(merge_runs(tmp_path)), ())["tables/stability-toy_task-v1-toy.md"]
    assert "tuned on" in made
    assert "used by the method" not in made


def test_methods_are_described_and_cited(files):
    said = files["parts/methods.tex"]
    assert r"intuition \cite{netdissect} (A. Author \& Sons. Mine. 2026)." in said
    assert r"own method \cite{dnd}. Run with options of its own." in said
    assert said.count("Not described by its run.") == 1  # dnd: the run says nothing of it


def test_a_trivial_baseline_of_a_plugin_stands_last_and_is_called_one(board, files):
    (standings,) = board.standings
    assert standings.group.methods[-1] == "guess"
    assert [row.method for row in standings.rows if row.floor] == ["guess"] * 3
    assert standings.comparisons.loc[standings.comparisons["first"] == "guess", "floor"].all()
    assert "guess (trivial baseline)" in files[f"tables/standings-{SLUG}.md"]
    assert style.looks(standings.group.methods, standings.group.about_run)["guess"].floor


def test_a_perturbation_of_a_plugin_is_summed_up_with_its_family(files):
    truth = files[f"tables/accuracy_by_truth-{SLUG}.md"].replace("\\", "")
    assert "weather (2)" in truth
    assert "other (" not in truth
    said = files["parts/perturbations.tex"]
    assert "Haze (share that is hidden)." in said.replace("haze: ", "")
    assert "Others" not in said


def test_the_profiles_note_is_under_every_table_that_has_its_numbers(files):
    for name in ("stability", "accuracy", "right_and_stable", "accuracy_by_truth", "faithfulness"):
        assert NOTE in files[f"tables/{name}-{SLUG}.md"].replace("\\", ""), name


def test_pages_know_floor_and_family(board, tmp_path: Path):
    write_site(board, tmp_path)
    page = (tmp_path / "tasks" / f"{SLUG}.html").read_text()
    assert NOTE in page
    assert 'class="floor"' in page
