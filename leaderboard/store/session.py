"""Facts that each start of a run records about the machine and the installed packages."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageMetadata
from typing import Any

from leaderboard.store.identity import as_json

_PACKAGES = (
    "clear-benchmark", "diffusers", "imagecorruptions", "numpy", "open_clip_torch", "openai", "opencv-python",
    "pandas", "pyarrow", "scikit-image", "scipy", "sentence-transformers", "statsmodels", "timm", "torch",
    "torchvision", "transformers",
)  # fmt: skip


_LICENCES = {"imagecorruptions": "Apache-2.0", "torch": "BSD-3-Clause"}
"""Packages that carry a licence file but do not name it in their metadata."""


def session(facts: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of ``sessions`` in ``run.json``.

    Args:
        facts: The caller's facts about its machine: host, device, batch size.

    Returns:
        ``started`` (UTC, ISO 8601), ``python``, ``platform``, ``packages`` (name → version, installed ones only),
        ``licences`` (name → licence as the package states it) and ``facts``.
    """
    packages, licences = {}, {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            about = importlib.metadata.metadata(name)
            packages[name] = about["Version"]
            licences[name] = _LICENCES.get(name) or _licence(about)
    return {
        "started": now(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "licences": licences,
        "facts": as_json(facts),
    }


def _licence(about: PackageMetadata) -> str:
    """The licence from one of three metadata fields; some packages put the whole text into one of them."""
    trove = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or () if line.startswith("License ::")]
    short = [str(about[name] or "").strip() if name in about else "" for name in ("License-Expression", "License")]
    stated = [text for text in short if text and "\n" not in text and len(text) <= 80]
    return next(iter([*stated, *trove]), "not stated")


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
