"""What one start of a run notes about the machine and the packages it ran with."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from leaderboard.identity import as_json

_PACKAGES = (
    "clear-benchmark", "diffusers", "imagecorruptions", "numpy", "open_clip_torch", "openai", "opencv-python-headless",
    "pandas", "pyarrow", "scikit-image", "scipy", "sentence-transformers", "statsmodels", "timm", "torch",
    "torchvision", "transformers",
)  # fmt: skip


def session(facts: Mapping[str, Any]) -> dict[str, Any]:
    """One entry of ``sessions`` in ``run.json``.

    Args:
        facts: What the caller knows of its machine: host, device, batch size.

    Returns:
        ``started`` (UTC, ISO 8601), ``python``, ``platform``, ``packages`` (name → version, installed ones only) and
        ``facts``.
    """
    packages = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    return {
        "started": now(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "facts": as_json(facts),
    }


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
