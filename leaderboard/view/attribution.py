"""Who moved, the network or the pictures: what the tables say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from leaderboard.board.bottlenecks import conditions_in_order
from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import Condition, by_task, of_task
from leaderboard.board.intervals import share_interval, unit_weights
from leaderboard.view.content import Cell, Row, Section, Table, cell_of
from leaderboard.view.words import condition_name, count, count_range
from metrics.attribution import Attribution, Contributions, Corners, attribution, contributions, mean_contributions

MEASURES: Final = ("accuracy", "stability")

_TITLE: Final = "Who moved, the network or the pictures"
_COLUMNS: Final = ("loss", "network", "pictures", "interaction", "network's share")
_PARTS: Final = (
    "Loss: the value on clean images minus that under the perturbation. Network: the part of it that is due to other "
    "activations and maps; pictures: the part that is due to other pixels, image embeddings and annotation (Shapley "
    "values of the two: they sum to the loss; below 0, labels get better). Interaction: what both cost together beyond "
    "the sum of each alone; half of it is in either part."
)
_INTERVALS: Final = (
    "95 % bootstrap intervals over units, not corrected for the number of conditions. Where the loss is significant, * "
    "marks the part that is significantly larger, and the network's share is given. Random draws are the same in all "
    "four labellings, so that a method's own noise is no part of the loss. A missing label is wrong, and has no "
    "stability."
)
_TRUTH: Final = (
    "Same: of the units of known truth, the share that still detect the same concept on the perturbed images (AUROC of "
    "at least 0.9). Right about now: the label found on perturbed images names what the unit detects on them, of the "
    "units that then detect something known; right about clean: it names what the unit detects on clean images. 95 % "
    "intervals over units (Wilson; bootstrap for means)."
)


@dataclass(frozen=True)
class Blame:
    """What one method's labels lose, and by whom, on one task.

    Attributes:
        measure: One of ``MEASURES``.
        conditions: The perturbed conditions, in the order of all tables.
        each: One per condition.
        mean: Over the conditions; each unit's mean first.
    """

    task: str
    profile: str
    method: str
    measure: str
    conditions: tuple[Condition, ...]
    each: tuple[Attribution, ...]
    mean: Attribution


def blames(table: pd.DataFrame, facts: RunFacts) -> Iterator[Blame]:
    """Task by task, method by method, for each measure that some unit has.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.ATTRIBUTION``.
        facts: Of their run; trivial baselines are left out.
    """
    for task, profile, rows in by_task(table):
        for method in facts.rivals(facts.ordered(set(rows["method"]))):
            own = rows.loc[rows["method"].eq(method).to_numpy()]
            conditions = tuple(one for one in conditions_in_order(own) if one[1])
            for measure in MEASURES:
                parts = _contributions(own, "right" if measure == "accuracy" else measure, conditions)
                if not parts or all(np.isnan(part.loss).all() for part in parts):
                    continue
                weights = unit_weights(len(parts[0].loss), np.random.default_rng(facts.seed))
                each = tuple(attribution(part, weights) for part in parts)
                mean = attribution(mean_contributions(parts), weights)
                yield Blame(task, profile, method, measure, conditions, each, mean)


def to_blame(found: Attribution) -> Literal["network", "pictures", ""]:
    """Who has significantly more of a significant loss; empty if neither has, or nothing is lost."""
    if not found.loss.low > 0:
        return ""
    return "network" if found.difference.low > 0 else "pictures" if found.difference.high < 0 else ""


def attribution_contents(table: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """For each task the means over the conditions, one table per method, and one of what units detect.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.ATTRIBUTION``.
    """
    tasks: dict[tuple[str, str], list[Blame]] = {}
    for blame in blames(table, facts):
        tasks.setdefault((blame.task, blame.profile), []).append(blame)
    found = []
    for place, own in tasks.items():
        found += [_means(place, own, facts), *_methods(place, own, facts)]
        found += _truths(table, place, tuple(dict.fromkeys(blame.method for blame in own)), facts)
    return found


def _contributions(rows: pd.DataFrame, column: str, conditions: Sequence[Condition]) -> list[Contributions]:
    wide = _wide(rows, column)
    if ("clean", 0, "nothing") not in wide:
        return []
    nothing = wide["clean", 0, "nothing"].to_numpy(np.float64)
    return [
        contributions(
            Corners(nothing, *(wide[(*condition, moved)].to_numpy(np.float64) for moved in Corners._fields[1:]))
        )
        for condition in conditions
    ]


def _wide(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Units × (perturbation, severity, what is perturbed)."""
    values = rows.assign(value=rows[column].astype("Float64").to_numpy(np.float64, na_value=np.nan))
    keyed = values.set_index(["unit", "perturbation", "severity", "perturbed"])["value"]
    return cast(pd.DataFrame, keyed.unstack(["perturbation", "severity", "perturbed"]))


def _means(place: tuple[str, str], found: Sequence[Blame], facts: RunFacts) -> Table:
    sections = []
    for measure in MEASURES:
        own = [blame for blame in found if blame.measure == measure]
        if own:
            words = f"{measure}, {count_range([blame.mean.loss.n for blame in own], 'units')}"
            sections.append(Section(tuple(Row(blame.method, _cells(blame.mean)) for blame in own), words))
    subject = f"(mean over {count(len(found[0].conditions), 'condition')})"
    return Table("attribution", *place, _TITLE, subject, None, "Method", _COLUMNS, tuple(sections),
                 (_PARTS, _INTERVALS, *facts.notes))  # fmt: skip


def _methods(place: tuple[str, str], found: Sequence[Blame], facts: RunFacts) -> Iterator[Table]:
    """Condition by condition, a table for each method."""
    for method in dict.fromkeys(blame.method for blame in found):
        sections = tuple(
            Section(
                tuple(
                    Row(condition_name(*one), _cells(each)) for one, each in zip(own.conditions, own.each, strict=True)
                ),
                own.measure,
            )
            for own in found
            if own.method == method
        )
        subject = f"(each condition, labels of {method})"
        yield Table(f"attribution_{method}", *place, _TITLE, subject, None, "Condition", _COLUMNS, sections,
                    (_INTERVALS, *facts.notes))  # fmt: skip


def _cells(found: Attribution) -> tuple[Cell, ...]:
    network, pictures = (
        Cell(one.estimate, one.low, one.high, marked=to_blame(found) == name)
        for name, one in (("network", found.network), ("pictures", found.pictures))
    )
    return cell_of(found.loss), network, pictures, cell_of(found.interaction), cell_of(found.share)


# ---- what units do under the perturbation ----


@dataclass(frozen=True)
class _Truths:
    """One method's verdicts, [conditions, units]; NaN where there is none.

    Attributes:
        same: The unit still detects the same concept.
        clean: The label with nothing perturbed is right.
        perturbed: The label under the condition is right about what the unit detects on clean images.
        now: It is right about what the unit detects under the condition.
    """

    same: Float[np.ndarray, "conditions units"]
    clean: Float[np.ndarray, "conditions units"]
    perturbed: Float[np.ndarray, "conditions units"]
    now: Float[np.ndarray, "conditions units"]


def _truths(table: pd.DataFrame, place: tuple[str, str], methods: Sequence[str], facts: RunFacts) -> Iterator[Table]:
    rows = of_task(table, *place)
    if not rows["truth"].notna().to_numpy().any():
        return
    conditions = [one for one in conditions_in_order(rows) if one[1]]
    found = [_verdicts(rows.loc[rows["method"].eq(method).to_numpy()], conditions) for method in methods]

    def row(name: str, *values: Float[np.ndarray, " units"]) -> Row:
        blank = (Cell(),) * (1 + len(found) - len(values))
        return Row(name, (*blank, *(cell_of(share_interval(one, facts.seed)) for one in values)))

    now = [
        row(condition_name(*one), found[0].same[number], *(own.now[number] for own in found))
        for number, one in enumerate(conditions)
    ]
    means = [row("right about now", _mean(found[0].same), *(_mean(own.now) for own in found))]
    means += [
        row("right about clean", *(_mean(own.perturbed) for own in found)),
        row("same units, clean label", *(_mean(np.where(own.same == 1, own.clean, np.nan)) for own in found)),
        row("same units, perturbed label", *(_mean(np.where(own.same == 1, own.perturbed, np.nan)) for own in found)),
    ]
    sections = (Section(tuple(now), "right about now"), Section(tuple(means), "mean over the conditions"))
    yield Table("attribution_truth", *place, "What units detect on perturbed images", "and whether labels say so", None,
                "Condition", ("same", *methods), sections, (_TRUTH, *facts.notes))  # fmt: skip


def _verdicts(own: pd.DataFrame, conditions: Sequence[Condition]) -> _Truths:
    before = own.loc[own["perturbation"].eq("clean").to_numpy()].set_index("unit")
    parts = []
    for name, severity in conditions:
        here = own["perturbation"].eq(name) & own["severity"].eq(severity) & own["perturbed"].eq("both")
        rows = own.loc[here.to_numpy()].set_index("unit").reindex(before.index)
        same = np.where(rows["truth"].isna(), np.nan, rows["truth"].eq(rows["truth_now"]).to_numpy(np.float64))
        parts.append((same, *(_numbers(one) for one in (before["right"], rows["right"], rows["right_now"]))))
    return _Truths(*(np.stack(column) for column in zip(*parts, strict=True)))


def _numbers(flags: pd.Series) -> np.ndarray:
    return flags.astype("Float64").to_numpy(np.float64, na_value=np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Each unit's mean over the conditions in which it has a value."""
    present = ~np.isnan(values)
    counts = present.sum(axis=0)
    return np.divide(np.nansum(values, axis=0), counts, out=np.full(values.shape[1], np.nan), where=counts > 0)
