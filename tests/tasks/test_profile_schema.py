"""Profile files: strict, resolved against their own folder, every mistake in a sentence, and read without torch."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tasks.common.errors import UserError
from tasks.language.config import VisionOpenAISource, VisionTransformersSource
from tasks.profiles.schema import Profile, load_profile

GOOD = {
    "name": "mine",
    "description": "A profile of the tests.",
    "note": "Only a test.",
    "targets": {
        "resnet18": {
            "loader": "torchvision",
            "architecture": "resnet18",
            "classes": 5,
            "weights": "models/resnet18.safetensors",
            "sha256": "ab" * 32,
            "licence": "MIT",
            "input": {"resize": 232, "crop": 224, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3]},
            "planted": {"weights": "models/planted.safetensors"},
        }
    },
    "probing_sets": {"scenes": {"loader": "miniature", "split": "probe", "licence": "MIT"}},
    "concept_sets": {"words": "words.txt"},
    "clip": {"loader": "open_clip", "path": "clip", "weights": "open_clip_model.safetensors", "licence": "MIT"},
    "captioner": {
        "loader": "blip",
        "path": "/elsewhere/blip",
        "weights": "model.safetensors",
        "licence": "BSD-3-Clause",
    },
    "segmenter": {
        "loader": "lraspp_mobilenet_v3_large",
        "weights": "../seg.safetensors",
        "side": 160,
        "licence": "MIT",
    },
}


@pytest.fixture
def write(tmp_path):
    def to(content):
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return str(path)

    return to


def changed(place, value):
    content = copy.deepcopy(GOOD)
    *folders, last = place
    inner = content
    for folder in folders:
        inner = inner[folder]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return content


def test_paths_are_relative_to_the_file(write, tmp_path, monkeypatch):
    path = write(GOOD)
    monkeypatch.chdir("/")
    profile = load_profile(path)
    assert profile.target("resnet18").weights == tmp_path / "models/resnet18.safetensors"
    assert profile.target("resnet18").planted.weights == tmp_path / "models/planted.safetensors"
    assert profile.concept_set("words") == tmp_path / "words.txt"
    assert profile.clip.path == tmp_path / "clip"
    assert profile.captioner.path == Path("/elsewhere/blip")
    assert profile.segmenter.weights.resolve() == tmp_path.parent / "seg.safetensors"
    assert profile.target("resnet18").input.mean == (0.5, 0.4, 0.3)
    assert profile.probing_set("scenes").limit == 100_000


def test_roles_may_be_absent(write):
    content = {key: value for key, value in GOOD.items() if key not in ("captioner", "segmenter")}
    profile = load_profile(write(content))
    roles = ("captioner", "segmenter", "summariser", "generator", "sentence_encoder", "vocabulary")
    assert [getattr(profile, role) for role in roles] == [None] * 6


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("clip",), None, "field 'clip' is missing"),
        (("targets", "resnet18", "input", "std"), None, "std' is missing"),
        (("captionner",), {}, "Did you mean 'captioner'"),
        (("targets", "resnet18", "sha265"), "x", "sha265"),
        (("targets", "resnet18", "planted"), {"weight": "x"}, "weight"),
        (("targets", "resnet18", "loader"), "timmm", "cannot be 'timmm'"),
        (("targets", "resnet18", "classes"), 0, "classes' cannot be 0"),
        (("targets", "resnet18", "input", "resize"), 8, "resize' cannot be 8"),
        (("targets", "resnet18", "input", "crop"), 256, "crop 256 is larger than resize 232"),
        (("targets", "resnet18", "input", "mean"), [0.5, 0.5], "mean"),
        (("targets", "resnet18", "input", "std"), [0.2, 0.0, 0.2], "std"),
        (("probing_sets", "scenes", "split"), "probing", "Did you mean 'probe'"),
        (("probing_sets", "scenes", "limit"), 1, "limit' cannot be 1"),
        (("generator",), "diffusion", "Allowed: 'miniature'"),
        (("name",), "Mine Own", "name"),
        (("segmenter", "side"), 16, "side' cannot be 16"),
    ],
)
def test_a_mistake_is_explained(write, place, value, said):
    path = write(changed(place, value))
    with pytest.raises(UserError) as error:
        load_profile(path)
    assert said in str(error.value)
    assert path in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_names_say_what_there_is(write):
    profile = load_profile(write(GOOD))
    for ask, name, said in (
        (profile.target, "resnet81", "resnet18"),
        (profile.probing_set, "scene", "scenes"),
        (profile.concept_set, "word", "words"),
    ):
        with pytest.raises(UserError, match="Did you mean") as error:
            ask(name)
        assert said in str(error.value)
        assert "'mine'" in str(error.value)
    with pytest.raises(UserError, match="Did you mean miniature"):
        load_profile("miniatur")
    with pytest.raises(UserError, match="no profile file"):
        load_profile("nowhere/mine.yaml")


def test_a_profile_cannot_be_changed(write):
    profile = load_profile(write(GOOD))
    with pytest.raises(ValueError, match="frozen"):
        profile.name = "other"


def test_the_miniature_profile_is_whole_and_read_without_torch():
    profile = load_profile("miniature")
    assert isinstance(profile, Profile)
    assert {"resnet50", "resnet18"} <= set(profile.targets)
    assert profile.concept_set("scenes").is_file()
    assert "miniature" in profile.note
    folders = [target.weights.parent for target in profile.targets.values() if target.weights]
    assert all(folder.name == "checkpoints" and folder.parent.resolve().is_dir() for folder in folders)
    code = "import sys; from tasks.profiles.schema import load_profile as load; load('miniature')"
    code += "; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"


def test_every_field_of_a_language_model_is_documented_with_its_default_and_whether_it_counts():
    text = (Path(__file__).parents[2] / "docs/profiles.md").read_text(encoding="utf-8")
    table = text.partition("## The fields of a language model")[2].partition("\n## ")[0]
    rows = {name: rest for name, *rest in re.findall(r"^\| `(\w+)`( †)? \| (\w+) \| ([^|]+) \|", table, re.MULTILINE)}
    fields = {}
    for loader, source in (("openai", VisionOpenAISource), ("transformers", VisionTransformersSource)):
        for name, field in source.model_fields.items():
            shared = name in VisionOpenAISource.model_fields and name in VisionTransformersSource.model_fields
            default = "required" if field.is_required() else {None: "null", True: "true"}.get(field.default)
            mark = " †" if name in source.runtime else ""
            fields[name] = [mark, "both" if shared else loader, default or f"{field.default}".removesuffix(".0")]
    del fields["loader"]
    fields["max_tokens"][2] = "256"  # a summariser's; the text gives the describer's
    assert {name: [*row[:2], row[2].strip("`")] for name, row in rows.items()} == fields
