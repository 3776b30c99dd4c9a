"""CIFAR from its binary version and from exported images; pickles are never read."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from probing_files import save

from tasks.common.errors import UserError
from tasks.probing.cifar import open_cifar
from tasks.probing.folder import Choice

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def records(count, seed, classes=10):
    generator = np.random.default_rng(seed)
    return generator.integers(0, classes, count), generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def write(path, columns, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [np.array(column, np.uint8)[:, None] for column in columns]
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    path.write_bytes(np.hstack([*rows, planes]).tobytes())


@pytest.fixture
def cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    for number in range(1, 6):
        labels, images = records(3, number)
        write(folder / f"data_batch_{number}.bin", [labels], images)
    write(folder / "test_batch.bin", [records(4, 9)[0]], records(4, 9)[1])
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def test_cifar10(cifar10):
    opened = open_cifar(cifar10, "none stated")
    labels, images = records(4, 9)
    assert opened.ids == ("test-00000", "test-00001", "test-00002", "test-00003")
    assert np.array_equal(opened.images.permute(0, 2, 3, 1).numpy(), images)
    assert np.array_equal(opened.classes, labels)
    assert opened.class_names == tuple(NAMES)
    assert np.array_equal(opened.presence, np.eye(10, dtype=bool)[labels])
    train = open_cifar(cifar10.parent, "none stated", split="train")
    assert len(train) == 15
    assert np.array_equal(train.load([4]).permute(0, 2, 3, 1).numpy(), records(3, 2)[1][1:2])
    part = open_cifar(cifar10, "none stated", split="train", choice=Choice(6, seed=1))
    assert torch.equal(part.images, train.load([train.ids.index(name) for name in part.ids]))


def test_cifar100_has_fine_classes(tmp_path):
    fine, images = records(5, 0, 100)
    write(tmp_path / "cifar-100-binary/test.bin", [fine // 5, fine], images)
    (tmp_path / "cifar-100-binary/fine_label_names.txt").write_text("".join(f"some_class {n}\n" for n in range(100)))
    opened = open_cifar(tmp_path, "none stated", variant="cifar100")
    assert np.array_equal(opened.images.permute(0, 2, 3, 1).numpy(), images)
    assert np.array_equal(opened.classes, fine)
    assert opened.class_names[7] == "some class 7"


def test_exported_images(tmp_path):
    _, images = records(4, 0)
    for number, image in enumerate(images):
        save(tmp_path / "test" / NAMES[number % 2] / f"{number}.png", image)
    opened = open_cifar(tmp_path, "none stated")
    assert opened.class_names == ("airplane", "automobile")
    shown = {name.split("/")[1]: image for name, image in zip(opened.ids, opened.images, strict=True)}
    assert all(np.array_equal(shown[f"{n}.png"].permute(1, 2, 0).numpy(), images[n]) for n in range(4))


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    ("variant", "place"),
    [("cifar10", "test_batch"), ("cifar10", "cifar-10-batches-py/data_batch_1"), ("cifar100", "cifar-100-python/test")],
)
def test_the_pickled_version_is_refused_and_not_run(tmp_path, variant, place):
    (tmp_path / "set" / place).parent.mkdir(parents=True)
    (tmp_path / "set" / place).write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(UserError, match=r"pickles.*'binary version'") as caught:
        open_cifar(tmp_path / "set", "none stated", variant=variant)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "canary").exists()


def test_broken_files_are_sentences(cifar10, tmp_path):
    whole = (cifar10 / "test_batch.bin").read_bytes()
    (cifar10 / "test_batch.bin").write_bytes(whole[:-1])
    with pytest.raises(UserError, match="no whole number of records"):
        open_cifar(cifar10, "none stated")
    (cifar10 / "test_batch.bin").write_bytes(b"\xff" + whole[1:])
    with pytest.raises(UserError, match="label beyond 9"):
        open_cifar(cifar10, "none stated")
    (cifar10 / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match=r"data_batch_3\.bin has 0 bytes"):
        open_cifar(cifar10, "none stated", split="train")
    (cifar10 / "batches.meta.txt").write_text("cat\n")
    with pytest.raises(UserError, match="1 class names, not 10"):
        open_cifar(cifar10, "none stated")
    with pytest.raises(UserError, match=r"There is no folder .*cifar-10-binary"):
        open_cifar(tmp_path / "nowhere", "none stated")
