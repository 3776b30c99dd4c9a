"""The network under study: preprocessing against torchvision, and readings that no batch size changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from tasks.common.errors import UserError
from tasks.models.target import Preprocessing, TargetModel

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Tokens(nn.Module):
    """[n, c, h, w] → [n, 1 + h · w, c], the first token the mean."""

    def forward(self, batch):
        tokens = batch.flatten(2).transpose(1, 2)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


class First(nn.Module):
    def forward(self, tokens):
        return tokens[:, 0]


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 5, 3, stride=2),
        Tokens(),
        First(),
        nn.Linear(5, 7),
    )


def target(batch_size=64, preprocessing=None):
    steps = preprocessing or Preprocessing(32, None, MEAN, STD)
    return TargetModel(small_network(), steps, torch.device("cpu"), batch_size)


def some_images(count=65, height=48, width=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return v2.functional.resize(coarse, [height, width], antialias=True)


LAYERS = {"0": "max", "3": "mean", "4": "cls", "6": "mean"}


@pytest.mark.parametrize(("height", "width"), [(48, 48), (60, 61), (50, 77), (101, 40), (33, 90), (300, 224)])
@pytest.mark.parametrize(("resize", "crop"), [(40, 32), (41, 32), (37, 37), (232, 224)])
def test_the_crop_path_is_torchvisions(height, width, resize, crop):
    images = some_images(2, height, width)
    expected = v2.Compose(
        [
            v2.Resize(resize, antialias=True),
            v2.CenterCrop(crop),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )(images)
    steps = Preprocessing(resize, crop, MEAN, STD)
    prepared = steps(steps.view(images))
    assert prepared.shape == (2, 3, crop, crop)
    torch.testing.assert_close(prepared, expected, rtol=0, atol=1e-5)


def test_without_a_crop_the_image_is_squeezed():
    images = some_images(2, 40, 70)
    expected = v2.functional.resize(images, [32, 32], antialias=True).double().numpy() / 255
    expected = (expected - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    prepared = Preprocessing(32, None, MEAN, STD)(images)
    assert prepared.dtype == torch.float32
    np.testing.assert_allclose(prepared.numpy(), expected, atol=1e-5)


@torch.no_grad()
def test_readings_are_those_of_the_network():
    images = some_images(3)
    model = target()
    inputs = model.preprocessing(images)
    readings = model.read(images, LAYERS, maps=["0", "4", "6"])
    network = small_network().eval()
    first, third, tokens = network[:1](inputs), network[:4](inputs), network[:5](inputs)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(readings["0"].pooled, first.amax((2, 3)), **close)
    torch.testing.assert_close(readings["3"].pooled, third.mean((2, 3)), **close)
    torch.testing.assert_close(readings["4"].pooled, tokens[:, 0], **close)
    torch.testing.assert_close(readings["6"].pooled, network(inputs), **close)
    assert [readings[name].kind for name in LAYERS] == ["spatial", "spatial", "tokens", "vector"]
    assert readings["0"].maps.dtype == torch.float16
    torch.testing.assert_close(readings["0"].maps.float(), first, rtol=1e-3, atol=1e-3)
    patches = tokens[:, 1:].transpose(1, 2).reshape(3, 5, 7, 7)
    torch.testing.assert_close(readings["4"].maps.float(), patches, rtol=1e-3, atol=1e-3)
    assert [readings[name].maps for name in ("3", "6")] == [None] * 2


def test_readings_do_not_depend_on_the_batch_size():
    images = some_images()
    expected = target(64).read(images, LAYERS, maps=["0"])
    for size in (1, 7):
        readings = target(size).read(images, LAYERS, maps=["0"])
        for name in LAYERS:
            torch.testing.assert_close(readings[name].pooled, expected[name].pooled, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(readings["0"].maps, expected["0"].maps, rtol=2e-3, atol=2e-3)


def test_a_layer_reads_the_same_alone_and_among_others():
    images = some_images(5)
    for name in LAYERS:
        alone = target().read(images, {name: LAYERS[name]})[name].pooled
        torch.testing.assert_close(alone, target().read(images, LAYERS)[name].pooled)


def test_readings_are_float32_on_the_cpu_and_the_network_is_in_eval_mode():
    model = TargetModel(small_network().train(), Preprocessing(32, None, MEAN, STD), torch.device("cpu"))
    before = model.network[1].running_mean.clone()
    reading = model.read(some_images(4), {"1": "mean"})["1"]
    assert reading.pooled.dtype == torch.float32
    assert not reading.pooled.requires_grad
    assert torch.equal(model.network[1].running_mean, before)
    assert not model.network.training


class Greedy(nn.Module):
    """Runs out of memory with more images than ``limit``; notes how many it got."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit
        self.seen = []

    def forward(self, batch):
        self.seen.append(len(batch))
        if len(batch) > self.limit:
            raise torch.OutOfMemoryError(f"cannot allocate memory for {len(batch)} images")
        return batch


def greedy_target(limit, batch_size):
    network = nn.Sequential(Greedy(limit), *small_network())
    return TargetModel(network, Preprocessing(32, None, MEAN, STD), torch.device("cpu"), batch_size)


def test_without_memory_the_batch_is_halved_and_stays_so(caplog):
    images = some_images(11)
    expected = target(2).read(images, {"3": "mean"}, ["3"])["3"]
    model = greedy_target(2, 8)
    reading = model.read(images, {"4": "mean"}, ["4"])["4"]
    assert torch.equal(reading.pooled, expected.pooled)
    assert torch.equal(reading.maps, expected.maps)
    assert model.network[0].seen == [8, 4, 2, 2, 2, 2, 2, 2]  # batches are filled up
    assert model.batch_size == 2
    assert "out of memory with 8 images at once; continuing with 4" in caplog.text
    model.read(images[:2], {"4": "mean"})
    assert model.network[0].seen[-1] == 2


def test_without_memory_for_one_image_the_error_says_so():
    model = greedy_target(0, 4)
    with pytest.raises(UserError, match=r"does not suffice for a single image.*cannot allocate memory for 1 images"):
        model.read(some_images(3), {"4": "mean"})
    assert model.network[0].seen == [4, 1]
    # Nothing of the failed pass is left behind.
    model.network[0].limit = 4
    assert model.read(some_images(3), {"4": "mean"})["4"].pooled.shape == (3, 5)
    assert not any(layer._forward_hooks for layer in model.network.modules())


def test_maps_of_some_units_and_no_images_at_all():
    images = some_images(5)
    whole = target().read(images, LAYERS, ["0", "4"])
    some = target().read(images, LAYERS, {"0": [6, 2], "4": [1]})
    assert torch.equal(some["0"].maps, whole["0"].maps[:, [6, 2]])
    assert torch.equal(some["4"].maps, whole["4"].maps[:, [1]])
    assert some["3"].maps is None
    assert target().read(images[:0], LAYERS)["3"].pooled.shape == (0, 5)


def test_mistakes_are_explained():
    with pytest.raises(UserError, match="Unknown layer 'layer4'"):
        target().read(some_images(1), {"layer4": "mean"})
    with pytest.raises(UserError, match="cls"):
        target().read(some_images(1), {"0": "cls"})
