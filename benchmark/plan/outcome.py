"""Planned and actual amounts of a run, in its folder and in two lines at its end."""

from __future__ import annotations

from typing import Any

from baselines.costs import Amount
from benchmark.core.display import Display
from benchmark.plan.count import RunCount, amount_facts
from benchmark.plan.language import money
from benchmark.plan.tally import CountedRoles
from leaderboard.store.run_folder import RunFolder
from report.plan import outcome_lines

_LANGUAGE = {"language_calls": "requests", "prompt_tokens": "prompt_tokens", "completion_tokens": "completion_tokens"}
"""Name in a plan → name in the usage of a language model."""


def record_outcome(folder: RunFolder, count: RunCount, roles: CountedRoles, display: Display) -> None:
    """Record planned and actual amounts of a session under ``plan`` in ``run.json``, and show them.

    ``sessions`` gets one entry: ``planned``, each with ``expected`` and ``most`` (null where unknown), and ``actual``:
    ``cells`` (failed ones included), ``images``, ``target``, ``clip``, ``captioned`` and ``generated`` images,
    ``language_calls``, ``prompt_tokens``, ``completion_tokens``, ``usd`` and ``seconds`` by stage. Nothing is recorded
    for a session in which everything was already done.

    Args:
        folder: The run folder, open for writing.
        count: The work left at the start of the session.
    """
    if not count.cells[1]:
        return
    before = folder.info()["facts"].get("plan", {}).get("sessions", [])
    session = {"planned": _planned(count, roles), "actual": _actual(roles, display, before)}
    folder.record("plan", {"sessions": [*before, session]})
    for line in outcome_lines(session):
        display.message(line)


def _planned(count: RunCount, roles: CountedRoles) -> dict[str, Any]:
    total = count.total
    usd: Amount = money(roles.profile, total.prompt_tokens, total.completion_tokens)["usd"]
    images = sum(task.work.images for task in count.tasks)
    return total.facts() | {"images": amount_facts(Amount.of(images)), "usd": amount_facts(usd, 4)}


def _actual(roles: CountedRoles, display: Display, before: list[dict[str, Any]]) -> dict[str, Any]:
    units = display.units()
    counts = {name: units.get(name, 0) for name in ("cells", "images")}
    counts |= {name: roles.tally[name] for name in ("target", "clip", "captioned", "generated")}
    usage = roles.language_usage() or dict.fromkeys([*_LANGUAGE.values(), "usd"], 0)
    # The usage covers all sessions.
    spent = {name: usage[key] - sum(s["actual"][name] for s in before) for name, key in _LANGUAGE.items()}
    paid = [session["actual"]["usd"] for session in before]
    usd = None if usage["usd"] is None or None in paid else usage["usd"] - sum(paid)
    seconds = {stage: round(value, 3) for stage, value in display.seconds().items()}
    return {**counts, **spent, "usd": usd, "seconds": seconds}
