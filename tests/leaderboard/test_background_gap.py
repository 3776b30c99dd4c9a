"""The BG-gap: from scores to the table of terminal, page and report."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import small_runs
from scipy import stats

from leaderboard.board.build import build_board
from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import merge_runs
from leaderboard.pages import write_site
from leaderboard.view.background_gap import background_gap_contents
from leaderboard.view.content import Cell, Table
from report.document.analyses import analysis_sets

UNITS = 40


def scores(severities: tuple[int, ...] = (5,)) -> pd.DataFrame:
    """Half of the labels are right under both; the rest lose more on a random background."""
    random = np.random.default_rng(0)
    rows = []
    places = itertools.product(("a", "b"), ("clean", "mixed_same", "mixed_rand"), severities, range(UNITS))
    for method, name, severity, unit in places:
        right = unit < UNITS / 2 or random.random() < {"clean": 1, "mixed_same": 0.6, "mixed_rand": 0.3}[name]
        rows.append((method, name, severity, unit, False, False, "red", right, random.random()))
    columns = ["method", "perturbation", "severity", "unit", "dead", "missing", "truth", "right", "stability"]
    made = pd.DataFrame(rows, columns=columns).assign(task="t", profile="p", repeat=0)
    return made.astype({"right": "boolean"})


def cells(table: Table, measure: str, method: str) -> dict[str, Cell]:
    (section,) = [section for section in table.sections if section.title == measure]
    (row,) = [row for row in section.rows if row.name == method]
    return dict(zip(table.columns, row.cells, strict=True))


def test_the_gap_is_the_paired_difference_with_its_interval() -> None:
    made = scores()
    (table,) = background_gap_contents(made.sample(frac=1, random_state=0), RunFacts(note="In a garden."))
    assert [section.title for section in table.sections] == ["accuracy", "stability"]
    assert table.notes[-1] == "In a garden."
    wide = made[made["method"] == "a"].pivot(index="unit", columns="perturbation", values=["right", "stability"])
    for measure, column in (("accuracy", "right"), ("stability", "stability")):
        values = wide[column].astype(float)
        found = cells(table, measure, "a")
        gap = found["BG-gap"]
        assert found["mixed_same"].value == pytest.approx(values["mixed_same"].mean())
        assert gap.value == pytest.approx(found["mixed_same"].value - found["mixed_rand"].value)
        assert found["units"].value == UNITS
        # The paired t interval of as many units is close to both kinds of interval.
        difference = values["mixed_same"] - values["mixed_rand"]
        low, high = stats.t.interval(0.95, UNITS - 1, difference.mean(), stats.sem(difference))
        assert (gap.low, gap.high) == pytest.approx((low, high), abs=0.02)


def test_a_missing_label_is_wrong_and_has_no_stability() -> None:
    made = scores()
    lost = made["perturbation"].eq("mixed_same") & made["unit"].lt(10)
    gone = made.assign(missing=lost, right=made["right"].mask(lost), stability=made["stability"].mask(lost))
    before, after = (background_gap_contents(rows, RunFacts())[0] for rows in (made, gone))
    gaps = [cells(table, "accuracy", "a")["BG-gap"].value for table in (before, after)]
    assert gaps[1] == pytest.approx(gaps[0] - 10 / UNITS)
    assert cells(after, "accuracy", "a")["units"].value == UNITS
    assert cells(after, "stability", "a")["units"].value == UNITS - 10


def test_only_severities_under_both_perturbations_count() -> None:
    made = scores((4, 5))
    cut = made.loc[~(made["perturbation"].eq("mixed_rand") & made["severity"].eq(4))]
    (table,), (alone,) = (background_gap_contents(rows, RunFacts()) for rows in (cut, made[made["severity"] == 5]))
    assert table == alone
    (whole,) = background_gap_contents(made, RunFacts())
    assert whole != alone


def test_without_truth_only_stability_and_without_both_perturbations_no_table() -> None:
    made = scores()
    (table,) = background_gap_contents(made.assign(truth=None), RunFacts())
    assert [section.title for section in table.sections] == ["stability"]
    assert background_gap_contents(made.loc[made["perturbation"].ne("mixed_rand")], RunFacts()) == []
    assert background_gap_contents(made.assign(dead=True), RunFacts()) == []
    assert background_gap_contents(made.iloc[:0], RunFacts()) == []


def test_page_and_report_show_it(tmp_path) -> None:
    suites = {"swap": (("mixed_same", 5), ("mixed_rand", 5))}
    small_runs.write_run(tmp_path / "runs" / "run", suites=suites, comparisons=False)
    board = build_board(merge_runs(tmp_path / "runs"))
    group = board.standings[0].group
    (table,) = background_gap_contents(group.scores, group.about_run)
    shown = cells(table, "accuracy", "dnd")["BG-gap"]
    write_site(board, tmp_path / "site")
    page = (tmp_path / "site" / "tasks" / f"{group.slug}.html").read_text()
    assert 'id="background_gap"' in page
    assert shown.interval.replace("-", "−") in page
    assert shown.interval in analysis_sets(board.standings[0])["background_gap"].markdown
