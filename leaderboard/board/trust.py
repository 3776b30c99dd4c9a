"""What signals that need no truth are worth: how well each tells a method's right labels from its wrong ones.

The truth is used for the verdicts only, never for a signal. A unit counts if its truth is known, it is not dead and it
has a label: a missing label is neither right nor wrong here, since there is nothing to trust.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd

from leaderboard.board.bottlenecks import conditions_in_order
from leaderboard.board.facts import RunFacts, merged
from leaderboard.board.groups import Condition
from leaderboard.board.intervals import unit_weights
from leaderboard.board.merge import Group, Runs
from leaderboard.store.errors import StoreError
from leaderboard.store.schema import FAITHFULNESS
from metrics.statistics import Interval, wilson_interval
from metrics.text import normalise
from metrics.trust import STABLE, Pair, Worth, best_pair, mean_worth, worth

SIGNALS: Final = {
    "stability": "stability",
    "worst_stability": "worst stability",
    "exact": "identical label",
    "noise_floor": "noise floor",
    "evidence_overlap": "evidence overlap",
    "activation_correlation": "activation correlation",
    "own_score": "own score",
    "margin": "margin over runner-up",
    "agreement": "agreement of methods",
    "cosy_auc": "CoSy AUC",
    "cosy_mad": "CoSy MAD",
    "dma": "DMA",
    "activation_rate": "activation rate",
    "f1": "F1",
    "iou": "IoU",
    "correlation": "correlation",
    "cosine": "cosine",
    "auprc": "AUPRC",
    "simulation_correlation": "simulation correlation",
    "simulation_by_annotation": "simulation by annotation",
    "clarity": "clarity",
    "redundancy": "redundancy",
    "polysemanticity": "polysemanticity",
    "monosemanticity": "monosemanticity",
}
"""Signal → heading. Of a clean label the first, third, fifth and sixth are means over the perturbed conditions."""

KINDS: Final = {"": "all", "single": "single", "and": "AND", "or": "OR"}
"""Kind of truth → heading; all units first."""

_OVER_CONDITIONS: Final = ("stability", "exact", "evidence_overlap", "activation_correlation")
_FAITHFULNESS: Final = tuple(column.name for column in FAITHFULNESS.columns if column.name in SIGNALS)
_CELL: Final = ["method", "unit", "perturbation", "severity"]
_UNIT: Final = ["method", "unit"]

KNOWN_BEFORE: Final = tuple(name for name in SIGNALS if name not in {*_OVER_CONDITIONS, "worst_stability"})
"""The signals that need no perturbed image."""


@dataclass(frozen=True)
class Labels:
    """Labels with their verdicts and signals.

    Attributes:
        clean: One row per method and unit: ``kind`` of its truth, ``right`` (1, 0) and the columns of ``SIGNALS``.
        perturbed: The same per condition, of the label under it; without ``worst_stability``.
        every: As ``clean``, with the units whose truth is unknown: their labels have a stability.
    """

    clean: pd.DataFrame
    perturbed: pd.DataFrame
    every: pd.DataFrame
    facts: RunFacts

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """The perturbed conditions in the order of all tables."""
        return tuple(conditions_in_order(self.perturbed)) if len(self.perturbed) else ()

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Without trivial baselines."""
        return self.facts.ordered(set(self.clean["method"]))

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of truth; all units first, and nothing else if all have one kind."""
        found = [kind for kind in KINDS if kind in set(self.clean["kind"])]
        return ("", *found) if len(found) > 1 else ("",)


@dataclass(frozen=True)
class Trust:
    """What the signals of one method's labels are worth, for units of one kind of truth.

    Attributes:
        kind: See ``KINDS``.
        right: Number of right clean labels.
        wrong: Number of wrong ones.
        clean: Signal → AUROC of "the clean label is right".
        perturbed: Signal → AUROC of "the label under this condition is right", as mean over the conditions; empty for
            one kind of truth unless everything is asked for.
        by_condition: Condition → signal → AUROC; empty unless asked for.
        pair: The best pair for clean labels; None unless asked for.
        stable_wrong: Share of the wrong clean labels whose mean stability is above ``metrics.trust.STABLE``, of those
            that have one.
    """

    method: str
    kind: str
    right: int
    wrong: int
    clean: Mapping[str, Interval]
    perturbed: Mapping[str, Interval]
    by_condition: Mapping[Condition, Mapping[str, Interval]]
    pair: Pair | None
    stable_wrong: Interval

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON; absent numbers are null."""
        return {
            "method": self.method,
            "kind": KINDS[self.kind],
            "right": self.right,
            "wrong": self.wrong,
            "wrong_and_stable": _plain(self.stable_wrong, "share"),
            "clean": {name: _plain(one) for name, one in self.clean.items()},
            "perturbed": {name: _plain(one) for name, one in self.perturbed.items()},
            "by_condition": [
                {"perturbation": name, "severity": severity, **{signal: _plain(one) for signal, one in found.items()}}
                for (name, severity), found in self.by_condition.items()
            ],
            "pair": self.pair
            and {
                **_plain(self.pair.worth.interval),
                "chosen": [{"signals": list(pair), "folds": count} for pair, count in self.pair.chosen.items()],
            },
        }


def labels_with_signals(tables: Mapping[str, pd.DataFrame], facts: RunFacts) -> Labels:
    """The labels of a group of runs.

    Args:
        tables: ``scores``, ``labels`` and ``faithfulness``.
    """
    scores = tables["scores"]
    asked = ~scores["dead"].to_numpy(bool) & scores["repeat"].eq(0).to_numpy()
    asked &= scores["method"].isin(facts.rivals(scores["method"].unique())).to_numpy()
    living = scores.loc[asked]
    kind = living["truth_op"].fillna("single") if "truth_op" in living else "single"
    living = living.assign(kind=kind, exact=living["exact"].astype("Float64").to_numpy(np.float64, na_value=np.nan))
    extra = _of_cells(tables)
    is_clean, known = living["perturbation"].eq("clean").to_numpy(), living["truth"].notna().to_numpy()
    perturbed = _with(living.loc[~is_clean & known & living["label"].notna().to_numpy()], extra, _CELL)
    every = _with(living.loc[is_clean & living["clean_label"].notna().to_numpy()], extra, _CELL)
    # A label that is missing under a condition has no stability there; it does not change the mean of the others.
    over = living.loc[~is_clean].groupby(_UNIT)[list(_OVER_CONDITIONS)].mean()
    over["worst_stability"] = living.loc[~is_clean].groupby(_UNIT)["stability"].min()
    every = every.drop(columns=list(over.columns), errors="ignore").merge(over, how="left", on=_UNIT)
    for frame, name in ((every, "right_clean"), (perturbed, "right")):
        frame["right"] = frame[name].astype("Float64").to_numpy(np.float64, na_value=np.nan)
    clean = every.loc[every["truth"].notna().to_numpy()].reset_index(drop=True)
    return Labels(_columns(clean), _columns(perturbed), _columns(every), facts)


@dataclass(frozen=True)
class Subject:
    """One task, or all tasks of a profile together.

    Attributes:
        name: Of the task; the group's slug if the task has several groups; ``all tasks`` together.
        groups: Whose labels these are.
    """

    name: str
    profile: str
    groups: tuple[Group, ...]
    labels: Labels

    def as_json(self) -> dict[str, Any]:
        """What it is."""
        slugs = [group.slug for group in self.groups]
        return {"name": self.name, "profile": self.profile, "groups": slugs, "seed": self.labels.facts.seed}


def subjects(runs: Runs, task: str | None = None) -> list[Subject]:
    """Every group with a known truth, and all tasks of a profile together where it has several.

    Together are those of one seed; of several groups of a task the first, which is the newest version.

    Args:
        task: Only this one.

    Raises:
        StoreError: No run of such a task knows the truth.
    """
    judged = [(group, labels_with_signals(group.tables, group.about_run)) for group in runs.groups]
    judged = [(group, labels) for group, labels in judged if len(labels.clean) and task in (None, group.task)]
    if not judged:
        raise StoreError(
            f"No run here knows what the units{f' of {task}' if task else ''} should be called: nothing can be judged."
        )
    times = Counter((group.task, group.profile) for group, _ in judged)
    found = [
        Subject(group.task if times[group.task, group.profile] == 1 else group.slug, group.profile, (group,), labels)
        for group, labels in judged
    ]
    together: dict[tuple[str, int], dict[str, Subject]] = {}
    for (group, labels), subject in zip(judged, found, strict=True):
        together.setdefault((group.profile, labels.facts.seed), {}).setdefault(group.task, subject)
    several = Counter(profile for profile, _ in together)
    for (profile, seed), tasks in together.items():
        if len(tasks) > 1:
            groups = tuple(group for one in tasks.values() for group in one.groups)
            name = "all tasks" if several[profile] == 1 else f"all tasks, seed {seed}"
            found.append(Subject(name, profile, groups, _joined([one.labels for one in tasks.values()])))
    return found


def _joined(parts: Sequence[Labels]) -> Labels:
    """The labels of several tasks, whose units stay apart, under the conditions that all of them ran."""

    def frame(which: str) -> pd.DataFrame:
        frames = [getattr(part, which) for part in parts]
        apart = [own.assign(unit=[f"{number}:{unit}" for unit in own["unit"]]) for number, own in enumerate(frames)]
        return pd.concat(apart, ignore_index=True)

    perturbed = frame("perturbed")
    common = set.intersection(*(set(part.conditions) for part in parts))
    kept = [place in common for place in zip(perturbed["perturbation"], perturbed["severity"], strict=True)]
    perturbed = perturbed.loc[np.array(kept, dtype=bool)]
    return Labels(frame("clean"), perturbed, frame("every"), merged([part.facts for part in parts]))


def trust(labels: Labels, kinds: bool = True, everything: bool = False) -> list[Trust]:
    """What each signal is worth, method by method.

    Args:
        labels: From ``labels_with_signals`` or ``subjects``.
        kinds: Whether to split by kind of truth.
        everything: Also every condition, and the best pair of signals.
    """
    asked = labels.kinds if kinds else ("",)
    return [_trust(labels, method, kind, everything) for method in labels.methods for kind in asked]


def worth_of_stability(tables: Mapping[str, pd.DataFrame], facts: RunFacts) -> dict[str, Interval]:
    """Method → AUROC of "the clean label is right" by its mean stability; the board's column."""
    labels = labels_with_signals(tables, facts)
    found = {}
    for method in labels.methods:
        own = labels.clean.loc[labels.clean["method"].eq(method).to_numpy()]
        weights = unit_weights(len(own), np.random.default_rng(facts.seed))
        found[method] = worth(_values(own, "stability"), _values(own, "right"), weights).interval
    return found


def foretold(labels: Labels) -> dict[str, dict[str, Interval]]:
    """Method → signal → AUROC of "the clean label is stable" by what is known before any image is perturbed.

    A label is stable if its mean stability over the perturbed conditions is above ``metrics.trust.STABLE``. The units
    need no known truth.
    """
    found = {}
    for method in labels.facts.ordered(set(labels.every["method"])):
        own = labels.every.loc[labels.every["method"].eq(method).to_numpy()].sort_values("unit")
        stability = _values(own, "stability")
        stable = np.where(np.isnan(stability), np.nan, stability > STABLE)
        weights = unit_weights(len(own), np.random.default_rng(labels.facts.seed))
        found[method] = {name: worth(_values(own, name), stable, weights).interval for name in KNOWN_BEFORE}
    return found


def foretold_as_json(labels: Labels) -> dict[str, dict[str, Any]]:
    """``foretold`` as JSON; absent numbers are null."""
    return {method: {name: _plain(one) for name, one in own.items()} for method, own in foretold(labels).items()}


# ---- one method ----


def _trust(labels: Labels, method: str, kind: str, everything: bool) -> Trust:
    def mine(frame: pd.DataFrame) -> pd.DataFrame:
        here = frame["method"].eq(method).to_numpy()
        return frame.loc[here & frame["kind"].eq(kind).to_numpy() if kind else here]

    clean, perturbed = mine(labels.clean), mine(labels.perturbed)
    units = sorted(set(clean["unit"]) | set(perturbed["unit"]))
    weights = unit_weights(len(units), np.random.default_rng(labels.facts.seed))
    right, signals = _aligned(clean, units)
    found = {name: worth(values, right, weights).interval for name, values in signals.items()}
    conditions = _by_condition(perturbed, labels.conditions if everything or not kind else (), units, weights)
    # Packed runs hold the scores of clean labels alone, and give the same pages.
    left = {"worst_stability"} if everything else {"worst_stability", "own_score", "margin"}
    names = [name for name in SIGNALS if name not in left] if conditions else []
    means = {name: mean_worth([one[name] for one in conditions.values()]).interval for name in names}
    each = {place: {name: one.interval for name, one in own.items()} for place, own in conditions.items()}
    pair = best_pair(signals, right, weights, labels.facts.seed) if everything else None
    counts = int((right == 1).sum()), int((right == 0).sum())
    moving = signals["stability"][(right == 0) & ~np.isnan(signals["stability"])]
    stable = wilson_interval(int((moving > STABLE).sum()), len(moving))
    return Trust(method, kind, *counts, found, means, each if everything else {}, pair, stable)


def _by_condition(
    perturbed: pd.DataFrame, conditions: Sequence[Condition], units: Sequence[Any], weights: np.ndarray
) -> dict[Condition, dict[str, Worth]]:
    found = {}
    for condition in conditions:
        here = perturbed["perturbation"].eq(condition[0]) & perturbed["severity"].eq(condition[1])
        verdict, values = _aligned(perturbed.loc[here.to_numpy()], units)
        values.pop("worst_stability")
        found[condition] = {name: worth(one, verdict, weights) for name, one in values.items()}
    return found


def _aligned(frame: pd.DataFrame, units: Sequence[Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Verdicts, and each signal, in the order of the units; NaN where there is none."""
    own = frame.set_index("unit").reindex(units)
    return _values(own, "right"), {name: _values(own, name) for name in SIGNALS}


def _values(frame: pd.DataFrame, name: str) -> np.ndarray:
    return frame[name].to_numpy(np.float64, na_value=np.nan)


# ---- signals ----


def _of_cells(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Signals of the labels that are not in the scores, one row per method, unit and condition."""
    labels = tables["labels"].loc[tables["labels"]["repeat"].eq(0).to_numpy()]
    first, second = (labels.loc[labels["rank"].eq(rank).to_numpy()].set_index(_CELL)["score"] for rank in (1, 2))
    found = pd.DataFrame({"own_score": first.astype(float)})
    found["margin"] = found["own_score"] - second.astype(float).reindex(found.index)
    faithful = tables["faithfulness"]
    faithful = faithful.loc[faithful["repeat"].eq(0).to_numpy()].set_index(_CELL)[list(_FAITHFULNESS)]
    return found.join(faithful, how="outer").reset_index()


def _with(rows: pd.DataFrame, extra: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    return rows.merge(extra, how="left", on=key).assign(agreement=lambda own: _agreement(own))


def _agreement(rows: pd.DataFrame) -> np.ndarray:
    """Mean word overlap (Jaccard) of a label with those of the other methods for the same unit and condition."""
    words = [frozenset(normalise(str(label)).split()) for label in rows["label"]]
    found = np.full(len(rows), np.nan)
    for places in rows.groupby(["unit", "perturbation", "severity"], sort=False).indices.values():
        for place in places:
            others = [_jaccard(words[place], words[other]) for other in places if other != place]
            if others:
                found[place] = np.mean(others)
    return found


def _jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / len(first | second) if first | second else 0.0


def _columns(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.reindex(columns=["method", "unit", "perturbation", "severity", "kind", "right", *SIGNALS])


def _plain(found: Interval, name: str = "auroc") -> dict[str, Any]:
    numbers = {name: found.estimate, "low": found.low, "high": found.high}
    plain = {name: None if np.isnan(number) else float(number) for name, number in numbers.items()}
    return {**plain, "units": found.n, "without_value": found.left_out, "reason": found.reason}
