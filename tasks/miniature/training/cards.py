"""Saving trained models with their model cards, and updating the profile's hashes."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from tasks.miniature.training.evaluate import Quality
from tasks.miniature.training.latents import SAES
from tasks.models.weights import file_sha256

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
PROFILE = Path(__file__).parents[2] / "profiles" / "miniature.yaml"

FILES = {
    "resnet50": "resnet50.safetensors",
    "resnet18": "resnet18.safetensors",
    "vit_tiny": "vit_tiny.safetensors",
    "planted": "planted.safetensors",
    "segmenter": "segmenter.safetensors",
    "clip": "clip/open_clip_model.safetensors",
    "captioner": "captioner/model.safetensors",
}
"""Model → its weights file below ``CHECKPOINTS``."""

OF_LAYERS = {"superposed": "superposed.safetensors"} | {
    name: f"sae/{name.removeprefix('sae_')}.safetensors" for name in SAES
}
"""The same of what belongs to a layer of a model; their figures are in their cards, without bars."""

_PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch", "transformers", "numpy", "opencv-python")


def write_card(name: str, facts: Mapping[str, Any], seed: int) -> None:
    """Write a model card and put the new hash into the profile, replacing the old card's or ``pending-NAME``.

    Args:
        name: A key of ``FILES`` or ``OF_LAYERS``.
        facts: From the training script: seconds, views, input side, last loss.
    """
    path = CHECKPOINTS / (FILES | OF_LAYERS)[name]
    card = {
        "model": name,
        "file": (FILES | OF_LAYERS)[name],
        "sha256": file_sha256(path),
        "bytes": path.stat().st_size,
        "command": f"python -m tasks.miniature train {name}",
        "seed": seed,
        "training": dict(facts),
        "data": "scenes rendered by tasks.miniature, train split; no outside data",
        "machine": f"{platform.machine()}, {platform.system()}",
        "packages": {package: metadata.version(package) for package in _PACKAGES},
        "licence": "MIT, as the code",
        "quality": [],
    }
    old = _card_path(name)
    known = [f"pending-{name}"] + ([json.loads(old.read_text(encoding="utf-8"))["sha256"]] if old.exists() else [])
    profile = PROFILE.read_text(encoding="utf-8")
    for before in known:
        profile = profile.replace(before, card["sha256"])
    PROFILE.write_text(profile, encoding="utf-8")
    _write(old, card)


def add_quality(figures: Sequence[Quality]) -> None:
    """Add measured figures to the cards of the models they belong to."""
    for name in FILES:
        own = [q for q in figures if q.role == name]
        path = _card_path(name)
        if own and path.exists():
            card = json.loads(path.read_text(encoding="utf-8"))
            card["quality"] = [
                {"figure": q.figure, "value": round(q.value, 4), "bar": q.bar, "images": q.images} for q in own
            ]
            _write(path, card)


def _card_path(name: str) -> Path:
    """Beside the weights; of a folder of files, beside the folder."""
    if name in OF_LAYERS:
        return (CHECKPOINTS / OF_LAYERS[name]).with_suffix(".card.json")
    return CHECKPOINTS / f"{name}.card.json"


def _write(path: Path, card: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
