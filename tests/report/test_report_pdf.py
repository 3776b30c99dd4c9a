"""The report as a PDF. Needs latexmk and pdftotext; ``CLEAR_REQUIRE_TEX=1`` makes their absence a failure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import small_runs

from leaderboard.store import escape
from leaderboard.store.errors import StoreError
from report.build import build_report

TESTS = Path(__file__).parents[1]
HOSTILE: list[str] = json.loads((TESTS / "data" / "hostile_labels.json").read_text())
SHOWN = [text for text in HOSTILE if escape.plain(text).strip() and len(text) < 60]
NAMES = ("\\input{/etc/passwd}", "\\immediate\\write18{touch pwned}", "50 % & $x_1$ #1", "dnd")
# What typesetters make of quotes; white space and hyphens may be where lines break.
SET = str.maketrans({'"': "\u201d", "'": "\u2019", "`": "\u2018", "-": "", "\u00ad": "", "\u2010": ""})


@pytest.fixture(scope="module")
def tex() -> None:
    missing = [name for name in ("latexmk", "pdflatex", "pdftotext") if shutil.which(name) is None]
    if missing and os.environ.get("CLEAR_REQUIRE_TEX"):
        pytest.fail(f"not installed, and CLEAR_REQUIRE_TEX is set: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs & # 100 %")
    about = {
        "description": " ".join(NAMES),
        "citation": "\\def\\x{\\x}\\x % \\end{itemize}",
        "licences": {f"part {number}": text for number, text in enumerate(SHOWN)},
        "layer": "\\end{tabular}",
    }
    suites = {"$few_": (("fog", 3), ("$y_2$ _{", 3))}
    small_runs.write_run(
        folder / "a_b #", dict.fromkeys(NAMES, 0.5), units=6, words=SHOWN, suites=suites, note="\\input{x} 5 % & $",
        about=about,
    )  # fmt: skip
    left_out = folder / "$broken_{"
    left_out.mkdir()
    (left_out / "run.json").write_text("\\write18{touch pwned}")
    return folder


@pytest.fixture(scope="module")
def built(tex, runs, tmp_path_factory) -> Path:
    made = build_report(runs, tmp_path_factory.mktemp("report"))
    assert made.pdf is not None, made.messages
    return made.out


def as_set(text: str) -> str:
    return "".join(escape.plain(text).translate(SET).split())


def test_hostile_text_is_shown_and_does_nothing(built):
    done = subprocess.run(["pdftotext", "main.pdf", "-"], cwd=built, capture_output=True, text=True, check=True)
    shown = as_set(done.stdout)
    for text in (*NAMES, *SHOWN):
        if escape.plain(text).isascii():
            assert as_set(text) in shown, text
    assert "root:x:" not in done.stdout
    assert not list(built.rglob("pwned*"))
    assert {path.name for path in built.iterdir() if path.suffix not in (".tex", ".bib")} == {
        "build.json", "figures", "main.pdf", "parts", "tables",
    }  # fmt: skip


def test_a_second_build_elsewhere_has_the_same_bytes_pdf_and_all(built, runs, tmp_path):
    again = build_report(runs, tmp_path / "else where").out

    def files(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first, second = files(built), files(again)
    assert "main.pdf" in first
    assert [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)] == []


@pytest.fixture
def no_figures(monkeypatch) -> None:
    monkeypatch.setattr("report.build._figures", lambda board, out, messages: ({}, ()))


def own_main(folder: Path, body: str, preamble: str = "") -> Path:
    main = folder / "own.tex"
    main.write_text(f"\\documentclass{{article}}\n{preamble}\n\\begin{{document}}\n{body}\n\\end{{document}}\n")
    return main


@pytest.mark.usefixtures("tex", "no_figures")
def test_an_error_is_one_sentence_and_the_log_is_kept(runs, tmp_path):
    main = own_main(tmp_path, "text\n\\nosuchcommand")
    with pytest.raises(StoreError, match=r"^LaTeX failed: main\.tex, line 5: Undefined control sequence\."):
        build_report(runs, tmp_path / "out", main=main)
    assert "nosuchcommand" in (tmp_path / "out" / "main.log").read_text()


@pytest.mark.usefixtures("tex", "no_figures")
def test_a_main_of_ones_own_finds_the_parts_and_what_lies_beside_it(runs, tmp_path):
    (tmp_path / "beside.tex").write_text("Beside.")
    main = own_main(
        tmp_path, "\\input{beside}\\input{parts/abstract}\\input{parts/methods}", "\\usepackage{booktabs,siunitx}"
    )
    made = build_report(runs, tmp_path / "out", main=main)
    assert made.pdf == tmp_path / "out" / "main.pdf"


@pytest.mark.usefixtures("tex", "no_figures")
def test_a_package_that_is_not_installed_is_no_failure(runs, tmp_path):
    main = own_main(tmp_path, "text", "\\usepackage{no-such-package}")
    made = build_report(runs, tmp_path / "out", main=main)
    assert made.pdf is None
    assert "no-such-package.sty" in made.messages[0]


@pytest.mark.usefixtures("no_figures")
def test_without_tex_the_sources_are_left_and_it_is_said(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    made = build_report(runs, tmp_path / "out")
    assert made.pdf is None
    assert "latexmk" in made.messages[0]
    assert (tmp_path / "out" / "main.tex").is_file()
