"""What readers know of a run besides its tables, read off its ``run.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class RunFacts:
    """What tables, pages and figures must know of the run whose numbers they show.

    Attributes:
        seed: The run's own; its intervals and tests are drawn with it.
        note: The profile's sentence that everything made with it carries; empty without one.
    """

    seed: int = 0
    note: str = ""


def run_facts(info: Mapping[str, Any]) -> RunFacts:
    """The facts of one run.

    Args:
        info: Its ``run.json``.
    """
    profile: Mapping[str, Any] = info["facts"].get("profile", {})
    return RunFacts(int(info["identity"]["seed"]), str(profile.get("note") or ""))
