"""A network of the user's own: what is asked on the command line becomes a profile entry and a task."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.models.weights import file_sha256
from tasks.profiles.build import Roles
from tasks.profiles.own import layers_of, own_target, with_own_model
from tasks.profiles.schema import load_profile


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_vit", num_classes=7).state_dict(), folder / "vit.safetensors")
        resnet = torchvision.models.resnet18(num_classes=5)
    named = {f"module.{name}": tensor for name, tensor in resnet.state_dict().items()}
    torch.save({"state_dict": named}, folder / "resnet.pth.tar")
    return folder


def test_weights_say_their_number_of_outputs(weights):
    vit = own_target("timm:test_vit", weights / "vit.safetensors")
    assert (vit.loader, vit.architecture, vit.classes, vit.pretrained) == ("timm", "test_vit", 7, None)
    assert vit.sha256 == file_sha256(weights / "vit.safetensors")
    resnet = own_target("torchvision:resnet18", weights / "resnet.pth.tar", "module.")
    assert (resnet.classes, resnet.strip_prefix) == (5, "module.")
    assert (resnet.input.resize, resnet.input.crop, resnet.input.interpolation) == (256, 224, "bilinear")


@pytest.mark.parametrize(
    ("model", "tag"),
    [
        ("torchvision:resnet50", "IMAGENET1K_V1"),
        ("torchvision:resnet50.IMAGENET1K_V2", "IMAGENET1K_V2"),
        ("timm:test_vit", "r160_in1k"),
        ("timm:vit_base_patch16_224.augreg2_in21k_ft_in1k", "augreg2_in21k_ft_in1k"),
    ],
)
def test_without_weights_the_published_ones_are_meant(model, tag):
    target = own_target(model)
    assert target.pretrained == tag
    assert target.weights is None


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("resnet50", "none of timm:NAME, torchvision:NAME and package.module:factory"),
        ("torchvision:resnet81", "Did you mean resnet18"),
        ("timm:tset_vit", "Did you mean test_vit"),
        ("my.package:os.system('x')", "none of"),
        ("eval:'1'", "none of"),
    ],
)
def test_mistakes_are_explained(model, said):
    with pytest.raises(UserError, match=said):
        own_target(model)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no weights file .*gone\.pt"):
        own_target("timm:test_vit", tmp_path / "gone.pt")


def test_layers_are_listed_with_what_a_task_would_read(weights):
    layers = layers_of(own_target("timm:test_vit", weights / "vit.safetensors"))
    assert layers["blocks.5"] == (101, 64)
    assert layers["patch_embed"] == (64, 10, 10)
    assert layers["head"] == (7,)
    layers = layers_of(own_target("torchvision:resnet18", weights / "resnet.pth.tar", "module."))
    assert layers["layer4"] == (512, 7, 7)
    assert layers["layer1.0.conv1"] == (64, 56, 56)
    assert layers["fc"] == (5,)
    assert list(layers).index("layer1") < list(layers).index("layer4")


def test_an_own_network_takes_the_place_of_a_tasks(weights):
    task = load_task("resnet50_layer4")
    target = own_target("timm:test_vit", weights / "vit.safetensors")
    profile, own = with_own_model(load_profile("miniature"), task, "timm:test_vit", target, "blocks.5", "cls")
    assert own.name == "timm_test_vit_blocks_5"
    assert (own.model, own.layer, own.pooling) == ("timm_test_vit", "blocks.5", "cls")
    assert (own.images, own.suites, own.units.label) == (task.images, task.suites, task.units.label)
    assert own.units.total is None
    # The task stays one that could be written in a file.
    assert type(own).model_validate(own.model_dump()) == own
    roles = Roles(profile, torch.device("cpu"))
    assert roles.unit_count(own.model, own.layer) == 64
    assert profile.identity() != load_profile("miniature").identity()
    with pytest.raises(UserError, match=r"Did you mean blocks\.5.*--list-layers"):
        roles.unit_count(own.model, "block.5")


def test_other_weights_are_another_identity(weights, tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        save_file(timm.create_model("test_vit", num_classes=7).state_dict(), tmp_path / "other.safetensors")
    task, miniature = load_task("resnet50_layer4"), load_profile("miniature")
    found = []
    for path in (weights / "vit.safetensors", tmp_path / "other.safetensors"):
        target = own_target("timm:test_vit", path)
        found.append(with_own_model(miniature, task, "timm:test_vit", target)[0].identity()["targets"])
    assert found[0] != found[1]
    assert str(tmp_path) not in str(found[1])
