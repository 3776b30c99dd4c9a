"""What ``run.json`` must look like for boards, pages and reports to read it; what they only print is not checked."""

from __future__ import annotations

from typing import Any, Final

_ANY: Final = "*"
"""Stands for every name that a mapping does not list."""

_NUMBER: Final = (int, type(None))

RUN: Final[dict[str, Any]] = {
    "created": str,
    "identity": dict,
    "identity_hash": str,
    "sessions": [{"started": str, "facts": dict, "packages": dict, "licences": dict}],
    "facts": {
        "profile": {"note": str, "description": str, "licences": [[object, object, object]]},
        "tasks": {
            _ANY: {
                "version": int,
                "images": _NUMBER,
                "units": {"first": int, "total": _NUMBER, "label": (int, str)},
                "licences": dict,
                "suites": {_ANY: [[str, int]]},
            }
        },
        _ANY: dict,
    },
}
"""Type, or types, of a value; a mapping by its names; a list of one shape; or a list of several, one per item."""


def misfit(value: Any, shape: Any, place: str = "") -> str | None:
    """Where a value first differs from a shape, e.g. ``facts.tasks``; None where it nowhere does.

    Names that a mapping lacks are no misfit: older runs did not have all of them.
    """
    if isinstance(shape, dict):
        parts = value.items() if isinstance(value, dict) else None
        shapes = {} if parts is None else {name: shape.get(name, shape.get(_ANY, object)) for name in value}
    elif isinstance(shape, list):
        parts = enumerate(value) if isinstance(value, list) and len(shape) in (1, len(value)) else None
        shapes = {} if parts is None else {n: shape[n % len(shape)] for n in range(len(value))}
    else:
        return None if isinstance(value, shape) else place
    if parts is None:
        return place
    found = (misfit(part, shapes[name], f"{place}.{name}".lstrip(".")) for name, part in parts)
    return next((one for one in found if one is not None), None)
