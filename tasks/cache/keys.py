"""The identity of an answer as JSON, and its hash: the key. Batch sizes, workers and paths are not part of it.

The functions take no runtime setting, so that none can end up in a key by accident.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.common.files import file_sha256

if TYPE_CHECKING:
    import numpy as np
    import torch

MODELS_VERSION = "3"
"""Raised whenever ``tasks.models`` or ``tasks.cache.padded`` may give different answers for the same inputs."""

_HASHED_BYTES = 64 * 2**20

Identity = Mapping[str, Any]
"""JSON-serialisable; ``what`` names the kind of content."""


@dataclass(frozen=True)
class Entry:
    """What the cache stores under one key: a blob, or the answers of one model.

    Attributes:
        key: SHA-256 of the identity.
        kind: ``blob`` or ``answers``.
        count: Number of tensors (blob) or answers.
        size: Bytes on disk; estimated for answers.
        used: Last use, in seconds since 1970.
    """

    key: str
    identity: dict[str, Any]
    kind: str
    count: int
    size: int
    used: float


def canonical(identity: Any) -> str:
    """A canonical text: sorted keys, no spaces, ASCII.

    Raises:
        ValueError: NaN or infinity, which JSON cannot represent.
        TypeError: Not JSON-serialisable.
    """
    return json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def key_of(identity: Identity) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits.

    Raises:
        ValueError: The identity lacks ``what``, or holds NaN or infinity.
    """
    if not isinstance(identity.get("what"), str):
        raise ValueError("an identity needs 'what', the kind of thing that is kept")
    return hashlib.sha256(canonical(identity).encode()).hexdigest()


def told(text: Any) -> dict[str, Any]:
    """A stored identity; empty where it is damaged."""
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def text_sha256(text: str) -> bytes:
    """SHA-256 of a text as UTF-8, 32 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def array_sha256(array: np.ndarray) -> bytes:
    """SHA-256 of an array's dtype, shape and values."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}\n".encode())
    digest.update(array.reshape(-1).view("uint8").data)
    return digest.digest()


def images_identity(
    *,
    images: str,
    condition: str,
    severity: int,
    perturbation: Mapping[str, Any] | None,
    engine: str,
    settings: Mapping[str, Any],
    masks: str | None,
    seed: int,
) -> dict[str, Any]:
    """What the images of one condition depend on. Clean images depend on neither seed nor engine.

    Args:
        images: ``ProbingSet.digest`` of the unperturbed images: identifiers, pixels and order.
        condition: ``clean`` or the perturbation's name.
        severity: 0 for clean, else 1 to 5.
        perturbation: ``version`` and ``parameters`` of the perturbation's entry; None for clean.
        engine: ``tasks.perturbations.engine.VERSION``.
        settings: The fields of ``tasks.perturbations.settings.Settings``.
        masks: SHA-256 of the foreground masks, where the condition uses them; else None.
        seed: The run's seed; each image's seed is derived from it, the identifier, condition and severity.
    """
    clean: dict[str, Any] = {"images": images, "condition": condition, "severity": severity}
    if condition == "clean" and severity == 0:
        return clean
    return {
        **clean,
        "perturbation": dict(perturbation or {}),
        "engine": engine,
        "settings": dict(settings),
        "masks": masks,
        "seed": seed,
    }


def pass_identity(
    *,
    network: Mapping[str, Any],
    layer: str,
    pooling: str,
    precision: str,
    device: str,
    images: Mapping[str, Any],
) -> dict[str, Any]:
    """What the pooled activations of one layer under one condition depend on.

    Args:
        network: ``Roles.network_identity``: architecture, weights by hash or tag, preprocessing, library versions.
        layer: Dotted name.
        pooling: How maps or tokens are reduced to one value per unit.
        precision: Number format of the forward pass and of the stored activations, e.g. ``float32``.
        device: ``device_kind``; results differ in bits between processors, so their answers are never mixed.
        images: ``images_identity`` of the condition.
    """
    return {
        "what": "pooled activations",
        "models_version": MODELS_VERSION,
        "network": dict(network),
        "layer": layer,
        "pooling": pooling,
        "precision": precision,
        "device": device,
        "images": dict(images),
    }


def embeddings_identity(*, encoder: Mapping[str, Any], images: Mapping[str, Any]) -> dict[str, Any]:
    """What the embeddings of all images of one condition depend on.

    Args:
        encoder: ``CachedEncoder.identity``.
        images: ``images_identity`` of the condition.
    """
    return {"what": "image embeddings of a condition", "encoder": dict(encoder), "images": dict(images)}


def model_identity(source: Any, packages: Iterable[str], device: str, rows: int) -> dict[str, Any]:
    """What every answer of one of a profile's models depends on.

    Args:
        source: The model's entry in ``Profile.identity``, with ``place_facts`` where no hash pins its files.
        packages: Distributions whose code computes the answer; torch is always included.
        device: ``device_kind``.
        rows: Rows per forward pass, to which batches are padded; they affect the last bits of the result.
    """
    return {
        "models_version": MODELS_VERSION,
        "source": source,
        "packages": package_versions(packages),
        "device": device,
        "rows": rows,
    }


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Distribution → its installed version, torch among them; None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in sorted({"torch", *packages}):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def device_kind(device: torch.device) -> str:
    """The kind of processor: equal kinds give equal bits, whatever their index on this machine."""
    import torch

    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return device.type


def place_facts(place: Path | None, pinned: str | None = None) -> dict[str, Any]:
    """Hashes of a model's files; in a folder this includes configuration and tokenizers.

    Args:
        place: File or folder; None if only the library knows where the files are.
        pinned: Name of a file in the folder whose hash is already given by the profile.

    Returns:
        Relative name → SHA-256; for very large files, size and modification time instead.
    """
    if place is None:
        return {}
    if place.is_file():
        return {} if pinned else {place.name: _file_facts(place)}
    files = (path for path in sorted(place.rglob("*")) if path.is_file())
    named = {path.relative_to(place).as_posix(): path for path in files}
    return {name: _file_facts(path) for name, path in named.items() if name != pinned}


def _file_facts(path: Path) -> str:
    status = path.stat()
    return file_sha256(path) if status.st_size <= _HASHED_BYTES else f"{status.st_size} bytes of {status.st_mtime_ns}"
