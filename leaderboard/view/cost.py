"""Right labels per cost: what the table says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from leaderboard.board.cost import ACCURACIES, Cost, costs
from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task
from leaderboard.view.content import Cell, Row, Section, Table, cell_of
from leaderboard.view.words import printed


def cost_contents(summary: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """One table per task and profile; none where no truth or no time is known.

    Args:
        summary: Rows of ``leaderboard.store.schema.SUMMARY``.
    """
    found = ((task, profile, costs(summary, facts, task, profile)) for task, profile, _ in by_task(summary))
    return [_table(task, profile, own, facts) for task, profile, own in found if own]


def _table(task: str, profile: str, found: Sequence[Cost], facts: RunFacts) -> Table:
    right = tuple(
        Row(f"s per right label, {name}", tuple(_seconds(_per_right(one, name)) for one in found))
        for name in ACCURACIES
    )
    rows = (
        Row("s per label", tuple(_seconds(one.seconds) for one in found)),
        *(
            Row(words, tuple(replace(cell_of(one.accuracy[name]), marked=name in one.front) for one in found))
            for name, words in ACCURACIES.items()
        ),
        *right,
    )
    return Table(
        "cost",
        task,
        profile,
        "Right labels per cost",
        "of unit labels",
        None,
        "",
        tuple(one.method for one in found),
        (Section(rows),),
        (
            "Seconds to label one unit once, as measured in the run on its machine, without the pass of the images "
            "through network and CLIP, which methods share, and without what the run’s cache already held. Perturbed: "
            "mean over all conditions that ran.",
            "* On the Pareto front: no other method is at least as right and as cheap; trivial baselines aside. "
            "Brackets: 95 % intervals as in the table of accuracy.",
            _money(facts),
            *facts.notes,
        ),
    )


def _per_right(one: Cost, measure: str) -> float:
    share = one.accuracy[measure].estimate
    return one.seconds / share if share > 0 else math.nan


def _seconds(seconds: float) -> Cell:
    """With two significant figures below a second, where methods differ by powers of ten."""
    return Cell(seconds, digits=2 if math.isnan(seconds) or seconds >= 0.1 else 1 - math.floor(math.log10(seconds)))


def _money(facts: RunFacts) -> str:
    if math.isnan(facts.usd):
        return "What language models cost is unknown."
    return f"Language models cost {printed(facts.usd, 4)} USD in all." if facts.usd else "No language model was paid."
