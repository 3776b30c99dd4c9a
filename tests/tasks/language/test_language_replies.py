"""Replies are kept once, over processes; requests are counted and capped over processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest

from tasks.common.errors import UserError
from tasks.language.chat import Message, NoAnswerError, Reply
from tasks.language.config import PriceEntry
from tasks.language.prices import cost, most_prompt_tokens, price_table
from tasks.language.replies import CachedChat, ReplyStore, Usage


class Counting:
    """A model whose replies count how often it was asked."""

    def __init__(self, identity: str = "counting") -> None:
        self.identity = identity
        self.asked = 0

    def chat(self, messages, *, temperature, max_tokens, seed) -> Reply:
        self.asked += 1
        return Reply(f"reply {self.asked} ü", 3, 2, self.identity, None)


ASKED = {"messages": [Message("user", "what is it?")], "temperature": 0.3, "max_tokens": 50, "seed": 1}
CHANGES = [
    {"messages": [Message("user", "what is it")]},
    {"messages": [Message("assistant", "what is it?")]},
    {"messages": [Message("user", "what"), Message("user", " is it?")]},
    {"temperature": 0.4},
    {"max_tokens": 51},
    {"seed": 2},
]


def test_an_equal_request_is_not_asked_twice(tmp_path) -> None:
    model, store = Counting(), ReplyStore(tmp_path / "deep" / "replies.sqlite")
    chat = CachedChat(model, store)
    assert chat.chat(**ASKED) == chat.chat(**ASKED) == Reply("reply 1 ü", 3, 2, "counting", None)
    assert (chat.asked, chat.cached) == (1, 1)
    store.close()
    later = CachedChat(Counting(), ReplyStore(tmp_path / "deep" / "replies.sqlite"))
    assert later.chat(**{**ASKED, "temperature": 0.3}).text == "reply 1 ü"
    assert later.asked == 0


def test_on_a_full_disk_nothing_is_asked_and_what_was_kept_stays(tmp_path) -> None:
    store = ReplyStore(tmp_path / "replies.sqlite")
    chat = CachedChat(Counting(), store)
    kept = chat.chat(**ASKED)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    spent = store.usage()
    with pytest.raises(UserError, match=r"replies\.sqlite cannot be written .*full.*make room"):
        store.book("model " * 5000, 0.1, None)
    assert store.usage() == spent
    assert chat.chat(**ASKED) == kept
    assert chat.asked == 1


@pytest.mark.parametrize("change", CHANGES)
def test_every_part_of_a_request_counts(change) -> None:
    chat = CachedChat(Counting(), ReplyStore())
    assert chat.chat(**ASKED).text != chat.chat(**{**ASKED, **change}).text


def test_the_model_counts_and_another_sample_is_kept_beside_the_first() -> None:
    store = ReplyStore()
    first, other = CachedChat(Counting(), store), CachedChat(Counting("other"), store)
    assert first.chat(**ASKED).model != other.chat(**ASKED).model
    samples = [first.chat(**{**ASKED, "seed": seed}).text for seed in (1, 2, 1, 2)]
    assert samples == ["reply 1 ü", "reply 2 ü"] * 2


def test_an_answer_that_is_none_is_not_kept() -> None:
    class Refusing(Counting):
        def chat(self, messages, *, temperature, max_tokens, seed) -> Reply:
            self.asked += 1
            raise NoAnswerError("it refused")

    chat = CachedChat(Refusing(), ReplyStore())
    for _ in range(2):
        with pytest.raises(NoAnswerError):
            chat.chat(**ASKED)
    assert chat.asked == 2


def test_the_first_of_two_replies_counts() -> None:
    store = ReplyStore()
    mine, theirs = Reply("mine", 1, 1, "m"), Reply("theirs", 1, 1, "m")
    assert store.put("key", "m", "{}", theirs) == theirs
    assert store.put("key", "m", "{}", mine) == theirs


_WORKER = """
import sys
from tasks.language.chat import Message, Reply
from tasks.language.replies import CachedChat, ReplyStore

class Slow:
    identity = "shared"
    def chat(self, messages, *, temperature, max_tokens, seed):
        return Reply(f"from {sys.argv[2]}", 1, 1, "shared")

store = ReplyStore(sys.argv[1])
chat = CachedChat(Slow(), store)
texts = [chat.chat([Message("user", "a")], temperature=0.0, max_tokens=9, seed=seed).text for seed in range(20)]
booked = [store.book("shared", 1.0, 30.0)[0] is not None for _ in range(20)]
print(sum(booked), *texts, sep="|")
"""


def test_processes_share_replies_and_the_cap(tmp_path) -> None:
    command = [sys.executable, "-c", _WORKER, str(tmp_path / "replies.sqlite")]
    workers = [subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True) for i in range(3)]
    said = [worker.communicate(timeout=60)[0].strip().split("|") for worker in workers]
    assert all(worker.returncode == 0 for worker in workers)
    # Whoever was first, all were told the same.
    assert said[0][1:] == said[1][1:] == said[2][1:]
    assert len(said[0]) == 21
    # 60 requests of $1 under a cap of $30.
    assert sum(int(one[0]) for one in said) == 30
    assert ReplyStore(tmp_path / "replies.sqlite").usage() == Usage(30, 0, 0, 30.0)


def test_usage_counts_tokens_and_knows_what_it_does_not_know() -> None:
    store = ReplyStore()
    assert store.usage() == Usage(0, 0, 0, 0.0)
    first, _ = store.book("m", 1.0, None)
    store.settle(first, 100, 20, 0.25)
    second, spent = store.book("m", 2.0, None)
    assert spent == 0.25
    assert store.usage() == Usage(2, 100, 20, 2.25)
    store.settle(second, None, None, None)
    assert store.usage() == Usage(2, 100, 20, 2.25)
    store.book("unknown", None, None)
    assert store.usage().usd is None


def test_a_file_of_a_newer_version_or_another_kind_is_refused(tmp_path) -> None:
    path = tmp_path / "replies.sqlite"
    ReplyStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()
    with pytest.raises(UserError, match="newer version"):
        ReplyStore(path)
    (tmp_path / "notes.txt").write_text("no database, but long enough to be read as one\n" * 30)
    with pytest.raises(UserError, match=r"notes\.txt cannot be used to keep replies"):
        ReplyStore(tmp_path / "notes.txt")


def test_prices() -> None:
    table = price_table()
    assert all(price.source and price.as_of.year >= 2024 for price in table.values())
    assert (table["gpt-4-0125-preview"].input, table["gpt-4-0125-preview"].output) == (10.0, 30.0)
    price = PriceEntry.model_validate({"input": 2, "output": 8, "as_of": "2026-11-01", "source": "a test"})
    assert cost(price, 1_000_000, 500_000) == pytest.approx(6.0)
    # No byte-level tokenizer makes more tokens than there are bytes.
    assert most_prompt_tokens([Message("user", "日本 fish")]) >= len("日本 fish".encode())
