"""Detectors of degraded images: the tables of how well they do on what they have not seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.view.content import Cell, Row, Section, Table
from leaderboard.view.responses import Responses
from leaderboard.view.words import condition_name

MOST: Final = 64
"""Units of the detectors that stand for all sizes, or the next smaller size there is."""


def detector_tables(found: Responses, rows: pd.DataFrame, facts: RunFacts) -> Iterator[Table]:
    """The detectors of one task by their size, on families they have not seen, and trained on one perturbation each.

    Args:
        found: The units' responses, for the order of conditions.
        rows: The task's rows of ``leaderboard.store.analysis_schema.DETECTORS``.
    """
    unseen = rows.loc[rows["trained_on"].str.startswith("all").to_numpy()]
    if len(unseen):
        yield _by_size(found, unseen, facts)
    single = rows.loc[~rows["trained_on"].str.startswith("all").to_numpy() & (rows["perturbation"] == "all").to_numpy()]
    if len(single):
        yield _transfer(found, single, facts)


def _by_size(found: Responses, rows: pd.DataFrame, facts: RunFacts) -> Table:
    counts = sorted(rows["count"].unique().tolist())
    most = max((count for count in counts if count <= MOST), default=counts[-1])
    cells = {
        (
            row["trained_on"] == "all",
            row["selection"],
            row["count"],
            row["family"],
            row["perturbation"],
            row["severity"],
        ): row
        for row in rows.to_dict("records")
    }

    def line(name: str, family: str, perturbation: str, severity: int) -> Row:
        chosen = [
            *((False, "best", count) for count in counts),
            (False, "random", most),
            (True, "best", most),
        ]
        found_cells = (cells.get((*key, family, perturbation, severity)) for key in chosen)
        return Row(
            name, tuple(Cell() if row is None else Cell(row["auroc"], row["low"], row["high"]) for row in found_cells)
        )

    sections = [
        Section(
            (
                *(
                    line(condition_name(*condition), family, *condition)
                    for number, condition in enumerate(found.conditions)
                    if found.families[number] == family
                ),
                line(f"mean of {family}", family, "all", 0),
            ),
            family,
        )
        for family in found.whole_families
    ]
    return Table(
        "degradation",
        found.task,
        found.profile,
        "Detecting degraded images",
        "of an unseen family",
        True,
        "Tested on",
        (*(f"best {count}" for count in counts), f"random {most}", f"seen, {most}"),
        tuple(sections),
        (
            "AUROC of a linear discriminant on the most sensitive units, with its 95 % bootstrap interval over images. "
            "Units are chosen and the detector is fitted on other images (five folds, an image's versions together) "
            f"and without any perturbation of the tested family. Random: any {most} units. Seen: trained on all "
            "perturbations, still on other images.",
            *facts.notes,
        ),
    )


def _transfer(found: Responses, rows: pd.DataFrame, facts: RunFacts) -> Table:
    cells = {(row["trained_on"], row["family"]): row for row in rows.to_dict("records")}
    count = int(rows["count"].iloc[0])
    trained = [name for name in (condition_name(*one) for one in found.conditions) if any(k[0] == name for k in cells)]
    lines = []
    for name in trained:
        own = (cells.get((name, family)) for family in found.whole_families)
        lines.append(
            Row(name, tuple(Cell() if row is None else Cell(row["auroc"], row["low"], row["high"]) for row in own))
        )
    return Table(
        "degradation_transfer",
        found.task,
        found.profile,
        "Detecting degraded images",
        "after training on one perturbation",
        True,
        "Trained on",
        found.whole_families,
        (Section(tuple(lines)),),
        (
            f"Mean AUROC over each family's conditions but the one trained on, by the {count} most sensitive units; "
            "otherwise as in the table of unseen families.",
            *facts.notes,
        ),
    )
