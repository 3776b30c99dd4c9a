"""Keys: every part of an identity changes them (fault F2), nothing else does, and they do not move between versions."""

from __future__ import annotations

import hashlib
import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from tasks.cache import keys, open_cache
from tasks.cache.keys import array_sha256, embeddings_identity, images_identity, key_of, pass_identity, place_facts
from tasks.perturbations import perturb
from tasks.perturbations.engine import VERSION
from tasks.perturbations.registry import PERTURBATIONS

PIXELS = np.arange(3 * 3 * 4 * 4, dtype=np.uint8).reshape(3, 3, 4, 4)
NETWORK = {"source": {"architecture": "resnet18", "pretrained": "V1", "sha256": "a" * 64}, "packages": {"torch": "2"}}
ENCODER = {"source": {"name": "ViT-B-16", "pretrained": "openai"}, "rows": 16}
BLUR: dict[str, Any] = {
    "images": array_sha256(PIXELS).hex(),
    "condition": "gaussian_blur",
    "severity": 3,
    "perturbation": {"version": "1", "parameters": [1, 2, 3, 4, 6]},
    "engine": "1",
    "settings": {"corruptions": "fixed", "lengths": "scaled", "feather": 0.0},
    "masks": None,
    "seed": 0,
}
PASS: dict[str, Any] = {
    "network": NETWORK,
    "layer": "layer4",
    "pooling": "mean",
    "precision": "float32",
    "device": "cpu AVX2",
    "images": images_identity(**BLUR),
}


def one_pixel() -> str:
    changed = PIXELS.copy()
    changed[1, 0, 2, 2] ^= 1
    return array_sha256(changed).hex()


CHANGED_IMAGES: dict[str, list[Any]] = {
    "images": [one_pixel(), array_sha256(PIXELS[::-1]).hex()],
    "condition": ["defocus_blur"],
    "severity": [4],
    "perturbation": [{**BLUR["perturbation"], "version": "2"}, {"version": "1", "parameters": [1, 2, 3, 4, 5]}],
    "engine": ["2"],
    "settings": [
        {**BLUR["settings"], "corruptions": "code"},
        {**BLUR["settings"], "lengths": "raw"},
        {**BLUR["settings"], "feather": 1.0},
    ],
    "masks": [array_sha256(PIXELS[:, 0] > 4).hex()],
    "seed": [1],
}
CHANGED_PASS: dict[str, list[Any]] = {
    "network": [
        {**NETWORK, "source": {**NETWORK["source"], field: "other"}}
        for field in ("architecture", "pretrained", "sha256")
    ]
    + [{**NETWORK, "packages": {"torch": "3"}}],
    "layer": ["layer3"],
    "pooling": ["max"],
    "precision": ["float16"],
    "device": ["cuda NVIDIA H100"],
    "images": [images_identity(**{**BLUR, "severity": 4})],
}


def test_each_field_of_the_images_changes_the_key() -> None:
    assert set(CHANGED_IMAGES) == set(inspect.signature(images_identity).parameters), "classify the new field here"
    changed = [
        images_identity(**{**BLUR, field: value}) for field, values in CHANGED_IMAGES.items() for value in values
    ]
    found = {key_of(pass_identity(**{**PASS, "images": images})) for images in [images_identity(**BLUR), *changed]}
    assert len(found) == len(changed) + 1


def test_each_field_of_a_pass_changes_the_key() -> None:
    assert set(CHANGED_PASS) == set(inspect.signature(pass_identity).parameters), "classify the new field here"
    changed = [pass_identity(**{**PASS, field: value}) for field, values in CHANGED_PASS.items() for value in values]
    assert len({key_of(identity) for identity in [pass_identity(**PASS), *changed]}) == len(changed) + 1


def test_another_clip_model_another_key() -> None:
    images = images_identity(**BLUR)
    others = [{**ENCODER, "source": {"name": "ViT-L-14", "pretrained": "openai"}}, {**ENCODER, "rows": 128}]
    made = {key_of(embeddings_identity(encoder=encoder, images=images)) for encoder in [ENCODER, *others]}
    assert len(made) == 3


def test_no_runtime_setting_is_a_parameter() -> None:
    runtime = {"batch", "batch_size", "workers", "threads", "index", "log_level", "retries", "folder", "path"}
    for function in (images_identity, pass_identity, embeddings_identity, keys.model_identity):
        assert not runtime & set(inspect.signature(function).parameters)


def test_clean_images_depend_on_themselves_alone() -> None:
    clean = {**BLUR, "condition": "clean", "severity": 0, "perturbation": None}
    assert images_identity(**clean) == images_identity(**{**clean, "seed": 7, "engine": "2", "masks": "b" * 64})
    assert images_identity(**clean) != images_identity(**{**clean, "images": one_pixel()})


def test_clean_and_blurred_never_share_a_blob(tmp_path) -> None:
    """F1: with one probe and one cache, a method that hashes pixels sees two different worlds."""
    probe = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8))
    digest = array_sha256(probe.numpy()).hex()
    entry = PERTURBATIONS["gaussian_blur"]
    seen: dict[str, torch.Tensor] = {}
    for name, severity in (("clean", 0), ("gaussian_blur", 5), ("gaussian_blur", 0)):
        images = images_identity(
            **{
                **BLUR,
                "images": digest,
                "condition": name,
                "severity": severity,
                "perturbation": {"version": entry.version, "parameters": list(entry.parameters)},
                "engine": VERSION,
            }
        )

        def look(severity: int = severity) -> dict[str, torch.Tensor]:
            shown = perturb(probe, "gaussian_blur", severity, [0, 1, 2])
            hashes = [np.frombuffer(array_sha256(image.numpy()), np.uint8) for image in shown]
            return {"hashes": torch.from_numpy(np.stack(hashes))}

        for _ in range(2):
            blob = open_cache(tmp_path).blob(pass_identity(**{**PASS, "images": images}), look)
        seen[f"{name} {severity}"] = blob["hashes"]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    assert not (seen["clean 0"] == seen["gaussian_blur 5"]).all(1).any()
    assert torch.equal(seen["clean 0"], seen["gaussian_blur 0"])


def test_keys_are_frozen() -> None:
    """A change here orphans every cache there is: raise MODELS_VERSION on purpose, never by a refactoring."""
    assert key_of(pass_identity(**PASS)) == "28eb05f9c9b85622468624f7231a6d7929a96d5cc4047dc07a7edf532eb6131e"
    assert (
        key_of(embeddings_identity(encoder=ENCODER, images=images_identity(**BLUR)))
        == "d01a0d6cb8b3f7e601c3a0cf62c61339ebdf20000fcfa4e18963648a4e208fb6"
    )


def test_the_order_of_fields_does_not_matter_and_what_is_needed() -> None:
    assert key_of({"what": "x", "a": 1, "b": {"c": 2, "d": 3}}) == key_of({"b": {"d": 3, "c": 2}, "a": 1, "what": "x"})
    with pytest.raises(ValueError, match="'what'"):
        key_of({"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        key_of({"what": "x", "a": float("nan")})


def test_the_hash_of_an_array_is_of_type_shape_and_values() -> None:
    zeros = np.zeros((2, 3), np.uint8)
    others = [zeros.reshape(3, 2), zeros.astype(bool), zeros.astype(np.int8), np.eye(2, 3, dtype=np.uint8), zeros[:0]]
    assert len({array_sha256(array) for array in [zeros, *others]}) == 6
    assert array_sha256(PIXELS[:, :, ::2]) == array_sha256(PIXELS[:, :, ::2].copy())


def test_files_of_a_model_count_by_content(tmp_path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "weights.safetensors").write_bytes(b"w")
    (tmp_path / "deep" / "config.json").write_text("{}")
    found = place_facts(tmp_path, "weights.safetensors")
    assert found == {"deep/config.json": hashlib.sha256(b"{}").hexdigest()}
    assert set(place_facts(tmp_path)) == {"deep/config.json", "weights.safetensors"}
    (tmp_path / "deep" / "config.json").write_text("{ }")
    assert place_facts(tmp_path, "weights.safetensors") != found
    assert place_facts(tmp_path / "weights.safetensors") == {"weights.safetensors": hashlib.sha256(b"w").hexdigest()}
    assert place_facts(None) == {}


def test_importing_loads_no_torch_and_creates_nothing(tmp_path) -> None:
    code = (
        "import sys; from tasks.cache import inventory, open_cache\n"
        "inventory.entries(open_cache()); print('torch' in sys.modules)"
    )
    place = tmp_path / "new"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"CLEAR_CACHE": str(place), "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert ran.stdout.strip() == "False"
    assert not place.exists()
