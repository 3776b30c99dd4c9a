"""One broker asks for all workers: against a counting server on loopback, with real processes that are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("openai")
pytest.importorskip("tenacity")

from scripted_server import FakeClock, ScriptedServer, fails, says

from tasks.language import chat
from tasks.language.broker import Broker, BrokeredChat, Refused, key_variables
from tasks.language.chat import LanguageModelError, Message, NoAnswerError, PriceCapError, Reply
from tasks.language.client import OpenAIChat
from tasks.language.config import OpenAISource, VisionOpenAISource
from tasks.language.replies import CachedChat, ReplyStore
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
ROOT = Path(__file__).parents[3]
KEY = "sk-planted-0123456789abcdef"
PRICE = {"input": 0.0, "output": 1e6, "as_of": "2026-11-01", "source": "a test"}

# As an engine does it: the calls travel as plain data, here through a socket in the file system.
HOST = """
import json, sys, threading
from multiprocessing.connection import Listener
from pathlib import Path
from tasks.language.broker import Broker
from tasks.language.client import OpenAIChat
from tasks.language.config import OpenAISource
from tasks.language.replies import CachedChat, ReplyStore
place, run, tier, source = sys.argv[1:]
store = ReplyStore(Path(run) / "replies.sqlite", Path(tier) if tier else None)
model = CachedChat(OpenAIChat(OpenAISource.model_validate_json(source), store), store)
broker = Broker(lambda role: {"summariser": model}[role])
def serve(caller):
    while True:
        try:
            caller.send(broker.ask(*caller.recv()))
        except EOFError:
            return
listener = Listener(place, "AF_UNIX", backlog=64)
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept(),), daemon=True).start()
"""
WORKER = """
import sys, threading
from multiprocessing.connection import Client
from tasks.language.broker import BrokeredChat
from tasks.language.chat import LanguageModelError, Message
place, threads, questions = sys.argv[1], int(sys.argv[2]), sys.argv[3].split()
if not questions:
    questions = sys.stdin.readline().split()
barrier, said = threading.Barrier(threads), {}
def work(number):
    caller = Client(place, "AF_UNIX")
    def ask(*call):
        caller.send(call)
        return caller.recv()
    model = BrokeredChat("summariser", "tiny", ask)
    barrier.wait()
    for question in questions[number % len(questions):] + questions[:number % len(questions)]:
        try:
            reply = model.chat([Message("user", question)], temperature=0.0, max_tokens=10, seed=1)
            said[question] = reply.text.replace(" ", "-")
        except LanguageModelError as error:
            said[question] = type(error).__name__
workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
for worker in workers: worker.start()
for worker in workers: worker.join()
print(*(said[question] for question in questions))
"""


@pytest.fixture
def server():
    server = ScriptedServer()
    yield server
    server.stop()


class Site:
    """A run folder with its broker and workers; all processes are gone at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.begun = folder, []

    def start(self, *command: str, key: str = "") -> subprocess.Popen:
        environment = {**os.environ, "PLANTED_KEY": key}
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)
        self.begun.append(process)
        return process

    def broker(self, source: OpenAISource, place: str = "broker", tier: str = "") -> subprocess.Popen:
        text = source.model_copy(update={"key_variable": "PLANTED_KEY"}).model_dump_json()
        where = [str(self.folder / place), str(self.folder / "run"), tier and str(self.folder / tier)]
        process = self.start(sys.executable, "-c", HOST, *where, text, key=KEY)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
        return process

    def worker(self, threads: int, questions: list[str], place: str = "broker") -> subprocess.Popen:
        command = [sys.executable, "-c", WORKER, str(self.folder / place), str(threads)]
        return self.start(*command, " ".join(questions))


@pytest.fixture
def site(tmp_path: Path):
    site = Site(tmp_path)
    yield site
    for process in site.begun:
        process.kill()
        process.communicate()


def slowly(handler) -> None:
    time.sleep(0.02)
    says("a red thing")(handler)


def wait_for(what) -> None:
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.005)


def asked(server: ScriptedServer) -> list[str]:
    return [body["messages"][-1]["content"] for body in server.bodies]


def test_threads_that_ask_the_same_at_once_make_one_request(server: ScriptedServer) -> None:
    server.acts[:] = [slowly]
    store = ReplyStore()
    model, barrier, found = CachedChat(OpenAIChat(server.source(), store), store), threading.Barrier(8), []

    def ask() -> None:
        barrier.wait()
        found.append(model.chat([Message("user", "fish")], temperature=0, max_tokens=9, seed=1).text)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["a red thing"] * 8
    assert (len(server.bodies), model.asked, model.cached, store.usage().requests) == (1, 1, 7, 1)


def test_a_joined_request_that_fails_fails_for_all_and_is_then_made_again(server: ScriptedServer) -> None:
    over = threading.Event()

    def refuses(handler) -> None:
        over.wait(10)
        says(None, refusal="no")(handler)

    server.acts[:] = [refuses, says("a red thing")]
    model, failed = CachedChat(OpenAIChat(server.source()), ReplyStore()), []

    def ask() -> None:
        try:
            model.chat([Message("user", "fish")], temperature=0, max_tokens=9, seed=1)
        except NoAnswerError as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    over.set()
    for thread in threads:
        thread.join()
    # A thread that came too late to join has asked again.
    assert 1 <= len(failed) <= 4
    assert model.chat([Message("user", "fish")], temperature=0, max_tokens=9, seed=1).text == "a red thing"
    assert len(server.bodies) == 2


def test_two_processes_of_many_threads_pay_each_request_once(server: ScriptedServer, site: Site) -> None:
    server.acts[:] = [slowly]
    site.broker(server.source())
    questions = [f"q{number}" for number in range(12)]
    workers = [site.worker(6, questions) for _ in range(2)]
    for worker in workers:
        out, err = worker.communicate(timeout=60)
        assert (out.split(), err) == (["a-red-thing"] * 12, "")
    assert sorted(asked(server)) == sorted(questions)
    # The key is the broker's alone.
    assert set(server.keys) == {f"Bearer {KEY}"}
    kept = b"".join(path.read_bytes() for path in site.folder.rglob("*") if path.is_file())
    assert b"q11" in kept
    assert KEY.encode() not in kept


def test_no_worker_holds_the_key(server: ScriptedServer, site: Site) -> None:
    broker = site.broker(server.source())
    worker = site.worker(1, [])
    for process, held in ((broker, True), (worker, False)):
        wait_for(lambda process=process: b"PLANTED_KEY" in Path(f"/proc/{process.pid}/environ").read_bytes())
        assert (KEY.encode() in Path(f"/proc/{process.pid}/environ").read_bytes()) is held
    assert worker.communicate("q1\n", timeout=60)[0].split() == ["a-red-thing"]


def test_a_killed_worker_costs_no_second_payment(server: ScriptedServer, site: Site) -> None:
    server.acts[:] = [slowly]
    site.broker(server.source())
    questions = [f"q{number}" for number in range(40)]
    first = site.worker(4, questions)
    wait_for(lambda: len(server.bodies) >= 10)
    first.send_signal(signal.SIGKILL)
    assert len(server.bodies) < 40
    out, _ = site.worker(4, questions).communicate(timeout=60)
    assert out.split() == ["a-red-thing"] * 40
    assert sorted(asked(server)) == sorted(questions)


@pytest.mark.parametrize("tiers", [("", ""), ("host a", "host b")])
def test_a_killed_broker_costs_at_most_what_was_in_flight(
    server: ScriptedServer, site: Site, tiers: tuple[str, str]
) -> None:
    server.acts[:] = [slowly]
    broker = site.broker(server.source(), "first", tiers[0])
    questions, threads = [f"q{number}" for number in range(40)], 4
    worker = site.worker(threads, questions, "first")
    wait_for(lambda: len(server.bodies) >= 15)
    broker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=60)
    assert len(server.bodies) < 40
    site.broker(server.source(), "second", tiers[1])
    out, _ = site.worker(threads, questions, "second").communicate(timeout=60)
    assert out.split() == ["a-red-thing"] * 40
    assert set(asked(server)) == set(questions)
    assert len(server.bodies) <= 40 + threads
    segments = list((site.folder / "run" / "replies").glob("*.jsonl"))
    assert bool(segments) == bool(tiers[0])


def test_the_cap_holds_over_all_workers(server: ScriptedServer, site: Site) -> None:
    server.acts[:] = [says("a red thing", tokens=None)]
    # Ten tokens at a dollar each: five requests of ten dollars.
    site.broker(server.source(price=PRICE, price_cap_usd=55))
    workers = [site.worker(3, [f"{name}{number}" for number in range(4)]) for name in "ab"]
    said = sorted(word for worker in workers for word in worker.communicate(timeout=60)[0].split())
    assert said == ["PriceCapError"] * 3 + ["a-red-thing"] * 5
    assert len(server.bodies) == 5


def test_the_rate_limit_holds_over_all_workers(server: ScriptedServer) -> None:
    clock = FakeClock()
    model = CachedChat(OpenAIChat(server.source(requests_per_second=10), clock=clock), ReplyStore())
    broker = Broker(lambda _: model)
    workers = [BrokeredChat("summariser", "tiny", broker.ask) for _ in range(4)]
    for number in range(8):
        workers[number % 4].chat([Message("user", f"q{number}")], temperature=0, max_tokens=9, seed=1)
    assert len(server.bodies) == 8
    assert clock.time == pytest.approx(0.7)


def test_every_error_reaches_the_worker_as_itself_in_plain_text(server: ScriptedServer) -> None:
    kinds = [kind for kind in vars(chat).values() if isinstance(kind, type) and issubclass(kind, LanguageModelError)]
    assert len(kinds) == 6
    for kind in kinds:
        model = BrokeredChat("summariser", "m", lambda *_, name=kind.__name__: Refused(name, "it says why"))
        with pytest.raises(LanguageModelError, match="it says why") as raised:
            model.chat([], temperature=0, max_tokens=9, seed=1)
        assert type(raised.value) is kind
    for name in ("Sequence", "Reply", "UserError", "no such thing"):
        model = BrokeredChat("summariser", "m", lambda *_, name=name: Refused(name, "it says why"))
        with pytest.raises(LanguageModelError, match="it says why"):
            model.chat([], temperature=0, max_tokens=9, seed=1)


def test_roles_of_a_worker_ask_the_broker_of_the_driver(server: ScriptedServer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("CLEAR_OFFLINE", raising=False)
    monkeypatch.setenv("PLANTED_KEY", KEY)
    seen = VisionOpenAISource.model_validate(server.source(key_variable="PLANTED_KEY").model_dump())
    source = server.source(key_variable="PLANTED_KEY")
    profile = load_profile("miniature").model_copy(update={"summariser": source, "describer": seen})
    broker = Roles(profile, torch.device("cpu"), replies=tmp_path / "replies.sqlite").broker()
    calls = []

    def ask(*call):
        calls.append(call)
        return broker.ask(*call)

    worker = Roles(profile, torch.device("cpu"), ask=ask)
    assert worker.summariser is not None
    assert worker.describer is not None
    assert worker.summariser.summarise(["a red car", "a red bus"], 1) == "a red thing"
    assert worker.describer.describe([torch.zeros(3, 8, 8, dtype=torch.uint8)], 1) == "a red thing"
    assert [call[0] for call in calls] == ["summariser", "describer"]
    assert len(server.bodies) == 2
    assert worker.language_usage() is None
    assert isinstance(broker.ask(*calls[0]), Reply)
    assert len(server.bodies) == 2
    server.acts[:] = [fails(401)]
    with pytest.raises(chat.AccessError, match="401"):
        worker.summariser.summarise(["a green car"], 1)
    assert key_variables([source, seen, "vocabulary", None]) == ("PLANTED_KEY",)


def test_without_a_key_nothing_is_booked(server: ScriptedServer) -> None:
    store = ReplyStore()
    with pytest.raises(chat.AccessError, match="PLANTED_KEY"):
        OpenAIChat(server.source(key_variable="PLANTED_KEY"), store, environment={}).chat(
            [Message("user", "fish")], temperature=0, max_tokens=10, seed=1
        )
    assert store.usage().requests == 0


def test_turns_are_taken_after_the_connection_is_made(server: ScriptedServer, monkeypatch) -> None:
    clock = FakeClock()
    model = OpenAIChat(server.source(requests_per_second=10), clock=clock)
    connect = model._connect
    monkeypatch.setattr(model, "_connect", lambda: (clock.sleep(5) if model._client is None else None, connect())[1])
    for seed in range(2):
        model.chat([Message("user", "fish")], temperature=0, max_tokens=10, seed=seed)
    assert clock.slept == [5, pytest.approx(0.1)]


def test_a_cap_in_the_broker_names_what_is_left(server: ScriptedServer) -> None:
    store = ReplyStore()
    model = CachedChat(OpenAIChat(server.source(price=PRICE, price_cap_usd=5), store), store)
    with pytest.raises(PriceCapError, match=r"5\.00 is reached"):
        model.chat([Message("user", "fish")], temperature=0, max_tokens=10, seed=1)
    assert json.dumps(server.bodies) == "[]"
