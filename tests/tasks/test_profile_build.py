from __future__ import annotations

import pytest
import torch
import torchvision

from tasks.common.errors import UserError
from tasks.models.weights import save_weights
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.view import View


def roles_with(target_changes: dict) -> Roles:
    profile = load_profile("miniature")
    target = profile.targets["resnet18"].model_copy(update=target_changes)
    return Roles(profile.model_copy(update={"targets": {"resnet18": target}}), torch.device("cpu"))


def test_an_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean resnet18"):
        roles_with({"architecture": "resnet1"}).target("resnet18")


def test_weights_of_another_network_are_refused_in_one_sentence(tmp_path) -> None:
    path = tmp_path / "five.safetensors"
    network = torchvision.models.get_model("resnet18", weights=None, num_classes=5)
    save_weights(path, network.state_dict(), int8=False)
    with pytest.raises(UserError, match="does not fit resnet18 with 46 classes") as caught:
        roles_with({"weights": path, "sha256": None}).target("resnet18")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path) -> None:
    with pytest.raises(UserError, match=r"gone\.safetensors do not exist"):
        roles_with({"weights": tmp_path / "gone.safetensors"}).target("resnet18")


def test_unknown_roles_of_a_task_are_named() -> None:
    roles = roles_with({})
    with pytest.raises(UserError, match="Available: resnet18"):
        roles.target("resnet50")
    with pytest.raises(UserError, match="Available: scenes"):
        roles.probing_set("broden", 10, View(224))
    with pytest.raises(UserError, match="holds 100000 images"):
        roles.probing_set("scenes", 100_001, View(224))
