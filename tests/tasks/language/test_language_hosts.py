"""Replies in a run folder that several hosts use, each with its own SQLite file on a local disk."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.common.errors import UserError
from tasks.language.chat import Message, Reply
from tasks.language.replies import CachedChat, ReplyStore, Usage

ROOT = Path(__file__).parents[3]


class Model:
    identity = "m"

    def __init__(self, name: str = "") -> None:
        self.name, self.asked = name, 0

    def chat(self, messages, *, temperature, max_tokens, seed) -> Reply:
        self.asked += 1
        return Reply(f"{self.name} {seed}", 10, 5, "m")


def host(run: Path, name: str) -> ReplyStore:
    return ReplyStore(run / "replies.sqlite", run.parent / name)


def ask(model: Model, store: ReplyStore, seeds=range(4)) -> list[str]:
    chat = CachedChat(model, store)
    return [chat.chat([Message("user", "a")], temperature=0, max_tokens=9, seed=seed).text for seed in seeds]


def pay(store: ReplyStore, usd: float, cap: float | None = None, most: float | None = None) -> bool:
    booking, _ = store.book("m", most or usd, cap)
    if booking is not None:
        store.settle(booking, 10, 5, usd)
    return booking is not None


def test_hosts_get_each_others_replies_and_share_no_sqlite_file(tmp_path: Path) -> None:
    run = tmp_path / "run"
    a, b = host(run, "a"), host(run, "b")
    first, second = Model("a"), Model("b")
    assert ask(first, a) == ask(second, b)
    assert (first.asked, second.asked) == (4, 0)
    assert ask(second, b, range(6)) == ask(first, a, range(6))
    assert (first.asked, second.asked) == (4, 2)
    assert not list(run.rglob("*.sqlite*"))
    # A host that comes later, and one that has lost its disk, know all.
    assert ask(Model("c"), host(run, "c"), range(6)) == ask(first, a, range(6))


def test_a_damaged_segment_is_asked_for_again_with_one_warning(tmp_path: Path, caplog) -> None:
    run = tmp_path / "run"
    ask(Model("a"), host(run, "a"))
    segments = sorted((run / "replies").glob("*.jsonl"))
    segments[0].write_bytes(b"{")
    segments[1].rename(run / "replies" / "not what it holds.jsonl")
    # Its hash fits, but no version has written it.
    hostile = b'{"reply": ["k", 1]}\n[]\n{"request": ["x", 1, "much", null, null, null]}\n'
    name = f"{hashlib.sha256(hostile).hexdigest()[:32]}.jsonl"
    (run / "replies" / name).write_bytes(hostile)
    model, store = Model("b"), host(run, "b")
    with caplog.at_level(logging.WARNING):
        said = ask(model, store)
    assert (model.asked, sorted(text[0] for text in said)) == (2, list("aabb"))
    assert len(caplog.records) == 3
    assert store.usage() == Usage(0, 0, 0, 0.0)


def test_a_run_folder_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    old = ReplyStore(run / "replies.sqlite")
    ask(Model("old"), old)
    assert pay(old, 0.75)
    # It was killed: the last replies are in the write-ahead log alone.
    assert (run / "replies.sqlite-wal").stat().st_size
    for name in ("a", "b", "a"):
        model, store = Model("new"), host(run, name)
        assert ask(model, store) == [f"old {seed}" for seed in range(4)]
        assert (model.asked, store.usage()) == (0, Usage(1, 10, 5, 0.75))
        assert not pay(store, 0.3, cap=1.0)
    old.close()
    # On a local disk it stays the file that it was.
    same, model = ReplyStore(run / "replies.sqlite"), Model()
    ask(model, same, range(5))
    assert model.asked == 1
    assert not list((run / "replies").glob("*.jsonl"))


def test_a_damaged_file_of_an_earlier_version_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "replies.sqlite").write_text("no database, but long enough to be read as one\n" * 30)
    with pytest.raises(UserError, match=r"run/replies\.sqlite cannot be used to keep replies"):
        host(tmp_path / "run", "a")


def test_hosts_one_after_the_other_keep_one_cap_and_one_count(tmp_path: Path) -> None:
    run = tmp_path / "run"
    a, b = host(run, "a"), host(run, "b")
    assert pay(a, 0.4, cap=1.0)
    ask(Model(), a, [1])
    assert pay(b, 0.4, cap=1.0)
    ask(Model(), b, [2])
    assert not pay(a, 0.4, cap=1.0)
    assert not pay(host(run, "c"), 0.4, cap=1.0)
    assert a.usage() == b.usage() == Usage(2, 20, 10, 0.8)
    # A higher cap continues, and what was paid without one counts.
    assert pay(a, 5.0)
    assert not pay(b, 0.4, cap=5.5)
    assert pay(b, 0.4, cap=6.5)


def test_what_was_booked_before_a_kill_counts_at_its_highest_price(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert host(run, "a").book("m", 0.9, 1.0)[0] is not None
    assert not pay(host(run, "b"), 0.2, cap=1.0)


def test_a_request_that_cost_less_than_booked_leaves_the_rest(tmp_path: Path) -> None:
    store = host(tmp_path / "run", "a")
    assert sum(pay(store, 1 / 64, cap=1.0, most=0.5) for _ in range(60)) == 33
    assert json.loads((tmp_path / "run" / "replies" / "reserved" / "1.json").read_text()) == {"usd": 0.5}


_PAYING = """
import sys
from pathlib import Path
from tasks.language.replies import ReplyStore
store = ReplyStore(Path(sys.argv[1]) / "replies.sqlite", Path(sys.argv[2]))
print(sum(store.book("m", 1.0, 30.0)[0] is not None for _ in range(20)))
"""


def test_two_processes_on_each_of_two_hosts_keep_one_cap(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PAYING, str(tmp_path / "run")]
    workers = [
        subprocess.Popen([*command, str(tmp_path / name)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for name in ("a", "a", "b", "b")
    ]
    assert sum(int(worker.communicate(timeout=60)[0]) for worker in workers) == 30


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"usd": null}'])
def test_a_damaged_reservation_is_a_sentence_and_nothing_is_paid(tmp_path: Path, damage: bytes) -> None:
    run = tmp_path / "run"
    assert pay(host(run, "a"), 0.4, cap=1.0)
    (run / "replies" / "reserved" / "1.json").write_bytes(damage)
    with pytest.raises(UserError, match=r"1\.json is damaged, so it is not known how much of the price cap is left"):
        pay(host(run, "b"), 0.4, cap=1.0)


def test_a_shared_folder_that_cannot_be_written_is_a_sentence_and_nothing_is_paid(tmp_path: Path) -> None:
    store = host(tmp_path / "run", "a")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "replies").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        pay(store, 0.4, cap=1.0)
    assert store.usage().requests == 0


def test_the_file_of_a_tier_is_one_of_todays(tmp_path: Path) -> None:
    """A tier on what is then found to be a local disk, or the other way round, is no other format."""
    ask(Model("a"), host(tmp_path / "run", "a"))
    with sqlite3.connect(tmp_path / "a" / "replies.sqlite") as database:
        assert database.execute("SELECT COUNT(*) FROM replies").fetchone() == (4,)
    database.close()
    assert ask(Model("b"), ReplyStore(tmp_path / "a" / "replies.sqlite")) == [f"a {seed}" for seed in range(4)]
