"""The client against a real server on loopback that misbehaves on purpose."""

from __future__ import annotations

import base64
import builtins
import logging
import sys
import threading
import time
import traceback
from email.utils import formatdate

import pytest

pytest.importorskip("openai")
pytest.importorskip("tenacity")

from scripted_server import FakeClock, ScriptedServer, drips, fails, hangs, resets, says, sends, stops_early

from tasks.common.errors import UserError
from tasks.language.chat import (
    AccessError,
    BadReplyError,
    LanguageModelError,
    Message,
    NoAnswerError,
    PriceCapError,
    UnavailableError,
)
from tasks.language.client import OpenAIChat
from tasks.language.replies import CachedChat, ReplyStore
from tasks.language.retry import LONGEST_WAIT, Clock, RateLimit

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
PRICE = {"input": 1.0, "output": 2.0, "as_of": "2026-11-01", "source": "a test"}
KEY = "sk-planted-0123456789abcdef"


@pytest.fixture
def server():
    server = ScriptedServer()
    yield server
    server.stop()


def ask(model, text: str = "what is it?", seed: int = 1):
    return model.chat([Message("user", text)], temperature=0.3, max_tokens=50, seed=seed)


def client(server: ScriptedServer, clock: Clock | None = None, **settings) -> OpenAIChat:
    return OpenAIChat(server.source(**settings), clock=clock or FakeClock(), environment={})


def test_a_reply_and_what_was_asked(server: ScriptedServer) -> None:
    reply = ask(client(server), seed=2**32 - 1)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("a red thing", 10, 4)
    assert (reply.model, reply.fingerprint) == ("tiny-2026-11-01", "fp_1")
    (body,) = server.bodies
    assert body["messages"] == [{"role": "user", "content": "what is it?"}]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("tiny", 0.3, 50)
    # llama.cpp reads the highest unsigned number as "random", others read signed numbers only.
    assert 0 <= body["seed"] < 2**31


def test_the_token_limit_and_seed_can_be_sent_as_a_server_wants_them(server: ScriptedServer) -> None:
    ask(client(server, token_limit="max_completion_tokens", send_seed=False))
    (body,) = server.bodies
    assert body["max_completion_tokens"] == 50
    assert "max_tokens" not in body
    assert "seed" not in body


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": formatdate(1_000_005, usegmt=True)}, 5.0),
        ({"retry_after_ms": "250", "retry_after": "7"}, 0.25),
        ({"retry_after": "3600"}, LONGEST_WAIT),
    ],
)
def test_a_rate_limit_waits_as_told(server: ScriptedServer, headers: dict[str, str], wait: float) -> None:
    server.acts = [fails(429, "rate_limit_exceeded", **headers), says("a red thing")]
    clock = FakeClock()
    assert ask(client(server, clock)).text == "a red thing"
    assert clock.slept == pytest.approx([wait])


@pytest.mark.parametrize("told", ["nan", "-5", "soon", "", formatdate(1, usegmt=True)])
def test_a_senseless_retry_after_is_not_heeded(server: ScriptedServer, told: str) -> None:
    server.acts = [fails(429, retry_after=told), says("a red thing")]
    clock = FakeClock()
    assert ask(client(server, clock)).text == "a red thing"
    assert len(clock.slept) == 1
    assert 0.5 <= clock.slept[0] <= 1


@pytest.mark.parametrize("act", [fails(500), fails(502), fails(503), fails(408), resets, stops_early, sends('{"choi')])
def test_what_may_pass_is_tried_again(server: ScriptedServer, act) -> None:
    server.acts = [act, act, says("a red thing")]
    clock = FakeClock()
    assert ask(client(server, clock)).text == "a red thing"
    assert len(server.bodies) == 3
    assert 0.5 <= clock.slept[0] <= 1 <= clock.slept[1] <= 2


def test_attempts_are_bounded(server: ScriptedServer) -> None:
    server.acts = [fails(500)]
    with pytest.raises(UnavailableError, match=r"failed \(500\) \(3 tries\)"):
        ask(client(server, attempts=3))
    assert len(server.bodies) == 3


def test_the_total_time_is_bounded(server: ScriptedServer) -> None:
    server.acts = [fails(429, retry_after="40")]
    clock = FakeClock()
    with pytest.raises(UnavailableError, match="limits the rate"):
        ask(client(server, clock, attempts=20, total_seconds=100))
    assert clock.slept == [40, 40]


def drips_headers(handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b"x: y\r\n")


def drips_the_status(handler) -> None:
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b"H")


@pytest.mark.parametrize("act", [hangs, drips, drips_headers, drips_the_status])
def test_a_slow_answer_ends_in_time(server: ScriptedServer, act) -> None:
    server.acts = [act]
    started = time.monotonic()
    with pytest.raises(UnavailableError, match="did not answer within"):
        ask(client(server, Clock(), timeout_seconds=0.1, total_seconds=0.15))
    assert time.monotonic() - started < 1


def test_an_error_inside_a_choice_is_tried_again(server: ScriptedServer) -> None:
    failed = b'{"choices": [{"finish_reason": "error", "error": {"code": 502}, "message": {"content": ""}}]}'
    server.acts = [sends(failed), says("a red thing")]
    assert ask(client(server)).text == "a red thing"


def test_tokens_beyond_all_reason_are_unknown_and_lose_no_reply(server: ScriptedServer, tmp_path) -> None:
    store = ReplyStore(tmp_path / "replies.sqlite")
    server.acts = [says("a red thing", tokens=(2**63, 10**30))]
    for seed in range(3):
        assert ask(OpenAIChat(server.source(), store, environment={}), seed=seed).prompt_tokens is None
    assert store.usage().requests == 3


def test_text_beside_the_call_of_a_tool_is_no_answer(server: ScriptedServer) -> None:
    call = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    for act in (says("dog", tool_calls=call), says("dog", "tool_calls"), says("dog", function_call={"name": "f"})):
        server.acts = [act]
        with pytest.raises(NoAnswerError, match="called a tool"):
            ask(client(server))


def test_replies_that_cannot_be_used_are_counted(server: ScriptedServer) -> None:
    server.acts = [says("dog", "length")]
    model = CachedChat(client(server), ReplyStore())
    for seed in range(3):
        with pytest.raises(NoAnswerError):
            ask(model, seed=seed)
    assert list(model.unusable.values()) == [3]
    assert "cut off at the token limit" in next(iter(model.unusable))


def test_a_reply_in_parts_is_their_text_without_the_thoughts(server: ScriptedServer) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "cats?"}]}
    server.acts = [says([thought, {"type": "text", "text": "a red "}, {"type": "text", "text": "dog"}])]
    assert ask(client(server)).text == "a red dog"


def test_a_server_that_is_not_there() -> None:
    server = ScriptedServer()
    server.stop()
    with pytest.raises(UnavailableError, match=r"could not be reached.*base_url"):
        ask(client(server, attempts=2))


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (fails(429, "insufficient_quota"), "no quota left .* billing"),
        (fails(402), "no quota left"),
        (fails(401), r"refused .*\(401\)"),
        (fails(403), r"no access .*\(403\)"),
        (fails(404, "model_not_found"), "no model 'tiny'"),
        (sends('{"detail": "Server is pinned"}', 400), r"not accept .*\(400\).*pinned"),
        (sends("", 307, location="http://127.0.0.1:1/"), r"\(307\)"),
    ],
)
def test_what_will_not_pass_is_not_tried_again(server: ScriptedServer, act, words: str) -> None:
    server.acts = [act]
    with pytest.raises(LanguageModelError, match=words) as caught:
        ask(client(server))
    assert not isinstance(caught.value, UnavailableError)
    assert isinstance(caught.value, UserError)
    assert len(server.bodies) == 1


def test_a_key_error_names_the_variable(server: ScriptedServer) -> None:
    server.acts = [fails(401, message="bad\x1b[31m key")]
    model = OpenAIChat(server.source(key_variable="MY_KEY"), environment={"MY_KEY": KEY}, clock=FakeClock())
    with pytest.raises(AccessError, match="the key in MY_KEY") as caught:
        ask(model)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("act", "error"),
    [
        (sends("<!doctype html><p>busy</p>", kind="text/html"), BadReplyError),
        (sends('{"status": "ok"}'), BadReplyError),
        (sends("[1, 2]"), BadReplyError),
        (sends('{"choices": []}'), NoAnswerError),
        (sends('{"choices": null}'), NoAnswerError),
        (sends('{"choices": [{"message": null}]}'), NoAnswerError),
        (says(None), NoAnswerError),
        (says(["a list"]), NoAnswerError),
        (says("  \n"), NoAnswerError),
        (says("a red thing and a", finish="length"), NoAnswerError),
        (says("a red thing", finish="content_filter"), NoAnswerError),
        (says(None, refusal="I cannot help with that."), NoAnswerError),
        (says("a red thing", refusal="I cannot help with that."), NoAnswerError),
        (fails(400, "content_filter"), NoAnswerError),
    ],
)
def test_an_odd_answer_is_an_error_and_is_not_kept(server: ScriptedServer, act, error: type[Exception]) -> None:
    server.acts = [act, says("a red thing")]
    store = ReplyStore()
    model = CachedChat(OpenAIChat(server.source(), store, clock=FakeClock()), store)
    with pytest.raises(error):
        ask(model)
    assert len(server.bodies) == 1
    assert ask(model).text == "a red thing"
    assert ask(model).text == "a red thing"
    assert len(server.bodies) == 2
    assert store.usage().requests == 2


def test_broken_json_for_ever_is_an_error(server: ScriptedServer) -> None:
    server.acts = [sends('{"choices": [{"mess')]
    with pytest.raises(UnavailableError, match="broken JSON"):
        ask(client(server, attempts=2))
    server.acts = [sends('{"error": {"message": "overloaded", "code": 502}}')]
    with pytest.raises(UnavailableError, match="an error inside a success"):
        ask(client(server, attempts=2))


def test_a_huge_body_is_not_read_to_its_end(server: ScriptedServer) -> None:
    server.acts = [sends(b" " * 5_000_000)]
    with pytest.raises(UnavailableError):
        ask(client(server, attempts=1))


def test_the_rate_limit_is_kept_and_leaks_no_thread(server: ScriptedServer) -> None:
    clock = FakeClock()
    model = client(server, clock, requests_per_second=50.0)
    ask(model)
    threads = threading.active_count()
    starts = [clock.time]
    for seed in range(199):
        ask(model, seed=seed)
        starts.append(clock.time)
    assert len(server.bodies) == 200
    assert all(later - earlier >= 1 - 1e-9 for earlier, later in zip(starts, starts[50:], strict=False))
    assert starts[-1] == pytest.approx(199 / 50)
    assert threading.active_count() <= threads


def test_the_rate_limit_holds_over_threads() -> None:
    limit, starts = RateLimit(400.0, Clock()), []

    def work() -> None:
        for _ in range(20):
            limit.wait()
            starts.append(time.monotonic())

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert max(starts) - min(starts) >= 0.95 * 79 / 400


def test_the_price_cap_stops_before_the_request(server: ScriptedServer, tmp_path) -> None:
    # A request costs at most (11 letters + 64 tokens around them) × $1 + 50 × $2 a million; it turns out at 10 + 2 × 4.
    most, real = (11 + 64 + 100) / 1e6, 18 / 1e6
    cap = most + 2.5 * real
    store = ReplyStore(tmp_path / "replies.sqlite")
    model = CachedChat(OpenAIChat(server.source(price=PRICE, price_cap_usd=cap), store, clock=FakeClock()), store)
    for seed in range(3):
        ask(model, seed=seed)
    with pytest.raises(PriceCapError, match=r"spent.*remaining.*price_cap_usd"):
        ask(model, seed=3)
    assert len(server.bodies) == 3
    assert ask(model, seed=2).text == "a red thing"
    assert store.usage().usd == pytest.approx(3 * real)
    store.close()
    # The same command again, with the same cap and with a higher one.
    again = ReplyStore(tmp_path / "replies.sqlite")
    with pytest.raises(PriceCapError):
        ask(OpenAIChat(server.source(price=PRICE, price_cap_usd=cap), again, clock=FakeClock()), seed=3)
    higher = CachedChat(OpenAIChat(server.source(price=PRICE, price_cap_usd=2 * cap), again, clock=FakeClock()), again)
    assert ask(higher, seed=0).text == "a red thing"
    assert len(server.bodies) == 3
    ask(higher, seed=3)
    assert len(server.bodies) == 4


def test_a_request_without_a_reply_counts_at_its_highest_cost(server: ScriptedServer) -> None:
    server.acts = [resets, fails(500), says("a red thing", tokens=None), says("a red thing")]
    store = ReplyStore()
    model = OpenAIChat(server.source(price=PRICE), store, clock=FakeClock())
    ask(model)
    ask(model)
    most = (11 + 64 + 100) / 1e6
    # Reset: may have been billed. 500: not. No token counts: unknown, so the most. Last: as counted.
    assert store.usage().usd == pytest.approx(2 * most + 18 / 1e6)
    assert store.usage().requests == 4


def test_an_unknown_price_is_unknown_and_cannot_be_capped(server: ScriptedServer) -> None:
    store = ReplyStore()
    ask(OpenAIChat(server.source(), store, clock=FakeClock()))
    assert store.usage().usd is None
    with pytest.raises(PriceCapError, match=r"unknown.*price"):
        client(server, price_cap_usd=1.0)


def test_offline_asks_nobody_but_knows_what_was_answered(server: ScriptedServer) -> None:
    store = ReplyStore()
    ask(CachedChat(OpenAIChat(server.source(), store), store))
    offline = CachedChat(OpenAIChat(server.source(), store, offline=True), store)
    assert ask(offline).text == "a red thing"
    with pytest.raises(AccessError, match="--offline"):
        ask(offline, seed=2)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("environment", "words"),
    [({}, "set the environment variable MY_KEY"), ({"MY_KEY": " \n"}, "set the"), ({"MY_KEY": "a b"}, "copy it again")],
)
def test_a_missing_or_broken_key_is_found_before_any_request(server, environment: dict[str, str], words: str) -> None:
    model = OpenAIChat(server.source(key_variable="MY_KEY"), environment=environment)
    with pytest.raises(AccessError, match=words):
        model.check()
    with pytest.raises(AccessError, match=words):
        ask(model)
    assert server.bodies == []


def test_which_key_goes_where(server: ScriptedServer) -> None:
    everything = {"OPENAI_API_KEY": KEY, "MY_KEY": f" {KEY}-mine\n"}
    ask(OpenAIChat(server.source(), environment=everything))
    ask(OpenAIChat(server.source(key_variable=None), environment=everything))
    ask(OpenAIChat(server.source(key_variable="MY_KEY"), environment=everything))
    # A server on this machine is not handed a key for OpenAI.
    assert server.keys == ["Bearer none", "Bearer none", f"Bearer {KEY}-mine"]
    remote = OpenAIChat(server.source(base_url="https://example.org/v1"), environment={})
    with pytest.raises(AccessError, match="OPENAI_API_KEY"):
        remote.check()


def test_a_planted_key_appears_nowhere(server: ScriptedServer, tmp_path, caplog, capfd, monkeypatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx2", "httpcore2", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    store = ReplyStore(tmp_path / "replies.sqlite")
    model = CachedChat(OpenAIChat(server.source(key_variable="PLANTED_KEY", attempts=1), store), store)
    echo = f"you sent Bearer {KEY}"
    acts = [fails(status, message=echo) for status in (400, 401, 403, 404, 429, 500)]
    acts += [fails(429, "insufficient_quota", message=echo), sends(f"<p>{echo}</p>"), sends(echo), resets]
    seen = []
    for seed, act in enumerate(acts):
        server.acts = [act]
        with pytest.raises(LanguageModelError) as caught:
            ask(model, seed=seed)
        error = caught.value
        seen += [*traceback.format_exception(error), repr(error), repr(error.__context__), repr(error.__cause__)]
    spelt = [
        KEY,
        KEY.upper(),
        "\u200b".join(KEY),
        " - ".join(KEY),
        f"{KEY[:9]}\n  {KEY[9:]}",
        KEY.encode().hex(),
        *(base64.b64encode(b"y" * before + KEY.encode() + b"z").decode() for before in range(3)),
    ]
    for seed, form in enumerate(spelt, start=99):
        # JSON may spell each letter as an escape.
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in form).encode()
        choice = b'{"choices": [{"message": {"content": "x %s"}}], "model": "%s", "system_fingerprint": "%s%s"}'
        server.acts = [lambda handler, body=choice % (escaped, escaped, b"f" * 190, escaped): handler.send(body)]
        reply = ask(model, seed=seed)
        assert reply.text.startswith("x ")
        assert "[key]" in reply.text
        assert "[key]" in reply.model
        assert form not in reply.text + reply.model
        assert reply.fingerprint == "f" * 190 + reply.model[:10]
        seen.append(repr(reply))
    seen += [repr(model), repr(model.model), str(vars(server.source())), caplog.text]
    seen += [record.getMessage() + repr(record.args) for record in caplog.records]
    seen += capfd.readouterr()
    assert server.keys[-1] == f"Bearer {KEY}"
    assert caplog.records
    assert KEY not in "\n".join(seen)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(KEY.encode() not in path.read_bytes() for path in files)


def test_without_the_package_the_sentence_names_the_extra(server: ScriptedServer, monkeypatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest, **more):
        if name == "openai":
            raise ModuleNotFoundError("No module named 'openai'", name="openai")
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "openai")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(LanguageModelError, match=r'openai: pip install "clear-benchmark\[openai\]"'):
        client(server).check()
