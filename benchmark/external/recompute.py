"""Scores of somebody else's run, computed again from the labels in them, and by labelling a sample of units again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from benchmark.core.scoring import CleanLabels, LabelEmbeddings, compare_with_clean
from benchmark.core.truth import right_labels, stated_truth
from benchmark.core.work import Work
from leaderboard.board.submission import OF_UNITS, differing
from leaderboard.store.columns import TableSchema
from leaderboard.store.schema import SCORES
from metrics.stability import stability
from tasks.observe import CLEAN
from tasks.profiles.build import Roles

TOLERANCE: Final = 1e-3
"""Greatest difference of similarities and other numbers that networks compute: other machines round differently."""

_ROUNDING: Final = 1e-5
"""Greatest difference of numbers that follow from others in the table."""

_FROM_LABELS: Final = (
    "clean_label",
    "label",
    "clip_similarity",
    "sentence_similarity",
    "exact",
    "noise_floor",
    "chance",
    "missing",
    "truth",
    "truth_op",
    "right_clean",
    "right",
)
_OF_SAMPLE: Final = (
    *("clip_similarity", "sentence_similarity", "noise_floor", "missing", "right_clean", "right"),
    *("named_both", "detector", *OF_UNITS),
)
"""Columns of a unit that do not depend on the other units, as chance does."""


def mismatch_with_labels(scores: pd.DataFrame, works: Sequence[Work], roles: Roles) -> str | None:
    """Recompute what follows from the labels of all units, and from the truth.

    Args:
        scores: Columns of ``leaderboard.store.schema.SCORES``.
        works: What these scores are of.
        roles: Provide the text encoders, class names and synonyms.

    Returns:
        The first thing that does not fit, in words; None if everything does.
    """
    embeddings = LabelEmbeddings(roles, scores["label"].dropna().tolist())
    key = list(SCORES.key)
    for work in works:
        rows = scores.loc[scores["task"].eq(work.task.name).to_numpy()].sort_values(key, kind="stable")
        if {*rows["unit"]} != {*work.units}:
            return f"{work.task.name}: its units are not those that the settings choose"
        known = _known(rows.iloc[: len(work.units)], work, roles)
        for method, own in rows.groupby("method"):
            place = _differing(own, _recomputed(own, work.units, known, embeddings, roles), _FROM_LABELS)
            if place is not None:
                return f"{work.task.name}, {method}: {place}"
    given = pd.Series(stability(scores["clip_similarity"].to_numpy(), scores["chance"].to_numpy()))
    wrong = differing(pd.Series(scores["stability"]), given, _ROUNDING)
    return f"stability does not follow from similarity and chance ({_place(scores, wrong)})" if wrong.any() else None


def mismatches_of_sample(
    stated: pd.DataFrame, again: pd.DataFrame, schema: TableSchema
) -> tuple[dict[str, float], str | None]:
    """Compare rows with those of the same units, labelled again.

    Args:
        stated: Rows of ``SCORES`` or ``FAITHFULNESS`` of a submission.
        again: The same of a new run of some of its units and methods.

    Returns:
        Method → share of its labels that differ; and what else differs where the labels are the same, in words.
    """
    key = list(schema.key)
    rows = again.merge(stated, on=key, suffixes=("", "_stated"))
    stated = pd.DataFrame({name: rows[name if name in key else f"{name}_stated"] for name in again})
    same = ~differing(pd.Series(stated["label"]), pd.Series(rows["label"]), 0.0)
    shares = {str(name): float(np.mean(~same[rows["method"].eq(name).to_numpy()])) for name in rows["method"].unique()}
    if schema is SCORES:
        same &= ~differing(pd.Series(stated["clean_label"]), pd.Series(rows["clean_label"]), 0.0)
    names = _OF_SAMPLE if schema is SCORES else [c.name for c in schema.columns if c.name not in (*key, "label")]
    return shares, _differing(stated.loc[same], rows.loc[same], names)


def _recomputed(
    own: pd.DataFrame,
    units: Sequence[int],
    known: Sequence[Mapping[str, Any] | None],
    embeddings: LabelEmbeddings,
    roles: Roles,
) -> pd.DataFrame:
    """The columns ``_FROM_LABELS`` of one method, for rows sorted by the key."""
    cells = {
        cast(tuple[str, int, int], place): [None if pd.isna(label) else str(label) for label in rows["label"]]
        for place, rows in own.groupby(["perturbation", "severity", "repeat"], sort=False)
    }
    clean = cells.get((CLEAN.name, 0, 0), [None] * len(units))
    again = [labels for (name, _, repeat), labels in cells.items() if name == CLEAN.name and repeat]
    reference = CleanLabels.of(clean, again, embeddings)
    dead = own["dead"].to_numpy(bool)[: len(units)]
    frames = [
        pd.DataFrame(
            {
                **compare_with_clean(labels, reference, embeddings),
                "missing": ~dead & np.array([a is None or b is None for a, b in zip(labels, clean, strict=True)]),
                "truth": [truth and truth["concept"] for truth in known],
                "truth_op": [truth and truth.get("op", "single") for truth in known],
                "right_clean": right_labels(clean, known, roles),
                "right": right_labels(labels, known, roles),
            }
        )
        for labels in cells.values()
    ]
    return pd.concat(frames, ignore_index=True)


def _known(rows: pd.DataFrame, work: Work, roles: Roles) -> list[Mapping[str, Any] | None]:
    """The truth of each unit; that of a task which takes it from the images as the table states it."""
    if work.task.truth == "best_concept":
        return [None if pd.isna(truth) else {"concept": truth} for truth in rows["truth"]]
    stated = stated_truth(work.task, work.units, roles.unit_count(work.task.model, work.task.layer), roles)
    return [stated.get(unit) for unit in work.units]


def _differing(stated: pd.DataFrame, found: pd.DataFrame, names: Sequence[str]) -> str | None:
    """The first column that differs, in words; the rows of the two are the same."""
    for name in names:
        wrong = differing(pd.Series(stated[name]), pd.Series(found[name]), TOLERANCE)
        if wrong.any():
            first = int(wrong.argmax())
            # As one writes them: a NumPy number would say its type too.
            both = f"{stated[name].tolist()[first]!r} instead of {found[name].tolist()[first]!r}"
            return f"{name} is {both} ({_place(stated, wrong)})"
    return None


def _place(rows: pd.DataFrame, wrong: np.ndarray) -> str:
    row = rows.iloc[int(wrong.argmax())]
    return f"unit {row['unit']}, {row['perturbation']} {row['severity']}; {int(wrong.sum())} rows"
