"""What a profile needs and what of it is here, and that looking for it opens no socket."""

from __future__ import annotations

import json

import pytest
import tiny_models
import torch
from torchvision.models import ResNet18_Weights

from tasks.catalogue import profile_names
from tasks.common.errors import UserError
from tasks.language.config import OpenAISource, TransformersSource
from tasks.models.weights import file_sha256
from tasks.profiles.locate import locate_segmenter, locate_source, locate_target
from tasks.profiles.resolve import ROLES, require, resolve
from tasks.profiles.schema import load_profile
from tasks.profiles.sources import CaptionerSource, ClipSource, GeneratorSource, SegmenterSource, Target


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    return tiny_models.blip_folder(tmp_path_factory.mktemp("models") / "blip")


def test_the_miniature_is_complete():
    found = resolve(load_profile("miniature"))
    assert {part.state for part in found} == {"present"}
    # The describer, which looks at pictures in place of captions, is a choice of the other profiles; a second encoder
    # that simulates activations is the user's.
    wanted = {*ROLES, "target resnet50", "planted units of resnet50_planted"} - {"describer", "simulator"}
    assert {part.role for part in found} >= wanted
    require(found)


@pytest.mark.parametrize("name", ["paper", "open"])
def test_a_profile_of_published_models_says_what_is_missing_and_how_to_get_it(name):
    profile = load_profile(name)
    found = {part.role: part for part in resolve(profile)}
    assert set(found) == {
        *(role for role in ROLES if role != "simulator"),
        *(f"target {target}" for target in profile.targets),
        *(f"probing set {images}" for images in profile.probing_sets),
        *(f"concept set {words}" for words in profile.concept_sets),
    }
    assert {part.state for part in found.values()} <= {"missing", "server"}
    assert all(part.get for part in found.values())
    assert found["target resnet50"].size == 102_530_810  # as torchvision states it: 97.781 MiB
    assert "download.pytorch.org/models/resnet50-0676ba61.pth" in found["target resnet50"].get
    assert "places2.csail.mit.edu" in found["target resnet18_places365"].get
    assert found["clip"].get.startswith("hf download timm/vit_base_patch16_clip_224.openai")
    assert "tasks.probing broden" in found["probing set broden"].get
    with pytest.raises(UserError, match=r"\d+ parts of the profile are not on this machine") as caught:
        require(list(found.values()))
    assert all(role in str(caught.value) for role, part in found.items() if part.state == "missing")


def test_profiles_say_what_is_not_known():
    """A revision or hash that nobody could check is null, not invented."""
    for name in ("paper", "open"):
        profile = load_profile(name)
        for entry in (profile.clip, profile.sentence_encoder, profile.captioner, profile.generator):
            assert (entry.revision, entry.sha256) == (None, None)
            assert entry.licence
    assert set(profile_names()) >= {"miniature", "paper", "open"}


def test_paper_and_open_hold_what_describe_and_dissect_was_published_with():
    from baselines import registry

    paper, free = load_profile("paper"), load_profile("open")
    drawn = paper.generator
    assert (drawn.name, drawn.scheduler, drawn.steps, drawn.guidance) == (
        "CompVis/stable-diffusion-v1-4",
        "dpmsolver++",
        50,
        7.5,
    )
    assert (paper.captioner.max_new_tokens, paper.captioner.min_length) == (32, 5)
    assert (paper.summariser.model, paper.summariser.temperature) == ("gpt-4-0125-preview", 0.3)
    assert isinstance(free.summariser, TransformersSource)
    assert (free.generator.steps, free.generator.guidance, free.generator.scheduler) == (1, 0.0, "own")
    assert {t.pretrained for t in paper.targets.values() if t.loader == "torchvision"} == {"IMAGENET1K_V1", None}
    for profile in (paper, free):
        for method, options in profile.method_options.items():
            registry.load(method, **options)
    assert registry.load("dnd", **paper.method_options["dnd"]).synth_px == 32


def test_only_what_a_run_needs_is_looked_for():
    found = resolve(
        load_profile("paper"),
        targets=["resnet18"],
        probing_sets=["broden"],
        concept_sets=[],
        roles=["clip", "generator"],
    )
    assert [part.role for part in found] == ["target resnet18", "probing set broden", "clip", "generator"]
    with pytest.raises(UserError, match="Did you mean resnet18"):
        resolve(load_profile("paper"), targets=["resnet81"])


def test_a_folder_is_present_when_nothing_of_it_misses(blip, tmp_path):
    entry = CaptionerSource(loader="blip", path=blip, weights="model.safetensors", licence="MIT")
    found = locate_source("captioner", entry, "blip")
    assert found.state == "present"
    assert found.size > (blip / "model.safetensors").stat().st_size
    wrong = entry.model_copy(update={"sha256": "0" * 64})
    assert locate_source("captioner", wrong, "blip").state == "hash differs"
    right = entry.model_copy(update={"sha256": file_sha256(blip / "model.safetensors")})
    assert locate_source("captioner", right, "blip").state == "present"
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        part = tmp_path / name
        part.mkdir()
        for file in blip.iterdir():
            if file.name != name:
                (part / file.name).write_bytes(file.read_bytes())
        assert locate_source("captioner", entry.model_copy(update={"path": part}), "blip").state == "missing"


def test_weights_in_several_files_are_present_when_all_of_them_are(blip, tmp_path):
    for file in blip.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": {"a": parts[0], "b": parts[1]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    entry = CaptionerSource(loader="blip2", path=tmp_path, licence=None)
    (tmp_path / parts[0]).write_bytes(b"one")
    assert locate_source("captioner", entry, "blip2").state == "missing"
    (tmp_path / parts[1]).write_bytes(b"two")
    assert locate_source("captioner", entry, "blip2").state == "present"


def test_a_diffusion_pipeline_says_its_own_parts(tmp_path):
    pytest.importorskip("diffusers")
    folder = tiny_models.diffusion_folder(tmp_path / "diffusion")
    entry = GeneratorSource(loader="diffusers", path=folder, licence=None)
    assert locate_source("generator", entry, "diffusers").state == "present"
    for name in ("scheduler/scheduler_config.json", "vae/diffusion_pytorch_model.safetensors"):
        (folder / name).rename(tmp_path / "aside")
        assert locate_source("generator", entry, "diffusers").state == "missing"
        (tmp_path / "aside").rename(folder / name)
    assert locate_source("generator", entry, "diffusers").state == "present"
    # Weights of a variant have names of their own.
    half = entry.model_copy(update={"variant": "fp16"})
    assert locate_source("generator", half, "diffusers").state == "missing"
    for file in list(folder.rglob("*.safetensors")):
        file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    assert locate_source("generator", half, "diffusers").state == "present"
    assert locate_source("generator", entry, "diffusers").state == "missing"


def test_a_repository_is_present_at_its_revision(blip, tmp_path):
    import shutil

    cached = tmp_path / "hub" / "models--someone--blip"
    shutil.copytree(blip, cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("a" * 40)
    entry = CaptionerSource(loader="blip", name="someone/blip", licence=None)
    here = locate_source("captioner", entry, "blip")
    assert (here.state, here.commit) == ("present", "a" * 40)
    assert locate_source("captioner", entry.model_copy(update={"path": blip}), "blip").commit is None
    for revision, state in (("a" * 40, "present"), ("b" * 40, "missing")):
        found = locate_source("captioner", entry.model_copy(update={"revision": revision}), "blip")
        assert found.state == state
        assert f"--revision {revision}" in found.get


def test_torchvisions_files_carry_their_hash(tmp_path):
    entry = Target(loader="torchvision", architecture="resnet18", pretrained="IMAGENET1K_V1", licence=None)
    found = locate_target("mine", entry)
    assert found.state == "missing"
    assert found.where.name == ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    found.where.parent.mkdir(parents=True)
    found.where.write_bytes(b"another file")
    assert locate_target("mine", entry).state == "hash differs"


def test_other_roles(tmp_path):
    assert locate_segmenter(SegmenterSource(loader="grabcut", licence=None)).state == "present"
    clip = ClipSource(loader="open_clip", path=tmp_path / "none", licence=None)
    assert locate_source("clip", clip, "open_clip").state == "missing"
    asked = load_profile("paper").model_copy(
        update={"summariser": OpenAISource(loader="openai", model="m", base_url="http://127.0.0.1:9/v1", licence="x")}
    )
    summariser = resolve(asked, targets=[], probing_sets=[], concept_sets=[], roles=["summariser"])[0]
    assert (summariser.state, summariser.source) == ("server", "openai m at http://127.0.0.1:9/v1")
