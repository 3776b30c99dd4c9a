from __future__ import annotations

import pandas as pd

from leaderboard.view.ties import ties_from

COLUMNS = ["task", "profile", "measure", "kind", "first", "second", "test", "p_corrected", "correction", "letters"]


def comparisons(p_corrected: float | None = 0.01) -> pd.DataFrame:
    rows = []
    for measure, test in (("stability", "permutation test, exact"), ("accuracy_clean", "McNemar test, exact")):
        head = ("fc", "miniature", measure)
        rows += [(*head, "method", name, None, "mean", None, None, name[0]) for name in ("a", "b")]
        rows.append((*head, "method", "lost", None, None, None, None, None))
        rows.append((*head, "omnibus", "a, b", None, "Friedman", None, None, None))
        rows.append((*head, "pair", "a", "b", test, p_corrected, "Holm over 1 pairs of methods", None))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_each_tested_row_has_its_groups_and_its_test():
    found = ties_from(comparisons())
    assert list(found) == [("accuracy", "fc", "miniature", "clean"), ("stability", "fc", "miniature", "all")]
    ties = found["stability", "fc", "miniature", "all"]
    assert ties.groups == {"a": ("a",), "b": ("b",)}
    assert ties.test == "permutation test, paired by unit, Holm over 1 pairs of methods, p > 0.05"


def test_without_a_test_there_are_no_ties():
    assert ties_from(comparisons(None)) == {}
    assert ties_from(comparisons().iloc[:0]) == {}
