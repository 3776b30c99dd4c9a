"""Merging runs and ranking their methods, against numbers computed here by pandas."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_runs import write_run as write_any_run

from leaderboard.board.build import EVERY_SUITE, RANKED, REFERENCE, build_board, measures
from leaderboard.board.comparison import compare
from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import find_runs, merge_runs
from leaderboard.board.pack import RANKS, pack_runs
from leaderboard.pages.board_files import as_frame, as_json
from leaderboard.store.errors import StoreError
from leaderboard.store.identity import identity_hash
from leaderboard.store.parts import CellKey
from leaderboard.store.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("few_resamples")

METHODS = {"alpha": 0.05, "beta": 0.9, "clip_dissect": 0.4, "random_label": 1.0}
SUITES = {"gaussian_blur": (("gaussian_blur", 3),), "weather": (("fog", 3), ("snow", 3))}
OWN = tuple(condition for conditions in SUITES.values() for condition in conditions)


def write_run(path, *args, **changes):
    """One severity: the mixed model over several would take most of the time of these tests."""
    return write_any_run(path, *args, **{"suites": SUITES, "comparisons": False, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    write_run(path / "first", METHODS, units=14)
    return path


@pytest.fixture(scope="module")
def board(root):
    return build_board(merge_runs(root))


def row(board, method, suite=EVERY_SUITE):
    (standings,) = board.standings
    (found,) = [row for row in standings.of_suite(suite) if row.method == method]
    return found


def perturbed(root, method, conditions=OWN):
    scores = RunFolder(root / "first").read_table("scores")
    own = scores[(scores["method"] == method) & ~scores["dead"]]
    return own[[pair in set(conditions) for pair in zip(own["perturbation"], own["severity"], strict=True)]]


@pytest.mark.parametrize("method", METHODS)
def test_means_are_those_of_the_units_over_the_tasks_own_conditions(board, root, method):
    own = perturbed(root, method)
    values = row(board, method).values
    assert values["stability"].mean == pytest.approx(own.groupby("unit")["stability"].mean().mean())
    assert values["accuracy"].mean == pytest.approx(own.groupby("unit")["right"].mean().mean())
    assert values["stability"].low <= values["stability"].mean <= values["stability"].high
    weather = perturbed(root, method, SUITES["weather"]).groupby("unit")["stability"].mean()
    assert row(board, method, "weather").values["stability"].mean == pytest.approx(weather.mean())


def test_mlce_is_relative_to_the_reference(board, root):
    def errors(method):
        means = perturbed(root, method).groupby(["perturbation", "severity"])["stability"].mean()
        return (1 - means).groupby("perturbation").sum()

    expected = (errors("beta") / errors(REFERENCE)).mean()
    assert row(board, "beta").values["mlce"].mean == pytest.approx(expected)
    assert row(board, REFERENCE).values["mlce"].mean == pytest.approx(1)


def test_ranks_and_letters_are_those_of_the_paired_tests(board, root):
    compared = compare(RunFolder(root / "first").read_table("scores"), RunFacts())
    for record in compared[compared["kind"] == "method"].to_dict("records"):
        value = row(board, record["first"]).values[record["measure"]]
        assert (value.low, value.high) == (record["low"], record["high"]), "one number, one interval"
        standing = row(board, record["first"]).standings[record["measure"]]
        assert (standing.rank, standing.letters) == (record["rank"], record["letters"])
    (standings,) = board.standings
    assert row(board, "alpha").standings["stability"].rank == 1
    assert [r.method for r in standings.of_suite()][-1] == "random_label", "trivial baselines come last"


def test_methods_that_are_not_significantly_different_share_a_rank(tmp_path):
    write_run(tmp_path / "run", {"alpha": 0.5, "beta": 0.5, "random_label": 1.0}, units=8)
    (standings,) = build_board(merge_runs(tmp_path)).standings
    ranks = {row.method: row.standings["stability"] for row in standings.of_suite()}
    assert ranks["alpha"].rank == ranks["beta"].rank == 1
    assert set(ranks["alpha"].letters) & set(ranks["beta"].letters)


def test_two_runs_of_one_task_stand_side_by_side(tmp_path, board):
    write_run(tmp_path / "both", METHODS, units=14)
    for name in METHODS:
        other = tmp_path / "apart" / name
        write_run(other, METHODS, units=14)
        for table in ("scores", "labels", "faithfulness"):
            whole = RunFolder(other).read_table(table)
            RunFolder(other).write_table(table, whole[whole["method"] == name])
    (apart,) = build_board(merge_runs(tmp_path / "apart")).standings
    (both,) = build_board(merge_runs(tmp_path / "both")).standings
    assert len(apart.group.sources) == len(METHODS)
    assert apart.rows == both.rows
    pd.testing.assert_frame_equal(apart.comparisons, both.comparisons)


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"units": 10}, {"profile": "other"}, {"task": "another"}],
    ids=lambda change: next(iter(change)),
)
def test_runs_of_something_else_are_never_merged(tmp_path, other):
    usual = {"units": 12, "task": "toy_task"}
    write_run(tmp_path / "one", **usual)
    write_run(tmp_path / "two", **{**usual, **other})
    groups = merge_runs(tmp_path).groups
    assert len(groups) == 2
    assert len({group.slug for group in groups}) == 2
    assert [len(group.sources) for group in groups] == [1, 1]


def test_a_run_of_another_version_gives_the_same_board_but_for_the_columns_it_lacks(tmp_path, board, root):
    shutil.copytree(root / "first", tmp_path / "older")
    for name in ("scores", "summary"):
        path = tmp_path / "older" / f"{name}.parquet"
        lacking = [name for name in pq.read_schema(path).names if name.startswith("rank_biased_overlap")]
        assert lacking
        table = pq.read_table(path)
        pq.write_table(table.drop_columns(lacking).append_column("later", table["task"]), path)
    now, older = as_frame(board), as_frame(build_board(merge_runs(tmp_path)))
    changed = [name for name in now if "rank_biased_overlap" in name]
    assert changed
    pd.testing.assert_frame_equal(older.drop(columns=changed), now.drop(columns=changed))
    assert older[changed].isna().all(axis=None)


def test_of_two_runs_with_one_cell_the_newer_counts(tmp_path):
    write_run(tmp_path / "old", started="2026-01-01T00:00:00+00:00")
    write_run(tmp_path / "new", started="2026-02-01T00:00:00+00:00")
    scores = RunFolder(tmp_path / "new").read_table("scores")
    RunFolder(tmp_path / "new").write_table("scores", scores.assign(label="changed"))
    (group,) = merge_runs(tmp_path).groups
    assert [source.run for source in group.sources] == ["new", "old"]
    assert set(group.scores["label"]) == {"changed"}
    assert len(group.scores) == len(scores)


def change_run(path, change):
    run = json.loads((path / "run.json").read_text())
    before = identity_hash(run["identity"])
    change(run)
    if run["identity_hash"] == before:
        run["identity_hash"] = identity_hash(run["identity"])
    (path / "run.json").write_text(json.dumps(run))


def test_another_version_of_a_method_is_left_out_with_its_reason(tmp_path):
    write_run(tmp_path / "old", started="2026-01-01T00:00:00+00:00")
    write_run(tmp_path / "new", started="2026-02-01T00:00:00+00:00")

    def newer(run):
        run["identity"]["content"]["methods"]["dnd"] = 99

    change_run(tmp_path / "new", newer)
    runs = merge_runs(tmp_path)
    assert [source.run for source in runs.groups[0].sources] == ["new"]
    (left,) = runs.left_out
    assert left.run == "old"
    assert "dnd, while new has version 99" in left.reason


def test_a_method_with_options_stands_beside_the_usual_one(tmp_path):
    write_run(tmp_path / "usual")
    write_run(tmp_path / "coded")

    def coded(run):
        run["identity"]["method_options"] = {"dnd": {"mode": "code"}}

    change_run(tmp_path / "coded", coded)
    (group,) = merge_runs(tmp_path).groups
    assert {"dnd", "dnd (mode=code)"} <= set(group.methods)


def test_an_incomplete_row_has_no_mean_and_says_what_is_missing(tmp_path):
    write_run(tmp_path / "run", METHODS, lacking={"beta": SUITES["weather"]})
    board = build_board(merge_runs(tmp_path))
    gap = row(board, "beta")
    assert gap.missing == ("no fog 3", "no snow 3")
    assert not gap.values
    assert not gap.standings
    whole = row(board, "beta", "gaussian_blur")
    assert whole.complete, "what is whole in a suite has a mean there"
    assert whole.standings["stability"].rank >= 1
    pairs = board.standings[0].comparisons
    assert "beta" not in set(pairs["first"])
    written = next(
        r for r in as_json(board)["groups"][0]["rows"] if r["method"] == "beta" and r["suite"] == EVERY_SUITE
    )
    assert written["values"] == {}
    assert not written["complete"]
    flat = as_frame(board).set_index(["suite", "method"]).loc[(EVERY_SUITE, "beta")]
    assert flat[[c for c in flat.index if c.startswith("stability")]].isna().all()


def test_fewer_units_or_images_than_the_task_asks_for_are_incomplete(tmp_path):
    write_run(tmp_path / "run", units=6, about={"units": {"total": 50, "first": 0, "label": 12}, "images": 10_000})
    (standings,) = build_board(merge_runs(tmp_path)).standings
    for found in standings.rows:
        assert found.missing[0] == "only 6 of 12 units"
        assert found.missing[1].endswith("of 10000 images")


def test_a_run_too_old_to_say_what_is_complete_has_no_means(tmp_path):
    write_run(tmp_path / "run")

    def old(run):
        run["schema_version"] = 1
        run["facts"] = {}

    change_run(tmp_path / "run", old)
    (standings,) = build_board(merge_runs(tmp_path)).standings
    assert {found.complete for found in standings.rows} == {False}
    assert "not recorded" in standings.rows[0].missing[0]


def test_damaged_and_unfinished_runs_are_left_out_with_one_sentence(tmp_path):
    for name in ("whole", "damaged", "unfinished", "newer"):
        write_run(tmp_path / name)
    (tmp_path / "damaged" / "scores.parquet").write_bytes(b"PAR1")
    (tmp_path / "unfinished" / "scores.parquet").unlink()

    def newer(run):
        run["schema_version"] = 999

    change_run(tmp_path / "newer", newer)
    runs = merge_runs(tmp_path)
    assert [source.run for group in runs.groups for source in group.sources] == ["whole"]
    reasons = {left.run: left.reason for left in runs.left_out}
    assert set(reasons) == {"damaged", "unfinished", "newer"}
    assert "contains no scores.parquet" in reasons["unfinished"]
    assert "newer than this version" in reasons["newer"]
    assert not any(str(tmp_path) in reason for reason in reasons.values()), "no path of this machine"


def edit_table(path, name, column, value):
    table = pq.read_table(path / f"{name}.parquet")
    place = table.schema.get_field_index(column)
    values = pa.array([value] * len(table), table.schema.field(column).type)
    pq.write_table(table.set_column(place, table.schema.field(column), values), path / f"{name}.parquet")


def deep(key, value):
    """Change what lies under these names in ``run.json``."""

    def change(run):
        *path, last = key.split(".")
        for name in path:
            run = run[name]
        run[last] = value

    return change


DAMAGED = {
    "sessions": [3], "facts": {}, "facts.tasks": [], "facts.profile": "x", "identity": {},
    "identity.seed": "x", "identity.content": 3, "identity.content.methods": {"alpha": "1"},
    "facts.methods": [3],
    "facts.tasks.toy_task.suites": 3, "facts.tasks.toy_task.units": "x", "facts.profile.licences": [[1]],
    "facts.perturbations": {"fog": 3}, "created": 3, "identity_hash": None,
}  # fmt: skip


def test_a_damaged_run_is_left_out_and_the_others_stay(tmp_path):
    write_run(tmp_path / "runs" / "whole", task="other_task")
    write_run(tmp_path / "sound")
    for number, (key, value) in enumerate(DAMAGED.items()):
        shutil.copytree(tmp_path / "sound", tmp_path / "runs" / str(number))
        change_run(tmp_path / "runs" / str(number), deep(key, value))
    runs = merge_runs(tmp_path / "runs")
    build_board(runs)
    reasons = {left.run: left.reason for left in runs.left_out}
    assert set(reasons) == {str(number) for number in range(len(DAMAGED))}
    assert [group.task for group in runs.groups] == ["other_task"]
    assert all("\n" not in reason for reason in reasons.values())


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("stability", 999.0),
        ("stability", float("inf")),
        ("severity", 9),
        ("method", "nobody"),
        ("activation_correlation", -7.0),
    ],
)
def test_scores_out_of_their_ranges_are_not_believed(tmp_path, column, value):
    write_run(tmp_path / "run")
    edit_table(tmp_path / "run", "scores", column, value)
    runs = merge_runs(tmp_path)
    assert runs.groups == ()
    (left,) = runs.left_out
    assert "damaged" in left.reason


@pytest.mark.parametrize(("table", "column", "value"), [("scores", "right", True), ("labels", "label", "dog")])
def test_tables_that_differ_from_those_the_run_finished_with_are_not_believed(tmp_path, table, column, value):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "parts").mkdir()
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "run").glob("*.parquet")}
    change_run(tmp_path / "run", lambda run: run["facts"].update(finished={"key": "k", "files": files}))
    assert merge_runs(tmp_path).left_out == ()
    edit_table(tmp_path / "run", table, column, value)
    (left,) = merge_runs(tmp_path).left_out
    assert "not the one that the run finished with" in left.reason


def hashes(path):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.glob("*.parquet")}


@pytest.mark.parametrize(("table", "column", "value"), [("scores", "right", True), ("labels", "label", "dog")])
def test_tables_that_were_edited_together_with_run_json_are_not_believed(tmp_path, table, column, value):
    write_run(tmp_path / "run")
    RunFolder(tmp_path / "run").finish({"key": "k"}, hashes(tmp_path / "run"))
    pack_runs(tmp_path / "run", tmp_path / "packed")
    for place in (tmp_path / "run", tmp_path / "packed" / "run"):
        assert merge_runs(place).left_out == ()
        edit_table(place, table, column, value)
        change_run(place, deep("facts.finished.files", hashes(place)))
        (left,) = merge_runs(place).left_out
        assert "not the one that the run finished with" in left.reason


def test_tables_of_another_run_are_not_believed(tmp_path):
    for name, seed in (("one", 0), ("other", 1)):
        write_run(tmp_path / name, seed=seed)
        RunFolder(tmp_path / name).finish({}, hashes(tmp_path / name))
    shutil.copy(tmp_path / "one" / "scores.parquet", tmp_path / "other" / "scores.parquet")
    taken = json.loads((tmp_path / "one" / "run.json").read_text())["facts"]["finished"]
    change_run(tmp_path / "other", lambda run: run["facts"].update(finished=taken))
    (left,) = merge_runs(tmp_path).left_out
    assert left.run == "other"


@pytest.mark.parametrize("table", ["labels", "evidence", "scores"])
def test_tables_follow_from_the_parts(tmp_path, table):
    write_run(tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    for kind in ("labels", "evidence"):
        frame = folder.read_table(kind)
        place = ["task", "profile", *(["method"] if kind == "labels" else []), "perturbation", "severity", "repeat"]
        for values, rows in frame.groupby(place):
            key = dict(zip(place, values, strict=True))
            cell = CellKey(method=key.pop("method", "observation"), condition=key.pop("perturbation"), **key)
            (folder.write_cell if kind == "labels" else folder.write_evidence)(cell, rows)
    assert merge_runs(tmp_path).left_out == ()
    edit_table(tmp_path / "run", table, "image" if table == "evidence" else "label", "dog")
    (left,) = merge_runs(tmp_path).left_out
    assert "rows that the run's parts do not have" in left.reason


def test_an_edited_identity_is_not_believed(tmp_path):
    write_run(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    run = json.loads(path.read_text())
    run["identity"]["seed"] += 1
    path.write_text(json.dumps(run))
    (left,) = merge_runs(tmp_path).left_out
    assert "its identity is not the one of its hash" in left.reason


def test_runs_are_found_at_several_depths_and_a_run_folder_itself(tmp_path):
    write_run(tmp_path / "a" / "deep")
    write_run(tmp_path / "top")
    assert [name for name, _ in find_runs(tmp_path)] == ["a/deep", "top"]
    assert [name for name, _ in find_runs(tmp_path / "top")] == ["top"]
    with pytest.raises(StoreError, match="There is no folder"):
        find_runs(tmp_path / "nowhere")


def test_a_folder_without_runs_makes_an_empty_board(tmp_path):
    board = build_board(merge_runs(tmp_path))
    assert as_json(board)["groups"] == []
    assert as_frame(board).empty


def test_json_and_csv_forms_say_the_same(board):
    flat = as_frame(board)
    written = json.loads(json.dumps(as_json(board), allow_nan=False))
    assert set(written["measures"]) == set(measures())
    listed = [(group["slug"], found) for group in written["groups"] for found in group["rows"]]
    assert len(listed) == len(flat)
    for (slug, found), (_, line) in zip(listed, flat.iterrows(), strict=True):
        assert (slug, found["suite"], found["method"]) == (line["slug"], line["suite"], line["method"])
        for name in measures():
            value = found["values"].get(name, {}).get("mean")
            assert (value is None and pd.isna(line[name])) or value == line[name]
        for name in RANKED:
            rank = found["standings"].get(name, {}).get("rank")
            assert (rank is None and pd.isna(line[f"{name}_rank"])) or rank == line[f"{name}_rank"]


def test_a_board_from_packed_runs_is_the_same_board(tmp_path, root, board):
    sizes = pack_runs(root, tmp_path / "packed", units=3, images=2)
    assert list(sizes) == ["first"]
    packed = build_board(merge_runs(tmp_path / "packed"))
    assert as_json(packed) == as_json(board)
    pd.testing.assert_frame_equal(packed.standings[0].summary, board.standings[0].summary)
    (group,) = packed.runs.groups
    assert group.tables["labels"]["rank"].max() <= RANKS
    evidence = group.tables["evidence"]
    assert evidence["unit"].nunique() == 3
    assert evidence["rank"].max() == 2
    pictured = set(zip(*(group.tables["thumbnails"][c] for c in ("perturbation", "severity", "image")), strict=True))
    shown = set(zip(*(evidence[c] for c in ("perturbation", "severity", "image")), strict=True))
    assert pictured == shown, "each image that is shown has its picture, and no other has"


def test_packing_nothing_is_one_sentence(tmp_path):
    with pytest.raises(StoreError, match="No run folder lies under"):
        pack_runs(tmp_path, tmp_path / "out")


def test_the_order_of_folders_changes_nothing(tmp_path, root, board):
    write_run(tmp_path / "zzz", METHODS, units=14)
    again = build_board(merge_runs(tmp_path))
    assert again.standings[0].rows == board.standings[0].rows
    assert np.isfinite([value.mean for found in again.standings[0].rows for value in found.values.values()]).all()
