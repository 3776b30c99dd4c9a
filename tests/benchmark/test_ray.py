"""Runs on Ray: two real nodes as processes, whose tables have the bytes of a run in one process, whatever fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import ROOT, Nodes, environment, two_nodes
from scripted_server import ScriptedServer, says

from tasks.cache.blobs import BlobStore

FEW = ("--set", "dnd.images_per_concept=2", "--set", "dnd.candidates=2")
DRAWING = ("--methods", "random_label,dnd", *FEW, "--faithfulness", "clean")
SECONDS = 5
SLOW = (
    *("--methods", "random_label,slow", "--set", f"slow.seconds={SECONDS}"),
    *("--severities", "1,3,5", "--faithfulness", "none"),
)
CELLS = 5
"""Of the slow method: two clean repeats and three severities."""


def command(out: Path, *more: str) -> list[str]:
    asked = "--task resnet18_layer4 --suites contrast --images 12 --unit-ids 3,5 --device cpu --thumbnails 0"
    fixed = [*asked.split(), "--cache", "none", "--out", str(out)]
    return [sys.executable, "-m", "benchmark", "run", *fixed, *more]


def on(nodes: Nodes, *more: str) -> tuple[str, ...]:
    return ("--executor", "ray", "--ray-address", nodes.address, *more)


def started(out: Path, given: dict[str, str], *more: str) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command(out, *more), cwd=ROOT, env=given, text=True, **pipes)  # type: ignore[call-overload]


def done(process: subprocess.Popen[str], code: int = 0, seconds: float = 240) -> str:
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, said
    return said


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("*.parquet")}


def status(out: Path) -> dict:
    return json.loads((out / "cluster/cluster.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def nodes(place: Path) -> Iterator[Nodes]:
    with two_nodes(place) as found:
        yield found


@pytest.fixture(scope="module")
def alone(place: Path) -> dict[str, bytes]:
    """The tables of the run in one process."""
    done(started(place / "alone", environment(place), *DRAWING))
    return tables(place / "alone")


@pytest.fixture(scope="module")
def together(place: Path, nodes: Nodes) -> Path:
    """The folder of the run on two nodes."""
    done(started(place / "together", nodes.environment, *DRAWING, *on(nodes)))
    return place / "together"


@pytest.fixture(scope="module")
def beside(place: Path) -> Path:
    """The folder of the run by two processes of the same command beside each other."""
    for process in [started(place / "beside", environment(place), *DRAWING) for _ in range(2)]:
        done(process)
    return place / "beside"


@pytest.mark.timeout(900)  # four runs, on a machine that may be busy
def test_the_tables_have_the_same_bytes_in_one_process_on_two_nodes_and_by_two_processes(
    alone: dict[str, bytes], together: Path, beside: Path
) -> None:
    assert tables(together) == tables(beside) == alone
    assert alone.keys() >= {"labels.parquet", "scores.parquet", "faithfulness.parquet"}
    assert len(json.loads((beside / "run.json").read_text())["sessions"]) == 2
    workers = status(together)["workers"].values()
    assert len({worker["pid"] for worker in workers if worker["done"]}) == 2
    assert status(together)["left"] == {}


def test_each_concept_is_drawn_once(together: Path) -> None:
    """Also those of labels, whose faithfulness the driver measures."""
    drawn = [blob.identity for blob in BlobStore(together / "cluster/drawn").entries()]
    counts = [one.get("request", one)["count"] for one in drawn]
    assert set(counts) == {2, 10}
    (session,) = json.loads((together / "run.json").read_text())["facts"]["plan"]["sessions"]
    assert session["actual"]["generated"] == sum(counts)


def test_logs_lie_in_the_run_folder_and_hold_no_token(together: Path, nodes: Nodes, place: Path) -> None:
    assert {path.name for path in (together / "cluster/logs").iterdir()} == {"worker1.log", "worker2.log"}
    token = Path(nodes.environment["RAY_AUTH_TOKEN_PATH"]).read_bytes()
    assert [path for path in together.rglob("*") if path.is_file() and token in path.read_bytes()] == []
    assert list((place / "home").rglob("*token*")) == []


def test_a_run_on_ray_is_continued_without(alone: dict[str, bytes], together: Path, place: Path) -> None:
    said = done(started(together, environment(place), *DRAWING))
    assert "everything was already done" in said
    assert tables(together) == alone


HERE = """
import json, os, stat
from pathlib import Path
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.execution.ray import connected

def processes():
    for place in Path("/proc").glob("[0-9]*"):
        try:
            yield (place / "cmdline").read_bytes(), (place / "environ").read_bytes().split(b"\\0")
        except OSError:
            pass

asked = RunOptions(tasks=("resnet18_layer4",), executor="ray", workers=3)
with connected(asked, Display("quiet")) as engine:
    engine.serve(str)  # whose threads must end before Ray does
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    mine = str(token.parent).encode()
    head = [env for line, env in processes() if b"gcs_server" in line and mine in line]
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [socket[1] for socket in sockets if socket[3] == "0A"]
    found = {
        "places": engine.places,
        "modes": [oct(stat.S_IMODE(path.stat().st_mode)) for path in (token, token.parent)],
        "heads": len(head),
        "set": [name for name in (b"RAY_AUTH_MODE=token", b"RAY_USAGE_STATS_ENABLED=0") if name in head[0]],
        "in environment": any(token.read_bytes() in part for part in head[0]),
        "dashboard": any(int(place.partition(":")[2], 16) == 8265 for place in listening),
        "statistics": len(list(token.parent.rglob("usage_stats.json"))),
    }
found["set"] = [name.decode() for name in found["set"]]
print(json.dumps(found))
"""


def test_ray_that_a_run_starts_is_closed_and_says_nothing(place: Path) -> None:
    given = environment(place)
    run = subprocess.run([sys.executable, "-c", HERE], cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == {
        "places": 3,
        "modes": ["0o600", "0o700"],
        "heads": 1,
        "set": ["RAY_AUTH_MODE=token", "RAY_USAGE_STATS_ENABLED=0"],
        "in environment": False,
        "dashboard": False,
        "statistics": 0,
    }
    assert list((place / "home").rglob("*token*")) == []


def test_a_cluster_that_is_not_there_is_told_in_a_sentence(tmp_path: Path, place: Path) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "7" * 64}
    run = started(
        tmp_path / "run", environment(place) | token, *SLOW, "--executor", "ray", "--ray-address", "127.0.0.1:9"
    )
    said = done(run, code=1)
    assert "Ray cannot be used at 127.0.0.1:9: " in said
    assert "Traceback" not in said


# ---- faults: one after the other, each on nodes of its own ----


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Nodes]:
    with two_nodes(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def slow_alone(place: Path) -> dict[str, bytes]:
    """The tables of the run with slow cells in one process."""
    done(started(place / "slow alone", environment(place), *SLOW))
    return tables(place / "slow alone")


def until(found: Callable[[], Any], seconds: float = 240) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def begun(nodes: Nodes) -> list[tuple[float, int]]:
    """When slow cells were begun, and by which process."""
    if not nodes.slow_log.exists():
        return []
    return [(float(when), int(pid)) for when, pid, *_ in map(str.split, nodes.slow_log.read_text().splitlines())]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def busy_on(nodes: Nodes, raylet: int) -> int:
    """A worker of that node that has just begun a slow cell."""

    def look() -> int | None:
        recent = [pid for when, pid in begun(nodes) if time.time() - when < 1]
        return next((pid for pid in recent if parent(pid) == raylet), None)

    return until(look)


def lost(out: Path) -> list[dict]:
    return [worker for worker in status(out)["workers"].values() if worker["state"] == "lost"]


def check(out: Path, nodes: Nodes, expected: dict[str, bytes], fault: float, seconds: float, capsys: Any) -> None:
    """One worker was lost, its item begun again in time, nothing else; the tables are whole."""
    assert tables(out) == expected
    (gone,) = [one for one in lost(out) if one["item"]]  # a replacement may be lost with its node, too
    with capsys.disabled():
        print(f"\n{gone['why']}: told after {gone['since'] - fault:.1f} s, redone after {gone['again'] - fault:.1f} s")
    assert gone["again"] - fault <= seconds
    assert len(begun(nodes)) <= CELLS + 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_worker_costs_its_item(
    fresh: Nodes, slow_alone: dict[str, bytes], tmp_path: Path, capsys: Any
) -> None:
    run = started(tmp_path / "run", fresh.environment, *SLOW, *on(fresh))
    os.kill(busy_on(fresh, fresh.raylets[1]), signal.SIGKILL)
    fault = time.time()
    done(run)
    check(tmp_path / "run", fresh, slow_alone, fault, 5, capsys)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_node_costs_its_items(fresh: Nodes, slow_alone: dict[str, bytes], tmp_path: Path, capsys: Any) -> None:
    """All of its processes are gone at once. A replacement finds no room; the run goes on without."""
    run = started(tmp_path / "run", fresh.environment, *SLOW, *on(fresh))
    for pid in (fresh.raylets[1], busy_on(fresh, fresh.raylets[1])):
        os.kill(pid, signal.SIGKILL)
    fault = time.time()
    done(run)
    check(tmp_path / "run", fresh, slow_alone, fault, 20, capsys)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_frozen_node_is_told_and_what_it_writes_when_it_wakes_changes_nothing(
    fresh: Nodes, slow_alone: dict[str, bytes], tmp_path: Path, capsys: Any
) -> None:
    run = started(tmp_path / "run", fresh.environment, *SLOW, *on(fresh))
    frozen = busy_on(fresh, fresh.raylets[1]), fresh.raylets[1]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    fault = time.time()
    try:
        until(lambda: (tmp_path / "run/cluster/cluster.json").exists() and lost(tmp_path / "run"), 60)
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    done(run)
    check(tmp_path / "run", fresh, slow_alone, fault, 30, capsys)
    assert list((tmp_path / "run").rglob("*differs*")) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_second_driver_is_refused_and_a_killed_one_continued(
    fresh: Nodes, slow_alone: dict[str, bytes], tmp_path: Path
) -> None:
    run = started(tmp_path / "run", fresh.environment, *SLOW, *on(fresh))
    busy_on(fresh, fresh.raylets[1])
    second = started(tmp_path / "run", fresh.environment, *SLOW, *on(fresh))
    said = done(second, code=1)
    assert f"is driven by process {run.pid}" in said
    run.kill()
    run.communicate()
    done(started(tmp_path / "run", fresh.environment, *SLOW, *on(fresh)))
    assert tables(tmp_path / "run") == slow_alone
    assert len(begun(fresh)) <= CELLS + 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_in_order(
    place: Path, slow_alone: dict[str, bytes], tmp_path: Path, number: int, code: int
) -> None:
    """Also Ray is started by the run itself here."""
    given, out = environment(tmp_path), tmp_path / "run"
    run = started(out, given, *SLOW, "--executor", "ray", "--workers", "2")
    log = Path(given["SLOW_LOG"])
    until(lambda: log.exists() and log.read_text())
    pids = {int(line.split()[1]) for line in log.read_text().splitlines()}
    run.send_signal(number)
    asked = time.monotonic()
    assert "to continue: python -m benchmark run" in done(run, code)
    assert time.monotonic() - asked < 15
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 10)
    done(started(out, given, *SLOW, "--executor", "ray", "--workers", "2"))
    assert tables(out) == slow_alone
    assert len(log.read_text().splitlines()) <= CELLS + 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_are_nearly_twice_as_fast(fresh: Nodes, tmp_path: Path, capsys: Any) -> None:
    spans = []
    for workers in (1, 2):
        fresh.slow_log.unlink(missing_ok=True)
        many = (
            "--methods",
            "slow",
            "--set",
            f"slow.seconds={SECONDS}",
            "--faithfulness",
            "none",
            "--repeats",
            "12",
            "--cache",
            str(tmp_path / "c"),
        )
        out = tmp_path / str(workers)
        done(started(out, fresh.environment, *many, *on(fresh, "--workers", str(workers))))
        clean = [when for when, _ in begun(fresh)][:12]
        spans.append(max(clean) + SECONDS - min(clean))
    with capsys.disabled():
        print(f"\none worker {spans[0]:.1f} s, two {spans[1]:.1f} s, {spans[0] / spans[1]:.2f} x")
    assert spans[0] / spans[1] >= 1.8


# ---- paid calls ----


@pytest.fixture(scope="module")
def replies() -> dict[str, dict[str, bytes]]:
    """What was lost → the tables of the run."""
    return {}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_a_loss_costs_no_second_payment(
    victim: str, fresh: Nodes, tmp_path: Path, replies: dict[str, dict[str, bytes]], capsys: Any
) -> None:
    """Of a worker none; of the driver, which asks for all workers, at most that of the requests in flight."""
    server, flying, most = ScriptedServer(), [], []

    def slowly(handler: Any) -> None:
        flying.append(handler)
        most.append(len(flying))
        time.sleep(0.3)
        flying.remove(handler)
        says("a red thing")(handler)

    server.acts[:] = [slowly]
    package, profile = ROOT / "tasks", tmp_path / "served.yaml"
    source = json.dumps(server.source(key_variable=None).model_dump(mode="json"))
    text = (package / "profiles/miniature.yaml").read_text().replace("../", f"{package}/")
    profile.write_text(text.replace("summariser: counting", f"summariser: {source}"))
    asked = ("--profile", str(profile), "--methods", "dnd", *FEW, "--severities", "1,5", "--faithfulness", "none")
    out = tmp_path / "run"

    def labelling() -> dict[str, Any] | None:
        if len(server.bodies) < 5:
            return None
        working = [one for one in status(out)["workers"].values() if one["item"].startswith("block")]
        return next((one for one in working if one["state"] == "working"), None)

    try:
        run = started(out, fresh.environment, *asked, *on(fresh))
        worker = until(labelling)
        if victim == "worker":
            os.kill(worker["pid"], signal.SIGKILL)
        else:
            run.kill()
            run.communicate()
            before = len(server.bodies)
            run = started(out, fresh.environment, *asked, *on(fresh))
        done(run)
    finally:
        server.stop()
    paid, distinct = len(server.bodies), len({json.dumps(body, sort_keys=True) for body in server.bodies})
    with capsys.disabled():
        print(f"\n{victim}: {paid} requests, {distinct} distinct, {max(most)} at the same time")
    if victim == "worker":
        assert [one["item"] for one in lost(out)] == [worker["item"]]
        assert paid == distinct
    else:
        assert before < paid <= distinct + max(most)
    replies[victim] = tables(out)
    assert replies[victim] == next(iter(replies.values()))
