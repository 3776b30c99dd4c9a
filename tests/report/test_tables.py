from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from leaderboard.board.facts import RunFacts
from leaderboard.board.names import GROUP_NAMES, GROUPS, AboutMethod
from leaderboard.store.frames import to_arrow, to_pandas
from leaderboard.store.schema import SUMMARY
from leaderboard.view.results import result_tables
from leaderboard.view.terminal import terminal_table, terminal_tables
from leaderboard.view.ties import Ties
from report.latex import latex_tables
from report.markdown import markdown_tables
from report.tables import document_tables, write_tables


def printed(parts, width=120) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(*parts, sep="\n")
    return stream.getvalue()


def latex_table(summary, kind, ties=None) -> str:
    return latex_tables(document_tables(summary, RunFacts(), ties=ties).get(kind, []))


def on_screen(summary, facts, width=120):
    return list(terminal_tables([table for own in document_tables(summary, facts).values() for table in own], width))


def rows_of(source: str) -> dict[str, list[str]]:
    """LaTeX rows: name → cells; those of the interval line under a row are named with its name and a prime."""
    lines = re.findall(r"^(.*?) ?& (.*) \\\\", source, re.M)
    lines = [(name or f"{lines[number - 1][0]}'", cells) for number, (name, cells) in enumerate(lines)]
    return {name: [cell.strip() for cell in cells.split(" & ")] for name, cells in lines}


def test_the_hand_made_summary_is_a_summary(summary):
    assert to_pandas(SUMMARY, to_arrow(SUMMARY, summary)).shape == (15, len(SUMMARY.columns))


def test_rows_and_columns_have_a_fixed_order(summary):
    (table,) = result_tables(summary.sample(frac=1, random_state=0), "stability", RunFacts())
    assert table.columns == ("clip_dissect", "dnd", "random_label")
    names = [[row.name for row in section.rows] for section in table.sections[:4]]
    assert names == [["gaussian_blur", "background_blur"], ["gaussian_noise"], ["snow"], ["mean of all"]]
    assert table.notes[0].startswith("Severity 3.")


def test_every_perturbation_has_its_place():
    from tasks.perturbations.registry import PERTURBATIONS

    listed = {name for group in GROUPS for name in group}
    assert listed <= set(PERTURBATIONS)
    # One that no group lists stands last among those of its family.
    assert {PERTURBATIONS[name].family for name in set(PERTURBATIONS) - listed} <= set(GROUP_NAMES)


def test_unknown_perturbations_come_last(summary, summary_row):
    rows = pd.DataFrame([summary_row("dnd", "zzz_mine", 0.5)])
    (table,) = result_tables(pd.concat([summary, rows]), "stability", RunFacts())
    *_, last, _, _ = table.sections
    assert last.rows[0].name == "zzz_mine"
    assert math.isnan(last.rows[0].cells[0].value)


def mean_of(summary):
    (table,) = result_tables(summary, "stability", RunFacts())
    return next(row.cells for row in table.rows if row.name == "mean of all")


def test_the_mean_is_the_summarys_own_with_its_interval(summary):
    mean = mean_of(summary)
    assert (mean[0].value, mean[0].low) == (pytest.approx(0.7), 0.4)


def test_without_a_row_for_all_the_mean_is_the_plain_one(summary):
    mean = mean_of(summary[summary["perturbation"] != "all"])
    assert [cell.value for cell in mean] == pytest.approx([0.75, 0.65, -0.15])
    assert math.isnan(mean[0].low)


def test_an_incomplete_column_has_no_mean(summary):
    lacking = summary[~((summary["method"] == "dnd") & (summary["perturbation"] == "snow"))]
    assert [math.isnan(cell.value) for cell in mean_of(lacking)] == [False, True, False]
    assert rows_of(latex_table(lacking, "stability"))["mean of all"][1] == "{--}"


def test_several_severities_need_their_mean(summary, summary_row):
    more = pd.DataFrame([summary_row("dnd", "snow", 0.2, severity="5")])
    with pytest.raises(ValueError, match="2 severities of snow"):
        result_tables(pd.concat([summary, more]), "stability", RunFacts())
    every = pd.DataFrame([summary_row("dnd", "snow", 0.33, severity="all")])
    assert "0.33" in latex_table(pd.concat([summary, more, every]), "stability")


def test_latex_values(summary):
    rows = rows_of(latex_table(summary, "stability"))
    assert rows["Perturbation"] == [r"{clip\_dissect}", "{dnd}", r"{random\_label}"]
    assert rows["snow"] == [r"\bfseries 0.60", "0.50", "-0.30"]
    assert rows["snow'"][1:] == [r"{\tiny [0.40, 0.55]}", r"{\tiny [$-$0.40, $-$0.25]}"]
    assert rows["noise floor"] == ["0.97"] * 3
    assert rows["chance"] == ["0.61"] * 3
    assert [rows[name] for name in ("units", "dead units", "missing labels", "truth known")] == [
        [f"{{{count}}}"] * 3 for count in (24, 2, 1, 15)
    ]


def test_latex_is_a_booktabs_table_with_the_arrow_of_the_schema(summary):
    source = latex_table(summary, "stability")
    assert source.startswith("% Needs \\usepackage{booktabs} and \\usepackage{siunitx}")
    assert [source.count(rf"\{rule}") for rule in ("toprule", "bottomrule", "begin{table}", "end{table}")] == [1] * 4
    assert r"Stability $\uparrow$" in source
    assert SUMMARY.column("stability").higher_is_better
    formats = re.findall(r"S\[table-format=(.*?),", source)
    assert formats == ["1.2", "1.2", "-1.2"]
    assert {len(cells) for cells in rows_of(source).values()} == {3}


def test_the_caption_says_what_n_is_and_which_test(summary):
    tested = latex_table(summary, "stability")
    assert "n = 24 units" in tested
    assert "Nothing differs from the methods{\\textquoteright} own noise: permutation test within units" in tested
    assert "Holm-corrected" in tested
    untested = latex_table(summary.assign(p_adjusted=None), "stability")
    assert "Not tested against the methods{\\textquoteright} own noise" in untested
    assert "permutation" not in untested
    few = latex_table(summary.assign(units=[24, *[20] * 14]), "stability")
    assert "n = 20 units" in few


def test_significant_movement_is_marked_and_explained(summary):
    assert "$^{*}$" not in latex_table(summary, "stability")
    marked = summary.assign(p_adjusted=[0.01, *[0.2] * 14])
    source = latex_table(marked, "stability")
    assert rows_of(source)["snow"][2] == "-0.30{$^{*}$}"
    assert "table-space-text-post={$^{*}$}" in source
    assert "permutation test" in source
    assert "-0.30* [" in printed(on_screen(marked, RunFacts()))


@pytest.mark.parametrize("note", ["Measured in a garden.", ""])
def test_every_table_names_its_profile_and_carries_its_note(summary, note):
    full, facts = summary.assign(profile="mine", accuracy=0.5, accuracy_clean=0.75), RunFacts(note=note)
    made = document_tables(full, facts)
    sources = [latex_tables(made[kind]) for kind in ("stability", "accuracy")]
    for source in (*sources, printed(on_screen(full, facts), 400)):
        assert "profile mine" in source
        assert "Severity 3" in source
        assert ("Measured in a garden." in source) is bool(note)


def test_a_table_says_what_each_method_has_seen_and_gives_the_means_without_it(summary):
    facts = RunFacts(methods={"dnd": AboutMethod(uses_perturbations=("snow", "fog"), tuned_on=("gaussian_blur",))})
    said, unseen = held_out(result_tables(summary, "stability", facts))
    others = summary[~summary["perturbation"].isin(["snow", "gaussian_blur", "clean", "all"])]
    left, own = others["perturbation"].nunique(), others[others["method"] == "dnd"]["stability"]
    start = "dnd: tuned on: gaussian_blur; used by the method: snow; never seen: the other"
    assert said.startswith(f"{start} {left}, with mean clip_dissect ")
    assert f" dnd {own.mean():.2f}" in said
    assert unseen.startswith("Never seen by clip_dissect")
    assert "dnd" not in unseen
    alone = summary[summary["perturbation"].isin(["gaussian_blur", "snow", "clean", "all"])]
    assert held_out(result_tables(alone, "stability", facts))[0].endswith("snow; never seen: none.")
    (unseen,) = held_out(result_tables(summary, "stability", RunFacts()))
    assert unseen.startswith("Never seen by clip_dissect")


def test_methods_that_read_the_annotation_are_told_from_those_that_do_not(summary):
    def noted(facts: RunFacts) -> list[str]:
        return [note for table in result_tables(summary, "stability", facts) for note in table.notes if "annot" in note]

    (note,) = noted(RunFacts(methods={"dnd": AboutMethod(annotation=True)}))
    assert note == "dnd reads the annotation of the probing images, the other methods do not."
    assert noted(RunFacts()) == []
    every = {method: AboutMethod(annotation=True) for method in ("dnd", "clip_dissect")}
    assert noted(RunFacts(methods=every)) == []


def held_out(tables) -> list[str]:
    return [note for table in tables for note in table.notes if "ever seen" in note]


def test_accuracy_shows_clean_and_perturbed(summary):
    full = summary.assign(accuracy=0.413, accuracy_clean=2 / 3)
    rows = rows_of(latex_table(full, "accuracy"))
    assert [cell.removeprefix(r"\bfseries ") for cell in rows["clean"]] == ["0.67", "0.67", "0.67{$^{\\dagger}$}"]
    assert rows["snow"] == [r"\bfseries 0.41", r"\bfseries 0.41", r"0.41{$^{\dagger}$}"]
    assert "15 units whose truth is known" in latex_table(full, "accuracy")
    assert "noise floor" not in rows
    assert re.search(r"clean +│ +0\.67 ", printed(on_screen(full, RunFacts())))


def test_no_truth_no_accuracy_table(summary, tmp_path):
    assert latex_table(summary, "accuracy") == ""
    names = ["stability.tex", "stability.md"]
    assert [path.name for path in write_tables(tmp_path, summary, RunFacts())] == names
    full = summary.assign(accuracy=0.4, accuracy_clean=0.6)
    names += ["accuracy.tex", "accuracy.md"]
    assert [path.name for path in write_tables(tmp_path, full, RunFacts())] == names
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == sorted(names)


def test_bytes_do_not_depend_on_row_order(summary, tmp_path):
    first = write_tables(tmp_path / "a", summary, RunFacts())
    second = write_tables(tmp_path / "b", summary.sample(frac=1, random_state=1), RunFacts())
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_markdown_says_the_same(summary):
    text = markdown_tables(document_tables(summary, RunFacts())["stability"])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    rows = {name: cells for name, *cells in lines}
    assert rows["snow"] == ["**0.60** [0.50, 0.65]", "0.50 [0.40, 0.55]", "-0.30 [-0.40, -0.25]"]
    assert rows["units"] == ["24"] * 3
    assert "- Bold: best method of the row but the trivial baselines (random_label)." in text
    assert "n = 24 units" in text


def test_ties_of_a_test_are_marked_in_its_row_only(summary):
    key = ("stability", "resnet50_layer4", "miniature", "all")
    found = Ties({"clip_dissect": "a", "dnd": "ab", "random_label": "b"}, "sign test, Holm over 3 pairs")
    source = latex_table(summary, "stability", {key: found})
    rows = rows_of(source)
    assert rows["mean of all"] == [r"\bfseries 0.70", r"0.60{$^{\dagger}$}", "-0.20"]
    assert "dagger" not in "".join(rows["snow"])
    assert r"$\dagger$ Not significantly different from the best (mean of all: sign test, Holm over 3 pairs)." in source
    assert "In the other rows methods are not tested against each other." in source
    apart = {key: Ties({"clip_dissect": "a", "dnd": "b"}, "sign test")}
    assert "No method is tied with the best (mean of all: sign test)." in latex_table(summary, "stability", apart)


def test_each_task_has_its_table_and_label(summary):
    both = pd.concat([summary, summary.assign(task="resnet50_fc")])
    source = latex_table(both, "stability")
    assert re.findall(r"\\label\{(.*?)\}", source) == [
        "tab:stability-resnet50_fc-miniature",
        "tab:stability-resnet50_layer4-miniature",
    ]


def test_a_narrow_terminal_loses_the_intervals_not_the_values(summary):
    wide, narrow = (
        printed(on_screen(summary, RunFacts(), 120)[1:2]),
        printed(on_screen(summary, RunFacts(), 60)[1:2], 60),
    )
    assert "0.50 [0.40, 0.55]" in wide
    assert "0.50" in narrow
    assert "[0.40, 0.55]" not in narrow


@pytest.mark.parametrize("width", [45, 60])
def test_a_narrow_terminal_breaks_numbers_and_names_rather_than_cutting_them(summary, width):
    (table,) = document_tables(summary.assign(p_adjusted=0.01), RunFacts())["stability"]
    shown = printed([terminal_table(table, width)], width)
    assert "…" not in shown
    lines = [re.split("[┃│]", line) for line in shown.splitlines() if re.search("[┃│]", line)]
    columns = ["".join(cells) for cells in zip(*lines, strict=True)]
    for number, name in enumerate(table.columns):
        held = re.sub(r"\s", "", columns[number + 1])
        assert held.startswith(name)
        assert all(row.cells[number].shown in held for row in table.rows)


def test_terminal_names_the_method_facts(summary):
    shown = printed(on_screen(summary, RunFacts()))
    facts = {"noise floor": r"0\.97", "chance": r"0\.61", "units": "24", "different clean labels": "20"}
    facts |= {"dead units": "2", "missing labels": "1"}
    for name, value in facts.items():
        assert re.search(rf"^{name} +│ +{value}", shown, re.M)
    assert "Stability ↑ of unit labels: resnet50_layer4, profile miniature" in shown


def test_rounded_zero_has_no_sign(summary):
    shown = rows_of(latex_table(summary.assign(stability=-0.001, stability_low=None), "stability"))
    assert shown["snow"][0].endswith("0.00")


def test_hostile_names_are_shown_as_text(summary):
    labels = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text())
    names = [label for label in labels if label.strip() and "\ud800" not in label]
    rows = summary[summary["method"] == "dnd"]
    for name in names:
        hostile = rows.assign(method=name, task=name)
        assert "\x1b" not in printed(on_screen(hostile, RunFacts()))
        source = latex_table(hostile, "stability")
        assert not re.search(r"\\(input|write|def|immediate|cmd)\b", source)
        assert source.count(r"\end{table}") == 1


def test_an_empty_summary_gives_nothing(summary, tmp_path):
    assert on_screen(summary.iloc[:0], RunFacts()) == []
    assert write_tables(tmp_path, summary.iloc[:0], RunFacts()) == []
