"""What makes two runs the same run: canonical JSON, its hash, safe file names, and readable differences."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_UNSAFE = re.compile(r"[^A-Za-z0-9_+=-]+")
_RESERVED = frozenset(["con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)), *(f"lpt{i}" for i in range(10))])


def canonical_json(value: Any) -> str:
    """A unique text for each value: sorted keys, no spaces, plain ASCII.

    Raises:
        ValueError: NaN or infinity, which JSON cannot represent.
        TypeError: A value that is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def identity_hash(identity: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def as_json(value: Any) -> Any:
    """The JSON form of a value: NumPy numbers and arrays become plain Python, NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): as_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted((as_json(part) for part in value), key=canonical_json)
    if hasattr(value, "tolist"):
        return as_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def safe_name(text: str, limit: int = 80) -> str:
    """A file name that is safe on every file system, and unique per text.

    Safe text is kept. Anything else is reduced to safe characters plus a hash of the whole text, so that two texts
    never share a file.

    Args:
        text: Any text, also hostile or empty.
        limit: Maximum length of the name, at least 16.
    """
    # On case-insensitive file systems "Dog" and "dog" would be one file, so capitals also count as changed.
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = _UNSAFE.sub("_", plain).strip("_-")
    if name == text and 0 < len(name) <= limit and name not in _RESERVED:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    kept = name[: limit - 13].strip("_-")
    return f"{kept}-{digest}" if kept else f"x-{digest}"


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two JSON values differ, one readable line per difference, e.g. ``"images: 500 before, 200 now"``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines: list[str] = []
        for key in sorted({*old, *new}, key=str):
            where = f"{path}.{key}" if path else str(key)
            lines += differences(old.get(key, _Absent), new.get(key, _Absent), where)
        return lines
    if old is not _Absent and new is not _Absent and canonical_json(old) == canonical_json(new):
        return []
    return [f"{path or 'value'}: {_brief(old)} before, {_brief(new)} now"]


class _Absent:
    """Marks a key that is missing on one side."""


def _brief(value: Any) -> str:
    if value is _Absent:
        return "absent"
    text = json.dumps(value, ensure_ascii=True, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."
