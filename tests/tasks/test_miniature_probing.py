"""The probing set, its Broden folder, the contact sheet and the command line."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from tasks.cache import open_cache
from tasks.common.errors import UserError
from tasks.common.images import to_array, to_tensor
from tasks.miniature.__main__ import main
from tasks.miniature.broden import export
from tasks.miniature.gallery import write_gallery
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.render import render
from tasks.miniature.scene import scene_at
from tasks.miniature.training import cards
from tasks.miniature.training.evaluate import Quality
from tasks.miniature.vocabulary import CATEGORIES, CONCEPTS, SIDE
from tasks.models.weights import file_sha256
from tasks.perturbations import perturb
from tasks.view import View

COUNT = 12


@pytest.fixture(scope="module")
def probing():
    return MiniatureProbingSet("probe", COUNT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("broden") / "set"
    export(path, "probe", COUNT)
    return path


def rows_of(path: Path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_it_is_the_first_scenes_of_the_split(probing):
    assert len(probing) == COUNT
    assert probing.ids[:2] == ("probe-000000", "probe-000001")
    assert probing.images.shape == (COUNT, 3, 224, 224)
    assert probing.images.dtype == torch.uint8
    for number in (0, COUNT - 1):
        picture = render(scene_at("probe", number))
        assert np.array_equal(probing.images[number].permute(1, 2, 0).numpy(), picture.image)
        assert np.array_equal(probing.foreground[number].numpy(), picture.foreground)


def test_parts_of_it_are_those_of_the_whole(probing):
    assert torch.equal(probing.load([3, 1]), probing.images[[3, 1]])
    assert torch.equal(probing.load_foreground([3, 1]), probing.foreground[[3, 1]])
    assert probing.load_foreground([]).shape == (0, 224, 224)
    assert len(probing.concepts) == probing.presence.shape[1]


def test_the_digest_is_of_all_pixels_and_then_all_masks(probing):
    digest = hashlib.sha256(probing.images.numpy().tobytes())
    digest.update(probing.foreground.numpy().tobytes())
    assert probing.digest == digest.hexdigest()
    assert MiniatureProbingSet("probe", 5).digest.startswith("317f6a88b354e3d7")


@pytest.fixture
def drawn(probing, monkeypatch):
    """The scenes that are drawn during a test, other than those of ``probing``."""
    probing.digest  # noqa: B018 - draws all of them
    scenes = []

    def counted(scene):
        scenes.append(scene)
        return render(scene)

    monkeypatch.setattr("tasks.miniature.probing.render", counted)
    return scenes


def test_scenes_are_drawn_once_and_again_only_without_room_on_the_disk(probing, drawn, monkeypatch):
    kept = MiniatureProbingSet("probe", 5)
    assert not drawn
    assert torch.equal(kept.load([4, 0]), probing.load([4, 0]))
    assert len(drawn) == 2
    assert torch.equal(kept.load_foreground([0, 4]), probing.load_foreground([0, 4]))
    assert np.array_equal(kept.segmentation.pixels(4)["object"], probing.segmentation.pixels(4)["object"])
    assert len(drawn) == 2
    assert kept.digest == MiniatureProbingSet("probe", 5).digest
    assert torch.equal(kept.images, probing.images[:5])
    assert len(drawn) == 5 + 5
    drawn.clear()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))
    anew = MiniatureProbingSet("probe", 5)
    assert anew.digest == kept.digest
    assert torch.equal(anew.load([4, 0]), probing.load([4, 0]))
    assert torch.equal(anew.load_foreground([4, 0]), probing.load_foreground([4, 0]))
    for category, labels in anew.segmentation.pixels(3).items():
        assert np.array_equal(labels, probing.segmentation.pixels(3)[category])
    assert len(drawn) > 10


def test_a_digest_known_of_an_earlier_run_draws_nothing(probing, drawn, monkeypatch, tmp_path):
    cache = open_cache(tmp_path)
    digest = MiniatureProbingSet("probe", 5, cache).digest
    assert digest == MiniatureProbingSet("probe", 5).digest
    drawn.clear()
    known = MiniatureProbingSet("probe", 5, open_cache(tmp_path))
    assert known.digest == digest
    assert known.presence.shape == (5, len(CONCEPTS))
    assert not drawn
    assert torch.equal(known.load([3]), probing.load([3]))
    assert len(drawn) == 1
    for other in (("probe", 4), ("test", 5)):
        assert MiniatureProbingSet(*other, cache).digest == MiniatureProbingSet(*other).digest != digest
    drawn.clear()
    monkeypatch.setattr("tasks.miniature.probing.source_sha256", lambda *files: "corrected code")
    assert MiniatureProbingSet("probe", 5, cache).digest == digest
    assert len(drawn) == 5


def test_a_smaller_set_is_the_beginning_of_a_larger_one(probing):
    small = MiniatureProbingSet("probe", 3)
    assert torch.equal(small.images, probing.images[:3])
    assert small.digest != probing.digest
    assert small.digest == MiniatureProbingSet("probe", 3).digest
    assert MiniatureProbingSet("test", 3).digest != small.digest


def test_presence_is_what_the_annotation_shows(probing):
    for number in range(COUNT):
        shown = set()
        for labels in probing.segmentation.pixels(number).values():
            shown |= set(labels) if isinstance(labels, list) else set(np.unique(labels).tolist())
        assert shown - {0} == {1 + int(place) for place in np.flatnonzero(probing.presence[number])}
        assert {CONCEPTS[place] for place in np.flatnonzero(probing.presence[number])} == scene_at(
            "probe", number
        ).concepts


def test_annotation_is_the_full_one_at_every_other_pixel(probing):
    segmentation = probing.segmentation
    assert segmentation.size == (112, 112)
    assert segmentation.labels == ("", *CONCEPTS)
    for category, numbers in segmentation.categories.items():
        assert tuple(segmentation.labels[number] for number in numbers) == CATEGORIES[category]
    for number in range(3):
        picture = render(scene_at("probe", number))
        layers = {"object": picture.kind, "part": picture.part, "color": picture.colour, "texture": picture.pattern}
        for category, layer in layers.items():
            names = np.array(["", *CATEGORIES[category]])[layer]
            found = np.array(segmentation.labels)[segmentation.pixels(number)[category]]
            assert np.array_equal(found, names[1::2, 1::2])


def test_export_round_trip(probing, folder):
    rows = rows_of(folder / "index.csv")
    assert [row["image"] for row in rows] == [f"{name}.png" for name in probing.ids]
    for number, row in enumerate(rows):
        assert (row["ih"], row["iw"], row["sh"], row["sw"], row["split"]) == ("224", "224", "112", "112", "train")
        picture = cv2.imread(str(folder / "images" / row["image"]))[..., ::-1]
        assert np.array_equal(picture, probing.images[number].permute(1, 2, 0).numpy())
        for category, labels in probing.segmentation.pixels(number).items():
            if isinstance(labels, list):
                assert [int(text) for text in row[category].split(";")] == labels
            else:
                code = cv2.imread(str(folder / "images" / row[category]))[..., ::-1].astype(int)
                assert np.array_equal(code[..., 0] + 256 * code[..., 1], labels)
                assert not code[..., 2].any()


def test_export_tables(probing, folder):
    frequency, coverage = Counter(), Counter()
    for number in range(COUNT):
        for labels in probing.segmentation.pixels(number).values():
            area = np.full(1, labels) if isinstance(labels, list) else labels
            for label in set(area.ravel().tolist()) - {0}:
                frequency[label] += 1
                coverage[label] += float((area == label).mean())
    labels = rows_of(folder / "label.csv")
    assert [int(row["number"]) for row in labels] == list(range(1, 1 + len(CONCEPTS)))
    for row in labels:
        number = int(row["number"])
        assert int(row["frequency"]) == frequency[number] == probing.presence[:, number - 1].sum()
        assert float(row["coverage"]) == pytest.approx(coverage[number], abs=1e-4)
        category = next(c for c, names in CATEGORIES.items() if CONCEPTS[number - 1] in names)
        assert row["category"] == f"{category}({frequency[number]})"
        assert row["name"] == CONCEPTS[number - 1] + {"color": "-c", "scene": "-s"}.get(category, "")
    for row in rows_of(folder / "category.csv"):
        numbers = range(int(row["first"]), int(row["last"]) + 1)
        assert tuple(CONCEPTS[number - 1] for number in numbers) == CATEGORIES[row["name"]]
        assert int(row["count"]) == len(numbers)
        assert int(row["frequency"]) == sum(frequency[number] for number in numbers)


def test_export_refuses_what_it_cannot_write(folder, tmp_path):
    with pytest.raises(UserError, match="is not empty"):
        export(folder, "probe", 1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"):
        export(tmp_path / "file", "probe", 1)


def test_test_scenes_are_exported_as_validation(tmp_path):
    export(tmp_path / "out", "test", 1)
    assert rows_of(tmp_path / "out/index.csv")[0]["split"] == "val"


def test_gallery(tmp_path):
    path = tmp_path / "new/sheet"
    write_gallery(path, rows=2, columns=3)
    sheet = cv2.imread(str(path))
    assert sheet.shape == (2 * 248, 3 * 228, 3)
    assert np.array_equal(sheet[2:226, 230:454, ::-1], render(scene_at("test", 1)).image)
    with pytest.raises(UserError, match="cannot be written"):
        write_gallery(tmp_path, rows=1, columns=1)


def test_the_gallery_shows_what_the_networks_see(tmp_path):
    path = tmp_path / "sheet"
    assert main(["gallery", "--perturbed", "--out", str(path)]) == 0
    sheet = cv2.imread(str(path))[..., ::-1]
    assert sheet.shape == (10 * (SIDE + 24), 2 * (4 * SIDE + 4), 3)
    clean = View(SIDE).picture(render(scene_at("test", 1)).image)
    assert np.abs(sheet[2 : SIDE + 2, SIDE + 2 : 2 * SIDE + 2].astype(int) - clean).max() <= 1
    blurred = to_array(perturb(to_tensor(clean.copy()[None]), "gaussian_blur", 3, [1]))[0]
    beside = sheet[2 : SIDE + 2, 5 * SIDE + 6 : 6 * SIDE + 6].astype(int)
    assert np.abs(beside - blurred).max() <= 2


def test_command_line(tmp_path, capsys):
    assert main(["export", "--out", str(tmp_path / "set"), "--count", "1"]) == 0
    assert (tmp_path / "set/index.csv").exists()
    assert main(["export", "--out", str(tmp_path / "set"), "--count", "1"]) == 1
    said = capsys.readouterr().err
    assert "is not empty" in said
    assert said.count("\n") == 1
    assert main(["train", "resnet5"]) == 1
    assert "Did you mean resnet50" in capsys.readouterr().err
    assert main(["train"]) == 1
    assert "--all" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-3", "many"])
def test_a_count_must_be_a_number_from_one(count, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["export", "--out", str(tmp_path / "set"), "--count", count])
    assert stop.value.code == 2
    assert "--count" in capsys.readouterr().err


def test_model_cards_carry_hash_and_quality_and_update_the_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(cards, "PROFILE", tmp_path / "profile.yaml")
    cards.PROFILE.write_text('a: "pending-resnet18"\nb: "pending-resnet50"\nnote: "ein Maß"\n', encoding="utf-8")
    weights = tmp_path / cards.FILES["resnet18"]
    for content in (b"first", b"second"):
        weights.write_bytes(content)
        cards.write_card("resnet18", {"seconds": 1.0}, seed=3)
        card = json.loads((tmp_path / "resnet18.card.json").read_text(encoding="utf-8"))
        assert (card["sha256"], card["bytes"], card["seed"]) == (file_sha256(weights), len(content), 3)
        expected = f'a: "{card["sha256"]}"\nb: "pending-resnet50"\nnote: "ein Maß"\n'
        assert cards.PROFILE.read_text(encoding="utf-8") == expected
    cards.add_quality([Quality("resnet18", "mean AUROC", 0.98765, 0.98, 7), Quality("clip", "other", 0.5, 0.9, 7)])
    card = json.loads((tmp_path / "resnet18.card.json").read_text(encoding="utf-8"))
    assert card["quality"] == [{"figure": "mean AUROC", "value": 0.9877, "bar": 0.98, "images": 7}]
    assert not (tmp_path / "clip.card.json").exists()


def test_a_figure_reaches_its_bar_or_has_none():
    assert Quality("a", "b", 0.9, 0.9, 1).reached
    assert not Quality("a", "b", 0.89, 0.9, 1).reached
    assert not Quality("a", "b", float("nan"), 0.9, 1).reached
    assert Quality("a", "b", 0.1, None, 1).reached
