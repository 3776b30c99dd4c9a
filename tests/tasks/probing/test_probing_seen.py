"""A set that is opened again decodes only the files that have changed, and is the same set as without a cache (F13)."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from probing_files import picture, save
from pydantic import TypeAdapter

from tasks.cache import Cache, open_cache
from tasks.cache.answers import FILE, _checksum
from tasks.common import image_files
from tasks.common.errors import UserError
from tasks.common.image_files import load_image
from tasks.miniature import probing as scenes
from tasks.miniature.broden import export
from tasks.probing import cifar, seen
from tasks.probing.base import StoredSet
from tasks.probing.broden import open_broden
from tasks.probing.build import build
from tasks.probing.cifar import open_cifar
from tasks.probing.folder import Choice, open_folder
from tasks.probing.imagenet import open_imagenet
from tasks.probing.scan import Content
from tasks.probing.schema import UnionSource
from tasks.probing.seen import refused

HALF = Choice(max_skipped=0.5)
COUNT = 4


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Names of the files that are decoded during a test."""
    names: list[str] = []

    def counted(path):
        names.append(Path(path).name)
        return load_image(path)

    for module in ("folder", "broden"):
        monkeypatch.setattr(f"tasks.probing.{module}.load_image", counted)
    return names


@pytest.fixture
def folder(tmp_path) -> Path:
    for number in range(COUNT):
        save(tmp_path / "set" / f"{number}.png", picture(number))
    return tmp_path / "set"


@pytest.fixture
def cache(tmp_path) -> Cache:
    return open_cache(tmp_path / "cache")


def opened(folder: Path, cache: Cache | None, choice: Choice = HALF) -> StoredSet:
    return open_folder(folder, "CC0", choice, cache)


def same(one: StoredSet, other: StoredSet) -> bool:
    facts = (one.ids, one.digest, one.size, one.facts) == (other.ids, other.digest, other.size, other.facts)
    return facts and np.array_equal(one.presence, other.presence)


def test_the_second_opening_decodes_nothing(folder, cache, decoded, tmp_path):
    shutil.copy(folder / "0.png", folder / "twin.png")
    (folder / "broken.png").write_bytes(b"no picture")
    plain = opened(folder, None)
    assert same(opened(folder, cache), plain)
    decoded.clear()
    again = opened(folder, open_cache(tmp_path / "cache"))
    assert not decoded
    assert same(again, plain)
    assert again.facts.duplicates == (("0.png", "twin.png"),)
    assert [name for name, _ in again.facts.skipped] == ["broken.png"]
    assert torch.equal(again.images, plain.images)


def test_another_choice_decodes_only_what_it_adds(folder, cache, decoded):
    few = opened(folder, cache, Choice(2))
    decoded.clear()
    assert same(opened(folder, cache, Choice(3)), opened(folder, None, Choice(3)))
    assert set(decoded[:1]) == set(opened(folder, None, Choice(3)).ids) - set(few.ids)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("PIL.__version__", "another"),
        ("PIL.features.version", lambda name: "another"),
        ("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True),
        ("tasks.probing.seen.source_sha256", lambda *files: "corrected code"),
    ],
)
def test_other_decoders_and_other_code_look_again(folder, cache, decoded, monkeypatch, what, value):
    opened(folder, cache)
    decoded.clear()
    monkeypatch.setattr(what, value)
    opened(folder, cache)
    assert len(decoded) == COUNT


@pytest.mark.parametrize("same_time", [False, True])
def test_a_changed_pixel_is_seen(folder, cache, decoded, same_time):
    path = save(folder / "2.bmp", picture(2))  # of one size, whatever the pixels
    before = opened(folder, cache)
    old = path.stat()
    pixels = np.array(load_image(path))
    pixels[20, 30] ^= 255
    save(path, pixels)
    # Also a program that sets the old time again, as copying does, cannot hide it: the entry's own time has changed.
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns + (0 if same_time else 10**9)))
    decoded.clear()
    after = opened(folder, cache)
    assert path.stat().st_size == old.st_size
    assert decoded == ["2.bmp"]
    assert after.digest != before.digest
    assert after.digest == opened(folder, None).digest


def test_damaged_rows_are_ignored(folder, cache, decoded, tmp_path, caplog):
    plain = opened(folder, cache)
    cache.small.close()
    with closing(sqlite3.connect(tmp_path / "cache" / FILE)) as database:
        database.execute('UPDATE answers SET value = CAST(\'[[32,32],"00","00",[]]\' AS BLOB) WHERE rowid = 1')
        database.commit()
    decoded.clear()
    assert same(opened(folder, cache), plain)
    assert len(decoded) == 1
    assert "differ from their checksum" in caplog.text
    decoded.clear()
    assert same(opened(folder, cache), plain)
    assert not decoded


@pytest.mark.parametrize("poison", ["no JSON", "[[32,32],1,2]", "{}", "[" * 100_000])
def test_rows_that_fit_their_checksum_but_cannot_be_read_are_looked_at_again(folder, cache, decoded, tmp_path, poison):
    plain = opened(folder, cache)
    cache.small.close()
    with closing(sqlite3.connect(tmp_path / "cache" / FILE)) as database, database:
        for (item,) in database.execute("SELECT item FROM answers").fetchall():
            row = (poison.encode(), _checksum(item, poison.encode()), item)
            database.execute("UPDATE answers SET value = ?, checksum = ? WHERE item = ?", row)
    for count in (COUNT, 0):
        decoded.clear()
        assert same(opened(folder, cache), plain)
        assert len(decoded) == count


def test_what_only_this_time_could_not_be_read_is_looked_at_again(folder, cache, monkeypatch):
    whole = opened(folder, None)

    def fail(path, **_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(image_files.Image, "open", fail)
        with pytest.raises(UserError, match="Input/output error"):
            opened(folder, cache)
    assert same(opened(folder, cache), whole)


def test_a_refusal_lasts_unless_the_machine_failed(tmp_path):
    (tmp_path / "cut.png").write_bytes(save(tmp_path / "whole.png", picture(0)).read_bytes()[:-40])
    for name, lasting in (("cut.png", True), ("absent.png", False)):
        with pytest.raises(UserError) as caught:
            load_image(tmp_path / name)
        assert refused(caught.value).lasting is lasting
        assert refused(caught.value).sentence == str(caught.value)


@pytest.fixture
def broden(tmp_path) -> Path:
    export(tmp_path / "broden", "probe", COUNT)
    return tmp_path / "broden"


def test_broden_looks_again_at_an_image_whose_annotation_has_changed(broden, cache, decoded):
    first = open_broden(broden, "CC0", cache=cache)
    assert same(first, open_broden(broden, "CC0"))
    decoded.clear()
    assert same(open_broden(broden, "CC0", cache=cache), first)
    assert not decoded
    (label_map,) = broden.rglob("probe-000001*object*.png")
    save(label_map, np.zeros_like(load_image(label_map)))
    changed = open_broden(broden, "CC0", cache=cache)
    assert decoded
    assert all(name.startswith("probe-000001") for name in decoded)
    assert same(changed, open_broden(broden, "CC0"))
    assert changed.digest != first.digest


def test_broden_looks_again_where_settings_or_tables_say_something_else(broden, cache):
    open_broden(broden, "CC0", cache=cache)
    for options in ({"annotation": False}, {"categories": ("color",)}):
        assert same(open_broden(broden, "CC0", cache=cache, **options), open_broden(broden, "CC0", **options))
    index = broden / "index.csv"
    lines = index.read_text().splitlines()
    label_map = lines[1].split(",")[lines[0].split(",").index("color")]
    index.write_text("\n".join(lines).replace(label_map, ""))
    assert same(open_broden(broden, "CC0", cache=cache), open_broden(broden, "CC0"))
    # Labels that have lost their names: every image is refused now.
    label = broden / "label.csv"
    label.write_text("\n".join(label.read_text().splitlines()[:2]))
    for table in broden.glob("c_*.csv"):
        table.unlink()
    for kept in (cache, None):
        with pytest.raises(UserError, match="which has no name"):
            open_broden(broden, "CC0", cache=kept)


def test_cifar_looks_again_when_the_archive_has_changed(cache, tmp_path, monkeypatch):
    read = []

    def counted(image):
        read.append(image)
        return Content(image)

    monkeypatch.setattr(cifar, "Content", counted)
    records = np.random.default_rng(0).integers(0, 10, (6, 1 + 3 * 32 * 32), dtype=np.uint8)
    (tmp_path / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    first = open_cifar(tmp_path, "none stated", cache=cache)
    assert same(open_cifar(tmp_path, "none stated", cache=cache), first)
    assert len(read) == 6
    records[3, 100] += 1
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    changed = open_cifar(tmp_path, "none stated", cache=cache)
    assert len(read) == 12
    assert changed.digest == open_cifar(tmp_path, "none stated").digest != first.digest


def test_imagenet_and_unions_pass_the_cache_on(cache, decoded, tmp_path):
    for number in range(3):
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        save(tmp_path / "val" / "n01440764" / name, picture(number), format="JPEG")
    first = open_imagenet(tmp_path / "val", "ImageNet", cache=cache)
    assert len(decoded) == 3
    assert same(open_imagenet(tmp_path / "val", "ImageNet", cache=cache), first)
    assert len(decoded) == 3
    save(tmp_path / "own" / "a.png", picture(9))
    part = {"licence": "mine"}
    source = TypeAdapter(UnionSource).validate_python(
        {
            "loader": "union",
            "parts": {
                "val": {"loader": "imagenet", "path": str(tmp_path / "val"), **part},
                "own": {"loader": "folder", "path": str(tmp_path / "own"), **part},
            },
        }
    )
    plain = build(source, 3)
    build(source, 3, cache=cache)
    decoded.clear()
    assert same(build(source, 3, cache=cache), plain)
    assert not decoded


def test_code_that_decides_what_is_seen_is_there_to_be_hashed() -> None:
    """A path that has moved must not leave a key that no correction changes."""
    assert len(seen.source_sha256(*seen._CODE)) == 64
    assert len(seen.source_sha256(*scenes._CODE)) == 64
    with pytest.raises(FileNotFoundError, match=r"moved\.py"):
        seen.source_sha256(*seen._CODE, "probing/moved.py")
