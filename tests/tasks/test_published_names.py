"""Every published name of the profiles is one that the installed library knows; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import open_clip
import pytest
import timm
import torch
import transformers
from open_clip.model import CustomTextCLIP
from transformers.models.auto import modeling_auto

from tasks.activations.capture import list_layers
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.language.config import TransformersSource
from tasks.models.blip_captioner import _CLASSES
from tasks.profiles.networks import build_network, preparation
from tasks.profiles.resolve import ROLES, require, resolve
from tasks.profiles.schema import load_profile
from tasks.profiles.sources import Source

PUBLISHED = ("paper", "open", "modern")

MODEL_TYPES = {
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "llama",
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": "smolvlm",
    "Qwen/Qwen3-4B-Instruct-2507": "qwen3",
    "Qwen/Qwen3-VL-4B-Instruct": "qwen3_vl",
    "Salesforce/blip-image-captioning-base": "blip",
}
"""Repository → the model type in its ``config.json``, by which transformers chooses the class. A name that the profiles
gain is to be added here."""

PIPELINES = {"CompVis/stable-diffusion-v1-4", "stabilityai/sd-turbo"}
"""Repositories whose ``model_index.json`` names diffusers' StableDiffusionPipeline."""

SENTENCES = {"sentence-transformers/all-mpnet-base-v2"}


def hub_names(profile):
    for role in ROLES:
        entry = getattr(profile, role)
        if isinstance(entry, Source | TransformersSource) and entry.name:
            yield role, entry.loader, entry.name


@pytest.mark.parametrize("name", PUBLISHED)
def test_torchvision_timm_and_open_clip_know_every_name(name):
    """``resolve`` looks each of theirs up in the library's own registry."""
    profile = load_profile(name)
    assert resolve(profile)
    for place, entry in profile.targets.items():
        assert preparation(entry).side >= 224
        wrong = entry.model_copy(update={"architecture": f"{entry.architecture}_x", "weights": None})
        with pytest.raises(UserError, match="Did you mean"):
            resolve(profile.model_copy(update={"targets": {place: wrong}}), roles=())
    for change in ({"name": "ViT-B-61"}, {"pretrained": "opeani"}):
        clip = profile.clip.model_copy(update=change)
        with pytest.raises(UserError, match="Unknown"):
            resolve(profile.model_copy(update={"clip": clip}), {}, {}, {}, ["clip"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_and_diffusers_know_the_type_of_every_name(name):
    named = list(hub_names(load_profile(name)))
    assert {role for role, *_ in named} >= {"clip", "sentence_encoder", "captioner", "generator"}
    for role, loader, repository in named:
        if loader in ("blip", "blip2"):
            assert _CLASSES[loader].config_class.model_type == MODEL_TYPES[repository]
        elif loader == "transformers" and role == "summariser":
            assert MODEL_TYPES[repository] in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        elif loader in ("transformers", "image_text_to_text"):
            assert MODEL_TYPES[repository] in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        elif loader == "diffusers":
            assert repository in PIPELINES
        else:
            assert loader == "open_clip" or repository in SENTENCES


@pytest.mark.parametrize(
    "repository", sorted(set(MODEL_TYPES) - {"HuggingFaceTB/SmolLM2-1.7B-Instruct", "Qwen/Qwen3-4B-Instruct-2507"})
)
def test_transformers_names_these_repositories_itself(repository):
    folder = Path(transformers.__file__).parent / "models" / MODEL_TYPES[repository]
    assert any(repository in file.read_text(encoding="utf-8") for file in folder.glob("*.py"))


def bytes_of(build):
    with torch.device("meta"):
        return sum(tensor.numel() * tensor.element_size() for tensor in build().state_dict().values())


def clip_of(name):
    config = open_clip.get_model_config(name)
    return CustomTextCLIP(**{key: value for key, value in config.items() if key != "custom_text"})


def test_the_sizes_of_modern_are_those_of_the_architectures():
    profile = load_profile("modern")
    for entry in profile.targets.values():
        if entry.loader == "timm":
            outputs = timm.get_pretrained_cfg(f"{entry.architecture}.{entry.pretrained}").num_classes
            assert entry.size == bytes_of(lambda e=entry, n=outputs: timm.create_model(e.architecture, num_classes=n))
    assert profile.clip.size == bytes_of(lambda: clip_of(profile.clip.name))
    assert all(
        part.size and part.licence for part in resolve(profile, probing_sets=(), concept_sets=(), roles=("clip",))
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_licences_are_those_that_timm_states(name):
    for entry in load_profile(name).targets.values():
        if entry.loader == "timm":
            stated = timm.get_pretrained_cfg(f"{entry.architecture}.{entry.pretrained}").license
            assert entry.licence.lower().startswith(stated.replace("-license", "").lower())


@pytest.mark.parametrize("name", ["dinov3_block", "siglip2_heads"])
def test_the_tasks_of_modern_name_a_layer_of_that_many_units(name):
    task = load_task(name)
    entry = load_profile("modern").target(task.model)
    assert (entry.loader, entry.pretrained) == (task.library, task.weights)
    side = preparation(entry).side
    with torch.device("meta"):
        network = timm.create_model(entry.architecture, num_classes=0).eval()
        shape = list_layers(network, torch.zeros(1, 3, side, side))[task.layer]
    assert shape[-1] == task.units.total


def test_without_weights_modern_ends_at_once_and_names_the_local_path(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    profile = load_profile("modern")
    for part in (resolve(profile, [target], (), (), ()) for target in profile.targets if target != "resnet50"):
        with pytest.raises(UserError, match=r"is not on this machine\. To get it: hf download .* name a local copy"):
            require(part)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="weights: FILE"):
        build_network(profile.target("vit_small_patch16_dinov3"))
