from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from leaderboard.board.names import GROUPS
from leaderboard.view.content import Cell, Row, Section, Table
from report.latex import latex_tables

HOSTILE: list[str] = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text())
METHODS = ("clip_dissect", "dnd", "network_dissection", "random_label", "constant_label")
LONG = Cell(-0.35, -0.41, -0.29, marked=True, tied=True)
COUNT = Cell(123, digits=0)


def table(methods=METHODS, names=("fog",), task="resnet50_layer4", cell=LONG, notes=("A note.",)) -> Table:
    rows = [Section(tuple(Row(name, (cell,) * len(methods)) for name in names))]
    rows.append(Section((Row("units", (COUNT,) * len(methods)),), "counts"))
    parts = ("stability", task, "miniature", "Stability", "of unit labels", True, "Perturbation")
    return Table(*parts, tuple(methods), tuple(rows), (*notes, "† Tied."))


def has_latex() -> bool:
    if not (shutil.which("pdflatex") and shutil.which("kpsewhich")):
        return False
    found = subprocess.run(["kpsewhich", "siunitx.sty", "booktabs.sty"], capture_output=True, text=True, check=False)
    return len(found.stdout.split()) == 2


needs_latex = pytest.mark.skipif(not has_latex(), reason="pdflatex with booktabs and siunitx is not installed")


def compiled(source: str, folder: Path) -> str:
    """The log of a bare article that holds the tables, each on its own page."""
    body = source.replace(r"\end{table}", "\\end{table}\n\\clearpage")
    preamble = "\\documentclass{article}\n\\usepackage{booktabs}\n\\usepackage{siunitx}\n"
    text = f"{preamble}\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "tables.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "tables.tex"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-2_000:]
    return done.stdout


@needs_latex
def test_every_perturbation_and_five_methods_fit_on_the_page(tmp_path):
    names = [name for group in GROUPS for name in group]
    log = compiled(latex_tables([table(names=names)]), tmp_path)
    assert "Overfull" not in log
    assert "too large" not in log
    assert (tmp_path / "tables.pdf").stat().st_size > 0


@needs_latex
def test_hostile_names_compile_and_run_nothing(tmp_path):
    tables = [table(methods=HOSTILE), table(methods=["dnd"], names=HOSTILE)]
    tables += [table(methods=["dnd"], task=label, notes=HOSTILE) for label in HOSTILE[:3]]
    tables += [table(methods=["dnd"], task=label) for label in HOSTILE]
    before = {path.name for path in tmp_path.iterdir()}
    compiled(latex_tables(tables), tmp_path)
    assert {path.suffix for path in tmp_path.iterdir() if path.name not in before} == {".tex", ".aux", ".log", ".pdf"}


def test_no_tables_no_text():
    assert latex_tables([]) == ""


def test_many_methods_and_rows_come_in_parts_that_hold_everything_once():
    methods = [f"method_{number}" for number in range(7)]
    names = [f"row{number}" for number in range(50)]
    source = latex_tables([table(methods, names)])
    assert source.count(r"\begin{table}") == 6
    assert "(part 6 of 6)" in source
    assert [source.count(f"{{method\\_{number}}}") for number in range(7)] == [3] * 7
    assert [source.count(f"{name} &") for name in names] == [2] * 50
    assert len(set(re.findall(r"\\label\{(.*?)\}", source))) == 6
    assert "(part" not in latex_tables([table(methods[:5], names[:10])])


def test_a_section_stays_whole_where_it_can():
    groups = [Section(tuple(Row(f"{group}{number}", (LONG,)) for number in range(8))) for group in "abc"]
    whole = table(["dnd"])
    source = latex_tables([Table(**{**whole.__dict__, "sections": tuple(groups)})])
    first, second = source.split(r"\end{table}")[:2]
    assert "b7 &" in first
    assert "c0 &" in second
    assert "c0 &" not in first


def test_columns_reserve_what_their_numbers_need():
    cells = {"a": Cell(0.5), "b": Cell(-12.25), "c": Cell(0.5, marked=True)}
    one = table(list(cells))
    row = Row("fog", tuple(cells.values()))
    source = latex_tables([Table(**{**one.__dict__, "sections": (Section((row,)),)})])
    assert "S[table-format=1.2, detect-weight]" in source
    assert "S[table-format=-2.2, detect-weight]" in source
    assert "table-space-text-post={$^{*}$}" in source
    assert r"fog & 0.50 & -12.25 & 0.50{$^{*}$} \\" in source


def test_wrapped_methods_are_broken_after_the_bracket():
    shown = latex_tables([table(methods=("several(network_dissection)",))])
    assert r"several(\\network\_\\dissection)" in shown


def test_long_names_are_broken_in_the_head():
    source = latex_tables([table(["describe_and_dissect", "x" * 100])])
    assert r"describe\_\\and\_dissect" in source
    assert "x" * 13 not in source
    assert r"\ldots{}" in source


def test_other_scripts_need_a_unicode_engine():
    assert r"\texttt{U+9B5A}" in latex_tables([table(["\u9b5a"])])
    assert "{\u9b5a}" in latex_tables([table(["\u9b5a"])], unicode_engine=True)
