"""Concept bottlenecks: what their tables say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float

from leaderboard.board.bottlenecks import HEADS, conditions_in_order
from leaderboard.board.facts import RunFacts
from leaderboard.board.names import SIGNIFICANT
from leaderboard.view.bottleneck_findings import ANOMALY, blamed, of_condition
from leaderboard.view.content import Cell, Row, Section, Table, count_cell
from leaderboard.view.words import condition_name, printed

_NAMED_WEIGHTS: Final = 4
_INPUTS: Final = ("context", "other", "all", "features", "decision")
_SCORES: Final = ("nearest", "mahalanobis", "largest z")


def bottleneck_contents(
    heads: pd.DataFrame,
    drift: pd.DataFrame,
    separation: pd.DataFrame,
    facts: RunFacts,
    trained: Mapping[str, Any] | None = None,
) -> list[Table]:
    """All tables: for each task accuracy, classes, drift and flips, contexts and anomalies.

    Args:
        heads: Rows of ``leaderboard.store.schema.BOTTLENECK``.
        drift: Rows of ``leaderboard.store.schema.CONCEPT_DRIFT``.
        separation: Rows of ``leaderboard.store.schema.CONTEXT_ANOMALY``.
        trained: Task → what ``run.json`` says of it under ``facts["bottleneck"]["tasks"]``.
    """
    tables = []
    for task, profile in sorted(set(zip(heads["task"].tolist(), heads["profile"].tolist(), strict=True))):
        own, moved, apart = (_of(frame, task, profile) for frame in (heads, drift, separation))
        tables.append(_accuracy(own, task, profile, facts))
        told = (trained or {}).get(task)
        if told:
            tables.append(_classes(told, task, profile, facts))
        if len(moved):
            tables.append(_drift(moved, task, profile, facts))
        if len(apart):
            tables += _separation(apart, task, profile, facts)
    return tables


def _of(frame: pd.DataFrame, task: str, profile: str) -> pd.DataFrame:
    return frame.loc[((frame["task"] == task) & (frame["profile"] == profile)).to_numpy()]


def _accuracy(own: pd.DataFrame, task: str, profile: str, facts: RunFacts) -> Table:
    cells = {(row["head"], row["perturbation"], row["severity"]): row for row in own.to_dict("records")}
    present = [head for head in HEADS if head in set(own["head"])]

    def line(condition: tuple[str, int]) -> Row:
        rows = [cells[head, *condition] for head in present]
        shown = [
            Cell(row["accuracy"], row["low"], row["high"], marked=_below(row["p_corrected"], SIGNIFICANT))
            for row in rows
        ]
        bottleneck = rows[-1]
        told = Cell(
            bottleneck["difference"],
            bottleneck["difference_low"],
            bottleneck["difference_high"],
            marked=_below(bottleneck["p_dense_corrected"], SIGNIFICANT),
        )
        return Row(condition_name(*condition), (*shown, told, Cell(bottleneck["flips"])))

    conditions = conditions_in_order(own)
    plain = [condition for condition in conditions if not condition[1]]
    perturbed = [condition for condition in conditions if condition[1]]
    sections = [Section(tuple(line(condition) for condition in plain))]
    if perturbed:
        means = own.loc[(own["severity"] > 0).to_numpy()].groupby("head")[["accuracy", "difference", "flips"]].mean()
        last = Row(
            "mean of perturbed",
            (
                *(Cell(float(means.loc[head, "accuracy"])) for head in present),
                Cell(float(means.loc[present[-1], "difference"])),
                Cell(float(means.loc[present[-1], "flips"])),
            ),
        )
        sections += [Section((*(line(condition) for condition in perturbed), last))]
    images = sorted(set(own["images"].tolist()))
    counted = " to ".join(map(str, dict.fromkeys((images[0], images[-1]))))
    return Table(
        "bottleneck",
        task,
        profile,
        "Accuracy",
        "of a concept bottleneck and its rivals",
        None,
        "Condition",
        (*(head.replace("_", " ") for head in present), "bottleneck less dense", "flips"),
        tuple(sections),
        (
            f"{counted} test images; 95 % Wilson intervals. The bottleneck is concepts sparse, a sparse layer on "
            "concept activations; backbone: a linear layer on the features themselves.",
            f"* Differs from clean (McNemar's test, Holm-corrected over heads and conditions, p < {SIGNIFICANT:g}). "
            "Bottleneck less dense: difference of accuracies to backbone dense with its 95 % bootstrap interval over "
            "images; * the same test between the two heads. Flips: share of the bottleneck's decisions that change.",
            *facts.notes,
        ),
    )


def _classes(told: Mapping[str, Any], task: str, profile: str, facts: RunFacts) -> Table:
    heads, weights = told["heads"], told["weights"]
    rows = []
    for number, label in enumerate(told["labels"]):
        own = sorted(weights[label].items(), key=lambda item: (-abs(item[1]), item[0]))
        words = ", ".join(f"{'' if value > 0 else 'NOT '}{name}" for name, value in own[:_NAMED_WEIGHTS])
        counts = (heads[head]["weights_per_class"][number] for head in ("concepts_sparse", "backbone_sparse"))
        name = f"{label}: {words}" if words else label
        rows.append(Row(name, (count_cell(told["training_images"][number]), *map(count_cell, counts))))
    mean = [np.mean(heads[head]["weights_per_class"]) for head in ("concepts_sparse", "backbone_sparse")]
    removed = ", ".join(f"{step['name']} {len(step['removed'])}" for step in told["filters"])
    similarity = list(told["concepts"].values())
    violation = max(heads[head]["kkt_violation"] for head in ("concepts_sparse", "backbone_sparse"))
    return Table(
        "bottleneck_classes",
        task,
        profile,
        "Weights",
        "of the sparse layers",
        None,
        "Class, and its strongest concepts",
        ("training images", "concepts sparse", "backbone sparse"),
        (
            Section(tuple(rows)),
            Section((Row("mean", (Cell(), Cell(float(mean[0]), digits=1), Cell(float(mean[1]), digits=1))),)),
        ),
        (
            f"Weights that are not 0, of {len(similarity)} concepts and of the network's features. Concepts that the "
            f"filters removed, in their order: {removed}. Cos-cubed similarity of the projection with CLIP on "
            f"validation images: {printed(float(np.mean(similarity)))} on average, {printed(min(similarity))} at "
            f"least. The sparse layers are within {violation:.1e} of their penalty of the optimum.",
            *_held_out(told),
            *facts.notes,
        ),
    )


def _held_out(told: Mapping[str, Any]) -> Iterator[str]:
    if told.get("held_out"):
        yield (
            f"The bottleneck's training never shows {', '.join(told['held_out'])}, but the network below it may have "
            "seen them."
        )


def _drift(moved: pd.DataFrame, task: str, profile: str, facts: RunFacts) -> Table:
    rows = []
    for name, severity in conditions_in_order(moved):
        own = of_condition(moved, (name, severity))
        shifts = np.abs(own["shift"].to_numpy(np.float64))
        inside = own["context"].to_numpy(bool)
        causes = [f"{concept} {share:.0%}" for concept, share in blamed(own)]
        detecting = float(np.nanmax(np.abs(own["auroc"].to_numpy(np.float64) - 0.5), initial=0.0))
        title = f"{condition_name(name, severity)}: {', '.join(causes)}" if causes else condition_name(name, severity)
        cells = (_mean(shifts[inside]), _mean(shifts[~inside]), Cell(0.5 + detecting))
        rows.append(Row(title, (*cells, count_cell(int(own["flips"].iloc[0])))))
    return Table(
        "concept_drift",
        task,
        profile,
        "Concept drift",
        "and the main causes of flipped decisions",
        None,
        "Condition, and the main causes of its flips",
        ("drift, context", "drift, other", "most AUROC", "flips"),
        (Section(tuple(rows)),),
        (
            "Drift: mean over concepts of the size of the mean change, in standard deviations over clean images; "
            "context: the concepts that say where something is. Most AUROC: of the concept that separates changed from "
            "clean images best, in its direction. Flips: decisions of the bottleneck that change; after the condition "
            "the concepts that move them most, with their share of the change of margin between new and old class.",
            *facts.notes,
        ),
    )


def _mean(values: Float[np.ndarray, " concepts"]) -> Cell:
    present = values[~np.isnan(values)]
    return Cell(float(present.mean())) if len(present) else Cell()


def _separation(apart: pd.DataFrame, task: str, profile: str, facts: RunFacts) -> Iterator[Table]:
    rows: dict[tuple[str | int, ...], dict[str, Any]] = {
        (row["negatives"], row["positives"], row["severity"], row["inputs"], row["score"]): row
        for row in apart.to_dict("records")
    }

    def cell(*key: str | int) -> Cell:
        row = rows.get(key)
        return Cell() if row is None else Cell(row["auroc"], row["low"], row["high"])

    found = {(str(row["positives"]), int(row["severity"])) for row in rows.values()}
    kinds = sorted(found, key=lambda kind: (kind[0] == ANOMALY, kind[1] > 0, *kind))
    sections = []
    for score in _SCORES:
        lines = []
        for kind in kinds:
            cells = [cell("clean", *kind, inputs, score) for inputs in _INPUTS[:-1]]
            sure = cell("clean", *kind, "decision", "confidence") if score == _SCORES[0] else Cell()
            lines.append(Row(condition_name(*kind), (*cells, sure)))
        sections.append(Section(tuple(lines), score))
    yield Table(
        "context_anomaly",
        task,
        profile,
        "Changed contexts and anomalies",
        "against clean test images",
        True,
        "Positives",
        (*_INPUTS[:-1], "confidence"),
        tuple(sections),
        (
            "AUROC of how unusual an image's concept activations are, with its 95 % interval (DeLong): the distance to "
            "the nearest training image, Mahalanobis' distance to their mean, or the largest z, within the concepts "
            "that say where something is (context), the other ones, all of them, or the network's features. "
            "Confidence: 1 less the bottleneck's. Anomaly: clean images of classes that its training never saw, which "
            "should be unusual in the other concepts and not in the context.",
            *facts.notes,
        ),
    )
    told = [kind for kind in kinds if (ANOMALY, *kind, "context less other", "nearest") in rows]
    if told:
        names = ("nearest", "mahalanobis")
        yield Table(
            "context_or_anomaly",
            task,
            profile,
            "Changed contexts",
            "against anomalies",
            True,
            "Positives",
            names,
            (
                Section(
                    tuple(
                        Row(
                            condition_name(*kind),
                            tuple(cell(ANOMALY, *kind, "context less other", name) for name in names),
                        )
                        for kind in told
                    )
                ),
            ),
            (
                "AUROC of how unusual the context concepts are less how unusual the other ones are, each as a multiple "
                "of what is usual on validation images. 1: every changed context scores higher than every anomaly.",
                *facts.notes,
            ),
        )


def _below(value: float, bar: float) -> bool:
    return bool(value < bar)  # NaN is not
