"""Older run folders are read with the same numbers (F11)."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from leaderboard.store import atomic
from leaderboard.store.errors import StoreError
from leaderboard.store.migrations import MIGRATIONS, migrated
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import SCHEMA_VERSION


@pytest.fixture
def old(tmp_path, identity):
    """A run folder as schema 1 wrote it."""
    with RunFolder(tmp_path / "run") as folder:
        folder.create_or_continue(identity, {"device": "cpu"})
        folder.record("labels_cut_by", {"clip": 3})
    path = tmp_path / "run" / "run.json"
    run = json.loads(path.read_text())
    run["schema_version"] = 1
    for session in run["sessions"]:
        del session["licences"]
    atomic.write_json(path, run)
    return RunFolder(tmp_path / "run")


def test_every_older_version_has_a_step_to_the_next_one():
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))
    for version, step in MIGRATIONS.items():
        assert step({"schema_version": version, "facts": {}, "sessions": []})["schema_version"] == version + 1


def test_an_older_run_is_read_as_todays(old, identity):
    info = old.info()
    assert info["schema_version"] == SCHEMA_VERSION
    assert info["identity"] == identity
    assert info["facts"] == {"labels_cut_by": {"clip": 3}, "tasks": {}, "profile": {}}
    assert [session["licences"] for session in info["sessions"]] == [{}]


def test_reading_does_not_touch_the_file_and_continuing_does(old, identity):
    path = old.path / "run.json"
    before = path.read_bytes()
    old.info()
    assert path.read_bytes() == before
    with old:
        assert old.create_or_continue(identity, {"device": "cpu"}) is True
    assert json.loads(path.read_text())["schema_version"] == SCHEMA_VERSION


def test_a_run_of_today_is_left_as_it_is():
    run = {"schema_version": SCHEMA_VERSION, "facts": {"x": 1}}
    assert migrated(run, SCHEMA_VERSION) == run


def test_tables_that_came_later_are_empty_in_older_runs(old):
    assert list(old.read_table("thumbnails")["webp"]) == []
    with pytest.raises(StoreError, match=r"contains no scores\.parquet"):
        old.read_table("scores")


def test_pictures_are_stored_as_they_are(old, identity):
    webp = bytes(range(256))
    frame = pd.DataFrame(
        {
            "task": ["t"], "profile": ["p"], "perturbation": ["fog"], "severity": [3], "repeat": [0], "image": ["a"],
            "webp": [webp],
        }
    )  # fmt: skip
    old.write_table("thumbnails", frame)
    assert list(old.read_table("thumbnails")["webp"]) == [webp]
    with pytest.raises(StoreError, match="'webp' of table 'thumbnails' must hold bytes"):
        old.write_table("thumbnails", frame.assign(webp="no bytes"))
