"""Replies of language models, shared by runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from poisoned import poison_answers

from tasks.cache import open_cache
from tasks.common.errors import UserError
from tasks.language.chat import Message, Reply
from tasks.language.replies import CachedChat, ReplyStore


class Model:
    def __init__(self, identity: str = "m") -> None:
        self.identity = identity
        self.calls = 0

    def chat(self, messages, *, temperature, max_tokens, seed) -> Reply:
        self.calls += 1
        return Reply(f"reply {self.calls} to {messages[0].content}", 3, 4, self.identity)


def ask(chat: CachedChat, text: str = "fish", temperature: float = 0.3, max_tokens: int = 8, seed: int = 0) -> Reply:
    return chat.chat([Message("user", text)], temperature=temperature, max_tokens=max_tokens, seed=seed)


def test_another_run_finds_the_reply_and_books_no_request(tmp_path) -> None:
    first, second = Model(), Model()
    said = ask(CachedChat(first, ReplyStore(), open_cache(tmp_path)))
    store = ReplyStore()
    later = CachedChat(second, store, open_cache(tmp_path))
    assert ask(later) == said
    assert (second.calls, later.asked, later.cached, store.usage().requests) == (0, 0, 1, 0)
    # The run's own file is whole: without the cache it still knows the reply.
    assert ask(CachedChat(second, store)) == said
    assert second.calls == 0


def test_each_part_of_a_request_asks_again(tmp_path) -> None:
    model = Model()
    base = {"text": "fish", "temperature": 0.3, "max_tokens": 8, "seed": 0}
    changes = [{}, {"text": "car"}, {"temperature": 0.4}, {"max_tokens": 9}, {"seed": 1}]
    for _ in range(2):
        for change in changes:
            ask(CachedChat(model, ReplyStore(), open_cache(tmp_path)), **{**base, **change})
    assert model.calls == len(changes)
    others = [CachedChat(Model("n"), ReplyStore(), open_cache(tmp_path))]
    others.append(CachedChat(Model(), ReplyStore(), open_cache(tmp_path), {"server": "http://127.0.0.1:1"}))
    for chat in others:
        ask(chat)
        assert chat.asked == 1


def test_the_runs_own_reply_goes_first(tmp_path) -> None:
    store = ReplyStore()
    own = ask(CachedChat(Model(), store))
    other = Model()
    other.calls = 5
    assert ask(CachedChat(other, ReplyStore(), open_cache(tmp_path))) != own
    assert ask(CachedChat(Model(), store, open_cache(tmp_path))) == own


def test_a_shared_reply_that_cannot_be_read_is_asked_for_again(tmp_path) -> None:
    said = ask(CachedChat(Model(), ReplyStore(), open_cache(tmp_path)))
    for poison in (b"\xff", b"{", b'["reply"]', b'{"text": 3}', b"[" * 100_000):
        poison_answers(tmp_path, poison)
        again = CachedChat(Model(), ReplyStore(), open_cache(tmp_path))
        assert ask(again) == said
        assert again.asked == 1
    whole = CachedChat(Model(), ReplyStore(), open_cache(tmp_path))
    assert (ask(whole), whole.asked) == (said, 0)


def test_a_reply_with_half_a_letter_is_kept_with_a_mark_for_it(tmp_path) -> None:
    class Half(Model):
        def chat(self, messages, *, temperature, max_tokens, seed) -> Reply:
            return Reply("red car \ud83d", 3, 4, "m\ude00", "\udcff")

    for _ in range(2):
        store = ReplyStore(tmp_path / "replies.sqlite")
        assert ask(CachedChat(Half(), store, open_cache(tmp_path))) == Reply(
            "red car \ufffd", 3, 4, "m\ufffd", "\ufffd"
        )
        store.close()


@pytest.mark.parametrize("poison", [b"\xff", b"{", b'{"text": "x"}'])
def test_a_row_of_the_runs_own_file_that_cannot_be_read_is_asked_for_again(tmp_path, poison: bytes) -> None:
    path = tmp_path / "replies.sqlite"
    said = ask(CachedChat(Model(), ReplyStore(path)))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE replies SET reply = CAST(? AS TEXT)", (poison,))
    for asked in (1, 0):
        chat = CachedChat(Model(), ReplyStore(path))
        assert (ask(chat), chat.asked) == (said, asked)


def test_a_damaged_file_of_replies_is_a_sentence(tmp_path) -> None:
    path = tmp_path / "replies.sqlite"
    store = ReplyStore(path)
    for number in range(300):
        ask(CachedChat(Model(), store), text=str(number))
    store.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(UserError, match=r"is damaged .*: move it away"):
        ask(CachedChat(Model(), ReplyStore(path)))
