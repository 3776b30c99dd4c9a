"""A cache that several hosts use: each has its own SQLite file, and reads what the others publish."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tasks.cache import inventory
from tasks.cache.segments import Segments
from tasks.cache.store import Cache

WHO = {"what": "sizes", "model": "m"}
ITEMS = [hashlib.sha256(bytes([number])).digest() for number in range(5)]


def sizes(cache: Cache, made: list[int], items: list[bytes] = ITEMS, who: dict = WHO) -> list[bytes]:
    def make(places: list[int]) -> list[bytes]:
        made.extend(places)
        return [b"size " + items[place][:4] for place in places]

    return cache.answers(who, items, make, list)


@pytest.fixture
def hosts(tmp_path: Path) -> list[Cache]:
    return [Cache(tmp_path / "shared", tmp_path / f"host {number}") for number in range(2)]


def test_hosts_find_what_the_others_published_and_share_no_sqlite_file(hosts: list[Cache]) -> None:
    made: list[int] = []
    first = sizes(hosts[0], made)
    assert sizes(hosts[1], [], ITEMS[:0]) == []
    hosts[0].publish()
    assert sizes(hosts[1], made) == first
    assert made == [0, 1, 2, 3, 4]
    # The other way round, after each has read the other's.
    sizes(hosts[1], made, [ITEMS[0], b"new".ljust(32)])
    hosts[1].publish()
    sizes(hosts[0], made, [b"new".ljust(32)])
    assert made == [0, 1, 2, 3, 4, 1]
    shared = hosts[0].folder
    assert shared is not None
    assert not list(shared.rglob("*.sqlite*"))
    # What was read once is in the own tier: it is there without the others.
    (answers,) = shared.glob("answers/*")
    for path in answers.iterdir():
        path.unlink()
    sizes(Cache(shared, shared.parent / "host 1"), made, [*ITEMS, b"new".ljust(32)])
    assert len(made) == 6


_HOST = """
import hashlib, sys
from pathlib import Path
from tasks.cache.store import Cache
cache = Cache(Path(sys.argv[1]), Path(sys.argv[2]))
items = [hashlib.sha256(bytes([number])).digest() for number in range(5)]
who = {"what": "sizes", "model": "m"}
print(cache.answers(who, items, lambda places: [sys.argv[2].encode() for _ in places], list))
"""


def test_what_a_process_kept_is_published_when_it_ends(tmp_path: Path) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", _HOST, str(tmp_path / "shared"), host], capture_output=True, text=True, check=True,
            cwd=Path(__file__).parents[3],
        ).stdout
        for host in (str(tmp_path / "a"), str(tmp_path / "b"))
    ]  # fmt: skip
    assert said[0] == said[1]
    assert "/a'" in said[0]


def test_a_damaged_segment_is_skipped_with_one_warning(hosts: list[Cache], caplog: pytest.LogCaptureFixture) -> None:
    made: list[int] = []
    for items in (ITEMS[:2], ITEMS[2:]):
        sizes(hosts[0], made, items)
        hosts[0].publish()
    assert hosts[0].folder is not None
    damaged, whole = sorted(hosts[0].folder.glob("answers/*/*.jsonl"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    lost = 5 - len(json.loads(whole.read_text())["answers"])
    made.clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            sizes(hosts[1], made)
    assert len(made) == lost
    assert [damaged.name in record.getMessage() for record in caplog.records] == [True]
    assert damaged.exists()


def test_a_cache_of_one_host_writes_no_segments(tmp_path: Path) -> None:
    sizes(Cache(tmp_path), [])
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == ["answers"] * 3


def test_listing_and_pruning_mean_all_hosts(hosts: list[Cache]) -> None:
    sizes(hosts[0], [])
    sizes(hosts[0], [], who={"what": "sizes", "model": "n"})
    hosts[0].publish()
    assert [entry.count for entry in inventory.entries(hosts[1])] == [5, 5]
    inventory.prune(hosts[1], 0)
    assert inventory.entries(hosts[1]) == []
    assert hosts[1].folder is not None
    assert not list(hosts[1].folder.rglob("*.jsonl"))
    made: list[int] = []
    sizes(hosts[1], made)
    assert len(made) == 5


def test_threads_that_publish_at_once_write_few_segments_and_lose_nothing(tmp_path: Path) -> None:
    segments, barrier = Segments(tmp_path), threading.Barrier(16)

    def publish(number: int) -> None:
        barrier.wait()
        segments.publish(number)
        assert any(str(number) in path.read_text().split() for path in tmp_path.glob("*.jsonl"))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [number for _, records in Segments(tmp_path).unread() for number in records]
    assert sorted(found) == list(range(16))
    assert not list(segments.unread())


def test_what_cannot_be_written_is_written_next_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    segments = Segments(tmp_path / "file")
    with pytest.raises(OSError, match="file"):
        segments.publish(1)
    (tmp_path / "file").unlink()
    segments.publish(2)
    ((_, records),) = Segments(tmp_path / "file").unread()
    assert records == [1, 2]


def test_a_segment_that_comes_just_after_a_look_is_found(tmp_path: Path) -> None:
    mine, theirs = Segments(tmp_path), Segments(tmp_path)
    for number in range(50):
        theirs.publish(number)
        assert [records for _, records in mine.unread()] == [[number]]
