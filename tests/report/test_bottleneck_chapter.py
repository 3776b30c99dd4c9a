"""The report's chapter on concept bottlenecks, with runs that label units and without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from small_bottlenecks import write_bottleneck
from small_runs import write_run

from leaderboard.board.build import build_board
from leaderboard.board.merge import merge_runs
from leaderboard.view.bottleneck_findings import findings
from report.build import build_report
from report.document.parts import generated_files
from report.figures import write_figures
from report.latex import latex_figures

SLUG = "toy-v1-miniature"


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    write_bottleneck(folder / "run")
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    write_bottleneck(folder / "bottleneck")
    small = {"methods": {"dnd": 0.5}, "units": 4, "suites": {"few": (("fog", 3),)}, "thumbnails": False}
    write_run(folder / "labels", task="first_task", **small)
    return folder


def test_a_report_over_both_has_the_chapter_after_the_results(both, tmp_path):
    out = build_report(both, tmp_path, pdf=False).out
    chapter = (out / "parts" / "analyses.tex").read_text()
    assert r"\section{Concept bottlenecks}" in chapter
    assert rf"\input{{tables/bottleneck-{SLUG}}}" in chapter
    assert f"figures/bottleneck-{SLUG}.pdf" in chapter
    (group,) = merge_runs(both).bottlenecks
    for sentence in findings(group):
        assert latex_figures(sentence) in chapter
    for suffix in ("tex", "md"):
        text = (out / "tables" / f"bottleneck-{SLUG}.{suffix}").read_text()
        assert "Accuracy" in text
        assert "Changed contexts" in text
    assert (out / "figures" / f"bottleneck-{SLUG}.png").stat().st_size > 1000
    assert "bottleneck" in (out / "parts" / "sources.tex").read_text() + (out / "tables" / "runs.md").read_text()
    assert "first" in (out / "parts" / "results.tex").read_text()
    labels = re.findall(r"\\label\{([^}]*)\}", "".join(path.read_text() for path in out.rglob("*.tex")))
    assert len(labels) == len(set(labels))


def test_a_report_of_a_bottleneck_alone_has_every_part(alone, tmp_path):
    board = build_board(merge_runs(alone))
    files = generated_files(board, ())
    assert "No unit was labelled" in files["parts/methods.tex"]
    assert r"\ref{sec:bottlenecks}" in files["parts/definitions.tex"]
    assert r"\label{sec:bottlenecks}" in files["parts/analyses.tex"]
    assert latex_figures(findings(board.runs.bottlenecks[0])[0]) in files["parts/abstract.tex"]
    assert r"\texttt{fog}" in files["parts/perturbations.tex"]
    assert "tables/settings.tex" not in files
    main = (Path(__file__).parents[2] / "report" / "main.tex").read_text()
    whole = main + "".join(files.values())
    for path in re.findall(r"\\input\{([^}]*)\}", whole):
        assert f"{path}.tex" in files
    written = write_figures(board, tmp_path)
    assert {path.name for path in written} == {f"bottleneck-{SLUG}.pdf", f"bottleneck-{SLUG}.png", "figures.json"}


def test_a_report_can_be_built_over_bottlenecks_alone(alone, tmp_path):
    out = build_report(alone, tmp_path, pdf=False).out
    assert rf"\input{{tables/bottleneck-{SLUG}}}" in (out / "parts" / "analyses.tex").read_text()
    assert (out / "figures" / f"bottleneck-{SLUG}.pdf").is_file()
