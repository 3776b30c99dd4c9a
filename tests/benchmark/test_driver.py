"""The driver of a cluster without an engine: workers are called in this process, and fail as a test wants."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from baselines.base import Label, UnitLabels
from benchmark import runner
from benchmark.cli import app
from benchmark.commands.cluster import lines
from benchmark.core.budget import BudgetReached, TimeBudget
from benchmark.core.display import Display
from benchmark.core.faithfulness import measure_run
from benchmark.core.items import Item
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.execution import driver, local, worker
from benchmark.execution.prepare import Job, load_parts, prepare
from benchmark.execution.session import Outcome, Session
from benchmark.execution.shared import Beats, Blocks, StoredDrawings
from benchmark.execution.worker import LIMIT, Worker, answering, asking, environment, message
from leaderboard.store import atomic
from leaderboard.store.claims import Leases
from leaderboard.store.errors import StoreError
from leaderboard.store.lease import DriverLease
from leaderboard.store.run_folder import CellKey, RunFolder
from tasks.cache.store import Cache
from tasks.common.errors import UserError
from tasks.language.broker import Broker, Refused
from tasks.language.chat import Message, Reply
from tasks.language.picture import Picture
from tasks.profiles.build import Roles

TRIVIAL = ("random_label", "constant_label")


def asked(out: Path, **changes: object) -> RunOptions:
    values: dict[str, object] = {
        "tasks": ("resnet18_layer4",),
        "methods": TRIVIAL,
        "suites": ("contrast",),
        "images": 12,
        "unit_ids": (3, 5),
        "out": out,
        "device": "cpu",
        "faithfulness": "none",
        "thumbnails": 0,
        "cache": "none",
        "lost_after": 2.1,
    }
    return RunOptions.model_validate(values | changes)


Drive = Callable[..., list[str]]

SILENT: set[str] = set()
"""Workers that give no signs of life."""

Change = Callable[[str, str, str, Callable[[], str]], str | None]
"""``change(worker, what, given, call)`` calls a worker's method or does otherwise; None is silence."""


def as_it_is(name: str, what: str, given: str, call: Callable[[], str]) -> str | None:
    return call()


class Engine:
    """Calls workers in this process, one after the other, and sees to it that all messages are small."""

    places = 2

    def __init__(self, change: Change = as_it_is) -> None:
        self.change = change
        self.workers: dict[str, Worker] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.gone: set[str] = set()
        self.ended: list[str] = []
        self.items: list[str] = []

    @contextlib.contextmanager
    def connected(self, options: RunOptions, display: Display) -> Iterator[Engine]:
        yield self

    def serve(self, answer: Callable[[str], str]) -> None:
        raise AssertionError("nobody asks a language model here")

    def start(self, name: str, *given: Any) -> None:
        self.workers[name] = Worker(name, *given, machine=f"machine of {name}")

    def call(self, name: str, what: str, given: str) -> None:
        assert len(given) <= LIMIT
        self.calls.append((name, what, given))

    def answers(self, seconds: float) -> list[tuple[str, str]]:
        if not self.calls:
            time.sleep(min(seconds, 0.05))
            return []
        name, what, given = self.calls.pop(0)
        if what == "do":
            self.items.append(given)
        answer = self.change(name, what, given, lambda: getattr(self.workers[name], what)(given))
        if answer is None:
            return []
        assert len(answer) <= LIMIT
        return [(name, answer)]

    def end(self, name: str) -> None:
        self.ended.append(name)
        self.calls = [call for call in self.calls if call[0] != name]

    def lost_machines(self) -> set[str]:
        return self.gone


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job[Roles]:
    """The job of all tests, whose models are loaded once."""
    folder = tmp_path_factory.mktemp("job")
    options = asked(folder / "run", cache=str(folder / "cache"))
    return prepare(load_parts(options, check(options), Roles), Display("quiet"))


PREPARE = Worker._prepare


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch, job: Job[Roles]) -> Iterator[None]:
    """Workers share their models; their output stays here, and their signs of life end with the test."""
    over = threading.Event()

    def beat(self: Worker, every: float) -> None:
        beats, number = Beats(self.shared), 0
        while not over.wait(every):
            number += 1
            if self.name not in SILENT:
                beats.beat(self.name, number)

    def prepared(self: Worker, given: object) -> dict[str, Any]:
        self.folder.join(Leases(self.folder.path))
        self.session = Session(job, self.folder, StoredDrawings(self.folder))
        return {}

    monkeypatch.setattr(worker, "_log_to", lambda path: None)
    monkeypatch.setattr(Worker, "_beat", beat)
    monkeypatch.setattr(Worker, "_prepare", prepared)
    SILENT.clear()
    yield
    over.set()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, job: Job[Roles]) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert local.do_all(session(job, asked(folder)), Display("quiet"), TimeBudget()) == []
    return folder


def labels(folder: Path) -> dict[str, str | None]:
    run = RunFolder(folder)
    return {key.name: run.digest(key) for key in run.done_cells()}


def session(job: Job[Roles], options: RunOptions) -> Session:
    folder = RunFolder(options.folder())
    folder.create_or_continue(job.identity, {})
    return Session(replace(job, options=options), folder)


@pytest.fixture
def driven(job: Job[Roles], tmp_path: Path) -> Drive:
    """Drives the run with an engine, and returns what failed."""

    def driven(engine: Engine, budget: TimeBudget | None = None, **changes: object) -> list[str]:
        made = session(job, asked(tmp_path / "run", **changes))
        return driver.do_all(made, Display("quiet"), budget or TimeBudget(), engine.connected)

    return driven


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "cluster/cluster.json").read_text())


def test_workers_find_what_one_process_finds(driven: Drive, alone: Path, tmp_path: Path) -> None:
    engine = Engine()
    assert driven(engine) == []
    assert labels(tmp_path / "run") == labels(alone)
    assert sorted(set(engine.ended)) == ["worker1", "worker2"]
    assert len(engine.items) == status(tmp_path / "run")["begun"] == 2 + 6
    assert driven(engine) == []
    assert len(engine.items) == 8


def test_what_workers_cache_is_published_with_each_item(driven: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Cache] = []
    monkeypatch.setattr(Cache, "publish", lambda cache: published.append(cache))
    engine = Engine()
    driven(engine)
    assert len(published) == len(engine.items) > 0


def loses(number: int, how: str) -> Change:
    """The item of that number is done, but nobody hears of it."""
    seen = []

    def change(name: str, what: str, given: str, call: Callable[[], str]) -> str | None:
        seen.append(what)
        if seen.count("do") == number and what == "do":
            call()
            if how == "process":
                return ""
            SILENT.add(name)
            return None
        return call()

    return change


@pytest.mark.parametrize("how", ["process", "silence"])
@pytest.mark.parametrize("number", [1, 3])
def test_what_a_lost_worker_did_is_done_again(
    driven: Drive, how: str, number: int, alone: Path, tmp_path: Path
) -> None:
    engine = Engine(loses(number, how))
    assert driven(engine) == []
    assert labels(tmp_path / "run") == labels(alone)
    assert len(engine.items) == 9
    (lost,) = [one for one in status(tmp_path / "run")["workers"].values() if one["state"] == "lost"]
    assert lost["why"] == {"process": "its process is gone", "silence": "it gave no sign of life for 2.1 s"}[how]
    assert lost["again"] >= lost["since"]
    assert "worker3" in engine.workers


def test_a_lost_machine_loses_its_workers(driven: Drive, alone: Path, tmp_path: Path) -> None:
    def change(name: str, what: str, given: str, call: Callable[[], str]) -> str | None:
        if what == "do" and name == "worker1":
            engine.gone.add("machine of worker1")
            return None
        return call()

    engine = Engine(change)
    assert driven(engine, lost_after=7) == []
    assert labels(tmp_path / "run") == labels(alone)
    assert status(tmp_path / "run")["workers"]["worker1"]["why"] == "its machine is gone"


def test_done_means_that_the_run_folder_holds_it(driven: Drive, alone: Path, tmp_path: Path) -> None:
    """A worker with another disk under the same path says that its items are done."""

    def change(name: str, what: str, given: str, call: Callable[[], str]) -> str | None:
        nothing = json.dumps({"seconds": 0.1, "parked": [], "tally": {}})
        return nothing if what == "do" and name == "worker1" else call()

    engine = Engine(change)
    assert driven(engine) == []
    assert labels(tmp_path / "run") == labels(alone)
    assert "is not in the run folder" in status(tmp_path / "run")["workers"]["worker1"]["why"]


def test_an_item_that_kills_its_workers_fails_alone(driven: Drive, alone: Path, tmp_path: Path) -> None:
    def change(name: str, what: str, given: str, call: Callable[[], str]) -> str | None:
        return "" if what == "do" and '"constant_label", "condition": "contrast"' in given else call()

    (failed,) = driven(Engine(change))
    assert failed.startswith("resnet18_layer4~miniature~constant_label~contrast")
    assert failed.endswith("4 workers were lost with it")
    assert len(labels(tmp_path / "run")) == len(labels(alone)) - 1


def test_an_exception_is_not_tried_again(driven: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("baselines.trivial.RandomLabel.label", fails)
    engine = Engine()
    failed = driven(engine)
    assert [reason.rpartition(": ")[2] for reason in failed] == ["no"] * 3
    assert len(engine.items) == 8


def answers_with(**changes: Any) -> Change:
    """Every worker says something else of itself."""

    def change(name: str, what: str, given: str, call: Callable[[], str]) -> str | None:
        if what != "about":
            return call()
        facts = json.loads(call())
        if "device" in changes and name == "worker1":
            return json.dumps(facts)
        return json.dumps(
            facts
            | {key: value for key, value in changes.items() if key != "environment"}
            | {"environment": facts["environment"] | changes.get("environment", {})}
        )

    return change


@pytest.mark.parametrize("name", ["source of CLEAR", "Python", "numpy"])
def test_workers_with_another_environment_are_refused_in_one_sentence(driven: Drive, name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        driven(Engine(answers_with(environment={name: "other"})))
    said = f"is refused: its {name} is other, and here it is {environment()[name]}; use the same on all machines."
    assert said in str(error.value)
    assert str(error.value).startswith("No worker is left. worker2 on ")


@pytest.mark.parametrize("mixed", [False, True])
def test_another_kind_of_device_is_refused_unless_it_is_accepted(
    driven: Drive, mixed: bool, alone: Path, tmp_path: Path
) -> None:
    engine = Engine(answers_with(device="cuda Other"))
    assert driven(engine, mixed_devices=mixed) == []
    assert labels(tmp_path / "run") == labels(alone)
    other = status(tmp_path / "run")["workers"]["worker2"]
    assert other["state"] == ("stopped" if mixed else "refused")
    assert ("--mixed-devices accepts it" in other["why"]) is not mixed


def test_a_worker_that_sees_other_images_is_refused(driven: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(name: str, what: str, given: str, call: Callable[[], str]) -> str | None:
        if what == "prepare":
            return engine.workers[name].prepare(json.dumps(json.loads(given) | {"images": 14}))
        return call()

    monkeypatch.setattr(Worker, "_prepare", PREPARE)
    engine = Engine(change)
    with pytest.raises(UserError, match=r"it finds other models or images than the driver .*images: 12 before, 14 now"):
        driven(engine)


def test_machines_that_do_not_share_the_run_folder_are_refused(driven: Drive, tmp_path: Path) -> None:
    def change(name: str, what: str, given: str, call: Callable[[], str]) -> str | None:
        engine.workers[name].folder = RunFolder(tmp_path / "elsewhere")
        return call()

    engine = Engine(change)
    with pytest.raises(UserError, match=r"does not see the run folder .*elsewhere: all machines must share it"):
        driven(engine)
    assert not (tmp_path / "elsewhere").exists()


def test_workers_that_are_never_ready_end_the_run(driven: Drive, tmp_path: Path) -> None:
    engine = Engine(lambda name, what, given, call: "" if what == "prepare" else call())
    with pytest.raises(UserError, match="No worker is left"):
        driven(engine)
    assert len(engine.workers) <= 5


def test_at_the_end_of_the_time_what_was_begun_is_finished(driven: Drive, alone: Path, tmp_path: Path) -> None:
    now = [0.0]

    def change(name: str, what: str, given: str, call: Callable[[], str]) -> str | None:
        now[0] += what == "do"
        return call()

    engine = Engine(change)
    with pytest.raises(BudgetReached, match="the next item of a worker"):
        driven(engine, TimeBudget(3.5, clock=lambda: now[0]))
    begun = len(engine.items)
    assert 4 <= begun < 8
    assert status(tmp_path / "run")["begun"] == begun
    assert driven(engine) == []
    assert sum('"kind": "block"' in item for item in engine.items) == 6
    assert labels(tmp_path / "run") == labels(alone)


def test_a_driver_that_was_replaced_stops(driven: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was frozen for so long that another process has taken over."""

    def change(name: str, what: str, given: str, call: Callable[[], str]) -> str | None:
        if what == "do":
            other = {"epoch": 2, "host": "elsewhere", "pid": 7}
            atomic.create_json(tmp_path / "run/driver.lease/2.json", other)
            time.sleep(0.5)
        return call()

    monkeypatch.setattr(driver, "DriverLease", partial(DriverLease, seconds=0.6))
    engine = Engine(change)
    with pytest.raises(StoreError, match="is driven by process 7 on elsewhere"):
        driven(engine)
    assert len(engine.items) == 1


def everything(folder: Path) -> dict[Path, bytes]:
    """What the run folder holds, apart from signs of life."""
    found = (path for path in folder.rglob("*") if path.is_file() and "beats" not in path.parts)
    return {path.relative_to(folder): path.read_bytes() for path in found}


def test_items_of_an_earlier_driver_change_nothing(
    driven: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker was frozen, and does them after another driver has ended the run; other labels are noted."""
    monkeypatch.setattr("baselines.trivial.RandomLabel.split", "units", raising=False)
    engine = Engine()
    assert driven(engine, faithfulness="clean") == []
    items = [json.loads(item) for item in engine.items]
    assert {(item["kind"], bool(item["units"])) for item in items} == {
        ("pass", False), ("block", False), ("block", True), ("draw", False),
    }  # fmt: skip
    before = everything(tmp_path / "run")
    late = engine.workers["worker1"]
    for item in items:
        assert set(json.loads(late.do(json.dumps(item)))) == {"seconds", "parked", "tally"}
    assert everything(tmp_path / "run") == before

    def other(self: object, observation: Any, units: Any, tools: object) -> list[UnitLabels]:
        return [UnitLabels(unit, (Label("another", 1.0),)) for unit in units]

    for name in ("RandomLabel", "ConstantLabel"):
        monkeypatch.setattr(f"baselines.trivial.{name}.label", other)
    for item in items:
        late.do(json.dumps(item))
    after = everything(tmp_path / "run")
    assert {path: after[path] for path in before} == before
    assert RunFolder(tmp_path / "run").differing() == sorted(labels(tmp_path / "run"))


def test_other_labels_of_a_block_are_noted_and_the_first_count(tmp_path: Path) -> None:
    folder, key = RunFolder(tmp_path), CellKey("task", "profile", "method", "clean", 0, 0)
    blocks, block = Blocks(folder), Item("block", 0, "clean", cell=key, units=(3, 5))
    nameless = UnitLabels(5, (Label("dog", float("nan")),))
    first = Outcome(seconds=1.0, labels=(UnitLabels(3, (Label("cat", 1.0),)), nameless))
    blocks.write(block, first)
    blocks.write(block, replace(first, seconds=2.0))
    assert folder.differing() == []
    blocks.write(block, replace(first, labels=(UnitLabels(3, (Label("cow", 1.0),)), nameless)))
    assert folder.differing() == [key.name]
    assert blocks.read(block).labels[0] == first.labels[0]
    (note,) = (tmp_path / "parts/labels").glob("*.differs.json")
    assert json.loads(note.read_text()) == {
        "first": [[3, 1, "cat", 1.0], [5, 1, "dog", None]],
        "labels": [[3, 1, "cow", 1.0], [5, 1, "dog", None]],
    }


@pytest.mark.parametrize("number", [None, 9])
def test_images_of_labels_are_drawn_by_workers(
    driven: Drive, job: Job[Roles], alone: Path, tmp_path: Path, number: int | None
) -> None:
    engine = Engine(as_it_is if number is None else loses(number, "process"))
    assert driven(engine, faithfulness="clean") == []
    draws = [item for item in map(json.loads, engine.items) if item["kind"] == "draw"]
    names = {name for item in draws for name in item["draws"]}
    assert len(draws) == -(-len(names) // 4) + (number is not None)
    assert status(tmp_path / "run")["left"] == {}
    given, quiet = (job.prepared.works, job.roles, 0, "clean"), Display("quiet")
    shutil.copytree(alone, tmp_path / "alone")
    folder, other = (session(job, asked(tmp_path / name)).folder for name in ("run", "alone"))
    drawn = StoredDrawings(folder).blobs
    assert len(list(drawn.entries())) == len(names) > 1
    measure_run(folder, *given, quiet, drawn=drawn)
    measure_run(other, *given, quiet)
    tables = [(tmp_path / name / "faithfulness.parquet").read_bytes() for name in ("run", "alone")]
    assert tables[0] == tables[1]
    # Nothing is left to do, also for an engine.
    again = Engine()
    assert driven(again, faithfulness="clean") == []
    assert again.workers == {}


def test_nothing_large_is_sent() -> None:
    with pytest.raises(ValueError, match="a message of 1,000,002 bytes is larger than 1,000,000"):
        message("x" * LIMIT)


class Model:
    identity = "model"

    def chat(self, messages: Any, *, temperature: float, max_tokens: int, seed: int) -> Reply:
        if seed:
            raise UserError("no credit")
        shown = sum(sum(picture.pixels) for one in messages for picture in one.pictures)
        return Reply(f"{messages[0].content} {shown} {temperature}", 1, 2, "m")


@pytest.mark.parametrize("edge", [2, 512])
def test_requests_to_a_language_model_arrive_whole_whatever_their_size(edge: int, tmp_path: Path) -> None:
    broker, carried = Broker(lambda role: Model()), []

    def carry(text: str) -> str:
        carried.append(text)
        return answering(broker, text)

    ask = asking(carry, tmp_path)
    picture = Picture(edge, edge, bytes([1]) * 3 * edge * edge)
    said = (Message("user", "what\n is it? \u2028", (picture, picture)),)
    assert ask("describer", said, 0.5, 9, 0) == Reply(f"what\n is it? \u2028 {6 * edge * edge} 0.5", 1, 2, "m")
    assert ask("describer", said, 0.5, 9, 1) == Refused("UserError", "no credit")
    assert max(map(len, carried)) <= LIMIT


def test_options_of_workers_need_the_executor(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--workers needs --executor ray"):
        runner.run(asked(tmp_path / "run", workers=2, lost_after=30), Display("quiet"))


def test_without_ray_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.execution.ray.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'not installed: pip install "clear-benchmark\[ray\]"'):
        runner.run(asked(tmp_path / "run", executor="ray"), Display("quiet"))
    assert "ray" not in sys.modules


# ---- python -m benchmark cluster ----


def shown(folder: Path, *more: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["cluster", str(folder), *more])
    assert result.exit_code == code, result.output
    return result.output


def test_cluster_shows_workers_and_what_was_lost(driven: Drive, tmp_path: Path) -> None:
    assert driven(Engine(loses(3, "process"))) == []
    first, *workers = shown(tmp_path / "run").splitlines()
    assert first.startswith("Workers: ")
    assert "Items: 9 begun, left: none. After " in first
    assert first.endswith(", ended.")
    (lost,) = [line for line in workers if "lost for" in line]
    assert "(its process is gone): block: resnet18_layer4, " in lost
    assert re.search(r", begun again [0-9.]+ s later$", lost)
    assert json.loads(shown(tmp_path / "run", "--json"))["begun"] == 9


def facts(**changes: Any) -> dict[str, Any]:
    one = {"host": "a", "pid": 1, "device": "cpu", "state": "working", "item": "pass: clean", "since": 90.0, "why": ""}
    workers = {
        f"worker{number}": {**one, "done": {"pass": [2, seconds]}, "again": None}
        for number, seconds in enumerate((2.0, 2.0, 2.0, 6.0))
    }
    workers["worker0"] |= changes
    return {"started": 0.0, "updated": 100.0, "ended": False, "begun": 9, "left": {"block": 3}, "workers": workers}


def test_cluster_says_who_is_slow_what_waits_and_that_the_driver_is_silent() -> None:
    text = list(lines(facts(state="lost", why="gone"), 105.0))
    assert text[0] == "Workers: 1 lost, 3 working. Items: 9 begun, left: 3 block. After 1 min 40 s, 5.0 s ago."
    assert text[1] == "worker0 on a, cpu, 2 items, lost for 15.0 s (gone): pass: clean, which waits for another worker"
    assert ["times the time of all workers" in line for line in text[1:]] == [False, False, False, True]
    assert (
        text[4] == "worker3 on a, cpu, 2 items, in 2.0 times the time of all workers, working for 15.0 s: pass: clean"
    )
    assert any("The driver says nothing" in line for line in lines(facts(), 200.0))


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"workers": 3, "updated": 1, "started": 0}'])
def test_cluster_of_another_folder_is_a_sentence(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "cluster").mkdir()
        (tmp_path / "cluster/cluster.json").write_text(content)
    said = shown(tmp_path, code=1)
    assert ("There is no" if content is None else "cannot be read") in said


def test_names_that_workers_say_cannot_touch_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster/cluster.json").write_text(json.dumps(facts(host="\x1b[2J", item="[red]\r")))
    said = shown(tmp_path)
    assert "\x1b" not in said
    assert "[red]" in said
