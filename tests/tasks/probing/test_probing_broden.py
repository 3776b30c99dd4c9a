"""Broden: a folder written by the miniature comes back as the miniature's own annotation; broken ones are refused."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from probing_files import picture, save

from baselines.network_dissection import count_overlap
from tasks.activations.maps import MemoryMaps
from tasks.common.errors import UserError
from tasks.miniature.broden import export
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.vocabulary import CONCEPTS
from tasks.probing.broden import open_broden
from tasks.probing.broden_labels import read_vocabulary, readable
from tasks.probing.folder import ALL, Choice

COUNT = 4


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "set"
    export(path, "probe", COUNT)
    return path


@pytest.fixture(scope="module")
def miniature():
    return MiniatureProbingSet("probe", COUNT)


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


def opened_at(path, choice=ALL, **options):
    return open_broden(path, "CC0", choice, **options)


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def test_the_miniature_comes_back(exported, miniature):
    opened = opened_at(exported)
    assert opened.ids == tuple(f"{name}.png" for name in miniature.ids)
    assert torch.equal(opened.images, miniature.images)
    assert opened.segmentation.size == miniature.segmentation.size
    assert {c: set(n) for c, n in opened.segmentation.categories.items()} == {
        c: set(n) for c, n in miniature.segmentation.categories.items()
    }
    for index in range(COUNT):
        own, read = miniature.segmentation.pixels(index), opened.segmentation.pixels(index)
        assert set(own) == set(read)
        for category, labels in own.items():
            assert np.array_equal(labels, read[category]), category
            assert isinstance(read[category], type(labels))
    assert np.array_equal(opened.presence, miniature.presence)
    assert len(opened.concepts) == len(CONCEPTS)
    # A thing of the miniature is an object everywhere; the mask knows it at every other pixel.
    centres = miniature.foreground[:, 1::2, 1::2]
    assert torch.equal(opened.foreground[:, ::2, ::2], centres)
    assert torch.equal(opened.foreground[:, 1::2, 1::2], centres)
    assert torch.equal(opened.load_foreground([2, 1]), opened.foreground[[2, 1]])


def test_network_dissection_counts_the_same_on_both(exported, miniature):
    maps = MemoryMaps(torch.rand(COUNT, 3, 7, 7, generator=torch.Generator().manual_seed(0)))
    limits = torch.full((3,), 0.8)
    own = count_overlap(maps, range(3), limits, miniature.segmentation)
    read = count_overlap(maps, range(3), limits, opened_at(exported).segmentation)
    assert torch.equal(own.intersection, read.intersection)
    assert torch.equal(own.label, read.label)


def test_names_are_words(exported):
    labels = opened_at(exported).segmentation.labels
    assert labels[0] == ""
    assert "red color" in labels
    assert not any(name.endswith(("-c", "-s")) for name in labels)
    assert readable("church-outdoor-s") == "church, outdoor"
    assert readable("t-shirt") == "t-shirt"
    assert readable("door_frame") == "door frame"


def test_the_folder_is_never_walked(copy):
    save(copy / "images/stray.png", picture(1, 224, 224))
    assert len(opened_at(copy)) == COUNT


def test_a_choice_is_a_part(exported, miniature):
    opened = opened_at(exported, Choice(2, seed=3))
    assert len(opened) == 2
    for index, name in enumerate(opened.ids):
        place = miniature.ids.index(name.removesuffix(".png"))
        assert np.array_equal(
            opened.segmentation.pixels(index)["object"], miniature.segmentation.pixels(place)["object"]
        )


def test_the_digest_covers_annotation_and_names(copy):
    digest = opened_at(copy).digest
    assert opened_at(copy).digest == digest
    codes = copy / "images/probe-000000_color.png"
    shutil.copy(copy / "images/probe-000001_color.png", codes)
    changed = opened_at(copy).digest
    assert changed != digest
    text = (copy / "label.csv").read_text()
    (copy / "label.csv").write_text(text.replace("red-c", "crimson-c"))
    assert opened_at(copy).digest not in (digest, changed)


def small(folder, codes=None, cells=None, labels=None, **more):
    """A folder in Broden's format with one image and 32 × 32 label maps of the given arrays."""
    save(folder / "images/ade/a.jpg", picture(0, 224, 224))
    for name, numbers in (codes or {}).items():
        array = np.zeros((32, 32), np.int64)
        array[: len(numbers)] = np.array(numbers)[:, None]
        save(folder / "images" / name, np.stack([array % 256, array // 256, 0 * array], -1).astype(np.uint8))
    columns = ["object", "part", "scene", "texture", "color", "material"]
    row = ["ade/a.jpg", "train", 224, 224, 32, 32, *((cells or {}).get(column, "") for column in columns)]
    write(folder / "index.csv", [["image", "split", "ih", "iw", "sh", "sw", *columns], row])
    named = labels or [
        (1, "wall", "object(1)"),
        (2, "cat", "object(1)"),
        (300, "tail", "part(1)"),
        (4, "ear", "part(1)"),
    ]
    write(
        folder / "label.csv",
        [["number", "name", "category", "frequency", "coverage", "syns"], *([*n, 1, 1, ""] for n in named)],
    )
    write(
        folder / "category.csv", [["name", "first", "last", "count", "frequency"], *([c, 1, 2, 2, 1] for c in columns)]
    )
    for category, rows in more.items():
        write(folder / f"c_{category}.csv", [["code", "number", "name", "frequency", "coverage"], *rows])
    return folder


def test_label_maps_of_one_cell_are_layers_of_their_own(tmp_path):
    folder = small(
        tmp_path,
        {"ade/o.png": [1] * 8 + [2] * 8, "ade/p.png": [0] * 8 + [300] * 4, "ade/p2.png": [4] * 9 + [0] * 9 + [4] * 2},
        {"object": "ade/o.png", "part": "ade/p.png;ade/p2.png"},
    )
    opened = opened_at(folder)
    layers = opened.segmentation.pixels(0)
    assert list(layers) == ["object", "part", "part 2"]
    assert layers["part"][8, 0] == 300  # 44 + 256·1
    assert layers["part 2"][8, 0] == 4
    assert [opened.concepts[place] for place in np.flatnonzero(opened.presence[0])] == ["wall", "cat", "ear", "tail"]
    # Rows 0-7 wall, though it has ears; 8-15 cat; 18-19 an ear of nothing annotated.
    expected = np.zeros(32, bool)
    expected[8:16] = expected[18:20] = True
    found = opened.foreground[0].numpy()
    assert np.array_equal(found[::7], np.repeat(expected[:, None], 224, 1))
    assert np.array_equal(found, np.repeat(found[::7], 7, 0))


def test_labels_of_the_whole_image(tmp_path):
    labels = [(1, "striped", "texture(1)"), (2, "dotted", "texture(1)"), (3, "street-s", "scene(1)")]
    opened = opened_at(small(tmp_path, cells={"texture": "2;1", "scene": "3"}, labels=labels))
    assert dict(opened.segmentation.pixels(0)) == {"texture": [2, 1], "scene": [3]}
    assert opened.presence.all()
    assert not opened.foreground.any()


def test_the_primary_category_is_the_one_that_covers_most(tmp_path):
    labels = [(1, "glass", "material(36);object(3)"), (2, "cup", "object(5)"), (5, "odd", "")]
    folder = small(tmp_path, labels=labels)
    assert read_vocabulary(folder, ("object", "material")).categories == {"object": (2,), "material": (1,)}
    assert read_vocabulary(folder, ("object",)).categories == {"object": (1, 2)}
    assert read_vocabulary(folder, ("object",)).labels == ("", "glass", "cup", "", "", "odd")
    small(
        tmp_path,
        labels=labels,
        object=[[1, 1, "glass", 3, 9.5], [2, 2, "cup", 5, 1]],
        material=[[1, 1, "glass", 36, 2]],
    )
    assert read_vocabulary(folder, ("object", "material")).categories == {"object": (1, 2), "material": ()}


def test_one_split(tmp_path):
    folder = small(tmp_path, cells={"scene": "1"}, labels=[(1, "street-s", "scene(1)")])
    assert len(opened_at(folder, split="train")) == 1
    with pytest.raises(UserError, match="lists no images of the split 'val'"):
        opened_at(folder, split="val")


def test_images_alone(copy, miniature):
    for path in copy.glob("images/*_*.png"):
        path.unlink()
    with pytest.raises(
        UserError, match=r"label maps .* are not there.*python -m tasks.probing broden.*annotation: false"
    ):
        opened_at(copy)
    opened = opened_at(copy, annotation=False)
    assert torch.equal(opened.images, miniature.images)
    assert (opened.segmentation, opened.foreground, opened.concepts) == (None, None, ())
    assert opened.presence.shape == (COUNT, 0)


def test_an_image_with_broken_annotation_is_left_out(copy):
    (copy / "images/probe-000001_part.png").write_bytes(b"")
    opened = opened_at(copy, Choice(max_skipped=0.3))
    assert len(opened) == COUNT - 1
    assert opened.facts.skipped[0][0] == "probe-000001.png"
    assert "probe-000001_part.png is empty" in opened.facts.skipped[0][1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codes": {"o.png": [9] * 3}, "cells": {"object": "o.png"}}, "label 9, which has no name"),
        ({"cells": {"object": "../../secret.png"}}, "does not lie below 'images'"),
        ({"cells": {"object": "/etc/passwd"}}, "does not lie below 'images'"),
        ({"labels": [(70_000, "far", "object(1)")]}, "must number its labels from 1"),
        ({"labels": [("one", "far", "object(1)")]}, "'one' is not an integer"),
        ({"object": [[1, 1, "cat", 1, "much"]]}, "'much' is not a number"),
    ],
)
def test_hostile_and_broken_tables_are_refused(tmp_path, options, words):
    with pytest.raises(UserError, match=words) as caught:
        opened_at(small(tmp_path, **options))
    assert "\n" not in str(caught.value)


def test_other_mistakes_are_sentences(copy):
    with pytest.raises(UserError, match=r"There is no Broden in .*--size 384"):
        opened_at(copy / "nowhere", size=384)
    with pytest.raises(UserError, match="not 227 per side"):
        opened_at(copy, size=227)
    with pytest.raises(UserError, match="no column 'material'"):
        opened_at(copy, categories=("object", "material"))
    text = (copy / "index.csv").read_text().splitlines()
    (copy / "index.csv").write_text("\n".join([*text, text[-1]]))
    with pytest.raises(UserError, match="twice"):
        opened_at(copy)
    (copy / "index.csv").write_text("\n".join([*text[:-1], text[-1].replace(",112,112", ",56,56")]))
    with pytest.raises(UserError, match="several sizes"):
        opened_at(copy)
    (copy / "label.csv").unlink()
    (copy / "index.csv").write_text("\n".join(text))
    with pytest.raises(UserError, match=r"There is no .*label\.csv"):
        opened_at(copy)


def test_a_folder_as_the_documentation_describes_it_is_one(tmp_path):
    """Only what ``docs/your_own.md`` names is there."""
    (tmp_path / "images").mkdir()
    codes = np.zeros((35, 35, 3), np.uint8)
    codes[10:25, 10:25] = (44, 1, 0)  # 44 + 256 · 1
    for name in "ab":
        photograph = np.random.default_rng(ord(name)).integers(0, 256, (224, 224, 3), np.uint8)
        Image.fromarray(photograph).save(tmp_path / "images" / f"{name}.jpg")
        Image.fromarray(codes).save(tmp_path / "images" / f"{name}_objects.png")
    head = ["image", "split", "sh", "sw", "object", "part", "scene", "texture", "color"]
    rows = [["a.jpg", "train", 35, 35, "a_objects.png", "", "3", "", ""], ["b.jpg", "val", 35, 35, "", "", "3", "", ""]]
    write(tmp_path / "index.csv", [head, *rows])
    write(tmp_path / "category.csv", [["name"], *([name] for name in head[4:])])
    labels = [["number", "name", "category"], [3, "street-s", "scene(2)"], [300, "dog", "object(1)"]]
    write(tmp_path / "label.csv", labels)
    opened = opened_at(tmp_path)
    assert (opened.ids, opened.segmentation.labels[300]) == (("a.jpg", "b.jpg"), "dog")
    assert np.asarray(opened.segmentation.pixels(0)["object"]).sum() == 225 * 300
    assert opened.segmentation.pixels(1) == {"scene": [3]}
    assert opened.foreground[0].float().mean() == pytest.approx(9 / 49, abs=0.01)
    assert {opened.concepts[column] for column in np.flatnonzero(opened.presence[0])} == {"dog", "street"}
