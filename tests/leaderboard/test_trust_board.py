"""What signals are worth, from made-up runs: shuffled truth, what counts, the command, the board's column, the page."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_runs import write_run
from typer.testing import CliRunner

from leaderboard.board.build import build_board
from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import Group, merge_runs
from leaderboard.board.trust import (
    KNOWN_BEFORE,
    SIGNALS,
    Labels,
    foretold,
    labels_with_signals,
    subjects,
    trust,
    worth_of_stability,
)
from leaderboard.cli import app
from leaderboard.pages.board_page import board_page
from leaderboard.pages.frame import render
from leaderboard.pages.task_page import task_page
from leaderboard.view.clarity import clarity_contents
from leaderboard.view.trust import trust_contents, worth_sentences

pytestmark = pytest.mark.usefixtures("few_resamples")

SUITES = {"own": (("fog", 3), ("snow", 3))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_run(root / "one", units=48, dead=2, suites=SUITES, comparisons=False)
    write_run(root / "two", units=40, suites=SUITES, comparisons=False, task="other_task", seed=0)
    return root


@pytest.fixture(scope="module")
def group(folder: Path) -> Group:
    return next(group for group in merge_runs(folder).groups if group.task == "toy_task")


def with_scores(group: Group, scores: pd.DataFrame) -> Labels:
    return labels_with_signals({**group.tables, "scores": scores}, group.about_run)


def test_a_shuffled_truth_is_worth_one_half_within_its_interval(group):
    random = np.random.default_rng(0)
    labels = labels_with_signals(group.tables, group.about_run)
    inside = []
    for _ in range(20):
        shuffled = labels.clean.assign(right=labels.clean.groupby("method")["right"].transform(random.permutation))
        for one in trust(dataclasses.replace(labels, clean=shuffled), kinds=False):
            inside += [found.low <= 0.5 <= found.high for found in one.clean.values() if not found.reason]
    assert len(inside) > 200
    assert np.mean(inside) >= 0.9


def test_no_signal_sees_the_truth_on_the_way(group):
    """Verdicts the other way round leave every signal as it is and mirror every AUROC."""
    scores = group.scores
    flipped = scores.assign(**{name: 1 - scores[name].astype("Float64") for name in ("right", "right_clean")})
    own, other = labels_with_signals(group.tables, group.about_run), with_scores(group, flipped)
    for name in ("clean", "perturbed"):
        pd.testing.assert_frame_equal(getattr(own, name)[[*SIGNALS]], getattr(other, name)[[*SIGNALS]])
    for one, mirrored in zip(trust(own), trust(other), strict=True):
        assert (one.right, one.wrong) == (mirrored.wrong, mirrored.right)
        for name, found in one.clean.items():
            if not found.reason:
                assert mirrored.clean[name].estimate == pytest.approx(1 - found.estimate)
    renamed = with_scores(group, scores.assign(truth="something else"))
    pd.testing.assert_frame_equal(renamed.clean, own.clean)


def test_missing_labels_dead_units_and_trivial_baselines_do_not_count(group):
    labels = labels_with_signals(group.tables, group.about_run)
    assert labels.methods == ("clip_dissect", "dnd")
    assert set(labels.clean.groupby("method").size()) == {46}
    scores = group.scores.copy()
    lost = scores["method"].eq("dnd") & scores["unit"].lt(3)
    scores.loc[lost & scores["perturbation"].eq("fog"), ["label", "stability", "right"]] = [None, np.nan, None]
    scores.loc[lost & scores["unit"].eq(0), ["clean_label", "right_clean"]] = None
    fewer = with_scores(group, scores)
    assert len(fewer.clean.loc[fewer.clean["method"].eq("dnd")]) == 45
    fog = fewer.perturbed["method"].eq("dnd") & fewer.perturbed["perturbation"].eq("fog")
    assert fog.sum() == 43
    # The mean stability of a unit without a label under one condition is that of the other.
    unit = fewer.clean.loc[fewer.clean["method"].eq("dnd") & fewer.clean["unit"].eq(1)].iloc[0]
    snow = scores.loc[lost & scores["unit"].eq(1) & scores["perturbation"].eq("snow"), "stability"]
    assert unit["stability"] == unit["worst_stability"] == snow.iloc[0]


def test_every_signal_is_taken_from_where_it_is_stored():
    place = {"task": "t", "profile": "p", "repeat": 0, "unit": 0, "dead": False, "truth": "red cup", "truth_op": "and"}
    rows = [
        {"method": method, "perturbation": name, "severity": severity, "label": label, "clean_label": clean}
        | {"stability": stability, "exact": stability == 1, "noise_floor": 0.9, "evidence_overlap": 0.2 * severity}
        | {"activation_correlation": 0.1, "right": True, "right_clean": False, "clarity": 0.7 - 0.2 * severity}
        | {"redundancy": 0.8, "polysemanticity": 0.1 * severity, "monosemanticity": 0.6}
        for method, clean in (("dnd", "red cup"), ("clip_dissect", "Red-fish"))
        for name, severity, label, stability in (("clean", 0, clean, 1.0), ("fog", 1, "cup", 0.5), ("fog", 3, "sky", 0))
    ]
    scores = pd.DataFrame(rows).assign(**place)
    cell = {
        "task": "t",
        "profile": "p",
        "method": "dnd",
        "perturbation": "clean",
        "severity": 0,
        "repeat": 0,
        "unit": 0,
    }
    labels = pd.DataFrame(
        [{**cell, "rank": rank, "label": "x", "score": score} for rank, score in ((1, 0.75), (2, 0.5))]
    )
    measured = dict.fromkeys(("cosy_auc", "cosy_mad", "f1", "iou", "correlation", "cosine", "auprc"), 0.3)
    measured |= {"dma": 1.4, "activation_rate": 0.9, "simulation_correlation": 0.2, "simulation_by_annotation": 0.4}
    tables = {"scores": scores, "labels": labels, "faithfulness": pd.DataFrame([{**cell, **measured}])}
    found = labels_with_signals(tables, RunFacts())
    row = found.clean.loc[found.clean["method"].eq("dnd")].iloc[0]
    assert (row["kind"], row["right"]) == ("and", 0)
    expected = {"stability": 0.25, "worst_stability": 0.0, "exact": 0.0, "noise_floor": 0.9, "evidence_overlap": 0.4}
    expected |= {"activation_correlation": 0.1, "own_score": 0.75, "margin": 0.25, "agreement": 1 / 3, **measured}
    # Of the unit itself on clean images, not as a mean over the conditions.
    expected |= {"clarity": 0.7, "redundancy": 0.8, "polysemanticity": 0.0, "monosemanticity": 0.6}
    assert {name: pytest.approx(row[name]) for name in SIGNALS} == expected
    fog = found.perturbed.loc[found.perturbed["method"].eq("dnd") & found.perturbed["severity"].eq(1)].iloc[0]
    assert (fog["right"], fog["stability"], fog["evidence_overlap"], fog["agreement"]) == (1, 0.5, 0.2, 1)
    assert (fog["clarity"], fog["polysemanticity"]) == (pytest.approx(0.5), 0.1)
    assert np.isnan(fog["own_score"])


def test_a_signal_that_follows_the_verdict_is_worth_one_and_the_kinds_of_truth_stay_apart(group):
    scores = group.scores
    living = scores["right_clean"].astype("Float64").fillna(0).astype(float)
    kinds = np.where(scores["unit"].astype(int) < 24, "and", "or")
    labels = with_scores(group, scores.assign(noise_floor=living, truth_op=kinds))
    assert labels.kinds == ("", "and", "or")
    found = {(one.method, one.kind): one for one in trust(labels)}
    for one in found.values():
        assert one.clean["noise_floor"][:3] == (1, 1, 1)
    assert found["dnd", ""].right == found["dnd", "and"].right + found["dnd", "or"].right
    table = next(iter(trust_contents({**group.tables, "scores": scores.assign(truth_op=kinds)}, group.about_run)))
    assert [section.title for section in table.sections] == ["all", "AND", "OR"]


def test_what_foretells_stability_needs_no_truth_and_no_perturbed_image(group):
    scores = group.scores
    moved = scores.loc[scores["perturbation"].ne("clean")]
    mean = moved.groupby(["method", "unit"])["stability"].mean().rename("mean")
    scores = scores.merge(mean, how="left", on=["method", "unit"])
    # A clear unit's label is stable; twice as many units are judged as have a known truth.
    scores = scores.assign(clarity=scores["mean"], polysemanticity=-scores["mean"], redundancy=0.5)
    half = scores.assign(truth=scores["truth"].where(scores["unit"].astype(int) % 2 == 0))
    labels = with_scores(group, half)
    found = foretold(labels)
    assert set(found) == {"clip_dissect", "dnd"}
    judged = [own for own in found.values() if not own["clarity"].reason]
    assert judged
    for own in judged:
        assert set(own) == set(KNOWN_BEFORE)
        assert not {"stability", "worst_stability", "exact", "evidence_overlap", "activation_correlation"} & set(own)
        assert (own["clarity"].estimate, own["polysemanticity"].estimate) == (1, 0)
        assert own["redundancy"].reason
        assert own["clarity"].n == 46
    assert set(labels.clean.groupby("method").size()) == {23}
    untold = with_scores(group, scores.assign(truth=None, right=None, right_clean=None))
    assert foretold(untold)["dnd"]["clarity"] == found["dnd"]["clarity"]
    tables = trust_contents({**group.tables, "scores": scores.assign(truth=None)}, group.about_run)
    (table,) = [table for table in tables if table.kind == "trust_stable"]
    names = [row.name for row in table.rows]
    assert {"clarity", "polysemanticity"} < set(names)
    assert "stability" not in names


def test_the_clarity_of_units_is_shown_under_each_condition_once_for_all_methods(group):
    scores = group.scores
    assert clarity_contents(scores, group.about_run) == []
    fog = np.where(scores["perturbation"].eq("fog"), 0.2, 0.6)
    known = scores.assign(clarity=fog, redundancy=0.9, polysemanticity=0.3, monosemanticity=fog - 0.1)
    known.loc[known["dead"], ["clarity", "redundancy", "polysemanticity", "monosemanticity"]] = np.nan
    (table,) = clarity_contents(known, group.about_run)
    shown = {row.name: [cell.value for cell in row.cells] for row in table.rows}
    assert list(shown) == ["clean", "snow 3", "fog 3"]
    assert shown["fog 3"] == pytest.approx([0.2, 0.9, 0.3, 0.1])
    assert shown["clean"] == pytest.approx([0.6, 0.9, 0.3, 0.5])
    assert table.notes[0].startswith("46 units.")


def test_all_tasks_of_a_profile_are_judged_together_with_their_units_apart(folder):
    found = {one.name: one for one in subjects(merge_runs(folder))}
    assert set(found) == {"toy_task", "other_task", "all tasks"}
    counts = {name: len(one.labels.clean) for name, one in found.items()}
    assert counts["all tasks"] == counts["toy_task"] + counts["other_task"]
    assert found["all tasks"].labels.clean.groupby("method")["unit"].nunique().to_dict() == {
        "clip_dissect": 46 + 39,
        "dnd": 46 + 39,
    }


def test_tasks_are_judged_together_under_the_conditions_that_all_of_them_ran(tmp_path):
    more = {"own": (*SUITES["own"], ("fog", 5))}
    write_run(tmp_path / "one", units=24, suites=more, comparisons=False)
    write_run(tmp_path / "two", units=24, suites=SUITES, comparisons=False, task="other_task")
    found = {one.name: one.labels.conditions for one in subjects(merge_runs(tmp_path))}
    assert set(found["all tasks"]) == set(SUITES["own"])
    assert ("fog", 5) in found["toy_task"]


def test_runs_with_another_seed_stay_apart(tmp_path):
    for task in ("toy_task", "other_task"):
        for seed in (0, 1):
            write_run(tmp_path / f"{task}{seed}", units=24, suites=SUITES, comparisons=False, task=task, seed=seed)
    names = [one.name for one in subjects(merge_runs(tmp_path))]
    assert len(set(names)) == len(names) == 6
    assert {"all tasks, seed 0", "all tasks, seed 1"} < set(names)


def test_the_command_prints_tables_sentences_and_json(folder, tmp_path):
    asked = ["trust", "--runs", str(folder), "--task", "toy_task"]
    done = CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "trust.json")])
    assert done.exit_code == 0
    assert "What signals are worth for perturbed labels: toy_task, profile toy" in done.stdout
    assert "Best pair of signals" in done.stdout
    assert "The stability of dnd’s labels" in done.stdout
    assert "judging toy_task (toy), 1 of 1" in done.stderr
    shown = CliRunner().invoke(app, [*asked, "--json"])
    (said,) = json.loads(shown.stdout)["trust"]
    assert said in json.loads((tmp_path / "trust.json").read_text())["trust"]
    assert {one["method"] for one in said["methods"]} == {"clip_dissect", "dnd"}
    assert len(said["methods"][0]["by_condition"]) == 2
    assert set(said["methods"][0]["clean"]) == set(SIGNALS)
    assert set(said["stable"]["dnd"]) == set(KNOWN_BEFORE)
    assert "What foretells stability of clean labels: toy_task" in done.stdout


def test_runs_without_truth_are_one_clear_sentence(tmp_path):
    write_run(tmp_path / "run", truth=False, comparisons=False)
    done = CliRunner().invoke(app, ["trust", "--runs", str(tmp_path)])
    assert done.exit_code == 1
    assert "nothing can be judged" in done.stderr
    assert "Traceback" not in done.output


def test_the_board_has_the_same_number_as_the_page_and_says_what_too_few_labels_mean(folder, group):
    board = build_board(dataclasses.replace(merge_runs(folder), groups=(group,)))
    worth = worth_of_stability(group.tables, group.about_run)
    rows = {row.method: row for row in board.standings[0].of_suite()}
    for method, found in worth.items():
        assert rows[method].values["stability_worth"].mean == found.estimate
    (shown, *_) = trust_contents(group.tables, group.about_run)
    assert [cell.value for cell in shown.rows[0].cells] == [worth[name].estimate for name in shown.columns]
    assert "What its stability is worth" in render(board_page(board))
    assert "What signals are worth for perturbed labels" in render(task_page(board.standings[0], "", ()))
    few = with_scores(group, group.scores.loc[group.scores["unit"].astype(int) < 6])
    assert list(worth_sentences(trust(few))) == []
