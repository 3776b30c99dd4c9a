"""CLEAR: the command line, and from Python ``run``, ``label`` and ``load`` (docs/python.md).

Nothing heavy is imported before one of them is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmark.api import label, run
    from benchmark.results import Run, load

__all__ = ["Run", "label", "load", "run"]


def __getattr__(name: str) -> Any:
    if name in ("label", "run"):
        from benchmark import api

        return getattr(api, name)
    if name in ("Run", "load"):
        from benchmark import results

        return getattr(results, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
