"""A run through the full-scale classes: a timm transformer, a folder of images, open_clip, BLIP, Stable Diffusion."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.runner import run
from leaderboard.store.run_folder import RunFolder
from tasks.miniature.probing import MiniatureProbingSet

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))
import tiny_models


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("diffusers")
    pytest.importorskip("sentence_transformers")
    scenes = MiniatureProbingSet("test", 16)
    (tmp_path / "photos").mkdir()
    for name, image in zip(scenes.ids, scenes.images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "photos" / f"{name}.png")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_vit", num_classes=7).state_dict(), tmp_path / "vit.safetensors")
    (tmp_path / "words.txt").write_text("\n".join(tiny_models.WORDS))
    tiny_models.clip_folder(tmp_path / "clip")
    tiny_models.sentence_folder(tmp_path / "sentence")
    tiny_models.blip_folder(tmp_path / "blip")
    tiny_models.diffusion_folder(tmp_path / "diffusion")
    return tmp_path


PROFILE = {
    "name": "mine",
    "description": "Full-scale classes on random weights.",
    "note": "Random weights.",
    "targets": {
        "my_vit": {
            "loader": "timm",
            "architecture": "test_vit",
            "classes": 7,
            "weights": "vit.safetensors",
            "licence": None,
        }
    },
    "probing_sets": {"photos": {"loader": "folder", "path": "photos", "licence": "MIT"}},
    "concept_sets": {"words": "words.txt"},
    "clip": {"loader": "open_clip", "path": "clip", "licence": None},
    "sentence_encoder": {"loader": "sentence_transformers", "path": "sentence", "licence": None},
    "captioner": {"loader": "blip", "path": "blip", "min_length": 5, "max_new_tokens": 8, "licence": None},
    "summariser": "counting",
    "generator": {"loader": "diffusers", "path": "diffusion", "steps": 2, "licence": None},
    "method_options": {
        "dnd": {"crop_px": 64, "images_per_concept": 2, "candidates": 2, "synth_px": 32},
        "clip_dissect": {"top_k": 10},
    },
}
TASK = {
    "name": "my_vit_block",
    "version": 1,
    "description": "A block of a transformer of the user's.",
    "model": "my_vit",
    "library": "timm",
    "weights": "my own",
    "layer": "blocks.3",
    "pooling": "cls",
    "probing_set": "photos",
    "images": 16,
    "concept_set": "words",
    "suites": ["gaussian_blur"],
    "units": {"label": 2},
    "licences": {"weights": "none"},
    "citation": "nobody to cite",
}


def test_a_run_on_the_users_own(folder):
    (folder / "mine.yaml").write_text(yaml.safe_dump(PROFILE))
    (folder / "task.yaml").write_text(yaml.safe_dump(TASK))
    options = RunOptions(
        tasks=(str(folder / "task.yaml"),),
        profile=str(folder / "mine.yaml"),
        methods=("clip_dissect", "dnd"),
        faithfulness="none",
        device="cpu",
        out=folder / "run",
    )
    result = run(options, Display())
    assert result.failed == []
    labels = RunFolder(result.folder).read_labels()
    assert set(labels["method"]) == {"clip_dissect", "dnd"}
    assert set(labels[labels["method"] == "clip_dissect"]["label"]) <= set(tiny_models.WORDS)
    assert set(labels["perturbation"]) == {"clean", "gaussian_blur"}
