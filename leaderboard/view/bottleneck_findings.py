"""What a concept bottleneck's tables say, in sentences and in small numbers; plain text, not escaped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from leaderboard.board.bottlenecks import HEADS, BottleneckGroup, conditions_in_order
from leaderboard.board.groups import Condition
from leaderboard.board.names import SIGNIFICANT
from leaderboard.view.words import brackets, condition_name, listed, printed, spaced

DENSE, BOTTLENECK = HEADS[0], HEADS[-1]

ANOMALY: Final = "anomaly"
"""In the place of a condition: clean images of classes that the training never saw."""

_NAMED: Final = 3
_CONTEXT_LESS_OTHER: Final = "context less other"


def findings(group: BottleneckGroup) -> tuple[str, ...]:
    """What a reader should take from a bottleneck, the most important first."""
    parts = (_accuracy(group), _changed(group), _against_dense(group), _flips(group), _contexts(group), _size(group))
    return tuple(sentence for part in parts for sentence in part)


def mean_of_perturbed(group: BottleneckGroup, head: str) -> float:
    """A head's mean accuracy over the perturbed conditions; NaN without any."""
    rows = group.heads
    own = rows.loc[(rows["head"] == head).to_numpy() & (rows["severity"] > 0).to_numpy()]
    return float(own["accuracy"].mean()) if len(own) else float("nan")


def blamed(own: pd.DataFrame, count: int = _NAMED) -> tuple[tuple[str, float], ...]:
    """The concepts that move a condition's flipped decisions most, with their share of the change of margin.

    Args:
        own: Rows of ``leaderboard.store.schema.CONCEPT_DRIFT`` of one condition.
        count: How many, at most.
    """
    parts = own.loc[own["flip_contribution"].notna().to_numpy()]
    parts = parts.sort_values(["flip_contribution", "concept"], ascending=[False, True])
    total = float(parts["flip_contribution"].sum())
    if not total > 0:
        return ()
    pairs = zip(parts["concept"].tolist(), parts["flip_contribution"].tolist(), strict=True)
    return tuple((str(concept), value / total) for concept, value in list(pairs)[:count] if value > 0)


def spoken(condition: Condition) -> str:
    """A condition in words, with its severity if it has one."""
    return spaced(condition_name(*condition))


def of_condition(frame: pd.DataFrame, condition: Condition, name: str = "perturbation") -> pd.DataFrame:
    """The rows of one condition.

    Args:
        frame: With the columns ``severity`` and ``name``.
        name: The column that holds its name.
    """
    return frame.loc[(frame[name] == condition[0]).to_numpy() & (frame["severity"] == condition[1]).to_numpy()]


def _row(group: BottleneckGroup, head: str, condition: Condition) -> dict[Any, Any] | None:
    rows = of_condition(group.heads, condition)
    found = rows.loc[(rows["head"] == head).to_numpy()].to_dict("records")
    return found[0] if found else None


def _accuracy(group: BottleneckGroup) -> Iterator[str]:
    clean, dense = (_row(group, head, ("clean", 0)) for head in (BOTTLENECK, DENSE))
    if clean is None or dense is None:
        return
    said = (
        f"Of {clean['images']:,} clean test images the bottleneck classifies {printed(clean['accuracy'])} "
        f"{brackets(clean['low'], clean['high'])} correctly, a dense layer on the network's features "
        f"{printed(dense['accuracy'])}"
    )
    count = sum(1 for _, severity in conditions_in_order(group.heads) if severity)
    if not count:
        yield f"{said}."
        return
    means = (mean_of_perturbed(group, head) for head in (BOTTLENECK, DENSE))
    over = "the one perturbed condition" if count == 1 else f"the {count} perturbed conditions"
    yield f"{said}; over {over} that becomes {listed(map(printed, means))}."


def _changed(group: BottleneckGroup) -> Iterator[str]:
    rows = group.heads.loc[(group.heads["head"] == BOTTLENECK).to_numpy()]
    tested = rows.loc[rows["p_corrected"].notna().to_numpy()]
    if not len(tested):
        return
    moved = tested.loc[(tested["p_corrected"] < SIGNIFICANT).to_numpy()].sort_values(["accuracy", "perturbation"])
    if not len(moved):
        where = f"Under none of {len(tested)} conditions"
        yield f"{where} does its accuracy differ significantly from that on clean images."
        return
    named = [f"{spoken(_condition(row))} ({printed(row['accuracy'])})" for row in moved.head(_NAMED).to_dict("records")]
    said = (
        f"Under {len(moved)} of {len(tested)} conditions its accuracy differs significantly from that on clean images"
    )
    yield f"{said}; it is lowest under {listed(named)}."


def _against_dense(group: BottleneckGroup) -> Iterator[str]:
    rows = group.heads.loc[(group.heads["head"] == BOTTLENECK).to_numpy()]
    if rows["p_dense_corrected"].isna().all():
        return
    apart = rows.loc[(rows["p_dense_corrected"] < SIGNIFICANT).to_numpy()]
    if not len(apart):
        yield f"Under none of {len(rows)} conditions does it differ significantly from that dense layer."
        return
    named = [f"{spoken(_condition(row))} ({row['difference']:+.2f})" for row in apart.to_dict("records")]
    yield f"It differs significantly from the dense layer on the features under {_first(named)}."


def _flips(group: BottleneckGroup) -> Iterator[str]:
    drift = group.tables["concept_drift"]
    flipped = drift.loc[(drift["flips"] > 0).to_numpy()]
    if not len(flipped):
        return
    worst = flipped.sort_values(["flips", "perturbation"], ascending=[False, True]).iloc[0].to_dict()
    own = of_condition(drift, _condition(worst))
    said = f"Most decisions flip under {spoken(_condition(worst))}: {worst['flips']:,} of {worst['images']:,}"
    named = [f"{concept} ({share:.0%})" for concept, share in blamed(own)]
    yield f"{said}, mostly because of {listed(named)}." if named else f"{said}."


def _contexts(group: BottleneckGroup) -> Iterator[str]:
    rows = group.tables["context_anomaly"]
    if not len(rows):
        return
    nearest = rows.loc[(rows["score"] == "nearest").to_numpy()]
    found = {(row["negatives"], row["positives"], row["inputs"]): row["auroc"] for row in nearest.to_dict("records")}
    context = found.get(("clean", "unseen_background", "context"))
    anomaly = found.get(("clean", ANOMALY, "other"))
    said = []
    if context is not None:
        said.append(
            f"an unseen background is separated from the usual ones by the context concepts with {printed(context)}"
        )
    if anomaly is not None:
        said.append(f"an unseen object by the other concepts with {printed(anomaly)}")
    if said:
        yield f"By the distance to the nearest training image, {listed(said)} (AUROC)."
    apart = found.get((ANOMALY, "unseen_background", _CONTEXT_LESS_OTHER))
    if apart is not None:
        yield f"Which of the two it is, the difference of both distances tells with {printed(apart)}."


def _size(group: BottleneckGroup) -> Iterator[str]:
    heads = group.facts.get("heads", {})
    own, rival = (heads.get(head, {}).get("weights_per_class") for head in (BOTTLENECK, "backbone_sparse"))
    if own and rival:
        yield (
            f"A class rests on {np.mean(own):.1f} of {len(group.facts['concepts'])} concepts; a sparse layer on the "
            f"features needs {np.mean(rival):.1f} of them."
        )


def _condition(row: dict[Any, Any]) -> Condition:
    return str(row["perturbation"]), int(row["severity"])


def _first(names: list[str]) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return listed([*names[:_NAMED], *more])
