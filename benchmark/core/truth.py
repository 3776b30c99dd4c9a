"""What a unit's true concept is, and whether a label names it; ``docs/numbers.md`` defines what counts as the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from metrics.compound import compound_match, names_all
from metrics.oracle import best_concept
from metrics.text import normalise
from tasks.models.planted_facts import PlantedUnit
from tasks.observation import Observation
from tasks.profiles.build import Roles
from tasks.schema import Task

TRUTH_BAR = 0.9
"""Minimum AUROC with which a concept's presence must predict a hidden unit's activation to be its truth."""

Truth = Mapping[int, Mapping[str, Any]]
"""Unit → its true concept, as stored in the marker of a run's evidence; units of unknown truth are absent."""


def unit_truth(
    task: Task,
    units: Sequence[int],
    clean: Observation,
    dead: Bool[np.ndarray, " layer"],
    shown: Sequence[str],
    presence: Bool[np.ndarray, "images shown"],
    roles: Roles,
) -> Truth:
    """The true concepts of units, from the source that the task specifies.

    Args:
        clean: Observation of the complete layer on clean images.
        dead: Which units of the layer are dead or constant on them.
        shown: Names of the columns of ``presence``; empty if the probing set has no annotation.
        presence: Concepts that an image shows.
        roles: Provide planted units and class names.
    """
    if task.truth != "best_concept" or not shown:
        return stated_truth(task, units, clean.activations.shape[1], roles)
    alive = np.array([unit for unit in units if not dead[unit]], dtype=int)
    best = best_concept(clean.activations[:, torch.from_numpy(alive)].double().numpy(), presence)
    return {
        int(unit): {"concept": shown[concept], "auroc": round(float(auroc), 4)}
        for unit, concept, auroc in zip(alive, best.concept, best.auroc, strict=True)
        if auroc >= TRUTH_BAR
    }


def stated_truth(task: Task, units: Sequence[int], layer: int, roles: Roles) -> Truth:
    """The true concepts that are known without images: those of planted units and of a classifier's outputs.

    Args:
        layer: Number of units of the layer.
        roles: Provide planted units and class names.
    """
    if task.truth == "planted":
        planted = roles.planted(task.model)
        return {unit: _planted(planted[unit]) for unit in units if unit in planted}
    if task.truth == "class_names":
        names = roles.class_names(layer)
        return {unit: class_truth(names[unit]) for unit in units} if names else {}
    return {}


def class_truth(names: str) -> dict[str, Any]:
    """The concept of a classifier's unit: the first of its comma-separated names."""
    concept, *others = (name.strip() for name in names.split(","))
    return {"concept": concept, **({"synonyms": others} if others else {})}


def right_labels(
    labels: Sequence[str | None],
    known: Sequence[Mapping[str, Any] | None],
    roles: Roles,
    told: dict[Any, bool | None] | None = None,
) -> list[bool | None]:
    """Whether each label names the true concept and no rival concept; None for a missing label or unknown truth.

    Args:
        known: The truth of each label's unit, as ``unit_truth`` stores it.
        roles: Provide synonyms and rival concepts.
        told: Verdicts on the same roles, which are kept for further calls: units share labels and truths.
    """
    told = {} if told is None else told
    right: list[bool | None] = []
    for label, truth in zip(labels, known, strict=True):
        if label is None or truth is None:
            right.append(None)
            continue
        concepts = truth.get("concepts", [truth["concept"]])
        own = truth.get("synonyms")
        place = (label, truth["concept"], truth.get("op"), *concepts, None, *(own or ()))
        if place not in told:
            synonyms = {**roles.synonyms(), **({} if own is None else {truth["concept"]: own})}
            rivals = {concept: roles.rivals(concept) for concept in concepts}
            # A class folder named "-": no label can name it.
            named = all(map(normalise, concepts))
            told[place] = (
                compound_match(label, truth.get("op", "single"), concepts, synonyms, rivals) if named else None
            )
        right.append(told[place])
    return right


def named_both(
    labels: Sequence[Sequence[str]], known: Sequence[Mapping[str, Any] | None], roles: Roles
) -> list[bool | None]:
    """Whether the labels of each OR unit together name both of its concepts; None without labels or for other truths.

    Args:
        labels: Those that a method gives each unit.
        known: As for ``right_labels``.
        roles: Provide synonyms and rival concepts.
    """
    found: list[bool | None] = []
    for texts, truth in zip(labels, known, strict=True):
        if not texts or truth is None or truth.get("op") != "or":
            found.append(None)
            continue
        rivals = {concept: roles.rivals(concept) for concept in truth["concepts"]}
        found.append(names_all(texts, truth["concepts"], roles.synonyms(), rivals))
    return found


def _planted(unit: PlantedUnit) -> dict[str, Any]:
    """The concepts of a planted unit, and how well it was measured to detect them."""
    measured = {"auroc": unit.auroc, "strict_auroc": unit.strict_auroc, "iou": unit.iou, "cell_iou": unit.cell_iou}
    return {"concept": unit.text, "op": unit.op, "concepts": list(unit.concepts), **measured}
