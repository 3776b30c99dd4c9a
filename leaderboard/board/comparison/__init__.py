"""From scores to the table of comparisons: which methods differ significantly, and where labels stop being right."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from scipy import stats

from leaderboard.board.comparison.between import between_methods
from leaderboard.board.comparison.panel import Panel, build_panel
from leaderboard.board.comparison.rows import ALPHA, Row, difference_of_shares, joined, merged, plain_row, row_of_test
from leaderboard.board.facts import RunFacts
from leaderboard.store.frames import to_arrow, to_pandas
from leaderboard.store.schema import COMPARISONS
from metrics.statistics import HypothesisTest, MixedModel, correct, mcnemar_test, mixed_model

TERMS: Final = ("method", "severity", "method × severity")
"""Terms of the mixed model."""


def compare(scores: pd.DataFrame, facts: RunFacts, *, perturbed_only: bool = False) -> pd.DataFrame:
    """Compare the methods of a run with each other, and each one's right labels with themselves when perturbed.

    The unit is the statistical unit, and every test is paired by unit. Methods are compared on the units and conditions
    in which all of them have a value. A dead unit enters nothing. A label that is missing has no stability; where the
    truth is known it is wrong. The trivial baselines are methods like any other, marked in the column ``floor``,
    except in the mixed model: a constant label has no spread, and the model takes the methods' spread for equal.

    Args:
        scores: In the columns of ``leaderboard.store.schema.SCORES``.
        perturbed_only: Compare methods on the perturbed conditions alone: for parts of a task, whose clean images and
            single conditions were compared with the whole.

    Returns:
        In the columns and row order of ``COMPARISONS`` (store.schema); empty for no scores. What cannot be compared
        has a row whose ``reason`` says why.
    """
    rows: list[Row] = []
    for names, group in scores.groupby(["task", "profile"], sort=True):
        head = dict(zip(("task", "profile"), cast(tuple[str, str], names), strict=True))
        units = group["unit"].nunique()
        for row in _rows(group, facts, perturbed_only):
            floor = any(facts.is_floor(name) for name in (row["first"], row["second"]) if name)
            rows.append({**head, "floor": floor, **row, "left_out": units - row["n"]})
    columns = pd.Index([column.name for column in COMPARISONS.columns])
    return to_pandas(COMPARISONS, to_arrow(COMPARISONS, pd.DataFrame(rows, columns=columns, dtype=object)))


def _rows(scores: pd.DataFrame, facts: RunFacts, perturbed_only: bool) -> Iterator[Row]:
    methods = facts.ordered({str(name) for name in scores["method"]})
    scores = _with_verdicts(scores)
    clean = scores["perturbation"].eq("clean").to_numpy(bool)
    first = scores["repeat"].eq(0).to_numpy(bool)
    alive = ~scores["dead"].to_numpy(bool)
    known = alive & scores["truth"].notna().to_numpy(bool)
    stability = build_panel(scores.loc[alive & ~clean], "stability", methods)
    accuracy = build_panel(scores.loc[known & ~clean], "right", methods)
    accuracy_clean = build_panel(scores.loc[known & clean & first], "right", methods)
    dead = "" if alive.any() else "every unit is dead"
    unknown = dead or ("" if known.any() else "no unit's truth is known")
    unperturbed = "clean images only" if clean.all() else ""
    empty = dead or unperturbed or "no label has a stability"
    yield from between_methods("stability", stability, methods, empty, facts)
    yield from between_methods("accuracy", accuracy, methods, unknown or unperturbed, facts)
    if perturbed_only:
        return
    yield from between_methods("accuracy_clean", accuracy_clean, methods, unknown or "no clean images", facts)
    for method in methods:
        own = scores["method"].eq(method).to_numpy(bool)
        yield from _conditions(method, scores.loc[own & known & first & ~clean])
    yield from _severities(stability, facts)


def _with_verdicts(scores: pd.DataFrame) -> pd.DataFrame:
    """A label that is missing is wrong, or a method could raise its accuracy by leaving hard units unnamed."""
    verdicts = {name: scores[name].astype("boolean").fillna(False) for name in ("right", "right_clean")}
    return scores.assign(**{name: verdict.astype("float64") for name, verdict in verdicts.items()})


def _conditions(method: str, rows: pd.DataFrame) -> Iterator[Row]:
    """McNemar's test of each condition against clean images."""
    groups = [
        (f"{name}, severity {severity}", group["right_clean"].to_numpy(np.float64), group["right"].to_numpy(np.float64))
        for (name, severity), group in cast(Any, rows.groupby(["perturbation", "severity"], sort=True))
    ]
    tests = []
    for place, clean, perturbed in groups:
        test = mcnemar_test(clean, perturbed, names=(f"{method} on clean images", f"under {place}"))
        tests.append(dataclasses.replace(test, hypothesis=f"{test.hypothesis} of right labels"))
    for (place, clean, perturbed), test in zip(groups, correct(tests, "conditions"), strict=True):
        row = row_of_test("accuracy", "condition", test, "", method, place)
        row["family"] = f"{method}: right on clean images against right under each condition"
        yield merged(row, difference_of_shares(clean, perturbed, tests=len(tests)))


# ---- severity ----


def _severities(panel: Panel, facts: RunFacts) -> Iterator[Row]:
    """The terms and slopes of the mixed model, or why there is none."""
    real = facts.rivals(panel.methods)
    levels = {level for _, level in panel.conditions}
    model, reason = None, ""
    if not real:
        reason = "only trivial baselines have a value" if panel.methods else "no value"
    elif len(levels) < 2:
        reason = "fewer than two severities" if levels else "no condition in which every method has values"
    columns = () if reason else _at_every_severity(panel, real, levels)
    if columns and not len(columns[0]):
        reason = "no perturbation has values at every severity"
    elif columns:
        model = mixed_model(*columns)
        reason = joined(model.reason, panel.note)
    tests: dict[str, HypothesisTest] = {}
    if model is not None and model.tests:
        fitted = TERMS if len(real) > 1 else ("severity",)
        tests = dict(zip(fitted, correct(model.tests, "terms of the model"), strict=True))
        yield from _slopes(model, reason)
    n = 0 if model is None else model.n
    for term in TERMS:
        if term in tests:
            row = row_of_test("stability", "effect", tests[term], reason, term)
            yield row | {"family": "stability over severities: terms of the mixed model"}
        else:
            yield plain_row("stability", "effect", term, n=n, reason="one method" if tests else reason)


def _slopes(model: MixedModel, reason: str) -> Iterator[Row]:
    margin = float(stats.t.ppf(1 - ALPHA / 2, model.n - 1))
    for name, slope, error in zip(model.methods, model.slopes, model.slopes_error, strict=True):
        row = plain_row("stability", "slope", name, n=model.n, reason=reason)
        row["test"] = f"slope of a mixed model, t interval with {model.n - 1} degrees of freedom"
        yield row | {"difference": slope, "low": slope - margin * error, "high": slope + margin * error}


def _at_every_severity(panel: Panel, real: Sequence[str], levels: set[int]) -> tuple[np.ndarray, ...]:
    """Values, methods, severities and units; of a unit and perturbation only if there is a value at every severity.

    A perturbation that ran, or a label that is there, at some severities only would pass for an effect of severity.
    """
    rows = [panel.methods.index(name) for name in real]
    parts = []
    for perturbation in dict.fromkeys(name for name, _ in panel.conditions):
        columns = [i for i, (name, _) in enumerate(panel.conditions) if name == perturbation]
        block = panel.values[rows][:, :, columns]
        whole = ~np.isnan(block).any(axis=(0, 2)) & (len(columns) == len(levels))
        severities = np.array([panel.conditions[i][1] for i in columns], dtype=np.float64)
        method, unit, severity = np.meshgrid(np.array(real), np.flatnonzero(whole), severities, indexing="ij")
        parts.append((block[:, whole].ravel(), method.ravel(), severity.ravel(), unit.ravel()))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))
