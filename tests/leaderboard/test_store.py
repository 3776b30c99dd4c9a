from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise

import pandas as pd
import pyarrow.parquet as pq
import pytest

from leaderboard.store import atomic, claims
from leaderboard.store.claims import Leases, Locks, claims_of, file_system, why_no_locks
from leaderboard.store.errors import StoreError
from leaderboard.store.run_folder import OBSERVATION, CellKey, RunFolder
from leaderboard.store.schema import SCHEMA_VERSION


@pytest.fixture
def folder(tmp_path, identity):
    with RunFolder(tmp_path / "run") as run:
        run.create_or_continue(identity, {"device": "cpu"})
        yield run


def test_run_json_says_what_ran_and_where(folder, identity):
    info = folder.info()
    assert info["schema_version"] == SCHEMA_VERSION
    assert info["identity"] == identity
    assert len(info["identity_hash"]) == 64
    (session,) = info["sessions"]
    assert session["facts"] == {"device": "cpu"}
    assert session["packages"]["pandas"] == pd.__version__
    assert session["python"].startswith("3.")


def test_continuing_keeps_the_run_and_adds_a_session(folder, identity):
    assert RunFolder(folder.path).create_or_continue(identity, {"device": "cuda"}) is True
    assert [session["facts"]["device"] for session in folder.info()["sessions"]] == ["cpu", "cuda"]


def test_a_changed_identity_is_refused_with_the_fields(folder, identity):
    changed = {**identity, "seed": 1, "method_options": {"dnd": {"k": 5}}}
    with pytest.raises(StoreError, match=r"method_options\.dnd\.k: 10 before, 5 now; seed: 0 before, 1 now.*--out"):
        RunFolder(folder.path).create_or_continue(changed, {})
    assert len(folder.info()["sessions"]) == 1


@pytest.mark.parametrize(("version", "message"), [(SCHEMA_VERSION + 1, "newer than this version"), (0, "schema 0")])
def test_other_schema_versions_are_refused(folder, identity, version, message):
    run = folder.info() | {"schema_version": version}
    atomic.write_json(folder.path / "run.json", run)
    with pytest.raises(StoreError, match=message):
        folder.create_or_continue(identity, {})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": "x"}'])
def test_a_broken_run_json_is_one_sentence(folder, text):
    (folder.path / "run.json").write_text(text)
    with pytest.raises(StoreError, match="cannot be read"):
        folder.info()


def test_a_foreign_folder_is_left_alone(tmp_path, identity):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"not a run folder and not empty \(thesis.tex\)"):
        RunFolder(tmp_path).create_or_continue(identity, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_as_run_folder_is_one_sentence(tmp_path, identity):
    (tmp_path / "x").write_text("")
    with pytest.raises(StoreError, match="Cannot use"):
        RunFolder(tmp_path / "x").create_or_continue(identity, {})


def test_facts_are_merged_by_name(folder):
    folder.record("units", {"dead": 3})
    folder.record("units", {"constant": 1})
    assert folder.info()["facts"] == {"units": {"dead": 3, "constant": 1}}


def test_cell_round_trip(folder, key, labels):
    assert not folder.is_done(key)
    folder.write_cell(key, labels, {"seconds": 1.5})
    assert folder.is_done(key)
    assert RunFolder(folder.path).is_done(key)
    assert folder.marker(key).extra == {"seconds": 1.5}
    assert folder.marker(key).rows == 3
    assert folder.done_cells() == [key]
    stored = folder.read_cell(key)
    assert stored["label"].tolist() == ["cup", "red fish", "fish"]
    assert set(stored["method"]) == {"dnd"}
    assert set(stored["perturbation"]) == {"fog"}


def test_labels_of_all_cells_are_merged_in_one_order(tmp_path, identity, key, labels):
    keys = [CellKey(key.task, key.profile, method, key.condition, 3, 0) for method in ("b", "a", "c")]
    tables = []
    for number, order in enumerate((keys, keys[::-1])):
        run = RunFolder(tmp_path / str(number))
        run.create_or_continue(identity, {})
        for each in order:
            run.write_cell(each, labels)
        path = run.write_table("labels", run.read_labels())
        tables.append(path.read_bytes())
    assert tables[0] == tables[1]
    merged = RunFolder(tmp_path / "0").read_table("labels")
    assert merged["method"].tolist() == ["a"] * 3 + ["b"] * 3 + ["c"] * 3


def test_cells_of_two_versions_are_merged(folder, key, labels):
    other = dataclasses.replace(key, method="clip_dissect")
    folder.write_cell(key, labels)
    folder.write_cell(other, labels)
    part, marker = (
        next((folder.path / "parts" / "labels").glob(f"{other.name}*.{end}")) for end in ("parquet", "json")
    )
    pq.write_table(pq.read_table(part).drop_columns(["score"]), part)
    note = json.loads(marker.read_text())
    marker.write_text(json.dumps(note | {"sha256": hashlib.sha256(part.read_bytes()).hexdigest()}))
    part.rename(marker.with_suffix(".parquet"))  # as earlier versions named it
    scores = folder.read_labels().groupby("method")["score"].count()
    assert scores.to_dict() == {"clip_dissect": 0, "dnd": 2}


def test_a_cell_without_labels_is_done(folder, key, labels):
    folder.write_cell(key, labels.iloc[:0], {"missing": 24})
    assert folder.is_done(key)
    assert folder.read_labels().empty


def test_rows_that_contradict_the_key_are_refused(folder, key, labels):
    with pytest.raises(StoreError, match="'severity' of a part must be 3"):
        folder.write_cell(key, labels.assign(severity=4))
    assert not folder.is_done(key)


def test_evidence_round_trip(folder):
    key = CellKey("t", "miniature", OBSERVATION, "clean", 0, 1)
    frame = pd.DataFrame({"unit": [0, 0], "rank": [1, 2], "image": ["a", "b"], "activation": [2.0, 1.0]})
    folder.write_evidence(key, frame)
    assert folder.is_done(key, "evidence")
    assert not folder.is_done(key)
    assert folder.read_evidence()["image"].tolist() == ["a", "b"]
    assert folder.read_labels().empty


def test_a_kill_between_data_and_marker_leaves_the_cell_undone(folder, key, labels, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic, "create_json", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.write_cell(key, labels)
    monkeypatch.undo()
    assert list(folder.path.rglob("*.parquet"))
    assert not folder.is_done(key)
    assert folder.read_labels().empty
    folder.write_cell(key, labels)
    assert folder.is_done(key)


def test_a_second_attempt_at_a_cell_never_replaces_the_first(folder, key, labels, caplog):
    folder.write_cell(key, labels, {"seconds": 1.0})
    before = {path: path.read_bytes() for path in (folder.path / "parts").rglob("*.*")}
    folder.write_cell(key, labels, {"seconds": 2.0})
    assert {path: path.read_bytes() for path in (folder.path / "parts").rglob("*.*")} == before
    assert folder.differing() == []
    folder.write_cell(key, labels.assign(label="other"))
    assert folder.differing() == [key.name]
    assert "computed twice, with different results" in caplog.text
    assert all(path.read_bytes() == data for path, data in before.items())
    assert len(list((folder.path / "parts").rglob("*.parquet"))) == 2
    assert sorted(folder.read_labels()["label"]) == sorted(labels["label"])
    assert folder.done_cells() == [key]


def test_what_is_no_marker_is_set_aside(folder, key, labels):
    folder.write_cell(key, labels)
    (marker,) = (folder.path / "parts").rglob("*.json")
    marker.write_text("{")
    assert not folder.is_done(key)
    folder.write_cell(key, labels)
    assert folder.is_done(key)
    assert [path.read_text() for path in (folder.path / "corrupt").iterdir()] == ["{"]


def test_a_flipped_bit_sets_the_part_aside(folder, key, labels, caplog):
    folder.write_cell(key, labels)
    (part,) = (folder.path / "parts" / "labels").glob("*.parquet")
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        folder.read_labels()
    reader = RunFolder(folder.path)
    assert not reader.is_done(key)
    assert part.exists(), "a reader must not move files"
    assert not folder.is_done(key)
    assert not part.exists()
    assert len(list((folder.path / "corrupt").iterdir())) == 2
    assert "does not match its hash" in caplog.text
    folder.write_cell(key, labels)
    assert folder.is_done(key)


def test_files_of_the_user_are_no_leftovers(tmp_path, identity):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".writing-notes").write_text("x")
    with RunFolder(tmp_path / "run") as run:
        run.create_or_continue(identity, {})
    assert (tmp_path / "run" / ".writing-notes").exists()


def test_a_folder_in_the_place_of_a_claim_is_one_sentence(folder, identity, key):
    (folder.path / "claims" / key.name).mkdir(parents=True)
    folder.close()
    with RunFolder(folder.path) as again:
        again.create_or_continue(identity, {})
        with pytest.raises(StoreError, match="Is a directory"):
            again.is_free(key)
        with pytest.raises(StoreError, match="Is a directory"), again.claim(key):
            pass


def test_a_copied_or_edited_marker_is_that_of_no_part(folder, key, labels):
    folder.write_cell(key, labels)
    marker = next((folder.path / "parts" / "labels").glob("*.json"))
    note = json.loads(marker.read_text())
    other = dataclasses.replace(key, repeat=key.repeat + 1)
    for suffix in (".json", ".parquet"):
        source = next(marker.parent.glob(f"*{suffix}"))
        (marker.parent / f"{other.name}{suffix}").write_bytes(source.read_bytes())
    assert not folder.is_done(other)
    assert folder.done_cells() == [key]
    for change in ({"extra": []}, {"sha256": 3}, {"rows": "1"}, {"key": {**note["key"], "repeat": "0"}}, {"key": 3}):
        marker.write_text(json.dumps(note | change))
        assert folder.done_cells() == []
        assert not folder.is_done(key)


@pytest.mark.parametrize(
    "change",
    [{"sessions": []}, {"sessions": [3]}, {"facts": []}, {"facts": None}, {"identity": None}, {"created": 3}],
)
def test_wrong_types_in_run_json_are_one_sentence(folder, change):
    path = folder.path / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=f"is damaged .'{next(iter(change))}(.0)?' is not as written"):
        folder.info()


@pytest.fixture(params=[Locks, Leases])
def kind(request, monkeypatch):
    """Both kinds of claims, whatever the file system of the tests offers."""
    monkeypatch.setattr(claims, "why_no_locks", lambda _: "" if request.param is Locks else "said so")
    return request.param


def test_a_claim_belongs_to_one(tmp_path, identity, key, kind):
    folder = RunFolder(tmp_path / "run")
    folder.create_or_continue(identity, {})
    assert type(claims_of(folder.path)) is kind
    other = RunFolder(folder.path)
    with folder.claim(key) as mine, other.claim(key) as theirs, other.claim("something else") as free:
        assert (mine, theirs, free) == (True, False, True)
    with other.claim(key) as now:
        assert now


def _work(path, identity, keys, counts, barrier):
    labels = pd.DataFrame({"unit": [0], "rank": [1], "label": ["x"], "score": [0.0]})
    with RunFolder(path) as run:
        barrier.wait()
        run.create_or_continue(identity, {})
        for key in keys:
            with run.claim(key) as mine:
                if mine and not run.is_done(key):
                    run.write_cell(key, labels, {"by": os.getpid()})
                    counts.put(key.method)


def test_three_processes_do_each_cell_once(tmp_path, identity, kind):
    context = multiprocessing.get_context("fork")
    keys = [CellKey("t", "p", f"m{number}", "clean", 0, 0) for number in range(12)]
    counts, barrier = context.Queue(), context.Barrier(3)
    workers = [
        context.Process(target=_work, args=(tmp_path / "run", identity, keys, counts, barrier)) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    done = sorted(counts.get(timeout=60) for _ in keys)
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert counts.empty()
    assert done == sorted(key.method for key in keys)
    assert len(RunFolder(tmp_path / "run").read_labels()) == 12
    assert len(RunFolder(tmp_path / "run").info()["sessions"]) == 3


def _hold(path, key, ready):
    with RunFolder(path).claim(key):
        ready.set()
        signal.pause()


def test_the_claim_of_a_killed_process_is_free(tmp_path, identity, key, kind):
    folder = RunFolder(tmp_path / "run")
    folder.create_or_continue(identity, {})
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_hold, args=(folder.path, key, ready))
    worker.start()
    assert ready.wait(30)
    with folder.claim(key) as mine:
        assert not mine
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(30)
    with folder.claim(key) as mine:
        assert mine


def test_f09_a_lease_of_another_host_runs_out_unless_it_is_refreshed(tmp_path):
    mine, theirs = (Leases(tmp_path, seconds=0.6) for _ in range(2))
    with theirs.take("cell", wait=False) as owned:
        assert owned
        place = tmp_path / "claims" / "cell"
        elsewhere = place.read_text().replace(f"host={claims.socket.gethostname()}", "host=elsewhere")
        for _ in range(4):
            time.sleep(0.3)
            assert not mine.is_free("cell")
    assert mine.is_free("cell")
    # Its host has died with the lease.
    place.write_text(elsewhere)
    assert mine.owner("cell").host == "elsewhere"
    assert not mine.is_free("cell")
    time.sleep(0.8)
    assert mine.is_free("cell")


def test_file_systems_are_those_that_the_system_names(tmp_path):
    tool = shutil.which("findmnt")
    if tool is None:
        pytest.skip("findmnt is not installed")
    for place in (tmp_path, "/proc", "/dev/shm"):
        command = [tool, "-n", "-o", "FSTYPE", "-T", str(place)]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        assert file_system(place if place is tmp_path else claims.Path(place)) == said.stdout.split()[-1]


def test_old_claims_are_removed_but_not_what_a_process_tries_its_locks_on(folder, identity):
    tried, old = (folder.path / "claims" / name for name in (".locks-x", "cell"))
    for path in (tried, old):
        path.write_text("x")
    folder.close()
    with RunFolder(folder.path) as again:
        again.create_or_continue(identity, {})
    assert tried.exists()
    assert not old.exists()


def test_locks_are_not_trusted_across_hosts(tmp_path, monkeypatch):
    assert why_no_locks(tmp_path) == ""
    monkeypatch.setattr(claims, "file_system", lambda _: "nfs4")
    assert "network file system (nfs4)" in why_no_locks(tmp_path)
    assert isinstance(claims_of(tmp_path), Leases)


ALWAYS = """
    import fcntl, sys, threading
    fcntl.flock = lambda *_: None
    import pandas as pd
    from leaderboard.store import atomic, claims
    from leaderboard.store.run_folder import CellKey, RunFolder
    folder, role = RunFolder(sys.argv[1]), sys.argv[2]
    print(claims.why_no_locks(folder.path.parent), flush=True)
    folder.create_or_continue({"seed": 0}, {})
    key = CellKey("t", "p", "m", "clean", 0, 0)
    labels = pd.DataFrame({"unit": [0], "rank": [1], "label": ["x"], "score": [0.0]})
    if role == "second":
        with folder.claim(key) as mine:
            print(mine, folder.claim(key).__enter__(), flush=True)
        sys.exit()
    real = atomic.os.replace
    def slow(*paths):
        if paths[1].name.endswith(".parquet"):
            print("in mid-write", flush=True)
            sys.stdin.readline()
        real(*paths)
    atomic.os.replace = slow
    with folder.claim(key):
        folder.write_cell(key, labels)
    print(folder.is_done(key), flush=True)
"""


def test_f08_where_every_lock_succeeds_nobody_deletes_what_another_writes(tmp_path):
    def start(role):
        command = [sys.executable, "-c", textwrap.dedent(ALWAYS), str(tmp_path / "run"), role]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with start("first") as first:
        assert first.stdout.readline() == "two locks on one file do not exclude each other there\n"
        assert first.stdout.readline() == "in mid-write\n"
        with start("second") as second:
            assert second.communicate()[0].splitlines()[1:] == ["False False"]
        assert first.communicate("go on\n")[0] == "True\n"
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(RunFolder(tmp_path / "run").read_labels()) == 1


def test_names_of_cells_are_safe_and_distinct():
    tasks = ["a/b", "a_b", "../../a", "A", "a", "a" * 300]
    names = [CellKey(task, "p", "m", "clean", 0, 0).name for task in tasks]
    names += [CellKey("a", "p", "m", "clean", severity, 0).name for severity in (1, 2)]
    assert len({name.lower() for name in names}) == len(names)
    assert all(len(name) < 240 and "/" not in name and name.isascii() for name in names)
    assert CellKey("a", "p", "m", "clean", 0, 0).name == "a~p~m~clean~s0~r0~" + names[4].rpartition("~")[2]


def test_keys_sort_by_their_fields():
    keys = [CellKey("a", "p", "m", "fog", severity, repeat) for severity in (1, 2) for repeat in (0, 1)]
    assert all(first < second for first, second in pairwise(keys))


def test_missing_or_unknown_tables_are_one_sentence(folder):
    with pytest.raises(StoreError, match=r"contains no scores\.parquet"):
        folder.read_table("scores")
    with pytest.raises(StoreError, match="Unknown table 'score'"):
        folder.read_table("score")


def test_a_damaged_table_is_one_sentence(folder, key, labels):
    folder.write_cell(key, labels)
    path = folder.write_table("labels", folder.read_labels())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match="damaged"):
        folder.read_table("labels")


def test_a_table_without_a_required_column_is_one_sentence(folder, key, labels):
    folder.write_cell(key, labels)
    path = folder.write_table("labels", folder.read_labels())
    pq.write_table(pq.read_table(path).drop_columns(["unit"]), path)
    with pytest.raises(
        StoreError, match=r"labels.parquet is damaged \(.* lacks unit, which every row needs\); run the same"
    ):
        folder.read_table("labels")


def test_markers_are_plain_json(folder, key, labels):
    folder.write_cell(key, labels, {"score": float("nan")})
    (path,) = (folder.path / "parts" / "labels").glob("*.json")
    assert json.loads(path.read_text())["extra"] == {"score": None}
