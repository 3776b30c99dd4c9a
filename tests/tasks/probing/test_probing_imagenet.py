"""ImageNet's validation images in both of their forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from probing_files import picture, save
from scipy.io import savemat

from tasks.common.errors import UserError
from tasks.probing.folder import Choice
from tasks.probing.imagenet import open_imagenet

# Number in alphabetical order, WordNet identifier.
CLASSES = {
    1: (0, "n01440764"),
    2: (134, "n02012849"),
    3: (0, "n01440764"),
    4: (517, "n03126707"),
    5: (999, "n15075141"),
}


def name(number):
    return f"ILSVRC2012_val_{number:08d}"


@pytest.fixture
def foldered(tmp_path):
    for number, (_, synset) in CLASSES.items():
        save(tmp_path / "folders" / synset / f"{name(number)}.JPEG", picture(number))
    return tmp_path / "folders"


@pytest.fixture
def flat(tmp_path):
    for number in CLASSES:
        save(tmp_path / "flat" / f"{name(number)}.JPEG", picture(number))
    return tmp_path / "flat"


def truths(folder):
    """The same classes in each of the forms in which they are given."""
    folder.mkdir()
    by_number = folder / "val.txt"
    by_number.write_text("".join(f"{name(number)}.JPEG {place}\n" for number, (place, _) in CLASSES.items()))
    kaggle = folder / "LOC_val_solution.csv"
    rows = [f"{name(number)},{synset} 85 1 499 272 " for number, (_, synset) in reversed(CLASSES.items())]
    kaggle.write_text("\n".join(["ImageId,PredictionString", *rows]))
    codes = {"n01440764": 7, "n02012849": 1, "n03126707": 2, "n15075141": 3}
    official = folder / "ILSVRC2012_validation_ground_truth.txt"
    official.write_text("".join(f"{codes[synset]}\n" for _, synset in CLASSES.values()))
    synsets = np.array(
        [(code, synset, "words", 0) for synset, code in codes.items()] + [(1001, "n00001740", "entity", 2)],
        dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)],
    )
    savemat(folder / "meta.mat", {"synsets": synsets})
    return by_number, kaggle, official


def test_both_forms_give_the_same_set(foldered, flat, tmp_path):
    first = open_imagenet(foldered, "ImageNet")
    assert first.ids == tuple(name(number) for number in CLASSES)
    assert first.classes.tolist() == [place for place, _ in CLASSES.values()]
    assert len(first.class_names) == 1000
    assert first.presence.shape == (5, 1000)
    assert first.presence.sum() == 5
    for truth in truths(tmp_path / "truths"):
        second = open_imagenet(flat, "ImageNet", ground_truth=truth)
        assert (second.ids, second.digest) == (first.ids, first.digest)
        assert torch.equal(second.images, first.images)
        assert np.array_equal(second.classes, first.classes), truth
        assert second.class_names == first.class_names


def test_class_names_are_the_published_ones_and_distinct(foldered):
    names = open_imagenet(foldered, "ImageNet", choice=Choice(1)).class_names
    assert names[0] == "tench, Tinca tinca"
    assert (names[134], names[517]) == ("crane, bird", "crane, machine")
    assert names[999] == "toilet tissue, toilet paper, bathroom tissue"
    assert len(set(names)) == 1000


def test_without_a_ground_truth_no_classes_are_known(flat):
    opened = open_imagenet(flat, "ImageNet")
    assert (opened.class_names, opened.classes) == (None, None)
    assert opened.presence.shape == (5, 0)


def test_a_missing_folder_says_where_imagenet_is_got(tmp_path):
    with pytest.raises(UserError, match=r"There is no folder .*https://image-net.org.*'path'") as caught:
        open_imagenet(tmp_path / "nowhere", "ImageNet")
    assert "\n" not in str(caught.value)
    save(tmp_path / "photos/holiday.jpg", picture(0))
    with pytest.raises(UserError, match="neither class folders"):
        open_imagenet(tmp_path / "photos", "ImageNet")


def test_wrong_classes_are_sentences(foldered, flat, tmp_path):
    by_number, kaggle, official = truths(tmp_path / "truths")
    (tmp_path / "truths/meta.mat").unlink()
    with pytest.raises(UserError, match=r"meta\.mat.*put it there"):
        open_imagenet(flat, "ImageNet", ground_truth=official)
    (tmp_path / "truths/meta.mat").write_bytes(b"not a matrix" * 50)
    with pytest.raises(UserError, match=r"is not the meta\.mat"):
        open_imagenet(flat, "ImageNet", ground_truth=official)
    by_number.write_text(f"{name(1)}.JPEG 1000\n")
    with pytest.raises(UserError, match="from 0 to 999"):
        open_imagenet(flat, "ImageNet", ground_truth=by_number)
    by_number.write_text(f"{name(1)}.JPEG 0\n")
    with pytest.raises(UserError, match=f"no class for {name(2)}"):
        open_imagenet(flat, "ImageNet", ground_truth=by_number)
    by_number.write_text(f"{name(1)}.JPEG\n")
    with pytest.raises(UserError, match="without a class"):
        open_imagenet(flat, "ImageNet", ground_truth=by_number)
    kaggle.write_text(f"{name(1)},n99999999 1 2 3 4")
    with pytest.raises(UserError, match="'n99999999' is none of"):
        open_imagenet(flat, "ImageNet", ground_truth=kaggle)
    with pytest.raises(UserError, match="There is no file"):
        open_imagenet(flat, "ImageNet", ground_truth=tmp_path / "nowhere.txt")
    stray = save(foldered / "n99999999/a.png", picture(1))
    with pytest.raises(UserError, match="'n99999999' is none of"):
        open_imagenet(foldered, "ImageNet")
    stray.rename(foldered / "n02012849" / f"{name(1)}.png")
    with pytest.raises(UserError, match="two images called"):
        open_imagenet(foldered, "ImageNet")
