from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from leaderboard.frames import to_arrow, to_pandas
from leaderboard.schema import SUMMARY
from report.grid import GROUPS, MINIATURE_NOTE, grids
from report.tables import latex_table, terminal_table, terminal_tables, write_tables


def printed(parts, width=120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(*parts, sep="\n")
    return stream.getvalue()


def rows_of(source: str) -> dict[str, list[str]]:
    """LaTeX rows: name → cells."""
    lines = re.findall(r"^(.*?) & (.*) \\\\$", source, re.M)
    return {name: [cell.strip() for cell in cells.split(" & ")] for name, cells in lines}


def test_the_hand_made_summary_is_a_summary(summary):
    assert to_pandas(SUMMARY, to_arrow(SUMMARY, summary)).shape == (15, len(SUMMARY.columns))


def test_rows_and_columns_have_a_fixed_order(summary):
    (grid,) = grids(summary.sample(frac=1, random_state=0), "stability")
    assert grid.methods == ("clip_dissect", "dnd", "random_label")
    names = [[row.name for row in group] for group in grid.groups]
    assert names == [["gaussian_blur", "background_blur"], ["gaussian_noise"], ["snow"]]
    assert grid.severity == "3"


def test_every_perturbation_has_its_place():
    from tasks.perturbations.registry import PERTURBATIONS

    listed = [name for group in GROUPS for name in group]
    assert sorted(listed) == sorted(PERTURBATIONS)


def test_unknown_perturbations_come_last(summary, summary_row):
    rows = pd.DataFrame([summary_row("dnd", "zzz_mine", 0.5)])
    (grid,) = grids(pd.concat([summary, rows]), "stability")
    assert grid.groups[-1][0].name == "zzz_mine"
    assert math.isnan(grid.groups[-1][0].cells[0].value)


def test_the_mean_is_the_summarys_own_with_its_interval(summary):
    (grid,) = grids(summary, "stability")
    assert (grid.mean.cells[0].value, grid.mean.cells[0].low) == (pytest.approx(0.7), 0.4)


def test_without_a_row_for_all_the_mean_is_the_plain_one(summary):
    (grid,) = grids(summary[summary["perturbation"] != "all"], "stability")
    assert [cell.value for cell in grid.mean.cells] == pytest.approx([0.75, 0.65, -0.15])
    assert math.isnan(grid.mean.cells[0].low)


def test_an_incomplete_column_has_no_mean(summary):
    lacking = summary[~((summary["method"] == "dnd") & (summary["perturbation"] == "snow"))]
    (grid,) = grids(lacking, "stability")
    assert [math.isnan(cell.value) for cell in grid.mean.cells] == [False, True, False]
    assert rows_of(latex_table(lacking, "stability"))["mean of all"][1] == "--"


def test_several_severities_need_their_mean(summary, summary_row):
    more = pd.DataFrame([summary_row("dnd", "snow", 0.2, severity="5")])
    with pytest.raises(ValueError, match="2 severities of snow"):
        grids(pd.concat([summary, more]), "stability")
    every = pd.DataFrame([summary_row("dnd", "snow", 0.33, severity="all")])
    assert "0.33" in latex_table(pd.concat([summary, more, every]), "stability")


def test_latex_values(summary):
    source = latex_table(summary, "stability")
    rows = rows_of(source)
    assert rows["Perturbation"] == [r"clip\_dissect", r"dnd", r"random\_label"]
    assert rows["snow"][1] == r"0.50 {\scriptsize [0.40, 0.55]}"
    assert rows["snow"][2] == r"$-$0.30 {\scriptsize [$-$0.40, $-$0.25]}"
    assert rows["noise floor"] == ["0.97"] * 3
    assert rows["chance"] == ["0.61"] * 3
    assert (rows["units"], rows["dead units"], rows["missing labels"]) == (["24"] * 3, ["2"] * 3, ["1"] * 3)


def test_latex_is_a_booktabs_table_with_the_arrow_of_the_schema(summary):
    source = latex_table(summary, "stability")
    assert [source.count(rf"\{rule}") for rule in ("toprule", "bottomrule", "begin{table}", "end{table}")] == [1] * 4
    assert r"Stability $\uparrow$" in source
    assert SUMMARY.column("stability").higher_is_better
    assert r"\begin{tabular}{lrrr}" in source
    widths = {line.count("&") for line in source.splitlines() if line.endswith(r"\\")}
    assert widths == {3}


def test_significant_movement_is_marked_and_explained(summary):
    assert "$^{*}$" not in latex_table(summary, "stability")
    assert "permutation test" not in latex_table(summary, "stability")
    marked = summary.assign(p_adjusted=[0.01, *[0.2] * 14])
    source = latex_table(marked, "stability")
    assert rows_of(source)["snow"][2].startswith("$-$0.30$^{*}$")
    assert source.count("$^{*}$") == 1
    assert "permutation test" in source
    assert "-0.30* [" in printed(terminal_tables(marked))


@pytest.mark.parametrize(("profile", "said"), [("miniature", True), ("paper", False)])
def test_every_table_names_its_profile_and_the_miniature_says_what_it_is(summary, profile, said):
    full = summary.assign(profile=profile, accuracy=0.5, accuracy_clean=0.75)
    sources = [latex_table(full, "stability"), latex_table(full, "accuracy"), printed(terminal_tables(full), 400)]
    for source in sources:
        assert f"Profile {profile}, severity 3" in source
        assert (MINIATURE_NOTE in source) is said


def test_accuracy_shows_clean_and_perturbed(summary):
    full = summary.assign(accuracy=0.413, accuracy_clean=2 / 3)
    rows = rows_of(latex_table(full, "accuracy"))
    assert rows["snow"] == [r"0.67 $\rightarrow$ 0.41"] * 3
    assert "noise floor" not in rows
    assert "0.67 → 0.41" in printed(terminal_tables(full))


def test_no_truth_no_accuracy_table(summary, tmp_path):
    assert latex_table(summary, "accuracy") == ""
    assert [path.name for path in write_tables(tmp_path, summary)] == ["stability.tex"]
    full = summary.assign(accuracy=0.4, accuracy_clean=0.6)
    assert [path.name for path in write_tables(tmp_path, full)] == ["stability.tex", "accuracy.tex"]
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["accuracy.tex", "stability.tex"]


def test_bytes_do_not_depend_on_row_order(summary, tmp_path):
    (first,) = write_tables(tmp_path / "a", summary)
    (second,) = write_tables(tmp_path / "b", summary.sample(frac=1, random_state=1))
    assert first.read_bytes() == second.read_bytes()


def test_each_task_has_its_table_and_label(summary):
    both = pd.concat([summary, summary.assign(task="resnet50_fc")])
    source = latex_table(both, "stability")
    assert re.findall(r"\\label\{(.*?)\}", source) == [
        "tab:stability-resnet50_fc-miniature",
        "tab:stability-resnet50_layer4-miniature",
    ]


def test_a_narrow_terminal_loses_the_intervals_not_the_values(summary):
    (grid,) = grids(summary, "stability")
    wide, narrow = printed([terminal_table(grid, 120)]), printed([terminal_table(grid, 60)], 60)
    assert "0.50 [0.40, 0.55]" in wide
    assert "0.50" in narrow
    assert "[0.40, 0.55]" not in narrow


def test_terminal_names_the_method_facts(summary):
    shown = printed(terminal_tables(summary))
    assert re.search(r"dnd\s+│\s+0\.60 \[0\.40, 0\.70\]\s+│\s+0\.97\s+│\s+0\.61\s+│\s+24\s+│\s+2\s+│\s+1", shown)
    assert "Stability ↑: resnet50_layer4, profile miniature, severity 3" in shown


def test_rounded_zero_has_no_sign(summary):
    shown = rows_of(latex_table(summary.assign(stability=-0.001, stability_low=None), "stability"))
    assert shown["snow"][0] == "0.00"


def test_hostile_names_are_shown_as_text(summary):
    labels = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text())
    names = [label for label in labels if label.strip() and "\ud800" not in label]
    rows = summary[summary["method"] == "dnd"]
    for name in names:
        hostile = rows.assign(method=name, task=name)
        assert "\x1b" not in printed(terminal_tables(hostile))
        source = latex_table(hostile, "stability")
        assert not re.search(r"\\(input|write|def|immediate|cmd)\b", source)
        assert source.count(r"\end{tabular}") == 1


def test_an_empty_summary_gives_nothing(summary, tmp_path):
    assert terminal_tables(summary.iloc[:0]) == []
    assert write_tables(tmp_path, summary.iloc[:0]) == []
