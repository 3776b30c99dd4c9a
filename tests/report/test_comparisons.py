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
from leaderboard.store.frames import empty_frame, to_arrow, to_pandas
from leaderboard.store.schema import COMPARISONS
from leaderboard.view.comparisons import markdown_comparisons, sections, terminal_comparisons

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


def printed(table, width=120):
    stream = io.StringIO()
    Console(file=stream, width=width, force_terminal=False).print(*terminal_comparisons(table, RunFacts()), sep="\n")
    return stream.getvalue()


@pytest.fixture
def table():
    return stored(ROWS)


def test_methods_stand_in_the_order_of_their_means_with_ranks_and_letters(table):
    stability, accuracy = sections(table, RunFacts())
    assert stability.title == "Which methods can be told apart: stability ↑: resnet50_fc, profile paper"
    assert stability.tables[0].rows == (
        ("alpha", "0.75 [0.62, 0.88]", "1", "a"),
        ("beta", "0.50 [0.38, 0.62]", "2", "b"),
        ("random_label (floor)", "0.00 [-0.12, 0.12]", "3", "c"),
    )
    assert accuracy.tables[0] == stability.tables[0]


def test_pairs_are_turned_so_that_the_better_method_is_first(table):
    stability, _ = sections(table, RunFacts())
    assert stability.tables[1].rows == (("alpha − beta", "0.25 [0.05, 0.35]", "< 0.001", "yes", "0.25"),)


def test_floors_are_summed_up_in_a_sentence(table):
    assert "Every method is told apart from the floors." in sections(table, RunFacts())[0].notes
    rows = [row | ({"p_corrected": 0.3} if row["first"] == "beta" else {}) for row in ROWS]
    notes = sections(stored(rows), RunFacts())[0].notes
    assert "Not told apart from a floor: beta and random_label (p = 0.300)." in notes


def test_without_two_methods_the_floors_pairs_are_shown():
    rows = [row for row in between("stability") if "beta" not in (row["first"], row["second"])]
    (section,) = sections(stored(rows), RunFacts())
    assert [row[0] for row in section.tables[1].rows] == ["alpha − random_label"]


def test_the_notes_say_which_test_correction_and_power(table):
    notes = " ".join(sections(table, RunFacts())[0].notes)
    for part in (
        "Units: 24, left out: 3; mean over units, BCa bootstrap interval.",
        f"sign-flip permutation test of the mean, paired by unit, {HOLM}, p > 0.05",
        "80 % power, at 0.05 / 3",
        "Friedman test, chi-square, floors included: p = 0.002, effect 0.50 (Kendall's W in [0, 1]).",
        "Holm: method p = 0.040, method × severity p = 0.500, severity p < 0.001.",
        "Change of stability for one severity step: alpha -0.10 [-0.20, -0.05].",
    ):
        assert part in notes


def test_conditions_that_cost_right_labels_are_named(table):
    assert sections(table, RunFacts())[1].tables[2].rows == (
        ("alpha", "2", "fog", "snow"),
        ("beta", "2", "none", "none"),
    )
    rows = [*ROWS, condition("beta", "fog, severity 5", 0.7, 0.001)]
    lines = sections(stored(rows), RunFacts())[1].tables[2].rows
    assert lines == (("alpha", "2", "fog, severity 3", "snow, severity 3"), ("beta", "3", "fog, severity 5", "none"))


def test_reasons_are_shown_once_where_they_hold_for_all():
    note = "over 3 of 4 conditions: those in which every method has values"
    rows = [row | {"reason": note} for row in between("stability")]
    rows[3]["reason"] = f"fewer than six units differ: p cannot fall below 0.05; {note}"
    rows.append(line("stability", "method", "silent", n=0, reason="no value: left out of all comparisons"))
    (section,) = sections(stored(rows), RunFacts())
    text = " ".join(section.notes)
    assert text.count(note) == 1
    assert "alpha − beta: fewer than six units differ: p cannot fall below 0.05." in section.notes
    assert "silent: no value: left out of all comparisons." in section.notes
    assert section.tables[0].rows[-1] == ("silent", "–", "–", "–")


def test_what_was_not_compared_says_why():
    rows = [line("stability", "omnibus", "alpha", reason="one method: nothing to compare it with")]
    rows += [line("accuracy", "omnibus", "alpha", n=0, reason="no unit's truth is known")]
    rows += [line("stability", "effect", "severity", reason="fewer than two severities")]
    (section,) = sections(stored(rows), RunFacts())
    assert section.tables == ()
    assert section.notes == (
        "Not compared: one method: nothing to compare it with.",
        "No mixed model over severities: fewer than two severities.",
    )


@pytest.mark.parametrize("note", ["Measured in a garden.", ""])
def test_the_profiles_note_stands_under_every_section(table, note):
    found = sections(table, RunFacts(note=note))
    assert found
    assert [section.notes[-1] == "Measured in a garden." for section in found] == [bool(note)] * len(found)


def test_markdown_has_the_same_cells_as_the_terminal(table):
    source = markdown_comparisons(table, RunFacts())
    shown = printed(table)
    for section in sections(table, RunFacts()):
        for lines in section.tables:
            for row in lines.rows:
                assert "| " + " | ".join(row).replace("<", r"\<") + " |" in source
                assert all(cell in shown for cell in row)
    blocks = [block for block in source.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 5
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
    usual = len(re.findall(r"^\|", markdown_comparisons(renamed("alpha"), RunFacts()), re.M))
    for name in [*labels, "a|b", "[x](http://y)", "[0.1, 0.2](http://y)", "*b* `c` <i>", "\x1b[31mred"]:
        hostile = renamed(name)
        assert "\x1b" not in printed(hostile)
        source = markdown_comparisons(hostile, RunFacts())
        assert "\x1b" not in source
        assert not re.search(r"(?<!\\)(\\\\)*([<`*]|\][(\[:])", source)
        rows = re.findall(r"^\|.*$", source, re.M)
        assert len(rows) == usual
        assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows} == {5, 6}


def test_nothing_to_show():
    nothing = empty_frame(COMPARISONS)
    assert sections(nothing, RunFacts()) == []
    assert terminal_comparisons(nothing, RunFacts()) == []
    assert markdown_comparisons(nothing, RunFacts()) == ""


def test_the_order_of_rows_changes_nothing(table):
    assert markdown_comparisons(table.sample(frac=1, random_state=0), RunFacts()) == markdown_comparisons(
        table, RunFacts()
    )


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
    (section,) = sections(stored(rows), RunFacts())
    assert section.notes == (
        f"Not compared: no value; {note}.",
        f"All methods: no value; {note}.",
    )
    assert {row[1:] for row in section.tables[0].rows} == {("–", "–", "–")}
