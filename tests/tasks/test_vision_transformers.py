"""Vision transformers: CLS or the mean of the patches, and patch tokens put back where they came from."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from tasks.activations.capture import LayerCapture, channels_first, pool, positions, prefix_tokens
from tasks.common.errors import UserError
from tasks.models.preprocessing import Preprocessing
from tasks.models.target import TargetModel


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()


@pytest.fixture(scope="module")
def vit():
    return seeded(lambda: timm.create_model("test_vit", img_size=64, num_classes=3))


def target(network, side=64):
    return TargetModel(network, Preprocessing(side, None, (0.5,) * 3, (0.5,) * 3), torch.device("cpu"))


def pictures(count=3, side=64):
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@torch.inference_mode()
def test_a_timm_block_by_hand(vit):
    images = pictures()
    model = target(vit)
    inputs = model.preprocessing(images)
    kept = []
    handle = vit.blocks[3].register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    vit(inputs)
    handle.remove()
    tokens = kept[0]
    assert tokens.shape == (3, 1 + 16, 64)
    close = {"rtol": 1e-4, "atol": 1e-5}
    reading = model.read(images, {"blocks.3": "cls"}, ["blocks.3"])["blocks.3"]
    assert reading.kind == "tokens"
    torch.testing.assert_close(reading.pooled, tokens[:, 0], **close)
    mean = model.read(images, {"blocks.3": "mean"})["blocks.3"].pooled
    torch.testing.assert_close(mean, tokens[:, 1:].mean(1), **close)
    assert reading.maps.shape == (3, 64, 4, 4)
    torch.testing.assert_close(reading.maps.float()[:, :, 2, 1], tokens[:, 1 + 2 * 4 + 1], rtol=1e-2, atol=1e-2)


def test_a_patch_lies_where_it_came_from():
    """A patch embedding alone: what changes in one corner of the image changes in that corner of the map."""
    network = seeded(lambda: timm.create_model("test_vit", img_size=64, num_classes=3))
    images = pictures(1).repeat(2, 1, 1, 1)
    images[1, :, 48:, :16] = 255 - images[1, :, 48:, :16]
    maps = target(network).read(images, {"pos_drop": "mean"}, ["pos_drop"])["pos_drop"].maps.float()
    changed = (maps[0] - maps[1]).abs().amax(0) > 0.01
    assert changed.nonzero().tolist() == [[3, 0]]


def test_a_layer_before_the_tokens_join_keeps_its_units_first(vit):
    reading = target(vit).read(pictures(), {"patch_embed": "mean", "patch_embed.proj": "mean"}, ["patch_embed"])
    assert reading["patch_embed"].kind == "spatial"
    assert reading["patch_embed"].maps.shape == (3, 64, 4, 4)
    torch.testing.assert_close(reading["patch_embed"].pooled, reading["patch_embed.proj"].pooled, rtol=1e-4, atol=1e-5)


def test_torchvisions_transformer_is_read_alike():
    network = seeded(
        lambda: torchvision.models.VisionTransformer(
            image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3
        )
    )
    layer = "encoder.layers.encoder_layer_0"
    images = pictures(2, 32)
    model = target(network, 32)
    with LayerCapture(network, [layer]) as capture, torch.inference_mode():
        tokens = capture(model.preprocessing(images))[layer]
    reading = model.read(images, {layer: "cls"}, [layer])[layer]
    assert tokens.shape == (2, 17, 16)
    torch.testing.assert_close(reading.pooled, tokens[:, 0], rtol=1e-4, atol=1e-5)
    assert reading.maps.shape == (2, 16, 4, 4)


class Declares(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.num_prefix_tokens = count


@pytest.mark.parametrize(
    ("declared", "count", "prefix"),
    [
        (None, 197, 1),
        (None, 196, 0),
        (None, 50, 1),
        (None, 261, 5),  # DINOv2 with registers, as transformers brings it
        (None, 7, None),  # neither 7 nor 6 patches make a square
        (1, 197, 1),
        (1, 196, 0),  # before the CLS token joins
        (5, 201, 5),  # a CLS token and four registers
        (5, 196, 0),
        (0, 256, 0),
    ],
)
def test_how_many_tokens_are_no_patches(declared, count, prefix):
    network = nn.Identity() if declared is None else Declares(declared)
    output = torch.randn(2, count, 3)
    assert prefix_tokens(network, output) == prefix
    maps = positions(output, prefix)
    if prefix is None:
        assert maps is None
    else:
        side = round((count - prefix) ** 0.5)
        assert torch.equal(maps[:, :, 0, side - 1], output[:, prefix + side - 1])
        torch.testing.assert_close(pool(output, "mean", prefix), maps.mean((2, 3)))
        assert torch.equal(pool(output, "max", prefix), maps.amax((2, 3)))


def test_only_tokens_have_a_prefix_and_vectors_have_no_places():
    assert prefix_tokens(Declares(1), torch.randn(2, 3, 4, 4)) is None
    assert positions(torch.randn(2, 3)) is None
    spatial = torch.randn(2, 3, 4, 4)
    assert positions(spatial) is spatial
    assert channels_first(Declares(1), spatial) is spatial


def test_a_map_with_its_units_last_is_turned():
    network = seeded(lambda: torchvision.models.convnext_tiny(weights=None, num_classes=3))
    layer = "features.1.0.block.3"  # the Linear in a block of ConvNeXt: [n, h, w, units]
    assert target(network, 32).read(pictures(2, 32), {layer: "mean"}, [layer])[layer].maps.shape == (2, 384, 8, 8)
    assert channels_first(Declares(1), torch.randn(2, 7, 7, 7)).shape == (2, 7, 7, 7)


def test_patches_alone_have_no_cls_token():
    with pytest.raises(UserError, match="patch tokens alone"):
        pool(torch.randn(2, 16, 3), "cls", 0)
