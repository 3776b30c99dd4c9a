"""What a run will cost, and what it cost, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table as RichTable
from rich.text import Text

from leaderboard.store.escape import terminal
from leaderboard.view.content import Table, text_section, text_table
from leaderboard.view.terminal import terminal_table
from report.doctor import readable

_UNKNOWN = "unknown"
_COUNTS = {
    "target": "target passes",
    "clip": "CLIP passes",
    "captioned": "captions",
    "generated": "generated",
    "language_calls": "LM calls",
    "prompt_tokens": "tokens in",
    "completion_tokens": "tokens out",
}
"""Name in the plan → heading."""

_NOTHING = {"expected": 0, "most": 0}

_SHOWN = 6
"""Stages whose time is reported when a run ends."""


def terminal_plan(facts: Mapping[str, Any]) -> list[RichTable | Text]:
    """Tables of what is left to do and how long it takes, then a few lines.

    Args:
        facts: As ``benchmark.plan.make.make_plan`` gives them.
    """
    lines = [*_lines(facts), *(f"Note: {note}" for note in facts["notes"])]
    tables = [_work_table(facts), *([_time_table(facts["seconds"])] if facts["seconds"]["stages"] else [])]
    return [*map(terminal_table, tables), *(Text(terminal(line)) for line in lines)]


def outcome_lines(session: Mapping[str, Any]) -> list[str]:
    """What a session did against what was planned, and where its time went.

    Args:
        session: As ``benchmark.plan.outcome`` records it.
    """
    planned, actual = session["planned"], session["actual"]
    headings = {"cells": "cells", "images": "images", **_COUNTS}
    parts = [
        f"{heading} {_n(actual[name])} of {_amount(planned[name])}"
        for name, heading in headings.items()
        if actual[name] or planned[name] != _NOTHING
    ]
    if planned["usd"] != _NOTHING:
        parts.append(
            f"{_UNKNOWN if actual['usd'] is None else format(actual['usd'], '.4f')} USD of {_usd(planned['usd'])}"
        )
    slowest = sorted(actual["seconds"].items(), key=lambda item: -item[1])[:_SHOWN]
    times = ", ".join(f"{stage} {_time(seconds)}" for stage, seconds in slowest)
    return [f"done of planned: {', '.join(parts)}", f"time: {times}"]


def _work_table(facts: Mapping[str, Any]) -> Table:
    used = {name: heading for name, heading in _COUNTS.items() if facts["total"][name] != _NOTHING}

    def row(name: str, counts: Mapping[str, Any], *first: str) -> tuple[str, ...]:
        return (name, *first, *("" for _ in range(4 - len(first))), *(_amount(counts[key]) for key in used))

    own = []
    for task in facts["tasks"]:
        cells, done = (sum(method[name] for method in task["methods"].values()) for name in ("cells", "done"))
        own.append(row(task["name"], task["counts"], _n(cells), _n(done), _n(task["passes"]), _n(task["images"])))
        own += [row(f"  {name}", one, _n(one["cells"]), _n(one["done"])) for name, one in task["methods"].items()]
    shared = []
    if "captioned" in used and facts["shared"]["captioned"] != _NOTHING:
        captions = {key: facts["shared"][key] if key == "captioned" else _NOTHING for key in used}
        shared.append(row("captions of all images", captions))
    if facts["faithfulness"]["labels"]["most"]:
        shared.append(row("faithfulness", facts["faithfulness"]))
    for analysis in facts.get("analyses", ()):
        several = len(facts["tasks"]) > 1
        shared.append(row(f"{analysis['name']}, {analysis['task']}" if several else analysis["name"], analysis))
    total = row("total", facts["total"], _n(facts["cells"]["all"]), _n(facts["cells"]["done"]))
    heads = ("work", "cells", "done", "passes", "images", *used.values())
    return text_table("plan", "", heads, map(text_section, (own, [*shared, total])))


def _time_table(seconds: Mapping[str, Any]) -> Table:
    known = {stage: value for stage, value in seconds["stages"].items() if value is None or value >= 0.05}
    slowest = sorted(known.items(), key=lambda item: -math.inf if item[1] is None else -item[1])
    whole, basis = seconds["total"], seconds.get("basis", {})
    stages = [
        (stage, _time(value), f"{value / whole:.0%}" if whole and value is not None else "", basis.get(stage, ""))
        for stage, value in slowest
    ]
    rows = (stages, [("total", _time(whole), "", "")])
    return text_table("time", "", ("stage", "time on this machine", "share", "measured on"), map(text_section, rows))


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    if any(amount["expected"] != amount["most"] for amount in facts["total"].values()):
        yield "Passes and captions are images. a ≤ b: a are expected, b are the most that can be."
    yield f"time: {_time(facts['seconds']['total'])}, by a probe of {_time(facts['seconds']['probe'])}"
    if facts["seconds"].get("busy"):
        yield (
            "Other processes use this machine: the times are by the processor's clock, for a run on the idle machine, "
            "and rather too long, since processes that share a processor also slow it down."
        )
    if "workers" in facts:
        yield _workers(facts["workers"])
    sizes = facts["bytes"]
    yield f"disk: run folder {_size(sizes['folder'])}, cache {_size(sizes['cache'])}"
    yield f"money: {_money(facts['money'])}"
    budget = facts["budget"]
    given = [f"{budget['usd']:g} USD"] if budget["usd"] else []
    given += [_time(budget["seconds"])] if budget["seconds"] else []
    if given:
        yield f"budget: {' and '.join(given)}"
    cells = facts["cells"]
    if cells["done"]:
        yield f"{facts['folder']} holds {_n(cells['done'])} of {_n(cells['all'])} cells: they are not counted again."
    else:
        yield f"run folder: {facts['folder']}"


def _workers(workers: Mapping[str, Any]) -> str:
    def told(one: Mapping[str, float | None]) -> str:
        share = _UNKNOWN if one["efficiency"] is None else f"{100 * one['efficiency']:.0f} %"
        return f"{_time(one['seconds'])}, efficiency {share}"

    return (
        f"{_n(workers['count'])} equal workers: {told(workers['cells'])}, where each takes whole cells, as processes "
        f"of this command do; {told(workers['blocks'])}, if they share cells by units and concepts"
    )


def _money(money: Mapping[str, Any]) -> str:
    if money["model"] is None:
        return "0 USD, nothing here is paid for"
    parts = [f"{_usd(money['usd'])} for {money['model']}"]
    price = money["price"]
    if price is None:
        parts.append("its price is not in the table")
    else:
        parts.append(
            f"{price['input']:g} and {price['output']:g} USD for a million tokens in and out, "
            f"as of {price['as_of']} ({price['source']})"
        )
    parts.append("no cap" if money["cap"] is None else f"cap {money['cap']:g} USD")
    if money["spent"] != 0:
        parts.append(f"spent so far: {_UNKNOWN if money['spent'] is None else format(money['spent'], '.4f') + ' USD'}")
    return "; ".join(parts)


def _usd(amount: Mapping[str, float | None]) -> str:
    expected, most = amount["expected"], amount["most"]
    if most is None:
        return _UNKNOWN if expected is None else f"about {expected:.2f} USD, at most {_UNKNOWN}"
    return f"at most {most:.2f} USD" if expected is None else f"about {expected:.2f} USD, at most {most:.2f}"


def _amount(amount: Mapping[str, float | None]) -> str:
    expected, most = amount["expected"], amount["most"]
    if expected == most:
        return _UNKNOWN if most is None else _n(most)
    if expected is None:
        return f"≤ {_n(most)}"
    return f"{_n(expected)} ≤ {_UNKNOWN if most is None else _n(most)}"


def _n(number: float | None) -> str:
    return _UNKNOWN if number is None else f"{number:,.0f}"


def _size(size: float | None) -> str:
    return _UNKNOWN if size is None else readable(round(size))


def _time(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 59.5:
        return f"{minutes:.0f} min"
    return f"{minutes // 60:.0f} h {minutes % 60:02.0f} min" if minutes < 48 * 60 else f"{minutes / 1440:.1f} days"
