"""Small answers: asked once, checked row by row, shared by processes, begun anew when the file is damaged."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from types import SimpleNamespace

import pytest
import torch
from poisoned import poison_answers

from tasks.cache import open_cache
from tasks.cache.answers import FILE, AnswerStore
from tasks.cache.keys import text_sha256
from tasks.cache.roles import CachedEncoder

WHO = {"what": "captions", "model": "a"}


class Echo:
    """Answers with the text, and remembers what it was asked."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.asked: list[str] = []

    def __call__(self, places: list[int]) -> list[bytes]:
        chosen = [self.texts[place] for place in places]
        self.asked += chosen
        return [text.upper().encode() for text in chosen]


def ask(cache, texts: list[str], who=WHO) -> tuple[list[bytes], list[str]]:
    echo = Echo(texts)
    return cache.answers(who, [text_sha256(text) for text in texts], echo, list), echo.asked


def test_only_what_is_missing_is_asked_and_once(tmp_path) -> None:
    found, asked = ask(open_cache(tmp_path), ["b", "a", "b", "c", "a"])
    assert found == [b"B", b"A", b"B", b"C", b"A"]
    assert asked == ["b", "a", "c"]
    cache = open_cache(tmp_path)
    found, asked = ask(cache, ["d", "a", "e", "b"])
    assert found == [b"D", b"A", b"E", b"B"]
    assert asked == ["d", "e"]
    assert ask(cache, ["a", "e"])[1] == []
    assert ask(cache, ["a"], {**WHO, "model": "b"})[1] == ["a"]
    assert ask(cache, []) == ([], [])


def test_many_answers(tmp_path) -> None:
    texts = [str(number) for number in range(1201)]
    assert ask(open_cache(tmp_path), texts)[1] == texts
    found, asked = ask(open_cache(tmp_path), texts[::-1])
    assert (found, asked) == ([text.encode() for text in texts[::-1]], [])


def test_what_was_answered_before_a_failure_is_kept(tmp_path) -> None:
    texts = [str(number) for number in range(600)]

    def fail_late(places: list[int]) -> list[bytes]:
        if places[-1] > 511:
            raise KeyboardInterrupt
        return [b""] * len(places)

    with pytest.raises(KeyboardInterrupt):
        open_cache(tmp_path).answers(WHO, [text_sha256(text) for text in texts], fail_late, list)
    assert len(ask(open_cache(tmp_path), texts)[1]) == 600 - 512


def test_a_value_by_identity(tmp_path) -> None:
    value = {"ids": ["a", "b"], "count": 3, "share": 0.1}
    assert open_cache(tmp_path).answer({"what": "scan", "folder": 1}, lambda: value) == value
    assert open_cache(tmp_path).answer({"what": "scan", "folder": 1}, lambda: pytest.fail("asked again")) == value
    assert open_cache(tmp_path).answer({"what": "scan", "folder": 2}, lambda: None) is None


def test_a_changed_row_is_found_and_asked_again(tmp_path, caplog) -> None:
    ask(open_cache(tmp_path), ["a", "b", "c"])
    with sqlite3.connect(tmp_path / FILE) as database:
        database.execute("UPDATE answers SET value = ? WHERE item = ?", (b"X", text_sha256("b")))
    database.close()
    cache = open_cache(tmp_path)
    assert ask(cache, ["a", "b", "c"]) == ([b"A", b"B", b"C"], ["b"])
    assert ask(cache, ["a", "b", "c"])[1] == []
    assert len(caplog.records) == 1


def test_rows_cannot_change_places(tmp_path) -> None:
    ask(open_cache(tmp_path), ["a", "b"])
    with sqlite3.connect(tmp_path / FILE) as database:
        kept = database.execute("SELECT value, checksum FROM answers WHERE item = ?", (text_sha256("a"),)).fetchone()
        database.execute("UPDATE answers SET value = ?, checksum = ? WHERE item = ?", (*kept, text_sha256("b")))
    database.close()
    assert ask(open_cache(tmp_path), ["b"])[0] == [b"B"]


@pytest.mark.parametrize("damage", ["no database", "middle"])
def test_a_damaged_file_is_set_aside_and_begun_anew(tmp_path, caplog, damage) -> None:
    texts = [str(number) for number in range(300)]
    store = open_cache(tmp_path)
    ask(store, texts)
    assert store.small is not None
    store.small.close()
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes(b"no database at all" * 100 if damage == "no database" else whole[:4096] + b"\xff" * 40960)
    cache = open_cache(tmp_path)
    assert ask(cache, texts)[0] == [text.encode() for text in texts]
    assert ask(open_cache(tmp_path), texts)[1] == []
    assert len(caplog.records) == 1
    assert len(list((tmp_path / "corrupt").iterdir())) == 1


def test_a_file_that_another_process_holds_costs_one_bounded_wait(tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr("tasks.cache.answers._PATIENCE", 0.2)
    ask(open_cache(tmp_path), ["a"])
    for begun in (True, False):  # the file is there with its tables, or is only now made
        folder = tmp_path if begun else tmp_path / "new"
        folder.mkdir(exist_ok=True)
        with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as holder:
            holder.execute("PRAGMA journal_mode=WAL")
            holder.execute("BEGIN IMMEDIATE")
            caplog.clear()
            cache, started = open_cache(folder), time.monotonic()
            for number in range(20):
                assert ask(cache, ["a", str(number)])[0][0] == b"A"
            assert time.monotonic() - started < 2
            assert len(caplog.records) == 1
            assert "locked" in caplog.text
            assert ask(cache, ["a"])[1] == ([] if begun else ["a"])


def test_what_sqlite_cannot_open_is_not_tried_for_a_minute(tmp_path, caplog) -> None:
    (tmp_path / f"{FILE}-wal").mkdir()
    started = time.monotonic()
    assert ask(open_cache(tmp_path), ["a"]) == ([b"A"], ["a"])
    assert time.monotonic() - started < 2
    assert len(caplog.records) == 1


@pytest.mark.parametrize("poison", [b"\xff", b"{", b"1" * 5000, b"[" * 100_000])
def test_a_value_that_cannot_be_read_is_made_again(tmp_path, caplog, poison: bytes) -> None:
    assert open_cache(tmp_path).answer(WHO, lambda: 3) == 3
    poison_answers(tmp_path, poison)
    assert open_cache(tmp_path).answer(WHO, lambda: 3) == 3
    assert len(caplog.records) == 1
    assert open_cache(tmp_path).answer(WHO, lambda: pytest.fail("made again")) == 3


def test_rows_of_different_widths_are_made_again(tmp_path) -> None:
    def encode(texts: list[str]) -> torch.Tensor:
        return torch.tensor([[len(text), 1.0] for text in texts])

    model = SimpleNamespace(encode_text=encode)
    first = CachedEncoder(model, {"name": "m"}, open_cache(tmp_path)).encode_text(["a", "bb"])
    with closing(sqlite3.connect(tmp_path / FILE)) as database:
        (item,) = database.execute("SELECT item FROM answers LIMIT 1").fetchone()
    poison_answers(tmp_path, b"abcd", item)
    again = CachedEncoder(model, {"name": "m"}, open_cache(tmp_path)).encode_text(["a", "bb"])
    assert torch.equal(again, first)


def test_an_identity_that_is_no_text_is_listed_all_the_same(tmp_path) -> None:
    ask(open_cache(tmp_path), ["a"])
    with closing(sqlite3.connect(tmp_path / FILE)) as database, database:
        database.execute("UPDATE answerers SET identity = CAST(? AS TEXT)", (b"\xff",))
    (entry,) = AnswerStore(tmp_path).entries()
    assert entry.identity == {}


def test_processes_share_one_file(tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; from tasks.cache import open_cache; from tasks.cache.keys import *\n"
        "cache = open_cache(sys.argv[1])\n"
        "for start in range(0, 200, 20):\n"
        "    texts = [str(n) for n in range(start, start + 20)]\n"
        "    made = lambda places: [texts[p].encode() for p in places]\n"
        "    found = cache.answers({'what': 'x'}, [text_sha256(t) for t in texts], made, list)\n"
        "    assert found == [t.encode() for t in texts]\n"
    )
    path = ":".join(filter(None, sys.path))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            env={"PYTHONPATH": path},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [process.communicate(timeout=120)[1] for process in running] == ["", "", ""]
    (entry,) = AnswerStore(tmp_path).entries()
    assert entry.count == 200


def test_entries_and_their_removal(tmp_path) -> None:
    cache = open_cache(tmp_path)
    ask(cache, ["a", "b"])
    ask(cache, ["a"], {"what": "captions", "model": "b"})
    store = AnswerStore(tmp_path)
    found = {entry.identity["model"]: entry for entry in store.entries()}
    assert {model: entry.count for model, entry in found.items()} == {"a": 2, "b": 1}
    assert all(entry.used > 1e9 and entry.size > 100 for entry in found.values())
    store.remove([found["a"].key])
    assert [entry.identity["model"] for entry in store.entries()] == ["b"]
    assert ask(cache, ["a"])[1] == ["a"]
    assert ask(cache, ["a"], {"what": "captions", "model": "b"})[1] == []


def test_nothing_is_pickled(tmp_path) -> None:
    ask(open_cache(tmp_path), ["a"])
    with sqlite3.connect(tmp_path / FILE) as database:
        rows = database.execute("SELECT item, value, checksum FROM answers").fetchall()
    database.close()
    item = text_sha256("a")
    assert rows == [(item, b"A", hashlib.sha256(item + b"A").digest()[:8])]
