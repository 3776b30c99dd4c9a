"""Perturbation-sensitive units: what the tables say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import of_task
from leaderboard.board.names import SIGNIFICANT
from leaderboard.view.content import Cell, Row, Section, Table, count_cell
from leaderboard.view.degradation import detector_tables
from leaderboard.view.responses import Responses, responses
from leaderboard.view.words import condition_name
from metrics.sensitivity import BAR, FOREIGN_BAR

EXAMPLES: Final = 4
"""Units that are shown of each family."""


def sensitivity_contents(
    units: pd.DataFrame, detectors: pd.DataFrame, labels: pd.DataFrame, facts: RunFacts
) -> list[Table]:
    """All tables: for each task the conditions, the families, the strongest units, the detectors.

    Args:
        units: Rows of ``leaderboard.store.analysis_schema.SENSITIVITY``.
        detectors: Rows of ``leaderboard.store.analysis_schema.DETECTORS``.
        labels: Rows of ``leaderboard.store.schema.LABELS``, for the names of the strongest units.
    """
    tables = []
    for found in responses(units):
        names = _names(labels, found, facts, facts.planted_from.get(found.task))
        # Where only a part of the image was changed there are no families to detect.
        tables += [
            table
            for table in (_conditions(found, facts), _families(found, facts), _strongest(found, names, facts))
            if table.rows
        ]
        if len(detectors):
            tables += detector_tables(found, of_task(detectors, found.task, found.profile), facts)
    return tables


def _conditions(found: Responses, facts: RunFacts) -> Table:
    sections = []
    for family in dict.fromkeys(found.families):
        rows = [_condition(found, number) for number in np.flatnonzero(found.inside(family)).tolist()]
        sections.append(Section(tuple(rows), family))
    images = sorted(set(found.images.tolist()))
    notes = [
        f"{len(found.units)} units, {' to '.join(map(str, (images[0], images[-1])[: len(images)]))} images, each clean "
        "and perturbed. AUROC: of any perturbed and any clean image, how often the perturbed one activates the unit "
        f"more. Rise, fall: units whose AUROC is at least {BAR:g}, or at most {1 - BAR:.1f}, and significant.",
        "Moved: share of units that respond to the perturbation at all (Wilcoxon's signed-rank test over the images, "
        f"p < {SIGNIFICANT:g} after Holm's correction over all units and conditions), however little.",
        "Strongest: the unit whose AUROC lies farthest from 0.5. Effect: Cohen's d, the mean difference by the "
        "standard deviation over images.",
    ]
    return Table(
        "sensitivity",
        found.task,
        found.profile,
        "Perturbation-sensitive units",
        "by condition",
        None,
        "Condition",
        ("moved", "rise", "fall", "strongest", "AUROC", "effect"),
        tuple(sections),
        (*notes, *facts.notes),
    )


def _condition(found: Responses, number: int) -> Row:
    auroc = found.auroc[number]
    moved = float((found.p_corrected[number] < SIGNIFICANT).mean())
    rise, fall = found.past_the_bar(number)
    counts = (Cell(moved), count_cell(int(rise.sum())), count_cell(int(fall.sum())))
    name = condition_name(*found.conditions[number])
    if np.isnan(auroc).all():
        return Row(name, (*counts, Cell(), Cell(), Cell()))
    best = int(np.nanargmax(np.abs(auroc - 0.5)))
    strongest = (
        count_cell(int(found.units[best])),
        Cell(float(auroc[best])),
        Cell(float(found.effect[number, best])),
    )
    return Row(name, (*counts, *strongest))


def _families(found: Responses, facts: RunFacts) -> Table:
    rows = []
    for family in found.whole_families:
        units = found.detection(family)
        counts = (units.detects, units.specific, units.detects & ~units.specific & ~units.general, units.general)
        rising = units.detects & units.rises
        cells = [count_cell(int(chosen.sum())) for chosen in (*counts, rising)]
        best = float(np.nanmax(units.own)) if not np.isnan(units.own).all() else np.nan
        rows.append(Row(family, (*cells, Cell(best))))
    return Table(
        "sensitive_families",
        found.task,
        found.profile,
        "Detectors of a family",
        "of perturbations among single units",
        None,
        "Family",
        ("detect", "specific", "leaning", "general", "rising", "best AUROC"),
        (Section(tuple(rows)),),
        (
            f"Detect: units that reach an AUROC of {BAR:g} in their direction, significantly, under a perturbation of "
            f"the family. Specific: all perturbations of other families stay below {FOREIGN_BAR:g} in this direction. "
            f"General: one reaches {BAR:g} as well. Leaning: in between. Rising: detectors that perturbed images "
            "activate more; the others, less.",
            *facts.notes,
        ),
    )


def _strongest(found: Responses, names: Mapping[int, str], facts: RunFacts) -> Table:
    sections = []
    for family in found.whole_families:
        units = found.detection(family)
        order = np.argsort(-np.nan_to_num(units.own, nan=-1.0), kind="stable")[:EXAMPLES]
        rows = []
        for place in order:
            unit, arrow = int(found.units[place]), "↑" if units.rises[place] else "↓"
            name = " ".join(filter(None, (str(unit), arrow, names.get(unit, ""))))
            means = [_mean(found, other, place, bool(units.rises[place])) for other in found.whole_families]
            own = Cell(float(units.own[place]), marked=bool(units.specific[place]))
            rows.append(Row(name, (own, Cell(float(units.foreign[place])), *means)))
        sections.append(Section(tuple(rows), family))
    columns = ("own", "other", *(f"mean {family}" for family in found.whole_families))
    return Table(
        "sensitive_units",
        found.task,
        found.profile,
        "Most sensitive units",
        "of each family",
        None,
        "Unit",
        columns,
        tuple(sections),
        (
            "AUROC in the unit's direction (↑ perturbed images activate it more, ↓ less). Own: the greatest under a "
            "perturbation of the family; other: the greatest of all other families; then the mean over each family's "
            f"conditions. * Specific detector: own at least {BAR:g}, other below {FOREIGN_BAR:g}. After the number: "
            "its labels on clean images, where it has any.",
            *facts.notes,
        ),
    )


def _mean(found: Responses, family: str, place: int, rises: bool) -> Cell:
    mean = float(found.auroc[found.inside(family), place].mean())
    return Cell(mean if rises else 1 - mean)


def _names(labels: pd.DataFrame, found: Responses, facts: RunFacts, planted_from: int | None) -> dict[int, str]:
    names: dict[int, list[str]] = {}
    if len(labels):
        own = of_task(labels, found.task, found.profile)
        clean = own.loc[
            ((own["perturbation"] == "clean") & (own["repeat"] == 0) & (own["rank"] == 1)).to_numpy()
            & ~own["method"].map(facts.is_floor).to_numpy(bool)
        ]
        for row in clean.sort_values("method").to_dict("records"):
            names.setdefault(int(row["unit"]), []).append(str(row["label"]))
    if planted_from:
        for unit in found.units[found.units >= planted_from].tolist():
            names.setdefault(unit, []).insert(0, "(planted)")
    return {unit: " / ".join(dict.fromkeys(texts)) for unit, texts in names.items()}
