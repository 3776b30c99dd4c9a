from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from small_runs import STARTED, SUITES, write_run
from typer.testing import CliRunner

from leaderboard.board.build import build_board
from leaderboard.board.merge import merge_runs
from leaderboard.board.summary import summarise
from leaderboard.store.errors import StoreError
from report.build import build_report
from report.cli import app
from report.document import about
from report.document.compile import _first_error, _missing, source_date

ROOT = Path(__file__).parents[2]


PARTS = (
    "abstract", "appendix", "citation", "definitions", "licences", "limits", "methods", "note", "numbers",
    "perturbations", "results", "sources", "standings", "tasks",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "whole")
    write_run(folder / "gaps", task="gappy_task", lacking={"dnd": [("fog", 3)]}, truth=False, thumbnails=False)
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def built(runs, tmp_path_factory) -> Path:
    return build_report(runs, tmp_path_factory.mktemp("report"), pdf=False).out


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Runs that are built in no time, for tests of what becomes of files."""
    folder = tmp_path_factory.mktemp("tiny")
    small = {"methods": {"dnd": 0.5}, "units": 4, "suites": {"few": (("fog", 3),)}, "thumbnails": False}
    write_run(folder / "one", task="first_task", **small)
    write_run(folder / "two", task="second_task", **small)
    return folder


@pytest.fixture
def no_figures(monkeypatch) -> None:
    monkeypatch.setattr("report.build._figures", lambda board, out, messages: ({}, ()))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def part(folder: Path, name: str) -> str:
    return (folder / "parts" / f"{name}.tex").read_text()


def test_every_part_table_and_figure_is_there(built):
    found = files(built)
    assert {f"parts/{name}.tex" for name in PARTS} <= found.keys()
    slug = "toy_task-v1-toy"
    for name in ("standings", "stability", "accuracy", "right_and_stable", "pairs", "faithfulness"):
        assert f"tables/{name}-{slug}.tex" in found
        assert f"tables/{name}-{slug}.md" in found
    assert f"figures/heat_map-{slug}.pdf" in found
    assert {"main.tex", "references.bib", "build.json"} <= found.keys()


def test_main_brings_in_files_that_are_written_and_cites_what_is_listed(built):
    texts = {name: data.decode() for name, data in files(built).items() if name.endswith(".tex")}
    whole = "".join(texts.values())
    for path in re.findall(r"\\input\{([^}]*)\}", whole):
        assert f"{path}.tex" in texts
    for path in re.findall(r"\\includegraphics\[[^]]*\]\{([^}]*)\}", whole):
        assert (built / path).is_file()
    listed = set(re.findall(r"^@\w+\{(\w+),", (built / "references.bib").read_text(), re.M))
    cited = {key for keys in re.findall(r"\\cite\{([^}]*)\}", whole) for key in keys.split(",")}
    assert cited <= listed
    labels = re.findall(r"\\label\{([^}]*)\}", whole)
    assert len(labels) == len(set(labels))
    assert set(re.findall(r"\\ref\{([^}]*)\}", whole)) <= set(labels)


def test_a_second_build_has_the_same_bytes_and_no_path_of_this_machine(runs, built, tmp_path):
    again = build_report(runs, tmp_path, pdf=False).out
    first, second = files(built), files(again)
    assert first == second
    for name, data in second.items():
        assert str(runs).encode() not in data, name
        assert str(tmp_path).encode() not in data, name


def test_an_incomplete_method_has_no_rank_and_says_what_is_missing(built):
    standings = (built / "tables" / "standings-gappy_task-v1-toy.md").read_text()
    row = next(line for line in standings.splitlines() if line.startswith("| dnd "))
    assert set(row.replace("| dnd ", "").split()) == {"|", "–"}
    limits = part(built, "limits")
    assert "no fog 3" in limits
    stability = (built / "tables" / "stability-gappy_task-v1-toy.md").read_text()
    mean = next(line for line in stability.splitlines() if line.startswith("| mean of all"))
    assert mean.split("|")[3].strip() == "–"


def test_runs_that_are_left_out_are_named_with_the_reason(built):
    assert r"Left out: \texttt{broken}" in part(built, "limits")


def test_the_answer_follows_the_ranks(built):
    said = part(built, "answer-toy_task-v1-toy")
    assert r"clip\_\allowbreak{}dissect has the highest mean stability" in said
    assert "significantly above every other method" in said or "does not differ significantly from" in said
    without = part(built, "answer-gappy_task-v1-toy")
    assert r"No unit{\textquoteright}s truth is known" in without
    assert "Without a rank, as incomplete: dnd (no fog 3)." in without


@pytest.mark.usefixtures("no_figures")
def test_tables_are_over_the_conditions_that_the_task_asks_for(tmp_path):
    asked = {"suites": {"gaussian_blur": [["gaussian_blur", 3]]}, "severities": [3]}
    write_run(tmp_path / "runs" / "more", about=asked)
    out = build_report(tmp_path / "runs", tmp_path / "out", pdf=False).out
    table = (out / "tables" / "stability-toy_task-v1-toy.md").read_text()
    assert "Severity 3" in table
    assert "fog" not in table
    standings = (out / "tables" / "standings-toy_task-v1-toy.md").read_text()
    mean = next(line for line in table.splitlines() if line.startswith("| mean of all")).split("|")[2]
    board = next(line for line in standings.splitlines() if line.startswith("| clip_dissect")).split("|")[2]
    assert re.findall(r"-?\d\.\d\d", mean) == re.findall(r"-?\d\.\d\d", board)
    assert f"{len(SUITES['weather']) + 2} more conditions ran" in part(out, "limits")


def test_a_summary_over_some_conditions_is_that_of_their_scores_alone(tmp_path):
    asked = {"suites": {"few": [["gaussian_blur", 3], ["fog", 3]]}, "severities": [3]}
    write_run(tmp_path / "more", about=asked)
    chapter = build_board(merge_runs(tmp_path)).standings[0]
    assert chapter.extra_conditions == 4
    place = ["method", "perturbation", "severity"]
    expected = summarise(chapter.own_scores, 0).sort_values(place, ignore_index=True)
    found = chapter.own_summary.sort_values(place, ignore_index=True)[expected.columns]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


@pytest.mark.usefixtures("no_figures")
def test_a_main_file_that_the_reader_changed_is_kept(tiny, tmp_path):
    first = build_report(tiny, tmp_path, pdf=False)
    assert not first.messages
    (tmp_path / "main.tex").write_text("mine")
    (tmp_path / "parts" / "limits.tex").write_text("lost it")
    second = build_report(tiny, tmp_path, pdf=False)
    assert (tmp_path / "main.tex").read_text() == "mine"
    assert len(second.messages) == 1
    assert "main.tex" in second.messages[0]
    assert "lost it" not in part(tmp_path, "limits")
    build_report(tiny, tmp_path, pdf=False)
    assert (tmp_path / "main.tex").read_text() == "mine"
    (tmp_path / "main.tex").unlink()
    assert not build_report(tiny, tmp_path, pdf=False).messages


@pytest.mark.usefixtures("no_figures")
def test_a_file_of_the_readers_own_takes_the_place_of_main(tiny, tmp_path):
    mine = tmp_path / "mine.tex"
    mine.write_text("my report")
    out = tmp_path / "out"
    build_report(tiny, out, main=mine, pdf=False)
    assert (out / "main.tex").read_text() == "my report"
    mine.write_text("my better report")
    assert not build_report(tiny, out, main=mine, pdf=False).messages
    assert (out / "main.tex").read_text() == "my better report"


@pytest.mark.usefixtures("no_figures")
def test_what_an_earlier_build_wrote_and_nobody_changed_goes(tiny, tmp_path):
    few = tmp_path / "runs"
    shutil.copytree(tiny, few)
    out = build_report(few, tmp_path / "out", pdf=False).out
    shutil.rmtree(few / "two")
    mine = out / "parts" / "answer-second_task-v1-toy.tex"
    mine.write_text("mine now")
    build_report(few, out, pdf=False)
    assert [path.name for path in out.rglob("*second*")] == [mine.name]


@pytest.mark.usefixtures("no_figures")
def test_a_record_cannot_lead_out_of_the_folder(tiny, tmp_path):
    out = build_report(tiny, tmp_path / "out", pdf=False).out
    outside = tmp_path / "outside.txt"
    outside.write_text("")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    record = json.loads((out / "build.json").read_text())
    record["files"]["../outside.txt"] = empty
    (out / "build.json").write_text(json.dumps(record))
    build_report(tiny, out, pdf=False)
    assert outside.exists()


@pytest.mark.usefixtures("no_figures")
def test_mistakes_are_one_sentence(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="no finished run"):
        build_report(tmp_path / "empty", tmp_path / "out", pdf=False)
    with pytest.raises(StoreError, match="--main"):
        build_report(tiny, tmp_path / "out", main=tmp_path / "none.tex", pdf=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "build.json").write_text("[]")
    with pytest.raises(StoreError, match=r"build\.json"):
        build_report(tiny, tmp_path / "out", pdf=False)


@pytest.mark.usefixtures("no_figures")
def test_the_command_line(tiny, tmp_path):
    done = CliRunner().invoke(app, ["build", "--runs", str(tiny), "--out", str(tmp_path), "--no-pdf"])
    assert done.exit_code == 0
    assert (tmp_path / "main.tex").is_file()
    assert not (tmp_path / "main.pdf").exists()
    failed = CliRunner().invoke(app, ["build", "--runs", str(tmp_path / "none"), "--out", str(tmp_path)])
    assert failed.exit_code == 1
    assert "Traceback" not in failed.output


def test_without_matplotlib_there_are_no_figures_and_a_sentence(tiny, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("report.figures")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made = build_report(tiny, tmp_path, pdf=False)
    assert any("clear-benchmark[" in message for message in made.messages)
    assert not list(tmp_path.rglob("*.png"))
    assert "includegraphics" not in part(tmp_path, "results-first_task-v1-toy")


def test_what_is_not_installed_is_named_with_its_debian_package():
    assert "texlive-science" in _missing("! LaTeX Error: File `siunitx.sty' not found.")
    assert "texlive-latex-extra" in _missing("! LaTeX Error: File `unheard.sty' not found.")
    assert _missing("! LaTeX Error: File `parts/mine.tex' not found.") == ""


def test_the_first_error_of_a_log_is_a_sentence():
    log = "noise\n./main.tex:12: Undefined control sequence.\n./main.tex:14: Another one."
    assert _first_error(log) == "main.tex, line 12: Undefined control sequence."
    assert _first_error("! Emergency stop.") == "Emergency stop."


def test_the_clock_is_the_newest_session_or_the_environments(monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert source_date(STARTED) == "1767323045"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12")
    assert source_date(STARTED) == "12"


def test_citations_agree():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    readme = (ROOT / "README.md").read_text()
    assert cff["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= cff.keys()

    def fields(text: str) -> dict[str, str]:
        entry = " ".join(text[text.index("@software") :].split())
        return dict(re.findall(r"(author|title|note|year)\s*= \{+(.*?)\}+(?=,? )", entry))

    assert fields(about.CITATION + " ") == fields(readme)
    own = fields(readme)
    assert own["title"] == cff["title"]
    assert own["author"] == cff["authors"][0]["name"]
    assert str(cff["version"]) in own["note"]


@pytest.mark.usefixtures("no_figures")
def test_methods_of_others_are_described_as_such(tmp_path):
    write_run(tmp_path / "runs" / "own", {"my_method": 0.3, "dnd": 0.5}, units=4)
    out = build_report(tmp_path / "runs", tmp_path / "out", pdf=False).out
    assert "Not described by its run." in part(out, "methods")
