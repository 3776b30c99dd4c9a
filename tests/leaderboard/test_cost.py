"""What right labels cost, and which units share a label: numbers from run folders, tables, chart and figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import small_runs

from leaderboard.board.build import Standings, build_board
from leaderboard.board.cost import costs
from leaderboard.board.facts import RunFacts, merged, run_facts
from leaderboard.board.merge import merge_runs
from leaderboard.pages import write_site
from leaderboard.view.collisions import collision_contents
from leaderboard.view.cost import cost_contents
from metrics.collisions import collisions
from report.figures.cost import cost_figure

pytestmark = pytest.mark.usefixtures("few_resamples")

CELLS = 4 * (6 + 2)
"""Of a small run: methods times conditions and clean repeats."""
SECONDS = {"clip_dissect": 9.6, "dnd": 960.0, "random_label": 0.96, "constant_label": 0.096}


def session(cells: int = CELLS, usd: float | None = 0.0, title: str = "toy_task", **seconds: float) -> dict[str, Any]:
    spent = {f"{title}: {name}": own for name, own in (seconds or SECONDS).items()}
    return {"actual": {"cells": cells, "usd": usd, "seconds": {title: 1000.0, f"{title}: pass": 7.0, **spent}}}


def standings(path: Path, *sessions: dict[str, Any], **given: Any) -> Standings:
    facts = {"plan": {"sessions": list(sessions)}} if sessions else {}
    small_runs.write_run(path / "run", facts=facts, comparisons=False, **given)
    return build_board(merge_runs(path)).standings[0]


def info(*sessions: dict[str, Any], units: Any = None, unit_ids: Any = None) -> dict[str, Any]:
    asked = {"first": {"label": 10, "first": 0, "total": 50}, "second": {"label": "all", "first": 20, "total": 50}}
    content = {
        "tasks": {name: {"units": own} for name, own in asked.items()},
        "conditions": {"first": [["fog", 3]], "second": [["fog", 3], ["snow", 3]]},
        "methods": {"one": "1", "two": "1"},
    }
    identity = {"seed": 0, "repeats": 1, "units": units, "unit_ids": unit_ids, "content": content}
    return {"identity": identity, "facts": {"plan": {"sessions": list(sessions)}}}


def test_the_seconds_of_a_pass_are_shared_by_the_labels_of_its_tasks():
    whole = session(10, title="first + second", one=22.0, two=11.0)
    labels = 2 * 10 + 3 * 30
    found = run_facts(info(whole)).seconds
    assert found == {
        (task, method): pytest.approx(seconds / labels)
        for task in ("first", "second")
        for method, seconds in (("one", 22.0), ("two", 11.0))
    }
    # Done anew, or in two parts, it is as long.
    half = session(5, title="first + second", one=11.0, two=5.5)
    for sessions in ((whole, whole), (half, half)):
        assert run_facts(info(*sessions)).seconds == pytest.approx(found)
    asked = run_facts(info(whole, units=5)).seconds
    assert asked["first", "one"] == pytest.approx(22 / (2 * 5 + 3 * 5))
    assert run_facts(info(whole, unit_ids=[21, 22, 21])).seconds["first", "one"] == pytest.approx(22 / (5 * 2))


def test_a_run_that_did_not_measure_all_of_its_cells_states_no_seconds():
    assert run_facts(info(session(9, title="first + second"))).seconds == {}
    assert run_facts(info()).seconds == {}


def test_seconds_under_a_name_that_is_no_task_are_nobodys():
    assert run_facts(info(session(10, title="first + sec…", one=22.0))).seconds == {}


def test_money_is_that_of_all_sessions_and_unknown_if_one_is():
    assert run_facts(info(session(10, 0.25), session(10, 0.5))).usd == 0.75
    assert run_facts(info(session(10, 0.25), session(10, None))).usd != run_facts(info()).usd
    paid = merged([RunFacts(seconds={("t", "m"): 1.0}, usd=0.5), RunFacts(seconds={("t", "m"): 2.0}, usd=1.0)])
    assert (paid.seconds, paid.usd) == ({("t", "m"): 1.0}, 1.5)


def summary(**methods: tuple[float, float]) -> pd.DataFrame:
    rows = []
    for method, accuracies in methods.items():
        conditions = (("clean", "0"), ("fog", "3"), ("all", "all"))
        for (name, severity), accuracy in zip(conditions, (accuracies[0], accuracies[1], accuracies[1]), strict=True):
            head = {"task": "t", "profile": "p", "method": method, "perturbation": name, "severity": severity}
            rows.append(head | {"accuracy": accuracy, "accuracy_low": 0.0, "accuracy_high": 1.0, "known": 9})
    return pd.DataFrame(rows)


def test_the_front_is_what_no_other_method_beats():
    table = summary(slow=(0.9, 0.5), cheap=(0.5, 0.5), poor=(0.4, 0.6), random_label=(1.0, 1.0))
    seconds = {("t", name): own for name, own in (("slow", 9), ("cheap", 1), ("poor", 2), ("random_label", 0.1))}
    found = {one.method: one for one in costs(table, RunFacts(seconds=seconds), "t", "p")}
    assert {name: set(one.front) for name, one in found.items()} == {
        "slow": {"clean"}, "cheap": {"clean", "perturbed"}, "poor": {"perturbed"}, "random_label": set()
    }  # fmt: skip
    assert list(found)[-1] == "random_label"
    del seconds["t", "cheap"]
    assert {one.method for one in costs(table, RunFacts(seconds=seconds), "t", "p")} == {*found} - {"cheap"}
    lacking = table.loc[~(table["method"].eq("slow") & table["perturbation"].eq("fog"))]
    assert "slow" not in {one.method for one in costs(lacking, RunFacts(seconds=seconds), "t", "p")}


def test_table_chart_and_figure_show_the_same_numbers(tmp_path):
    found = standings(tmp_path, session(usd=0.1234))
    group = found.group
    own = {one.method: one for one in costs(group.summary, group.about_run, "toy_task", "toy")}
    assert own["clip_dissect"].seconds == pytest.approx(9.6 / (8 * 12))
    (table,) = cost_contents(group.summary, group.about_run)
    rows = {row.name: dict(zip(table.columns, row.cells, strict=True)) for row in table.rows}
    accuracy = own["dnd"].accuracy["perturbed"].estimate
    assert rows["accuracy, perturbed"]["dnd"].value == accuracy
    assert rows["s per right label, perturbed"]["dnd"].value == pytest.approx(10.0 / accuracy)
    assert rows["s per label"]["constant_label"].shown == "0.0010"
    assert rows["accuracy, clean"]["clip_dissect"].marked
    assert "Language models cost 0.1234 USD in all." in table.notes

    drawing = cost_figure(found)
    assert drawing is not None
    marks = {line.get_label(): line for line in drawing.figure.axes[0].get_lines()}
    assert list(marks["dnd perturbed"].get_xydata()[0]) == pytest.approx([10.0, accuracy])
    assert list(marks["dnd clean"].get_ydata()) == [own["dnd"].accuracy["clean"].estimate]
    assert "clip_dissect 0.1 s" in drawing.alternative

    write_site(build_board(merge_runs(tmp_path)), tmp_path / "site")
    page = (tmp_path / "site" / "tasks" / f"{group.slug}.html").read_text()
    assert 'id="cost-panel-t">Right labels per cost: accuracy against seconds per label' in page
    assert "dnd takes 10 seconds per label" in page
    assert 'id="collisions"' in page


@pytest.mark.parametrize(("sessions", "truth"), [((), True), ((session(),), False)])
def test_without_time_or_truth_nothing_is_said_of_cost(tmp_path, sessions, truth):
    found = standings(tmp_path, *sessions, truth=truth)
    assert cost_contents(found.group.summary, found.group.about_run) == []
    assert cost_figure(found) is None
    write_site(build_board(merge_runs(tmp_path)), tmp_path / "site")
    assert "cost-panel" not in (tmp_path / "site" / "tasks" / f"{found.group.slug}.html").read_text()


def test_the_table_of_shared_labels_counts_living_units_with_a_label(tmp_path):
    group = standings(tmp_path).group
    (table,) = collision_contents(group.scores, group.about_run)
    rows = {row.name: dict(zip(table.columns, row.cells, strict=True)) for row in table.rows}
    scores = group.scores.loc[group.scores["repeat"].eq(0) & ~group.scores["dead"]]
    for method in table.columns:
        labels = scores.loc[scores["method"].eq(method) & scores["perturbation"].eq("clean"), "label"].dropna()
        expected = collisions(labels.tolist())
        assert rows["bits lost"][method].value == expected.lost.estimate
        assert rows["different labels"][method].value == expected.distinct
    # A mean over severities has no interval.
    fog = scores.loc[scores["method"].eq("dnd") & scores["perturbation"].eq("fog")]
    each = [collisions(own.dropna().tolist()).lost.estimate for _, own in fog.groupby("severity")["label"]]
    assert rows["fog"]["dnd"].value == pytest.approx(sum(each) / 3)
    assert not rows["fog"]["dnd"].has_interval
    assert any("dnd has " in note and "share theirs" in note for note in table.notes)
    assert not any(note.startswith("constant_label") for note in table.notes)


def test_strings_that_differ_in_case_only_are_shared(tmp_path):
    group = standings(tmp_path, suites={"one": (("fog", 3),)}).group
    scores = group.scores.loc[group.scores["method"].eq("dnd")]
    first = scores.assign(label=["Red fish" if unit % 2 else "red  fish!" for unit in scores["unit"]])
    (table,) = collision_contents(first, RunFacts())
    rows = {row.name: row.cells[0] for row in table.rows}
    assert rows["different labels"].value == 1
    assert rows["bits lost"].value == pytest.approx(rows["of bits"].value)
    assert rows["fog"].has_interval
