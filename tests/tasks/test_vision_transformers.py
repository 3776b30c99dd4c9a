"""Vision transformers: CLS or the mean of the patches, and patch tokens put back where they came from."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from tasks.activations.capture import LayerCapture, channels_first, list_layers, pool, positions, prefix_tokens
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


def test_a_register_is_not_taken_for_the_cls_token():
    network = seeded(
        lambda: timm.create_model("test_vit", img_size=64, class_token=False, reg_tokens=4, global_pool="avg")
    )
    images = pictures(2)
    assert target(network).read(images, {"blocks.1": "mean"}, ["blocks.1"])["blocks.1"].maps.shape == (2, 64, 4, 4)
    with pytest.raises(UserError, match="this network has none"):
        target(network).read(images, {"blocks.1": "cls"})


# ---- heads and hidden units ----


def torchvision_vit():
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=16, mlp_dim=32, num_classes=3
    )


def heads_by_hand(q, k, v):
    """[n, heads, tokens, d] each → the outputs side by side, [n, tokens, heads · d]."""
    shares = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
    return (shares @ v).transpose(1, 2).flatten(2)


@torch.inference_mode()
def test_heads_of_timm_by_hand(vit):
    model, name = target(vit), "blocks.2.attn.heads"
    inputs = model.preprocessing(pictures())
    attention = vit.blocks[2].attn
    with LayerCapture(vit, [name, "blocks.2.norm1", "blocks.2.attn"]) as capture:
        found = capture(inputs)
    into = found["blocks.2.norm1"]
    q, k, v = attention.qkv(into).unflatten(2, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    torch.testing.assert_close(found[name], heads_by_hand(q, k, v), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(attention.proj(found[name]), found["blocks.2.attn"], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("last", [True, False])
def test_heads_of_torchvision_by_hand(last):
    network = seeded(torchvision_vit)
    inputs = target(network, 32).preprocessing(pictures(2, 32))
    block = "encoder.layers.encoder_layer_1"
    attention = network.get_submodule(f"{block}.self_attention")
    name, before = f"{block}.self_attention.heads", network(inputs)
    with LayerCapture(network, [f"{block}.ln_1", name, *(() if last else (f"{block}.self_attention",))]) as capture:
        found = capture(inputs)
    q, k, v = nn.functional.linear(found[f"{block}.ln_1"], attention.in_proj_weight, attention.in_proj_bias).chunk(3, 2)
    by_hand = heads_by_hand(*(part.unflatten(2, (4, 4)).transpose(1, 2) for part in (q, k, v)))
    assert by_hand.shape == (2, 17, 16)
    torch.testing.assert_close(found[name], by_hand, rtol=1e-4, atol=1e-5)
    if not last:
        given = found[f"{block}.self_attention"]
        torch.testing.assert_close(attention.out_proj(found[name]), given, rtol=1e-4, atol=1e-5)
    assert torch.equal(network(inputs), before)


@torch.inference_mode()
def test_heads_with_rotary_positions_are_what_the_projection_reads():
    """DINOv3's attention, with a CLS token and four registers."""
    network = seeded(
        lambda: timm.create_model("vit_small_patch16_dinov3", img_size=64, depth=2, embed_dim=48, num_heads=3)
    )
    inputs = target(network).preprocessing(pictures(2))
    with LayerCapture(network, ["blocks.1.attn.heads", "blocks.1.attn"]) as capture:
        found = capture(inputs)
    heads = found["blocks.1.attn.heads"]
    torch.testing.assert_close(network.blocks[1].attn.proj(heads), found["blocks.1.attn"], rtol=1e-4, atol=1e-5)
    reading = target(network).read(pictures(2), {"blocks.1.attn.heads": "cls"}, ["blocks.1.attn.heads"])
    assert reading["blocks.1.attn.heads"].maps.shape == (2, 48, 4, 4)
    torch.testing.assert_close(reading["blocks.1.attn.heads"].pooled, heads[:, 0], rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_blocks_heads_and_hidden_units_in_one_pass(vit):
    """The hidden units of an MLP are what its second layer reads, after the activation."""
    calls = []
    handle = vit.patch_embed.register_forward_hook(lambda *_: calls.append(1))
    names = ["blocks.0", "blocks.1.attn.heads", "blocks.3.mlp.norm", "blocks.4"]
    together = target(vit).read(pictures(), dict.fromkeys(names, "cls"), names)
    handle.remove()
    assert len(calls) == 1
    alone = {name: target(vit).read(pictures(), {name: "cls"}, [name])[name] for name in names}
    for name in names:
        assert torch.equal(together[name].pooled, alone[name].pooled)
        assert torch.equal(together[name].maps, alone[name].maps)
    kept = []
    handle = vit.blocks[3].mlp.fc2.register_forward_hook(lambda _, inputs, __: kept.append(inputs[0]))
    vit(target(vit).preprocessing(pictures()))
    handle.remove()
    torch.testing.assert_close(together["blocks.3.mlp.norm"].pooled, kept[0][:, 0], rtol=1e-4, atol=1e-5)


def test_heads_are_listed_after_their_attention(vit):
    names = [*list_layers(vit, torch.zeros(1, 3, 64, 64))]
    assert names[names.index("blocks.0.attn") + 1] == "blocks.0.attn.heads"
    listed = list_layers(seeded(torchvision_vit), torch.zeros(1, 3, 32, 32))
    assert listed["encoder.layers.encoder_layer_0.self_attention.heads"] == (17, 16)
    assert listed["encoder.layers.encoder_layer_0.mlp.1"] == (17, 32)


# ---- channels last ----


def torchvision_swin(width=8):
    return torchvision.models.SwinTransformer([4, 4], width, [2, 2], [1, 2], [4, 4], num_classes=3)


def small(name, **options):
    return lambda: timm.create_model(name, **{"depths": (1, 1, 1, 1), **options})


SWIN = {"img_size": 64, "embed_dim": 48, "window_size": 4, "num_heads": (3, 3, 3, 3)}


@torch.inference_mode()
@pytest.mark.parametrize(
    ("build", "layer", "units", "side"),
    [
        (torchvision_swin, "features.1", 8, 16),
        (torchvision_swin, "features.1.1.attn", 8, 16),
        (torchvision_swin, "features.3.0.mlp.1", 64, 8),
        (torchvision_swin, "permute", 16, 8),
        # As many units as rows: the network says which axis they have.
        (lambda: torchvision_swin(16), "features.1", 16, 16),
        (small("swin_tiny_patch4_window7_224", **SWIN, depths=(2, 2, 1, 1)), "layers.1", 96, 8),
        (small("swin_tiny_patch4_window7_224", **SWIN | {"embed_dim": 12}), "layers.0.blocks.0", 12, 16),
        (small("swinv2_tiny_window8_256", **SWIN), "layers.3", 384, 2),
        (small("convnext_atto", dims=(8, 16, 24, 32)), "stages.1.blocks.0.mlp.act", 64, 8),
        (small("convnext_atto", dims=(8, 16, 24, 32)), "stages.1", 16, 8),
    ],
)
def test_maps_with_their_units_last_read_as_any_other(build, layer, units, side):
    network = seeded(build)
    images, kept = pictures(2), []
    handle = network.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    network(target(network).preprocessing(images))
    handle.remove()
    places = kept[0].shape.index(units) if units != side else 3
    expected = kept[0] if places == 1 else kept[0].permute(0, 3, 1, 2)
    reading = target(network).read(images, {layer: "mean"}, [layer])[layer]
    assert reading.maps.shape == (2, units, side, side)
    torch.testing.assert_close(reading.pooled, expected.mean((2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(reading.maps.float(), expected, rtol=1e-2, atol=1e-2)
    assert list_layers(network, torch.zeros(1, 3, 64, 64))[layer] == (units, side, side)


def test_a_convolution_of_a_channels_last_network_keeps_its_axes():
    network = seeded(lambda: torchvision_swin(16))
    with LayerCapture(network, ["features.0.0", "features.0.1"]) as capture, torch.inference_mode():
        found = capture(torch.rand(2, 3, 64, 64))
    torch.testing.assert_close(found["features.0.0"], found["features.0.1"], rtol=1e-4, atol=1e-5)


def test_windows_are_no_images():
    network = seeded(small("swin_tiny_patch4_window7_224", **SWIN))
    assert "layers.0.blocks.0.attn" not in list_layers(network, torch.zeros(1, 3, 64, 64))
    for layer in ("layers.0.blocks.0.attn", "layers.0.blocks.0.attn.heads"):
        with pytest.raises(UserError, match="one row per image"):
            target(network).read(pictures(2), {layer: "mean"})
