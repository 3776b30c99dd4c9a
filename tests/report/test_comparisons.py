from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from leaderboard.board.facts import RunFacts
from leaderboard.board.names import AboutMethod
from leaderboard.store.frames import empty_frame, to_arrow, to_pandas
from leaderboard.store.schema import COMPARISONS
from leaderboard.view.comparisons import comparison_tables
from leaderboard.view.content import Cell, Section, Table
from leaderboard.view.terminal import terminal_tables
from report.markdown import markdown_tables

HOLM = "Holm over 3 pairs of methods"


def line(measure, kind, first, second=None, **values):
    base = {column.name: None for column in COMPARISONS.columns}
    place = {"task": "resnet50_fc", "profile": "paper", "measure": measure, "kind": kind, "first": first}
    floor = "random_label" in (first, second)
    return base | place | {"second": second, "floor": floor, "n": 24, "left_out": 3} | values


def method(measure, name, value, rank, letters, **values):
    numbers = {"value_first": value, "low": value - 0.125, "high": value + 0.125, "rank": rank, "letters": letters}
    return line(measure, "method", name, **numbers, test="mean over units, BCa bootstrap interval", **values)


def pair(measure, first, second, difference, p, **values):
    numbers = {"difference": difference, "low": difference - 0.1, "high": difference + 0.2, "p_value": p / 2}
    test = {"test": "sign-flip permutation test of the mean, exact", "correction": HOLM, "p_corrected": p}
    return line(measure, "pair", first, second, **numbers, **test, smallest_detectable=0.25, **values)


def between(measure):
    return [
        method(measure, "beta", 0.5, 2, "b"),
        method(measure, "alpha", 0.75, 1, "a"),
        method(measure, "random_label", 0.0, 3, "c"),
        pair(measure, "beta", "alpha", -0.25, 0.0004),
        pair(measure, "alpha", "random_label", 0.75, 0.01),
        pair(measure, "beta", "random_label", 0.5, 0.02),
        line(
            measure,
            "omnibus",
            "alpha, beta, random_label",
            floor=True,
            p_value=0.002,
            effect=0.5,
            effect_name="Kendall's W in [0, 1]",
            test="Friedman test, chi-square",
        ),
    ]


def condition(name, place, difference, p):
    return line("accuracy", "condition", name, place, difference=difference, p_value=p, p_corrected=p)


ROWS = [
    *between("stability"),
    *between("accuracy"),
    condition("alpha", "fog, severity 3", 0.5, 0.001),
    condition("alpha", "snow, severity 3", -0.25, 0.03),
    condition("beta", "fog, severity 3", 0.1, 0.4),
    condition("beta", "snow, severity 3", 0.0, 1.0),
    line("stability", "effect", "method", p_value=0.02, p_corrected=0.04),
    line("stability", "effect", "severity", p_value=1e-9, p_corrected=1e-8),
    line("stability", "effect", "method × severity", p_value=0.5, p_corrected=0.5),
    line("stability", "slope", "alpha", difference=-0.1, low=-0.2, high=-0.05),
]


def stored(rows):
    return to_pandas(COMPARISONS, to_arrow(COMPARISONS, pd.DataFrame(rows, dtype=object)))


def printed(comparisons: pd.DataFrame, width: int = 120) -> str:
    stream = io.StringIO()
    parts = terminal_tables(comparison_tables(comparisons, RunFacts()), width)
    Console(file=stream, width=width, force_terminal=False).print(*parts, sep="\n")
    return stream.getvalue()


def markdown(comparisons: pd.DataFrame) -> str:
    return markdown_tables(comparison_tables(comparisons, RunFacts()))


def tables(comparisons: pd.DataFrame) -> dict[str, Table]:
    return {table.kind: table for table in comparison_tables(comparisons, RunFacts())}


def lines(section: Section) -> list[tuple[str, ...]]:
    return [(row.name, *(f"{cell.shown} {cell.interval}".strip() for cell in row.cells)) for row in section.rows]


@pytest.fixture
def table():
    return stored(ROWS)


def test_methods_are_also_ranked_among_those_that_know_the_same():
    means = {"reader": 0.9, "better": 0.7, "worse": 0.4, "random_label": 0.0}
    letters = dict(zip(means, "abcd", strict=True))
    rows = [method("stability", name, mean, i + 1, letters[name]) for i, (name, mean) in enumerate(means.items())]
    known = {"reader": AboutMethod(annotation=True), "random_label": AboutMethod(trivial=True)}
    facts = RunFacts(methods={**{name: AboutMethod() for name in means}, **known})
    found = next(one for one in comparison_tables(stored(rows), facts) if one.kind == "comparisons")
    assert found.columns == ("mean", "rank", "among like methods", "group")
    ranks = {name: (rank, like) for name, _, rank, like, _ in lines(found.sections[0])}
    assert ranks == {
        "reader": ("1", "1"),
        "better": ("2", "1"),
        "worse": ("3", "2"),
        "random_label (trivial baseline)": ("4", "–"),
    }
    assert any("reader reads the annotation of the probing images, better and worse do not" in n for n in found.notes)


def test_methods_stand_in_the_order_of_their_means_with_ranks_and_letters(table):
    standings = tables(table)["comparisons"]
    assert standings.heading == "Standings of the methods: resnet50_fc, profile paper"
    stability, accuracy = standings.sections
    assert (stability.title, accuracy.title) == ("stability", "accuracy when perturbed")
    assert lines(stability) == [
        ("alpha", "0.75 [0.62, 0.88]", "1", "a"),
        ("beta", "0.50 [0.38, 0.62]", "2", "b"),
        ("random_label (trivial baseline)", "0.00 [-0.12, 0.12]", "3", "c"),
    ]
    assert accuracy.rows == stability.rows


def test_pairs_are_turned_so_that_the_better_method_is_first(table):
    stability, _ = tables(table)["pairs"].sections
    assert lines(stability) == [("alpha − beta", "0.25 [0.05, 0.35]", "< 0.001", "yes", "0.25")]


def test_trivial_baselines_are_summed_up_in_a_sentence(table):
    notes = tables(table)["comparisons"].notes
    assert "Stability: every method is significantly different from the trivial baselines." in notes
    rows = [row | ({"p_corrected": 0.3} if row["first"] == "beta" else {}) for row in ROWS]
    notes = tables(stored(rows))["comparisons"].notes
    expected = "Stability: not significantly different from a trivial baseline: beta and random_label (p = 0.300)."
    assert expected in notes


def test_without_two_methods_the_pairs_with_trivial_baselines_are_shown():
    rows = [row for row in between("stability") if "beta" not in (row["first"], row["second"])]
    (section,) = tables(stored(rows))["pairs"].sections
    assert [row.name for row in section.rows] == ["alpha − random_label"]


def test_the_notes_say_which_test_correction_and_power(table):
    found = tables(table)
    notes = " ".join((*found["comparisons"].notes, *found["pairs"].notes))
    for part in (
        "Stability: 24 units, 3 left out; mean over units, BCa bootstrap interval.",
        f"(sign-flip permutation test of the mean, paired by unit, {HOLM}, p > 0.05)",
        f"Stability: sign-flip permutation test of the mean, paired by unit, {HOLM}, significant at p ≤ 0.05; pairs "
        "with a trivial baseline are not shown.",
        "80 % power for this number of units, at 0.05 / 3",
        "Friedman test, chi-square, with trivial baselines: p = 0.002, effect 0.50 (Kendall's W in [0, 1]).",
        "Holm: method p = 0.040, method × severity p = 0.500, severity p < 0.001.",
        "Change of stability per severity step: alpha -0.10 [-0.20, -0.05].",
    ):
        assert part in notes


def test_conditions_that_cost_right_labels_are_named(table):
    (section,) = tables(table)["conditions"].sections
    assert lines(section) == [("alpha", "2", "fog", "snow"), ("beta", "2", "none", "none")]
    rows = [*ROWS, condition("beta", "fog, severity 5", 0.7, 0.001)]
    (section,) = tables(stored(rows))["conditions"].sections
    assert lines(section) == [
        ("alpha", "2", "fog, severity 3", "snow, severity 3"),
        ("beta", "3", "fog, severity 5", "none"),
    ]


def test_reasons_are_shown_once_where_they_hold_for_all():
    note = "over 3 of 4 conditions: those in which every method has values"
    rows = [row | {"reason": note} for row in between("stability")]
    rows[3]["reason"] = f"fewer than six units differ: p cannot fall below 0.05; {note}"
    rows.append(line("stability", "method", "silent", n=0, reason="no value: left out of all comparisons"))
    standings = tables(stored(rows))["comparisons"]
    assert " ".join(standings.notes).count(note) == 1
    assert "Stability: alpha − beta: fewer than six units differ: p cannot fall below 0.05." in standings.notes
    assert "Stability: silent: no value: left out of all comparisons." in standings.notes
    assert lines(standings.sections[0])[-1] == ("silent", "–", "–", "–")


def test_what_was_not_compared_says_why():
    rows = [line("stability", "omnibus", "alpha", reason="one method: nothing to compare it with")]
    rows += [line("accuracy", "omnibus", "alpha", n=0, reason="no unit's truth is known")]
    rows += [line("stability", "effect", "severity", reason="fewer than two severities")]
    (standings,) = tables(stored(rows)).values()
    assert standings.sections == ()
    assert standings.notes == (
        "Stability: not compared: one method: nothing to compare it with.",
        "No mixed model over severities: fewer than two severities.",
    )


@pytest.mark.parametrize("note", ["Measured in a garden.", ""])
def test_the_profiles_note_stands_under_every_table(table, note):
    found = comparison_tables(table, RunFacts(note=note))
    assert [one.notes[-1] == "Measured in a garden." for one in found] == [bool(note)] * 3


def test_markdown_has_the_same_cells_as_the_terminal(table):
    source, shown = markdown(table), printed(table)
    for one in tables(table).values():
        for section in one.sections:
            for row in lines(section):
                assert "| " + " | ".join(row).replace("<", r"\<") + " |" in source
                assert all(cell in shown for cell in row)
    blocks = [block for block in source.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 3
    for block in blocks:
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}) == 1


def renamed(name):
    rows = between("stability")
    # Without the way through the store, which takes longest.
    return pd.DataFrame(
        [row | {key: name for key in ("first", "second") if row[key] == "alpha"} for row in rows], dtype=object
    )


def test_hostile_names_cannot_act():
    labels = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text(encoding="utf-8"))
    usual = len(re.findall(r"^\|", markdown(renamed("alpha")), re.M))
    for name in [*labels, "a|b", "[x](http://y)", "[0.1, 0.2](http://y)", "*b* `c` <i>", "\x1b[31mred"]:
        hostile = renamed(name)
        assert "\x1b" not in printed(hostile)
        source = markdown(hostile)
        assert "\x1b" not in source
        # The bold title and the italic headings of sections are ours.
        ours = re.sub(r"^\*\*|\*\*$|^\| \*|\* \|", "", source, flags=re.M)
        assert not re.search(r"(?<!\\)(\\\\)*([<`*]|\][(\[:])", ours)
        rows = re.findall(r"^\|.*$", source, re.M)
        assert len(rows) == usual
        assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {5, 6}


def test_nothing_to_show():
    assert comparison_tables(empty_frame(COMPARISONS), RunFacts()) == []


def test_the_order_of_rows_changes_nothing(table):
    assert markdown(table.sample(frac=1, random_state=0)) == markdown(table)


def test_no_torch():
    code = "import sys, leaderboard.view.comparisons"
    code += "; print([m for m in ('torch', 'tasks', 'baselines') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_what_no_pair_of_methods_shares_is_said_once():
    nothing = {"value_first": None, "value_second": None, "difference": None, "p_value": None, "p_corrected": None}
    nothing |= {"low": None, "high": None, "rank": None, "letters": None, "correction": None}
    note = "over 0 of 2 conditions: those in which every method has values"
    rows = [row | nothing | {"n": 0, "reason": f"no value; {note}"} for row in between("stability")]
    standings = tables(stored(rows))["comparisons"]
    assert standings.notes == (
        f"Stability: not compared: no value; {note}.",
        f"Stability: all methods: no value; {note}.",
    )
    assert {cell.shown for row in standings.rows for cell in row.cells} == {Cell().shown}
