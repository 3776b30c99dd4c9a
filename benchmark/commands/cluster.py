"""``cluster``: what the workers of a run do, from its folder alone."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.commands.console import json_text, say
from benchmark.core.progress import duration
from tasks.common.errors import UserError

_SLOW = 1.5
"""A worker is slow if it takes so many times as long as all of them do for the same kinds of items."""
_EVERY = 2.0
_SILENT = 60.0
"""Seconds after which a driver that has not ended is no longer believed to run."""


def cluster(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every two seconds until the cells are done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the workers of a run on a cluster: what they do, what is left, who is slow, what was lost."""
    while True:
        facts = _read(run / "cluster" / "cluster.json")
        if as_json:
            typer.echo(json_text(facts))
        else:
            for line in lines(facts, time.time()):
                say(line)
        if facts["ended"] or not watch:
            return
        time.sleep(_EVERY)
        say("")


def lines(facts: Mapping[str, Any], now: float) -> Iterator[str]:
    """What is known as lines of text.

    Args:
        facts: See ``benchmark.execution.status``.
        now: Seconds since 1970.
    """
    workers, since = facts["workers"], facts["updated"] - facts["started"]
    states = Counter(one["state"] for one in workers.values())
    left = _counted(facts["left"]) or "none"
    silent = now - facts["updated"]
    end = "ended" if facts["ended"] else f"{duration(max(silent, 0.0))} ago"
    yield f"Workers: {_counted(states)}. Items: {facts['begun']} begun, left: {left}. After {duration(since)}, {end}."
    if not facts["ended"] and silent > _SILENT:
        yield "The driver says nothing: it has ended, or its machine is frozen. The same command continues the run."
    means = _means(workers)
    for name, one in workers.items():
        done = sum(count for count, _ in one["done"].values())
        pace = _pace(one, means)
        slow = f", in {pace:.1f} times the time of all workers" if pace is not None and pace >= _SLOW else ""
        state = f"{one['state']} for {duration(max(now - one['since'], 0.0))}" + (
            f" ({one['why']})" if one["why"] else ""
        )
        doing = f": {one['item']}{_again(one)}" if one["item"] else ""
        yield f"{name} on {one['host'] or '?'}, {one['device'] or '?'}, {done} items{slow}, {state}{doing}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())


def _again(worker: Mapping[str, Any]) -> str:
    if worker["state"] != "lost":
        return ""
    if worker["again"] is None:
        return ", which waits for another worker"
    return f", begun again {duration(worker['again'] - worker['since'])} later"


def _means(workers: Mapping[str, Any]) -> dict[str, float]:
    """Kind of item → mean seconds of all workers."""
    total: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for one in workers.values():
        for kind, (count, seconds) in one["done"].items():
            total[kind] += count
            spent[kind] += seconds
    return {kind: spent[kind] / total[kind] for kind in total}


def _pace(worker: Mapping[str, Any], means: Mapping[str, float]) -> float | None:
    """A worker's seconds over those that its items take on average; None before it has done any."""
    expected = sum(count * means[kind] for kind, (count, _) in worker["done"].items())
    return sum(seconds for _, seconds in worker["done"].values()) / expected if expected else None


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
        list(lines(facts, 0.0))  # a file of another form is one that cannot be read
        return facts
    except FileNotFoundError:
        raise UserError(f"There is no {path}: the cells of this run were not computed with --executor ray.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}); the next run with --executor ray writes it anew."
        ) from error
