"""An image folder: the same set however it lies on disk, broken files left out, images read when asked (F13, F14)."""

from __future__ import annotations

import os
import shutil
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from probing_files import picture, save
from torchvision.transforms import v2

from tasks.common.errors import UserError
from tasks.common.image_files import load_image
from tasks.probing.base import StoredSet
from tasks.probing.folder import Choice, open_folder
from tasks.view import View

SMALL = View(40, 32)


def opened_small(folder, choice=Choice(), view=SMALL) -> StoredSet:  # noqa: B008
    return open_folder(folder, "CC0", choice).seen_by(view)


def fill(folder, count=12):
    for number in range(count):
        save(folder / f"{number:02d}.png", picture(number))
    return folder


def test_images_are_what_torchvision_makes_of_the_files(tmp_path):
    opened = open_folder(fill(tmp_path, 4), "CC0").seen_by(View(256, 224))
    assert opened.ids == ("00.png", "01.png", "02.png", "03.png")
    steps = v2.Compose([v2.Resize(256), v2.CenterCrop(224)])
    expected = [np.asarray(steps(Image.open(tmp_path / name))).transpose(2, 0, 1) for name in opened.ids]
    assert np.array_equal(opened.load([2, 0]).numpy(), np.stack([expected[2], expected[0]]))
    assert np.array_equal(opened.images.numpy(), np.stack(expected))
    assert opened.images.dtype == torch.uint8
    assert opened.images.is_contiguous()
    assert opened.load([]).shape == (0, 3, 224, 224)
    assert len(opened) == 4
    assert (opened.foreground, opened.load_foreground([0]), opened.segmentation, opened.class_names) == (None,) * 4
    assert opened.presence.shape == (4, 0)
    assert opened.facts.licence == "CC0"


@settings(max_examples=60)
@given(
    height=st.integers(32, 400),
    width=st.integers(32, 400),
    resize=st.integers(32, 96),
    less=st.integers(0, 40),
    seed=st.integers(0, 9),
)
def test_the_crop_has_torchvisions_pixels(height, width, resize, less, seed):
    crop = max(1, resize - less)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = v2.Compose([v2.Resize(resize), v2.CenterCrop(crop)])(Image.fromarray(image))
    found = View(resize, crop).picture(image)
    assert np.array_equal(found, np.asarray(expected))


def test_a_long_strip_needs_little_memory():
    strip = np.zeros((32, 1_000_000, 3), np.uint8)
    strip[:, 500_000:] = 255
    cropped = View(256, 224).picture(strip)  # all of it, enlarged, would have 6 GB
    assert cropped.shape == (224, 224, 3)
    assert cropped[:, :100].max() == 0
    assert cropped[:, -100:].min() == 255


def test_the_set_does_not_depend_on_how_it_lies_on_disk(tmp_path):
    first = opened_small(fill(tmp_path / "a"))
    other = tmp_path / "b with Ünicode"
    other.mkdir()
    for name in sorted(os.listdir(tmp_path / "a"), reverse=True):
        os.symlink(tmp_path / "a" / name, other / name)
    second = opened_small(other)
    assert (second.ids, second.digest) == (first.ids, first.digest)
    assert torch.equal(second.images, first.images)


def test_the_digest_is_of_names_pixels_and_crop(tmp_path):
    digest = opened_small(fill(tmp_path / "a", 3)).digest
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    save(tmp_path / "b/01.png", picture(1), compress_level=0)  # other bytes, the same pixels
    assert opened_small(tmp_path / "b").digest == digest
    (tmp_path / "b/01.png").rename(tmp_path / "b/011.png")
    assert opened_small(tmp_path / "b").digest != digest
    save(tmp_path / "a/01.png", picture(99))
    assert opened_small(tmp_path / "a").digest != digest
    assert opened_small(tmp_path / "a", view=View(40, 33)).digest != digest


def test_the_choice_has_an_address(tmp_path):
    fill(tmp_path)
    chosen = {seed: opened_small(tmp_path, Choice(5, seed)) for seed in range(4)}
    assert chosen[0].digest == opened_small(tmp_path, Choice(5, 0)).digest
    assert len({opened.ids for opened in chosen.values()}) > 1
    for seed, opened in chosen.items():
        assert len(opened) == 5
        assert opened.ids == tuple(sorted(opened.ids))
        assert set(opened.ids) < set(opened_small(tmp_path, Choice(8, seed)).ids)
    # Another file changes the choice by at most that file.
    before = set(chosen[0].ids)
    save(tmp_path / "zz.png", picture(50))
    assert set(opened_small(tmp_path, Choice(5, 0)).ids) - before <= {"zz.png"}


def test_duplicates_are_reported_and_kept(tmp_path):
    fill(tmp_path, 3)
    shutil.copy(tmp_path / "01.png", tmp_path / "twin.png")
    opened = opened_small(tmp_path)
    assert opened.facts.duplicates == (("01.png", "twin.png"),)
    assert len(opened) == 4


def png_that_says(width, height):
    chunks = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0" * 99)
    body = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def test_broken_files_are_left_out_and_listed(tmp_path):
    fill(tmp_path, 4)
    whole = save(tmp_path / "cut.jpg", picture(5)).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "bomb.png").write_bytes(png_that_says(20_000, 20_000))
    save(tmp_path / "dot.png", picture(6, 1, 1))
    (tmp_path / "notes.txt").write_text("not looked at")
    opened = opened_small(tmp_path, Choice(max_skipped=0.5))
    assert opened.ids == ("00.png", "01.png", "02.png", "03.png")
    reasons = dict(opened.facts.skipped)
    assert list(reasons) == ["bomb.png", "cut.jpg", "dot.png", "empty.png"]
    for name, words in {"bomb": "pixels", "cut": "cannot be read", "dot": "at least 32", "empty": "is empty"}.items():
        sentence = next(reason for key, reason in reasons.items() if key.startswith(name))
        assert words in sentence
        assert sentence.endswith(".")
    assert (opened.facts.available, opened.facts.ignored) == (8, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not allow such names")
def test_a_name_that_is_not_utf8_is_left_out(tmp_path):
    fill(tmp_path, 3)
    shutil.copy(os.fsencode(tmp_path / "00.png"), os.fsencode(tmp_path) + b"/b\xff.png")
    opened = opened_small(tmp_path, Choice(max_skipped=0.5))
    assert opened.ids == ("00.png", "01.png", "02.png")
    ((name, reason),) = opened.facts.skipped
    assert name == "b\\xff.png"
    assert "not UTF-8" in reason


def test_odd_but_sound_files_are_converted(tmp_path):
    rgb = picture(0)
    save(tmp_path / "a.png", rgb)
    save(tmp_path / "cmyk.tif", np.asarray(Image.fromarray(rgb).convert("CMYK")))
    Image.fromarray(rgb).convert("CMYK").save(tmp_path / "cmyk.jpg")
    save(tmp_path / "grey.png", rgb[..., 0])
    save(tmp_path / "deep.png", rgb[..., 0].astype(np.uint16) * 257)
    save(tmp_path / "alpha.png", np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)]))
    Image.fromarray(rgb).quantize(32).save(tmp_path / "palette.png")
    turned = Image.fromarray(rgb)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    opened = opened_small(tmp_path)
    assert opened.facts.skipped == ()
    shown = {name: image.permute(1, 2, 0).numpy() for name, image in zip(opened.ids, opened.images, strict=True)}
    assert np.array_equal(shown["alpha.png"], shown["a.png"])
    assert np.array_equal(shown["deep.png"], shown["grey.png"])
    assert np.array_equal(shown["turned.png"], SMALL.picture(np.rot90(rgb, -1)))
    assert np.array_equal(shown["cmyk.jpg"], SMALL.picture(load_image(tmp_path / "cmyk.jpg")))


def test_a_broken_file_is_replaced_by_the_next_in_the_choice(tmp_path):
    fill(tmp_path)
    whole = opened_small(tmp_path, Choice(5))
    (tmp_path / whole.ids[0]).write_bytes(b"")
    again = opened_small(tmp_path, Choice(5, max_skipped=0.2))
    assert len(again) == 5
    assert set(again.ids) > set(whole.ids[1:])
    assert [name for name, _ in again.facts.skipped] == [whole.ids[0]]


@pytest.mark.parametrize(
    ("change", "choice", "words"),
    [
        (lambda folder: [(folder / f"{n:02d}.png").write_bytes(b"") for n in range(3)], Choice(), "3 of 12 .* 10%"),
        (lambda folder: None, Choice(13), "holds 12 images, but 13"),
        (lambda folder: None, Choice(0), "at least 1"),
        (lambda folder: (folder / "03.png").write_bytes(b""), Choice(12), "holds 11 usable images, but 12"),
        (lambda folder: shutil.rmtree(folder), Choice(), "There is no folder"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_sentence(tmp_path, change, choice, words):
    folder = fill(tmp_path / "set")
    change(folder)
    with pytest.raises(UserError, match=words) as caught:
        opened_small(folder, choice)
    assert "\n" not in str(caught.value)


def test_images_of_several_sizes_are_loaded_as_a_network_sees_them(tmp_path):
    fill(tmp_path, 3)
    assert open_folder(tmp_path, "CC0").images.shape == (3, 3, 48, 64)
    save(tmp_path / "wide.png", picture(7, 48, 80))
    opened = open_folder(tmp_path, "CC0")
    assert opened.size is None
    with pytest.raises(ValueError, match="several sizes"):
        opened.load([0])
    assert opened.seen_by(SMALL).images.shape == (4, 3, 32, 32)


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (("001.Ant", "002.Cat_Fish"), ("Ant", "Cat_Fish")),
        (("1 ant", "2 ant"), ("1 ant", "2 ant")),
        (("1", "2"), ("1", "2")),
        (("3 rings", "ant"), ("3 rings", "ant")),
    ],
)
def test_numbers_before_the_names_of_all_classes_are_no_part_of_them(tmp_path, folders, classes):
    for folder in folders:
        fill(tmp_path / folder, 2)
    assert open_folder(tmp_path, "CC0").class_names == classes


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (("train/ant", "val/ant", "val/cat"), ("ant", "cat")),
        (("Train/002.Cat", "Test/001.Ant"), ("Ant", "Cat")),
        (("train", "val"), None),
        (("train/steam", "bus/red"), ("bus", "train")),
    ],
)
def test_the_parts_of_a_set_are_no_classes(tmp_path, folders, classes):
    for folder in folders:
        fill(tmp_path / folder, 2)
    opened = open_folder(tmp_path, "CC0")
    assert opened.class_names == classes
    if folders[0] == "train/ant":
        assert [opened.class_names[place] for place in opened.classes] == [name.split("/")[1] for name in opened.ids]


def test_an_image_beside_the_class_folders_is_told(tmp_path, caplog):
    for folder in ("ant", "cat"):
        fill(tmp_path / folder, 3)
    save(tmp_path / "cover.png", picture(9))
    assert open_folder(tmp_path, "CC0").class_names is None
    assert "1 images of" in caplog.text
    assert "cover.png" in caplog.text


def test_class_folders_are_classes(tmp_path):
    for number in range(6):
        save(tmp_path / ("cat", "dog", "ant")[number % 3] / f"{number}.png", picture(number))
    opened = opened_small(tmp_path, Choice(5))
    assert opened.class_names == opened.concepts == ("ant", "cat", "dog")
    assert [opened.class_names[place] for place in opened.classes] == [name.split("/")[0] for name in opened.ids]
    assert np.array_equal(opened.presence, np.eye(3, dtype=bool)[opened.classes])
    save(tmp_path / "stray.png", picture(9))
    assert opened_small(tmp_path).class_names is None


def test_images_are_decoded_only_when_asked(tmp_path):
    opened = opened_small(fill(tmp_path, 3))
    before = opened.load([0])
    (tmp_path / "02.png").unlink()
    assert torch.equal(opened.load([0]), before)
    with pytest.raises(UserError, match=r"02\.png does not exist"):
        opened.load([2])


def test_an_image_is_decoded_once_to_look_at_it_and_once_to_keep_it(tmp_path, monkeypatch):
    decoded = []

    def counted(path):
        decoded.append(path.name)
        return load_image(path)

    monkeypatch.setattr("tasks.probing.folder.load_image", counted)
    opened = opened_small(fill(tmp_path, 4))
    for _ in range(3):
        opened.load([1, 3])
        assert len(opened.images) == 4
    assert sorted(decoded) == sorted(2 * opened.ids)


@pytest.mark.parametrize("form", ["n01440764_tench.JPEG", "n01440764/a.JPEG", "deep/n01440764/a.JPEG"])
def test_names_of_files_or_folders_tell_imagenets_classes(tmp_path, form):
    for synset in ("n01440764", "n02012849", "n03126707"):
        save(tmp_path / form.replace("n01440764", synset), picture(int(synset[1:])), format="PNG")
    opened = opened_small(tmp_path)
    assert opened.classes.tolist() == [0, 134, 517]
    assert [opened.class_names[number] for number in opened.classes] == [
        "tench, Tinca tinca",
        "crane, bird",
        "crane, machine",
    ]
    assert opened.presence.shape == (3, 1000)
    assert np.argwhere(opened.presence).tolist() == [[0, 0], [1, 134], [2, 517]]


@pytest.mark.parametrize("other", ["cat.png", "n99999999_unknown.png", "n014407641.png"])
def test_one_file_of_unknown_class_leaves_all_unknown(tmp_path, other):
    for name in ("n01440764_tench.png", "n02012849_crane.png", other):
        save(tmp_path / name, picture(len(name)))
    opened = opened_small(tmp_path)
    assert (opened.classes, opened.class_names) == (None, None)
