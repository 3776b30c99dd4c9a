"""Between methods: means, shared ranks, groups, and a test of each pair."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Final, Literal

import numpy as np
from jaxtyping import Bool, Float

from leaderboard.board import intervals
from leaderboard.board.comparison.panel import Panel
from leaderboard.board.comparison.rows import (
    ALPHA,
    Row,
    difference_of_means,
    difference_of_shares,
    joined,
    merged,
    plain_row,
    row_of_test,
)
from leaderboard.board.facts import RunFacts
from metrics.statistics import (
    HypothesisTest,
    compare_methods,
    correct,
    mcnemar_test,
    tied_ranks,
)

Measure = Literal["stability", "accuracy", "accuracy_clean"]

SUBJECTS: Final[dict[Measure, str]] = {
    "stability": "stability",
    "accuracy": "accuracy when perturbed",
    "accuracy_clean": "accuracy on clean images",
}


def between_methods(
    measure: Measure, panel: Panel, methods: Sequence[str], why_empty: str, facts: RunFacts
) -> Iterator[Row]:
    """Rows of kind ``method``, ``omnibus`` and ``pair``.

    Means are compared by permutation tests; clean accuracy, one verdict per unit, by McNemar's.

    Args:
        methods: All methods, with those that the panel leaves out.
        why_empty: What to say if the panel has no value at all.
    """
    names, matrix = panel.methods, panel.unit_means()
    shares = measure == "accuracy_clean"
    if len(names) < 2:
        reason = "one method: nothing to compare it with" if names else why_empty
        yield plain_row(measure, "omnibus", ", ".join(methods), n=len(matrix), reason=joined(reason, panel.note))
    pairs = _pairs(matrix, names, shares, facts.seed)
    yield from _standings(measure, panel, matrix, pairs, facts.seed)
    yield from _omnibus(measure, panel, matrix, facts)
    for (i, j), test in zip(itertools.combinations(range(len(names)), 2), pairs, strict=True):
        row = row_of_test(measure, "pair", test, panel.note, names[i], names[j])
        row["family"] = f"{SUBJECTS[measure]}: pairs of methods"
        one, other = matrix[:, i], matrix[:, j]
        if shares:
            yield merged(row, difference_of_shares(one, other, tests=len(pairs)))
        else:
            yield merged(row, difference_of_means(one, other, tests=len(pairs), seed=facts.seed))


def _pairs(
    matrix: Float[np.ndarray, "units methods"], names: Sequence[str], shares: bool, seed: int
) -> tuple[HypothesisTest, ...]:
    if len(names) < 2:
        return ()
    if not shares:
        return compare_methods(matrix, names, alpha=ALPHA, resamples=intervals.RESAMPLES, seed=seed).pairs
    tests = []
    for i, j in itertools.combinations(range(len(names)), 2):
        test = mcnemar_test(matrix[:, i], matrix[:, j], names=(names[i], names[j]))
        tests.append(dataclasses.replace(test, hypothesis=f"{test.hypothesis} of right labels on clean images"))
    return correct(tests, "pairs of methods")


def _omnibus(
    measure: Measure, panel: Panel, matrix: Float[np.ndarray, "units methods"], facts: RunFacts
) -> Iterator[Row]:
    """Friedman's test (of verdicts, Cochran's Q) without the trivial baselines, which nearly all beat, and with them.

    For two methods the test of the pair is enough.
    """
    names = panel.methods
    real = facts.rivals(names)
    for group in dict.fromkeys((real, names)):
        if len(group) > 2:
            columns = [names.index(name) for name in group]
            # Any post-hoc test would do; this one draws no permutations.
            test = compare_methods(matrix[:, columns], group, posthoc="nemenyi").omnibus
            row = row_of_test(measure, "omnibus", test, panel.note, ", ".join(group))
            yield row | {"floor": bool(facts.floors(group))}


def _standings(
    measure: Measure,
    panel: Panel,
    matrix: Float[np.ndarray, "units methods"],
    pairs: Sequence[HypothesisTest],
    seed: int,
) -> Iterator[Row]:
    names, n = panel.methods, len(matrix)
    apart = np.zeros((len(names), len(names)), dtype=bool)
    for (i, j), test in zip(itertools.combinations(range(len(names)), 2), pairs, strict=True):
        apart[i, j] = apart[j, i] = test.p_corrected <= ALPHA
    means = matrix.mean(axis=0) if n else np.full(len(names), np.nan)
    ranks, letters = tied_ranks(means, apart), group_letters(means, apart)
    mean = intervals.mean_interval if measure == "stability" else intervals.share_interval
    for i, name in enumerate(names):
        found = mean(matrix[:, i], seed)
        wilson = measure != "stability" and intervals.one_verdict(matrix[:, i])
        row = plain_row(measure, "method", name, n=n, reason=joined(found.reason, panel.note))
        row["test"] = "share of units, Wilson interval" if wilson else "mean over units, BCa bootstrap interval"
        row |= {"value_first": found.estimate, "low": found.low, "high": found.high}
        yield row | ({"rank": int(ranks[i]), "letters": letters[i]} if pairs and n > 1 else {})
    for name in panel.without if names else ():
        yield plain_row(measure, "method", name, reason="no value: left out of all comparisons")


def group_letters(
    quality: Float[np.ndarray, " methods"], separated: Bool[np.ndarray, "methods methods"]
) -> tuple[str, ...]:
    """Letters such that two methods share one if and only if they are not significantly different.

    Insert and absorb (Piepho, Journal of Computational and Graphical Statistics 13, 2004). The bars of a
    critical-difference diagram cannot say that two methods are alike while one between them differs from either.

    Args:
        quality: Higher is better; the best method has the letter a.
        separated: Symmetric; whether a pair is significantly different.

    Example:
        >>> apart = np.array([[False, False, True], [False, False, False], [True, False, False]])
        >>> group_letters(np.array([3.0, 2.0, 1.0]), apart)
        ('a', 'ab', 'b')
    """
    order = [int(method) for method in np.argsort(-np.asarray(quality), kind="stable")]
    groups = [frozenset(order)]
    for i, j in itertools.combinations(range(len(order)), 2):
        if separated[i, j]:
            parts = [part for group in groups for part in ((group - {i}, group - {j}) if {i, j} <= group else (group,))]
            groups = [part for part in dict.fromkeys(parts) if not any(part < other for other in parts)]
    groups.sort(key=lambda group: sorted(order.index(method) for method in group))
    return tuple(
        "".join(_letter(k) for k, group in enumerate(groups) if method in group) for method in range(len(order))
    )


def _letter(number: int) -> str:
    """One character for each group; Greek letters follow z."""
    return chr(ord("a") + number) if number < 26 else chr(ord("α") + number - 26)
