"""``cache list``, ``explain`` and ``prune``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmark.commands.cache import app
from benchmark.commands.cache_view import size_of, size_text
from tasks.cache import inventory, open_cache
from tasks.cache.keys import key_of, text_sha256
from tasks.common.errors import UserError

HOSTILE = "x\x1b[31m\u202e[/red]\nnew line" + "y" * 300


def blob(folder: Path, number: int, used: float, kilobytes: int = 10) -> str:
    """A blob, last used at a time; its key."""
    identity = {"what": "pooled activations", "layer": "layer4", "number": number}
    cache = open_cache(folder)
    cache.blob(identity, lambda: {"a": torch.zeros(kilobytes * 1000, dtype=torch.uint8)})
    assert cache.blobs is not None
    path, _ = cache.blobs.paths(key_of(identity))
    os.utime(path, (used, used))
    return path.stem


def captions(folder: Path, count: int = 3, model: str = "a") -> str:
    identity = {"what": "captions", "source": {"name": model}}
    cache = open_cache(folder)
    cache.keep(identity, {text_sha256(str(number)): b"a red fish" for number in range(count)})
    assert cache.small is not None
    cache.small.close()
    return key_of(identity)


def ran(folder: Path, *words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, [*words, "--cache", str(folder)])
    assert result.exit_code == code, result.output
    return result.output


def test_list_shows_the_newest_first_and_the_sum(tmp_path) -> None:
    keys = [blob(tmp_path, 1, 1000), blob(tmp_path, 2, 2000), captions(tmp_path)]
    lines = ran(tmp_path, "list").splitlines()
    assert [line.split()[0] for line in lines] == ["key", *(key[:12] for key in keys[::-1]), "3"]
    assert "1970-01-01 00:33:20" in lines[2]
    assert "name a" in lines[1]
    found = json.loads(ran(tmp_path, "list", "--json"))
    assert [row["key"] for row in found["entries"]] == keys[::-1]
    assert [row["kind"] for row in found["entries"]] == ["answers", "blob", "blob"]
    assert found["bytes"] == sum(
        path.stat().st_size for path in tmp_path.rglob("*") if path.is_file() and "-shm" not in path.name
    )


def test_an_empty_cache_is_no_mistake_and_stays_absent(tmp_path) -> None:
    place = tmp_path / "none yet"
    assert ran(place, "list").startswith("0 entries, 0 B")
    assert "0 entries removed" in ran(place, "prune", "--all")
    assert not place.exists()


def test_explain_prints_what_made_the_key(tmp_path) -> None:
    key = blob(tmp_path, 1, 1000)
    said = ran(tmp_path, "explain", key[:10].upper())
    identity = json.loads(said[said.index("{") :])
    assert key_of(identity) == key
    assert key in said
    assert json.loads(ran(tmp_path, "explain", key, "--json"))["identity"] == identity


def test_explain_of_no_or_several_keys(tmp_path) -> None:
    keys = [blob(tmp_path, number, 1000) for number in range(20)]
    shared = next(key[0] for key in keys if sum(other[0] == key[0] for other in keys) > 1)
    assert "keys begin with" in ran(tmp_path, "explain", shared, code=1)
    assert "cache list" in ran(tmp_path, "explain", "zz", code=1)
    assert "cache list" in ran(tmp_path, "explain", "", code=1)


def test_prune_removes_the_least_recently_used(tmp_path) -> None:
    keys = {number: blob(tmp_path, number, 1000 + number) for number in (3, 1, 2, 4)}
    assert open_cache(tmp_path).blob({"what": "pooled activations", "layer": "layer4", "number": 1}, pytest.fail)
    said = ran(tmp_path, "prune", "--max-size", "25kB")
    left = {entry.key for entry in inventory.entries(open_cache(tmp_path))}
    assert left == {keys[4], keys[1]}, "number 1 was the oldest, but was just read"
    assert keys[2][:12] in said
    assert "2 entries removed, 20." in said
    assert "kB freed" in said


def test_prune_all_and_by_size_including_answers(tmp_path) -> None:
    blob(tmp_path, 1, 1000)
    old = captions(tmp_path, 2000)
    found = json.loads(ran(tmp_path, "prune", "--max-size", "1MB", "--json"))
    assert (found["removed"], found["freed"]) == ([], 0)
    found = json.loads(ran(tmp_path, "prune", "--all", "--json"))
    assert {row["key"] for row in found["removed"]} >= {old}
    assert found["freed"] > 200_000
    assert inventory.entries(open_cache(tmp_path)) == []
    assert inventory.bytes_on_disk(open_cache(tmp_path)) == found["left"] < 50_000


def test_prune_removes_what_was_damaged_and_what_killed_writers_left(tmp_path) -> None:
    key = blob(tmp_path, 1, 1000)
    (tmp_path / "corrupt").mkdir()
    folder = tmp_path / "blobs" / key[:2]
    dead, alive, unmarked = folder / ".writing-1-aa", folder / ".writing-2-bb", folder / f"{'0' * 64}.safetensors"
    for path in (tmp_path / "corrupt" / "old.safetensors", dead, alive, unmarked):
        path.write_bytes(b"x" * 100)
    for path in (dead, unmarked):
        os.utime(path, (1000, 1000))
    assert "3 damaged or unfinished files" in ran(tmp_path, "prune", "--max-size", "1GB")
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        alive.name,
        f"{key}.safetensors",
        f"{key}.sha256",
    }


def test_hostile_identities_reach_no_terminal(tmp_path) -> None:
    identity = {"what": HOSTILE, "name": HOSTILE, "concept": {"name": HOSTILE}}
    open_cache(tmp_path).answer(identity, lambda: 1)
    for words in (["list"], ["explain", key_of(identity)], ["list", "--json"], ["prune", "--all"]):
        said = ran(tmp_path, *words)
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "[/red]" in said


def test_damaged_entries_are_listed_and_can_be_removed(tmp_path) -> None:
    key = blob(tmp_path, 1, 1000)
    (tmp_path / "blobs" / key[:2] / f"{key}.safetensors").write_bytes(b"\xff" * 20)
    assert "unreadable" in ran(tmp_path, "list")
    assert "1 entries removed" in ran(tmp_path, "prune", "--all")


def test_mistakes_are_one_sentence(tmp_path) -> None:
    assert "--max-size SIZE" in ran(tmp_path, "prune", code=1)
    assert "5GB" in ran(tmp_path, "prune", "--max-size", "much", code=1)
    assert "switched off" in ran(Path("none"), "list", code=1)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("5GB", 5 * 10**9), ("1.5 GiB", 3 * 2**29), ("10k", 10_000), ("7b", 7), ("2tb", 2 * 10**12)],
)
def test_sizes(text, count) -> None:
    assert size_of(text) == count


def test_sizes_that_are_none() -> None:
    for text in ("", "-1", "5 G B", "GB", "1e3", "5PB"):
        with pytest.raises(UserError, match="is not a size"):
            size_of(text)
    assert [size_text(count) for count in (0, 999, 1500, 2 * 10**6, 3_100_000_000)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "2.0 MB",
        "3.1 GB",
    ]


def test_the_commands_import_no_torch(tmp_path) -> None:
    key = blob(tmp_path, 1, 1000)
    code = (
        "import sys; from benchmark.commands.cache import app\n"
        f"for words in (['list'], ['explain', {key!r}], ['prune', '--all']):\n"
        f"    app([*words, '--cache', {str(tmp_path)!r}], standalone_mode=False)\n"
        "print('torch' in sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert said.splitlines()[-1] == "False"
