"""One process drives a run; a second one is refused, and one that is gone is replaced."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading

import pytest

from leaderboard.store import atomic
from leaderboard.store.errors import StoreError
from leaderboard.store.lease import DriverLease

REFUSED = r"is driven by process \d+ on .* \(epoch {}\): wait until it has ended"


class Time:
    """A clock that only sleeping moves on; ``meanwhile`` happens in each sleep."""

    def __init__(self, meanwhile=lambda: None) -> None:
        self.now, self.meanwhile = 1000.0, meanwhile

    def lease(self, root) -> DriverLease:
        return DriverLease(root, clock=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


def test_a_second_driver_is_refused_as_soon_as_the_first_shows_itself(tmp_path) -> None:
    first = DriverLease(tmp_path)
    first.take()
    time = Time()
    beats = iter([lambda: None] * 12 + [first.beat])
    time.meanwhile = lambda: next(beats)()
    said = []
    with pytest.raises(StoreError, match=REFUSED.format(1)):
        time.lease(tmp_path).take(said.append)
    assert time.now == 1013
    assert said == [f"waiting up to 60 s to see whether process {os.getpid()} on {os.uname().nodename} still drives "
                    "this run"]  # fmt: skip
    first.check()


def test_a_frozen_driver_is_replaced_after_a_minute_and_told(tmp_path) -> None:
    first, time = DriverLease(tmp_path), Time()
    first.take()
    second = time.lease(tmp_path)
    second.take()
    assert (time.now, first.epoch, second.epoch) == (1060, 1, 2)
    first.check()  # it does not know yet
    for _ in range(2):
        with pytest.raises(StoreError, match=REFUSED.format(2)):
            first.beat()
    with pytest.raises(StoreError, match=REFUSED.format(2)):
        first.check()
    second.beat()


def test_clocks_of_two_hosts_need_not_agree(tmp_path) -> None:
    first = DriverLease(tmp_path, clock=lambda: -1e9)
    first.take()
    os.utime(tmp_path / "driver.lease" / "1.json", (0, 0))
    time = Time(lambda: first.beat() if time.now == 1059 else None)
    with pytest.raises(StoreError, match=REFUSED.format(1)):
        time.lease(tmp_path).take()


def test_a_driver_that_ended_is_followed_at_once(tmp_path) -> None:
    for epoch in (1, 2):
        lease = Time().lease(tmp_path)
        with lease.held():
            assert lease.epoch == epoch
    time = Time()
    time.lease(tmp_path).take()
    assert time.now == 1000


def _drive(root) -> None:
    DriverLease(root).take()
    os._exit(1)


def test_a_driver_that_was_killed_on_this_machine_is_followed_at_once_and_of_another_after_a_minute(tmp_path) -> None:
    driver = multiprocessing.get_context("fork").Process(target=_drive, args=(tmp_path,))
    driver.start()
    driver.join(30)
    time = Time()
    time.lease(tmp_path).take()
    assert time.now == 1000
    note = tmp_path / "driver.lease" / "2.json"
    elsewhere = {**json.loads(note.read_text()), "machine": "elsewhere", "pid": driver.pid}
    note.write_text(json.dumps(elsewhere))
    time.lease(tmp_path).take()
    assert time.now == 1060


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff", b'{"pid": "x", "machine": 3}'])
def test_a_damaged_note_is_waited_for(tmp_path, damage: bytes) -> None:
    DriverLease(tmp_path).take()
    (tmp_path / "driver.lease" / "1.json").write_bytes(damage)
    time = Time()
    lease = time.lease(tmp_path)
    lease.take()
    assert (time.now, lease.epoch) == (1060, 2)


def test_of_many_that_begin_at_once_one_drives(tmp_path) -> None:
    barrier, refused, leases = threading.Barrier(8), [], [DriverLease(tmp_path, seconds=6) for _ in range(8)]

    def drive(lease: DriverLease) -> None:
        barrier.wait()
        try:
            with lease.held():
                over.wait(20)
        except StoreError as error:
            refused.append(str(error))
            if len(refused) == 7:
                over.set()

    over = threading.Event()
    threads = [threading.Thread(target=drive, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(refused) == 7
    assert [lease.epoch for lease in leases].count(1) == 1
    assert atomic.remove_leftovers(tmp_path) == []
