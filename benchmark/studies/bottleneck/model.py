"""Trains a concept bottleneck on a layer's features, and the heads for comparison."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

from baselines.workers import one_thread
from benchmark.studies.bottleneck.images import LabelledImages, Split
from benchmark.studies.bottleneck.lfcbm.concepts import Step, Thresholds, filter_texts, text_similarity, visible
from benchmark.studies.bottleneck.lfcbm.projection import Projection, fit_projection
from benchmark.studies.bottleneck.lfcbm.sparse import Head, Standard, fit_dense, fit_sparse, kkt_violation, standard
from benchmark.studies.bottleneck.store import IMAGES, Piece, Pieces
from metrics.bottleneck import Usual, usual, weights_per_class
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.profiles.build import Roles
from tasks.schema import Bottleneck, Task

SPARSE: Final = "concepts_sparse"
"""The bottleneck itself."""

DENSE: Final = "backbone_dense"
"""The reference for comparison: a linear layer on all features."""

_VALIDATION: Final = 10
"""One in this many training images is reserved for the projection's validation, and not used to train heads."""

_READ_AT_ONCE: Final = 128


@dataclass(frozen=True, eq=False)
class Trained:
    """A bottleneck and the heads for comparison.

    Attributes:
        labels: Labels that it decides between.
        concepts: The concepts that were kept.
        steps: What each filter removed.
        projection: From features to concepts.
        of_concepts: Standardisation of activations.
        of_features: Standardisation of features.
        heads: ``backbone_dense``, ``backbone_sparse``, ``concepts_dense``, ``concepts_sparse``.
        violations: Distance of the sparse heads from their optimum, in units of their penalty.
        training: Features of the training images used to train the heads.
        validation: Features of the validation images.
        known: Number of training images of each class.
    """

    labels: tuple[str, ...]
    concepts: tuple[str, ...]
    steps: tuple[Step, ...]
    projection: Projection
    of_concepts: Standard
    of_features: Standard
    heads: dict[str, Head]
    violations: dict[str, float]
    training: Float[np.ndarray, "images features"]
    validation: Float[np.ndarray, "others features"]
    known: tuple[int, ...]

    @one_thread()
    def activations(self, features: Float[np.ndarray, "images features"]) -> Float[np.ndarray, "images concepts"]:
        """Concept activations in standard deviations over the training images, as the final layer reads them."""
        return self.of_concepts(self.projection(features))

    @one_thread()
    def decisions(self, features: Float[np.ndarray, "images features"]) -> dict[str, Int[np.ndarray, " images"]]:
        """Decisions of each head."""
        inputs = {"backbone": self.of_features(features), "concepts": self.activations(features)}
        return {name: head.decide(inputs[name.partition("_")[0]]) for name, head in self.heads.items()}

    def usual(self, concepts: Sequence[int]) -> Usual:
        """Distribution of these concepts' activations on training images."""
        return usual(self.activations(self.training)[:, list(concepts)])

    def facts(self) -> dict[str, Any]:
        """Facts about it for readers, JSON-able."""
        heads = {}
        for name, head in self.heads.items():
            counts = weights_per_class(head.weights)[0].tolist()
            heads[name] = {"weights_per_class": counts, "steps": head.steps}
            if name in self.violations:
                heads[name]["kkt_violation"] = self.violations[name]
        final = self.heads[SPARSE].weights
        used = weights_per_class(final)[1]
        return {
            "labels": list(self.labels),
            "training_images": list(self.known),
            "validation_images": len(self.validation),
            "filters": [{"name": step.name, "removed": list(step.removed)} for step in self.steps],
            "concepts": {
                name: float(value) for name, value in zip(self.concepts, self.projection.similarity, strict=True)
            },
            "projection_checks": [list(check) for check in self.projection.checks],
            "heads": heads,
            "weights": {
                label: {self.concepts[c]: float(final[row, c]) for c in np.flatnonzero(used[row])}
                for row, label in enumerate(self.labels)
            },
        }


def read(
    roles: Roles, task: Task, images: LabelledImages, advance: Callable[[int], None], *, clip: bool = False
) -> tuple[Float[np.ndarray, "images features"], Float[np.ndarray, "images d"]]:
    """The layer's pooled features of all images, and their CLIP embeddings if requested; a few images at a time."""
    target = roles.target(task.model)
    features, embeddings = [], []
    for start in range(0, len(images.ids), _READ_AT_ONCE):
        rows = range(start, min(start + _READ_AT_ONCE, len(images.ids)))
        some, _ = images.load(rows)
        features.append(target.read(some, {task.layer: task.pooling})[task.layer].pooled.numpy())
        if clip:
            embeddings.append(roles.clip.encode_images(some).cpu().numpy())
        advance(len(rows))
    return np.concatenate(features), np.concatenate(embeddings) if embeddings else np.empty((len(images.ids), 0))


def train(
    roles: Roles,
    task: Task,
    section: Bottleneck,
    split: Split,
    concepts: Sequence[str],
    seed: int,
    advance: Callable[[int], None],
    pieces: Pieces,
) -> Trained:
    """Train the bottleneck of a task; finished pieces are read.

    Args:
        roles: Provide the network, CLIP and the sentence encoder.
        concepts: The concept set, unfiltered.
        advance: Called with the number of images read.

    Raises:
        UserError: No concept is left, or a class without a training image.
    """
    truth = split.numbers(split.training)
    checked = np.zeros(len(truth), dtype=bool)
    draws = generator(seed, "bottleneck", "validation", task.name)
    checked[draws.permutation(len(truth))[: max(2, len(truth) // _VALIDATION)]] = True
    known = np.bincount(truth[~checked], minlength=len(split.labels))
    if known.min() == 0:
        name = split.labels[int(known.argmin())]
        raise UserError(f"No training image shows {name}: increase training_images, or remove the class.")

    def look() -> Piece:
        features, embeddings = read(roles, task, split.training, advance, clip=True)
        return Piece({"features": features, "embeddings": embeddings}, {})

    seen = pieces.once(f"{IMAGES}training", look, lambda: advance(len(truth))).arrays
    features = seen["features"]
    with one_thread():
        learnt = pieces.once(
            "projection",
            lambda: _projection(roles, section, split, concepts, seed, features, seen["embeddings"], checked),
        )
        projection = Projection(
            learnt.arrays["weights"],
            learnt.arrays["similarity"],
            tuple((int(step), float(value)) for step, value in learnt.facts["checks"]),
        )
        training, classes = features[~checked], truth[~checked]
        of_concepts, of_features = standard(projection(training)), standard(training)
        inputs = {"backbone": of_features(training), "concepts": of_concepts(projection(training))}
        penalties = {"backbone": section.feature_penalty, "concepts": section.penalty}
        heads, violations = {}, {}
        for kind, own in inputs.items():
            dense = pieces.once(f"head-{kind}_dense", functools.partial(_dense, own, classes))
            sparse = pieces.once(f"head-{kind}_sparse", functools.partial(_sparse, own, classes, penalties[kind]))
            heads |= {f"{kind}_dense": _head(dense), f"{kind}_sparse": _head(sparse)}
            violations[f"{kind}_sparse"] = float(sparse.facts["kkt_violation"])
    return Trained(
        split.labels,
        tuple(learnt.facts["concepts"]),
        tuple(Step(step["name"], tuple(step["removed"])) for step in learnt.facts["steps"]),
        projection,
        of_concepts,
        of_features,
        heads,
        violations,
        training,
        features[checked],
        tuple(known.tolist()),
    )


def _projection(
    roles: Roles,
    section: Bottleneck,
    split: Split,
    concepts: Sequence[str],
    seed: int,
    features: Float[np.ndarray, "images features"],
    embeddings: Float[np.ndarray, "images d"],
    checked: Bool[np.ndarray, " images"],
) -> Piece:
    """The projection on the concepts left by all filters; ``checked`` marks its validation images."""
    kept, values, steps = _concepts(roles, section, split, concepts, embeddings)
    found = fit_projection(
        features[~checked], values[~checked], features[checked], values[checked], seed=seed, device=roles.device
    )
    learnt = found.similarity > section.thresholds.learnable
    steps.append(Step("not learnable", tuple(name for name, ok in zip(kept, learnt, strict=True) if not ok)))
    _check_left(int(learnt.sum()), steps)
    return Piece(
        {"weights": found.weights[learnt], "similarity": found.similarity[learnt]},
        {
            "concepts": [name for name, ok in zip(kept, learnt, strict=True) if ok],
            "steps": [{"name": step.name, "removed": list(step.removed)} for step in steps],
            "checks": [list(check) for check in found.checks],
        },
    )


def _dense(inputs: Float[np.ndarray, "images inputs"], classes: Int[np.ndarray, " images"]) -> Piece:
    head = fit_dense(inputs, classes)
    return Piece({"weights": head.weights, "bias": head.bias}, {"steps": head.steps})


def _sparse(inputs: Float[np.ndarray, "images inputs"], classes: Int[np.ndarray, " images"], penalty: float) -> Piece:
    head = fit_sparse(inputs, classes, penalty=penalty)
    violation = kkt_violation(head, inputs, classes, penalty=penalty)
    return Piece({"weights": head.weights, "bias": head.bias}, {"steps": head.steps, "kkt_violation": violation})


def _head(piece: Piece) -> Head:
    return Head(piece.arrays["weights"], piece.arrays["bias"], int(piece.facts["steps"]))


def _concepts(
    roles: Roles,
    section: Bottleneck,
    split: Split,
    concepts: Sequence[str],
    embeddings: Float[np.ndarray, "images d"],
) -> tuple[tuple[str, ...], Float[np.ndarray, "images concepts"], list[Step]]:
    """The concepts left by the filters on texts and training images, their CLIP values, and the removed concepts."""
    thresholds = Thresholds(**section.thresholds.model_dump())
    # A held-out kind or background is unknown to the builder of a bottleneck, so no concept names it.
    hidden = [re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE) for name in (*section.held_out, *split.unseen)]
    named = tuple(text for text in concepts if any(pattern.search(text) for pattern in hidden))
    texts = filter_texts(
        [text for text in concepts if text not in named],
        split.labels,
        text_similarity(roles.clip, roles.sentence_encoder),
        thresholds,
    )
    steps = [Step("held out", named), *texts.steps]
    _check_left(len(texts.kept), steps)
    values = embeddings @ roles.clip.encode_text(list(texts.kept)).cpu().numpy().T
    seen = visible(values, thresholds.visible)
    steps.append(Step("not visible", tuple(name for name, ok in zip(texts.kept, seen, strict=True) if not ok)))
    _check_left(int(seen.sum()), steps)
    return tuple(name for name, ok in zip(texts.kept, seen, strict=True) if ok), values[:, seen], steps


def _check_left(count: int, steps: Sequence[Step]) -> None:
    if count:
        return
    said = ", ".join(f"{step.name} {len(step.removed)}" for step in steps)
    raise UserError(
        f"No concept is left after the filters (removed: {said}): give another concept set, or other thresholds in the "
        "task's bottleneck section; the published ones belong to the published encoders."
    )
