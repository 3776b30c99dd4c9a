"""Blobs: whole, checked, found again by content, and never a reason for a wrong or missing result (fault F3)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from tasks.cache import open_cache
from tasks.cache.blobs import BlobStore
from tasks.cache.store import default_folder

WHAT = {"what": "test", "number": 1}
TENSORS = {
    "floats": torch.linspace(0, 1, 7),
    "halves": torch.arange(6, dtype=torch.float16).reshape(2, 3),
    "bytes": torch.arange(4, dtype=torch.uint8),
    "flags": torch.tensor([True, False]),
    "none": torch.zeros(0, 5),
}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name]) for name in first
    )


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.calls += 1
        return TENSORS


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.rglob(pattern)
    return path


def test_a_blob_is_made_once(tmp_path) -> None:
    make = Counting()
    for _ in range(3):
        assert equal(open_cache(tmp_path / "a" / "b").blob(WHAT, make), TENSORS)
    assert make.calls == 1
    blob = only(tmp_path, "*.safetensors")
    assert blob.parent.name == blob.name[:2]
    assert not list(tmp_path.rglob(".writing-*"))


def test_views_and_gradients_are_kept_as_values(tmp_path) -> None:
    base = torch.arange(12.0, requires_grad=True).reshape(3, 4)
    for _ in range(2):
        found = open_cache(tmp_path).blob(WHAT, lambda: {"turned": base.T, "row": base[1]})
        assert torch.equal(found["turned"], base.detach().T)
        assert torch.equal(found["row"], base.detach()[1])
        assert not found["turned"].requires_grad


@pytest.mark.parametrize("place", [0, 9, -1])
def test_a_flipped_bit_is_found_set_aside_and_recomputed(tmp_path, caplog, place) -> None:
    make = Counting()
    open_cache(tmp_path).blob(WHAT, make)
    path = only(tmp_path, "*.safetensors")
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    cache = open_cache(tmp_path)
    assert equal(cache.blob(WHAT, make), TENSORS)
    assert equal(cache.blob(WHAT, make), TENSORS)
    assert make.calls == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert only(tmp_path / "corrupt", "*").read_bytes() == damaged
    assert only(tmp_path / "blobs", "*.safetensors").read_bytes() == whole


@pytest.mark.parametrize("kept", [0, 5, 100])
def test_a_truncated_blob_is_recomputed(tmp_path, kept) -> None:
    make = Counting()
    open_cache(tmp_path).blob(WHAT, make)
    path = only(tmp_path, "*.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    assert equal(open_cache(tmp_path).blob(WHAT, make), TENSORS)
    assert make.calls == 2


def test_a_blob_without_its_hash_is_not_there(tmp_path, caplog) -> None:
    """F6: killed between the write of the data and of the marker."""
    make = Counting()
    open_cache(tmp_path).blob(WHAT, make)
    only(tmp_path, "*.sha256").unlink()
    assert list(BlobStore(tmp_path).entries()) == []
    open_cache(tmp_path).blob(WHAT, make)
    assert make.calls == 2
    assert not caplog.records


def test_a_failure_leaves_nothing_behind(tmp_path) -> None:
    def fail() -> dict[str, torch.Tensor]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        open_cache(tmp_path).blob(WHAT, fail)
    assert list(tmp_path.rglob("*")) == []


def test_a_cache_that_cannot_be_written_costs_one_warning_and_no_result(tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = open_cache(tmp_path / "file")
    for number in range(3):
        assert equal(cache.blob({**WHAT, "number": number}, lambda: TENSORS), TENSORS)
        assert cache.answer({"what": "count", "number": number}, lambda: 3) == 3
    assert len(caplog.records) == 1
    assert "CLEAR_CACHE" in caplog.text


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("I/O error"), ValueError("odd"), KeyError("x")]
)
def test_whatever_the_cache_raises_is_one_warning_and_no_failure(tmp_path, caplog, monkeypatch, error) -> None:
    def fail(*_: object) -> None:
        raise error

    cache = open_cache(tmp_path)
    for name in ("get", "put"):
        monkeypatch.setattr(cache.blobs, name, fail)
        monkeypatch.setattr(cache.small, name, fail)
    for _ in range(2):
        assert equal(cache.blob(WHAT, lambda: TENSORS), TENSORS)
        assert cache.answer(WHAT, lambda: 3) == 3
    assert len(caplog.records) == 1


def test_a_wrong_identity_is_no_fault_of_the_cache(tmp_path) -> None:
    for call in (lambda cache: cache.blob({}, dict), lambda cache: cache.answer({}, int)):
        with pytest.raises(ValueError, match="what"):
            call(open_cache(tmp_path))


def test_none_keeps_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    make = Counting()
    for cache in (open_cache("none"), open_cache("none")):
        assert not cache.keeps
        cache.blob(WHAT, make)
        assert cache.answer(WHAT, lambda: [1]) == [1]
    assert make.calls == 2
    assert list(tmp_path.iterdir()) == []


def test_where_the_cache_is(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CLEAR_CACHE", str(tmp_path / "mine"))
    assert open_cache().folder == tmp_path / "mine"
    assert open_cache(tmp_path / "other").folder == tmp_path / "other"
    assert open_cache("").folder == tmp_path / "mine"  # --cache "$UNSET": not the working directory
    monkeypatch.setenv("CLEAR_CACHE", "none")
    assert open_cache().folder is None
    monkeypatch.delenv("CLEAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_cache().folder == tmp_path / "clear-benchmark"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "clear-benchmark"


def test_several_writers_of_one_key_agree(tmp_path, caplog) -> None:
    found: list[dict[str, torch.Tensor]] = []
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for number in range(5):
            found.append(open_cache(tmp_path).blob({**WHAT, "number": number}, lambda: TENSORS))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert all(equal(one, TENSORS) for one in found)
    assert len(list(BlobStore(tmp_path).entries())) == 5
    assert not caplog.records


def test_the_same_content_is_the_same_file(tmp_path) -> None:
    for name in ("a", "b"):
        BlobStore(tmp_path / name).put(WHAT, TENSORS)
    first, second = (only(tmp_path / name, "*.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_reading_says_when_it_was_used(tmp_path) -> None:
    store = BlobStore(tmp_path)
    store.put(WHAT, TENSORS)
    os.utime(only(tmp_path, "*.safetensors"), (1000, 1000))
    (before,) = store.entries()
    assert before.used == 1000
    assert before.identity == WHAT
    assert before.count == len(TENSORS)
    assert store.get(WHAT) is not None
    (after,) = store.entries()
    assert after.used > 1000
