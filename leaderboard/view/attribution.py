"""Who moved, the network or the pictures: what the tables say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
import pandas as pd

from leaderboard.board.bottlenecks import conditions_in_order
from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import Condition
from leaderboard.board.intervals import share_interval, unit_weights
from leaderboard.view.content import Cell, Row, Section, Table, cell_of
from leaderboard.view.words import condition_name, count_range
from metrics.attribution import Attribution, Contributions, Corners, attribution, contributions, mean_contributions

MEASURES: Final = ("accuracy", "stability")

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
    "at least 0.9). Right about clean: the label found on perturbed images names what the unit does on clean ones; "
    "right about now: it names what the unit does on the perturbed ones, of those that then do something known. The "
    "last two columns: units that still do the same, with labels found clean and perturbed. 95 % intervals over units "
    "(Wilson; bootstrap for the mean)."
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
    for names, rows in table.groupby(["task", "profile"], sort=False):
        task, profile = cast(tuple[str, str], names)
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
    """For each task one table per method, and one of what units still do.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.ATTRIBUTION``.
        facts: Of their run.
    """
    methods: dict[tuple[str, str], dict[str, list[Blame]]] = {}
    for blame in blames(table, facts):
        methods.setdefault((blame.task, blame.profile), {}).setdefault(blame.method, []).append(blame)
    found = []
    for place, own in methods.items():
        found += [_table(place, method, measures, facts) for method, measures in own.items()]
        found += _truths(table, place, tuple(own), facts)
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


def _table(place: tuple[str, str], method: str, measures: Sequence[Blame], facts: RunFacts) -> Table:
    sections = []
    for blame in measures:
        rows = [
            Row(condition_name(*one), _cells(found)) for one, found in zip(blame.conditions, blame.each, strict=True)
        ]
        words = count_range([one.loss.n for one in blame.each], "units")
        sections.append(Section((*rows, Row("mean", _cells(blame.mean))), f"{blame.measure}, {words}"))
    return Table(
        f"attribution_{method}",
        *place,
        "Who moved, the network or the pictures",
        f"for labels of {method}",
        None,
        "Condition",
        _COLUMNS,
        tuple(sections),
        (_PARTS, _INTERVALS, *facts.notes),
    )


def _cells(found: Attribution) -> tuple[Cell, ...]:
    network, pictures = (
        Cell(one.estimate, one.low, one.high, marked=to_blame(found) == name)
        for name, one in (("network", found.network), ("pictures", found.pictures))
    )
    return cell_of(found.loss), network, pictures, cell_of(found.interaction), cell_of(found.share)


# ---- what units do under the perturbation ----


def _truths(table: pd.DataFrame, place: tuple[str, str], methods: Sequence[str], facts: RunFacts) -> Iterator[Table]:
    rows = table.loc[table["task"].eq(place[0]).to_numpy() & table["profile"].eq(place[1]).to_numpy()]
    if not rows["truth"].notna().any():
        return
    sections = []
    for method in methods:
        own = rows.loc[rows["method"].eq(method).to_numpy()]
        sections.append(Section(tuple(_truth_rows(own, facts.seed)), method))
    columns = ("same", "right about clean", "right about now", "same: clean label", "same: perturbed label")
    subject = "and whether labels found then name it"
    title = "What units do on perturbed images"
    yield Table("attribution_truth", *place, title, subject, True, "Condition", columns, tuple(sections),
                (_TRUTH, *facts.notes))  # fmt: skip


def _truth_rows(own: pd.DataFrame, seed: int) -> Iterator[Row]:
    before = own.loc[own["perturbation"].eq("clean").to_numpy()].set_index("unit")
    clean = _numbers(before["right"])
    shares: list[tuple[np.ndarray, ...]] = []
    for name, severity in conditions_in_order(own):
        here = own["perturbation"].eq(name) & own["severity"].eq(severity) & own["perturbed"].eq("both")
        if not severity:
            continue
        rows = own.loc[here.to_numpy()].set_index("unit").reindex(before.index)
        same = np.where(rows["truth"].isna(), np.nan, rows["truth"].eq(rows["truth_now"]).to_numpy(np.float64))
        kept = same == 1
        now = _numbers(rows["right"])
        shares.append(
            (same, now, _numbers(rows["right_now"]), np.where(kept, clean, np.nan), np.where(kept, now, np.nan))
        )
        yield Row(condition_name(name, severity), tuple(cell_of(share_interval(one, seed)) for one in shares[-1]))
    means = (_mean(np.stack(column)) for column in zip(*shares, strict=True))
    yield Row("mean", tuple(cell_of(share_interval(one, seed)) for one in means))


def _numbers(flags: pd.Series) -> np.ndarray:
    return flags.astype("Float64").to_numpy(np.float64, na_value=np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """Each unit's mean over the conditions in which it has a value."""
    present = ~np.isnan(values)
    counts = present.sum(axis=0)
    return np.divide(np.nansum(values, axis=0), counts, out=np.full(values.shape[1], np.nan), where=counts > 0)
