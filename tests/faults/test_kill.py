"""Processes that are killed, and several that share one run folder (F4, F6, F8, F9)."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest
from small_run import CELLS, ROOT, scenarios

from leaderboard.store import atomic
from leaderboard.store.claims import Locks
from leaderboard.store.run_folder import CellKey, RunFolder

FORK = multiprocessing.get_context("fork")
IDENTITY = {"seed": 0}
KEYS = [CellKey("t", "p", f"m{number}", "clean", 0, 0) for number in range(3)]
LABELS = pd.DataFrame({"unit": [0], "rank": [1], "label": ["x"], "score": [0.5]})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return scenarios(tmp_path_factory.mktemp("small"), killed=[3, 4], shared=[2])


def check_killed(found, kills):
    assert found["kills"] == kills
    assert found["wrong"] == []
    assert found["lost"] == 0
    assert found["repeated"] < 0.5


def check_shared(found, processes):
    assert found["codes"] == [0] * processes, found["wrong"]
    assert found["wrong"] == []
    assert found["begun"] == CELLS
    assert found["workers"] > 1


def test_f04_three_kills(small):
    check_killed(small["killed"], 3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_f04_thirty_kills(tmp_path):
    found = scenarios(tmp_path, killed=[30, 0])["killed"]
    print(f"share of work repeated: {found['repeated']:.3f}, over {found['runs']} runs")
    check_killed(found, 30)


def test_f08_two_processes_do_each_cell_once_and_both_have_whole_tables(small):
    check_shared(small["shared"], 2)


@pytest.mark.slow
def test_f08_eight_processes(tmp_path):
    check_shared(scenarios(tmp_path, shared=[8])["shared"], 8)


PAID = """
import os, signal, sys
from tasks.language.chat import Message, Reply
from tasks.language.replies import CachedChat, ReplyStore

class Model:
    identity = "paid"

    def chat(self, messages, *, temperature, max_tokens, seed):
        with open(sys.argv[1] + ".paid", "a") as file:
            file.write(f"{seed}\\n")
        return Reply(f"reply {seed}", None, None, "paid")

model = CachedChat(Model(), ReplyStore(sys.argv[1]))
for seed in range(6):
    model.chat([Message("user", "a caption")], temperature=0.0, max_tokens=5, seed=seed)
    if seed == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_f04_a_reply_that_was_kept_is_not_paid_again_after_a_kill(tmp_path):
    for last, code in ((2, -signal.SIGKILL), (4, -signal.SIGKILL), (9, 0)):
        command = [sys.executable, "-c", PAID, str(tmp_path / "replies.sqlite"), str(last)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert (tmp_path / "replies.sqlite.paid").read_text().split() == list("012345")


# ---- the store alone: no network is loaded ----


def die_at(call, number, path):
    """Write a cell, and die by SIGKILL at the call of that number."""
    real, seen = getattr(os, call), []

    def counting(*arguments):
        seen.append(call)
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)

    with RunFolder(path) as run:
        run.create_or_continue(IDENTITY, {})
        setattr(os, call, counting)
        run.write_cell(KEYS[0], LABELS)


@pytest.mark.parametrize(
    ("call", "number", "left"),
    [
        # The data are written but not yet renamed; the folder is not yet flushed; the marker likewise.
        ("fsync", 1, 1),
        ("replace", 1, 1),
        ("fsync", 2, 0),
        ("fsync", 3, 1),
        ("link", 1, 1),
    ],
)
def test_f06_a_kill_at_any_step_of_writing_leaves_the_cell_undone(tmp_path, call, number, left):
    worker = FORK.Process(target=die_at, args=(call, number, tmp_path / "run"))
    worker.start()
    worker.join(30)
    assert worker.exitcode == -signal.SIGKILL
    temporary = list((tmp_path / "run").rglob(f"{atomic.TEMPORARY_PREFIX}*"))
    assert len(temporary) == left
    with RunFolder(tmp_path / "run") as run:
        assert not run.is_done(KEYS[0])
        assert run.read_labels().empty
        run.create_or_continue(IDENTITY, {})
        assert not any(path.exists() for path in temporary)
        run.write_cell(KEYS[0], LABELS)
        assert run.is_done(KEYS[0])


def hold(path, keys, ready, go_on):
    with RunFolder(path) as run:
        run.create_or_continue(IDENTITY, {})
        for key in keys:
            with run.claim(key):
                ready.set()
                go_on.wait(60)
                run.write_cell(key, LABELS)


@pytest.fixture
def others(tmp_path):
    """A process that holds the first cell until it is told to go on; it then does the second as well."""
    ready, go_on = FORK.Event(), FORK.Event()
    worker = FORK.Process(target=hold, args=(tmp_path / "run", KEYS[:2], ready, go_on))
    worker.start()
    assert ready.wait(30)
    yield worker, go_on
    worker.kill()
    worker.join(30)


@pytest.fixture
def folder(tmp_path, others):
    with RunFolder(tmp_path / "run") as run:
        run.create_or_continue(IDENTITY, {})
        yield run


def test_f08_whoever_has_nothing_left_to_do_waits_and_says_for_whom(folder, others):
    worker, go_on = others
    said = []

    def say(text):
        said.append(text)
        go_on.set()

    folder.wait_for_others(KEYS[:1], say)
    assert folder.is_done(KEYS[0])
    (sentence,) = said
    assert sentence.startswith("waiting for 1 cells of other processes since 20")
    assert f"process {worker.pid} on " in sentence
    assert sentence.endswith("Ctrl-C stops waiting, and the same command continues")


def test_f08_a_cell_that_nobody_does_ends_the_waiting(folder):
    began = time.monotonic()
    folder.wait_for_others(KEYS, lambda text: pytest.fail(text))
    folder.wait_for_others([], lambda text: pytest.fail(text))
    assert time.monotonic() - began < 0.4


def test_f08_waiting_can_be_interrupted(folder):
    interrupted = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupted.start()
        with pytest.raises(KeyboardInterrupt):
            folder.wait_for_others(KEYS[:1], lambda text: None)
    finally:
        interrupted.join()
        signal.signal(signal.SIGINT, before)


def test_f09_what_a_dead_process_had_claimed_is_free(folder, others):
    worker, _ = others
    assert not folder.is_free(KEYS[0])
    threading.Timer(0.2, worker.kill).start()
    folder.wait_for_others(KEYS[:1], lambda text: None)
    with folder.claim(KEYS[0]) as mine:
        assert mine
        assert not folder.is_done(KEYS[0])


def test_f09_the_note_of_a_dead_process_on_another_host_claims_nothing(tmp_path):
    claims = Locks(tmp_path)
    claims.folder.mkdir()
    path = claims.folder / "cell"
    path.write_text(json.dumps({"host": "node7", "pid": os.getpid(), "since": "2020-01-01T00:00:00+00:00"}))
    assert claims.owner("cell").host == "node7"
    with claims.take("cell", wait=False) as mine:
        assert mine
        assert claims.owner("cell").host != "node7"
        with claims.take("cell", wait=False) as again:
            assert not again
        assert claims.owner("cell").pid == os.getpid()
    assert claims.owner("cell") is None
    assert path.read_bytes() == b""
