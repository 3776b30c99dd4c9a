"""Ctrl-C and SIGTERM: in order where that is possible, in time where it is not (F5)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from small_run import METHODS, ROOT, tables

from benchmark.core.interrupt import GRACE, TookTooLong, stopping_on_signals, time_limit

SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.argv = ["benchmark", "run", "--out", "my runs"]
from benchmark.core import interrupt
from benchmark.commands.console import guarded
interrupt.GRACE = {grace}

def long_call():
    import hashlib
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)  # minutes, outside of Python

def threads():
    import time
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(2) as pool:
        pool.submit(time.sleep, 60)
        print("begun", flush=True)
        time.sleep(60)

def library():
    import time
    try:
        print("begun", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted") from None  # as Ray does

import typer
app = typer.Typer()
app.command()(guarded({what}))
app([])
"""


def started(what: str, grace: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(what=what, grace=grace)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.3)  # until it is in the call
    return process


def ended(process: subprocess.Popen[str], code: int, within: float) -> None:
    began = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - began < within
    assert process.returncode == code
    assert "to continue: python -m benchmark run --out 'my runs'" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("what", ["long_call", "threads"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_f05_what_python_cannot_interrupt_is_ended_in_time(what: str, number: int, code: int) -> None:
    process = started(what, grace=0.5)
    process.send_signal(number)
    ended(process, code, within=5)


def test_f05_in_time_is_within_ten_seconds() -> None:
    assert 1 < GRACE <= 9


def test_f05_a_second_ctrl_c_ends_at_once() -> None:
    process = started("long_call", grace=60)
    process.send_signal(signal.SIGINT)
    time.sleep(0.8)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    ended(process, 130, within=5)


def test_f05_one_signal_that_comes_twice_is_one() -> None:
    """``timeout`` sends it to the process and to its group."""
    process = started("long_call", grace=2)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    time.sleep(0.5)
    assert process.poll() is None
    ended(process, 143, within=10)


def test_f05_handlers_are_put_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    wakeup = signal.set_wakeup_fd(-1)
    watching = threading.active_count()
    with stopping_on_signals("stopped"):
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.set_wakeup_fd(wakeup) == -1
    for _ in range(100):
        if threading.active_count() == watching:
            break
        time.sleep(0.01)
    assert threading.active_count() == watching


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_f05_sigterm_is_told_from_ctrl_c_also_where_a_library_raises_an_interrupt_of_its_own(
    number: int, code: int
) -> None:
    process = started("library", grace=60)
    process.send_signal(number)
    ended(process, code, within=5)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_f05_a_real_run_stops_and_the_command_it_names_continues_it(
    tmp_path: Path, number: int, code: int, whole: dict[str, str]
) -> None:
    asked = ["run", "--task", "resnet18_layer4", "--methods", ",".join(METHODS), "--suites", "contrast,fog"]
    asked += ["--images", "12", "--unit-ids", "3,5", "--device", "cpu", "--faithfulness", "none", "--thumbnails", "0"]
    command = [sys.executable, "-m", "benchmark", *asked, "--out", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
    assert process.stderr is not None
    while not process.stderr.readline().startswith("resnet18_layer4: begins"):
        assert process.poll() is None
    process.send_signal(number)
    began = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == code
    assert f"to continue: python -m benchmark run --task resnet18_layer4 --methods {','.join(METHODS)}" in said
    assert not (tmp_path / "run" / "labels.parquet").exists()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert tables(tmp_path / "run") == whole


# ---- the limit of time for one piece of work ----


def test_f35_what_takes_too_long_is_stopped() -> None:
    began = time.monotonic()

    def asks_again() -> None:
        while True:
            try:
                time.sleep(60)
            except Exception:  # as a method may do with a server
                continue

    with pytest.raises(TookTooLong, match=r"took longer than 0\.2 s"), time_limit(0.2):
        asks_again()
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_f35_what_is_in_time_is_left_alone(seconds: float | None) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(seconds):
        pass
    assert signal.getsignal(signal.SIGALRM) == before


def test_f35_another_alarm_is_only_put_off() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: heard.append(number))
    other, interval = signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with time_limit(30):
            time.sleep(0.4)
            assert heard == []
        time.sleep(0.1)
        assert heard == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, other, interval)


def test_f35_outside_of_the_main_thread_there_is_no_limit() -> None:
    ran: list[bool] = []

    def work() -> None:
        with time_limit(0.01):
            time.sleep(0.05)
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran == [True]
