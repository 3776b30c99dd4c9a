"""A picture is prepared once, as the network's own library does it, and all that is known of it stays in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import nn
from torch.nn import functional
from torchvision.transforms import v2

from tasks.activations.capture import LayerCapture
from tasks.models.preprocessing import Preprocessing
from tasks.models.target import TargetModel
from tasks.observation import Segmentation
from tasks.probing.base import Facts, StoredSet
from tasks.probing.folder import open_folder
from tasks.profiles.networks import preparation, timm_preprocessing
from tasks.profiles.sources import Target
from tasks.view import View

CPU = torch.device("cpu")
NAMES = ("tf_efficientnet_lite0.in1k", "tf_efficientnet_lite2.in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k")


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def timm_entry(name: str) -> Target:
    architecture, _, tag = name.partition(".")
    return Target(loader="timm", architecture=architecture, pretrained=tag, licence=None)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_seen_as_timms_own_transform_gives_it(name, tmp_path):
    import timm

    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    steps = preparation(timm_entry(name))
    Image.fromarray(data.astronaut()[:400]).save(tmp_path / "a.png")
    Image.fromarray(data.coffee()).save(tmp_path / "b.png")
    seen = open_folder(tmp_path, "public domain").seen_by(steps.view)
    transform = create_transform(**config)
    expected = torch.stack([transform(Image.open(tmp_path / one)) for one in seen.ids])
    assert torch.allclose(steps(seen.images), expected, atol=1e-5)


def test_a_network_that_needs_the_exact_place_answers_as_through_its_library(tmp_path):
    """Its output is the image's brightness pixel by pixel: another crop or another size would be another answer."""
    steps = timm_preprocessing(
        {
            "input_size": (3, 96, 96),
            "crop_mode": "center",
            "crop_pct": 0.875,
            "interpolation": "bicubic",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
        }
    )
    for number, image in enumerate((data.astronaut(), data.coffee(), data.chelsea(), noise(150, 260))):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    seen = open_folder(tmp_path, "public domain").seen_by(steps.view)
    network = nn.Sequential(nn.AvgPool2d(2), nn.Flatten())
    found = TargetModel(network, steps, CPU).read(seen.images, {"1": "mean"})["1"].pooled
    own = v2.Compose(
        [v2.Resize(109, v2.InterpolationMode.BICUBIC), v2.CenterCrop(96), v2.PILToTensor(), v2.ToDtype(torch.float32)]
    )
    expected = network(torch.stack([own(Image.open(tmp_path / name)) for name in seen.ids]) / 127.5 - 1)
    assert (found - expected).abs().max() < 0.005
    coffee = torch.from_numpy(data.coffee()).permute(2, 0, 1)[None]
    twice = network(steps(steps.view(View(256, 224)(coffee))))
    assert (twice - expected[1]).abs().mean() > 0.05  # what it was like when a folder was cut to 224 px first


@settings(max_examples=40)
@given(height=st.integers(32, 300), width=st.integers(32, 300), resize=st.integers(32, 96), less=st.integers(0, 40))
def test_a_tensor_is_seen_as_torchvision_gives_it(height, width, resize, less):
    crop = max(1, resize - less)
    image = torch.from_numpy(noise(height, width)).permute(2, 0, 1)[None]
    expected = v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(crop)])(image)
    assert torch.equal(View(resize, crop)(image), expected)
    apart = View(resize, crop)(image)[0].permute(1, 2, 0).numpy().astype(int) - View(resize, crop).picture(
        image[0].permute(1, 2, 0).numpy()
    )
    assert np.abs(apart).max() <= 2


def test_without_a_crop_all_is_squeezed():
    expected = np.asarray(Image.fromarray(noise(60, 90)).resize((40, 40), Image.Resampling.BILINEAR))
    assert np.array_equal(View(40).picture(noise(60, 90)), expected)
    strip = np.zeros((32, 40_000, 3), np.uint8)
    strip[:, :20_000] = 255
    assert View(40).picture(strip).mean() == pytest.approx(127.5, abs=1)  # no end of it is cut away


def test_what_a_network_is_given_is_scaled_and_never_cropped():
    steps = Preprocessing(256, 224, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    seen = torch.from_numpy(noise(224, 224)).permute(2, 0, 1)[None]
    assert torch.equal(steps(seen), seen.float() / 255)
    other = torch.from_numpy(noise(240, 240)).permute(2, 0, 1)[None]
    assert torch.equal(steps(other), v2.functional.resize(other, [224, 224], antialias=True).float() / 255)


def patched(folder: Path, centre: tuple[int, int], size: tuple[int, int], reach: int = 12) -> None:
    image = np.full((*size, 3), 60, np.uint8)
    image[centre[0] - reach : centre[0] + reach, centre[1] - reach : centre[1] + reach] = 250
    Image.fromarray(image).save(folder / "patch.png")


@pytest.mark.parametrize(
    ("centre", "size"), [((100, 210), (300, 400)), ((260, 150), (400, 300)), ((128, 90), (256, 256))]
)
def test_a_patch_is_found_where_the_networks_own_transform_puts_it(tmp_path, centre, size):
    """Also in the map of a layer, brought back to the size of the picture."""
    patched(tmp_path, centre, size)
    steps = preparation(timm_entry(NAMES[0]))
    seen = open_folder(tmp_path, "CC0").seen_by(steps.view)
    scale = steps.resize / min(size)
    expected = [scale * place - (scale * side - steps.side) / 2 for place, side in zip(centre, size, strict=True)]
    network = nn.Sequential(nn.Conv2d(3, 1, 8, stride=8, bias=False), nn.ReLU())
    nn.init.constant_(network[0].weight, 1 / 192)
    maps = TargetModel(network, steps, CPU).read(seen.images, {"1": "mean"}, ["1"])["1"].maps
    assert maps is not None
    large = functional.interpolate(maps.float(), size=(224, 224), mode="bilinear")[0, 0].numpy()
    for values in (large, seen.images[0, 0].numpy().astype(float)):
        weight = values - values.min()
        weight = np.where(weight > weight.max() / 2, weight, 0)
        found = [float((weight.sum(1 - axis) * (np.arange(224) + 0.5)).sum() / weight.sum()) for axis in (0, 1)]
        assert found == pytest.approx(expected, abs=1.5)


def annotated(side: int = 224) -> StoredSet:
    """One image whose red part, mask and annotation are the same rectangle."""
    image = np.zeros((side, side, 3), np.uint8)
    image[40:120, 60:180, 0] = 255
    inside = image[..., 0] > 0
    return StoredSet(
        name="one",
        ids=("a",),
        digest="d",
        size=(side, side),
        facts=Facts(1, (), (), 0, "CC0"),
        read=lambda index: image,
        concepts=("red",),
        presence=np.ones((1, 1), np.bool_),
        segmentation=Segmentation(
            ("", "red", "night"),
            {"color": (1,), "scene": (2,)},
            lambda index: {"color": inside[::2, ::2].astype(np.int64), "scene": [2]},
            (side // 2, side // 2),
        ),
        mask=lambda index: inside,
    )


@pytest.mark.parametrize("view", [View(256, 224), View(64), View(128, 96, "bicubic"), View(40, 32)])
def test_mask_and_annotation_are_cut_like_the_picture(view):
    seen = annotated().seen_by(view)
    red = seen.images[0, 0].numpy() >= 128
    assert seen.foreground is not None
    assert (seen.foreground[0].numpy() != red).mean() < 0.01
    assert seen.segmentation is not None
    labels = seen.segmentation.pixels(0)
    assert labels["scene"] == [2]
    small = np.asarray(labels["color"])
    assert small.shape == seen.segmentation.size == view.annotated(112, 112)
    large = np.kron(small, np.ones((8, 8)))
    rows = (np.arange(view.side) + 0.5) / view.side * large.shape[0]
    assert (large[np.ix_(rows.astype(int), rows.astype(int))] != red).mean() < 0.02


def test_the_digest_is_of_the_images_and_the_view():
    whole = annotated()
    digests = {whole.seen_by(view).digest for view in (View(64), View(64, 56), View(64, 56, "bicubic"), View(65))}
    assert len(digests | {whole.digest}) == 5
    assert whole.seen_by(View(64)).digest == annotated().seen_by(View(64)).digest


def test_a_target_reads_what_a_view_gives_and_the_layer_covers_all_of_it():
    steps = Preprocessing(40, 32, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    network = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU())
    picture = torch.from_numpy(noise(80, 120)).permute(2, 0, 1)[None]
    with LayerCapture(network, ["1"]) as capture:
        expected = capture(steps.view(picture).float() / 255)["1"]
    found = TargetModel(network, steps, CPU).read(steps.view(picture), {"1": "mean"}, ["1"])["1"].maps
    assert found is not None
    assert torch.allclose(found.float(), expected, atol=1e-3)


def test_the_words_of_a_view():
    assert str(View(256, 224, "bicubic")) == "shorter side 256 px, central square of 224 px, bicubic"
    assert str(View(64)) == "squeezed to 64 × 64 px, bilinear"
