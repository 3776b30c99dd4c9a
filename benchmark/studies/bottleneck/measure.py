"""A label-free concept bottleneck under the task's perturbations.

Its accuracy, the drift of its concepts, the decisions that flip and the concepts responsible, and whether its concepts
distinguish a change of context from a genuine anomaly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from benchmark.core.display import Stage
from benchmark.core.thumbnails import thumbnail
from benchmark.studies.bottleneck.images import LabelledImages, Split
from benchmark.studies.bottleneck.model import Trained, read, train
from benchmark.studies.bottleneck.rows import Seen, decision_rows, drift_rows, examples, head_rows
from benchmark.studies.bottleneck.separation import ANOMALY, separation_rows
from benchmark.studies.bottleneck.store import IMAGES, Piece, Pieces
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.observe import CLEAN, Condition, image_seeds
from tasks.perturbations.settings import Settings, needs_foreground
from tasks.profiles.build import Roles
from tasks.schema import Bottleneck, Task

OTHER_BACKGROUND: Final = Condition("other_background", 0)
UNSEEN_BACKGROUND: Final = Condition("unseen_background", 0)
"""The same objects on another background of the training set, and on one that is not in the training set."""

_READ_AT_ONCE: Final = 128


class BottleneckTables(NamedTuple):
    """Results of a task's bottleneck, with columns of ``leaderboard.store.schema``.

    Attributes:
        heads: ``BOTTLENECK``: accuracy of each head under each condition.
        drift: ``CONCEPT_DRIFT``: drift of each concept, and its contribution to the decisions that flip.
        separation: ``CONTEXT_ANOMALY``: AUROCs of changed contexts and genuine anomalies.
        decisions: ``DECISIONS``: single decisions, per concept.
        thumbnails: ``THUMBNAILS``: the images of those decisions.
    """

    heads: pd.DataFrame
    drift: pd.DataFrame
    separation: pd.DataFrame
    decisions: pd.DataFrame
    thumbnails: pd.DataFrame


class _Tests:
    """The test images under any condition."""

    def __init__(
        self,
        roles: Roles,
        test: LabelledImages,
        conditions: tuple[Condition, ...],
        masks: str,
        seed: int,
        settings: Settings,
        pieces: Pieces,
    ) -> None:
        self._ids, self._device, self._seed, self._settings = test.ids, roles.device, seed, settings
        self._images, self._foreground = test.load(range(len(test.ids)))
        if any(needs_foreground(condition.name) for condition in conditions):
            if masks == "segmenter":
                found = pieces.once(f"{IMAGES}masks", lambda: self._masks(roles))
                self._foreground = torch.from_numpy(found.arrays["foreground"])
            if self._foreground is None:
                raise UserError("The test images have no foreground masks: add --masks segmenter, which provides them.")
            few = next((c for c in conditions if len(self.usable(c)) < 2), None)
            if few is not None:
                raise UserError(
                    f"{few} is possible for {len(self.usable(few))} of {len(self._ids)} test images, but two are "
                    "needed: omit the perturbation, or try --masks segmenter."
                )

    def _masks(self, roles: Roles) -> Piece:
        return Piece({"foreground": roles.segmenter.foreground(self._images).cpu().numpy()}, {})

    def usable(self, condition: Condition) -> Int[np.ndarray, " rows"]:
        """The images to which it applies: all, or those with a foreground and a background."""
        if self._foreground is None or not needs_foreground(condition.name):
            return np.arange(len(self._ids))
        share = self._foreground.flatten(1).float().mean(1)
        return np.flatnonzero(((share > 0) & (share < 1)).numpy())

    def under(self, condition: Condition, rows: Int[np.ndarray, " rows"]) -> UInt8[Tensor, "rows 3 h w"]:
        """Those images under the condition."""
        images = self._images[rows.tolist()]
        if condition == CLEAN:
            return images
        masks = None
        if self._foreground is not None and needs_foreground(condition.name):
            masks = self._foreground[rows.tolist()].to(self._device)
        seeds = image_seeds(self._seed, [self._ids[row] for row in rows.tolist()], condition)
        name, severity = condition.name, condition.severity
        return self._settings.apply(images.to(self._device), name, severity, seeds, masks).cpu()


def measured(
    roles: Roles,
    task: Task,
    section: Bottleneck,
    split: Split,
    concepts: tuple[str, ...],
    conditions: tuple[Condition, ...],
    masks: str,
    seed: int,
    settings: Settings,
    stage: Stage,
    pieces: Pieces,
) -> tuple[BottleneckTables, dict[str, Any]]:
    """Train a task's bottleneck and test it; finished pieces are read.

    Args:
        concepts: The concept set, unfiltered.
        conditions: ``clean`` first.
        masks: Source of foreground masks: ``probing_set`` or ``segmenter``.

    Returns:
        The tables without the columns ``task`` and ``profile``, and facts for ``run.json``.
    """
    stage.note("training")
    model = train(roles, task, section, split, concepts, seed, stage.advance, pieces)
    tests = _Tests(roles, split.test, conditions, masks, seed, settings, pieces)
    truth = split.numbers(split.test)

    def looked(condition: Condition, rows: Int[np.ndarray, " rows"], look: Callable[[], np.ndarray]) -> Seen:
        """The condition's features, read if already computed."""
        stage.note(str(condition))
        piece = pieces.once(_name(condition), lambda: Piece({"features": look()}, {}), lambda: stage.advance(len(rows)))
        return _seen(model, rows, piece.arrays["features"])

    def perturbed(condition: Condition, rows: Int[np.ndarray, " rows"]) -> np.ndarray:
        target, parts = roles.target(task.model), []
        for start in range(0, len(rows), _READ_AT_ONCE):
            images = tests.under(condition, rows[start : start + _READ_AT_ONCE])
            parts.append(target.read(images, {task.layer: task.pooling})[task.layer].pooled.numpy())
            stage.advance(len(images))
        return np.concatenate(parts)

    def as_they_are(images: LabelledImages) -> np.ndarray:
        return read(roles, task, images, stage.advance)[0]

    found = {}
    for condition in conditions:
        rows = tests.usable(condition)
        found[condition] = looked(condition, rows, functools.partial(perturbed, condition, rows))
    elsewhere = dict(_elsewhere(split, seed))
    for condition, images in elsewhere.items():
        found[condition] = looked(condition, np.arange(len(truth)), functools.partial(as_they_are, images))
    anomalies = None
    if split.anomalies is not None:
        every = np.arange(len(split.anomalies.ids))
        anomalies = looked(Condition(ANOMALY, 0), every, functools.partial(as_they_are, split.anomalies)).features
    stage.note("tables")
    context = np.array([name in section.context_concepts for name in model.concepts], dtype=bool)
    flips = list(examples(found, truth))
    changes = {
        condition: (seen.features, seen.rows)
        for condition, seen in found.items()
        if condition in elsewhere or needs_foreground(condition.name)
    }

    def picture(row: int, condition: Condition) -> Tensor:
        if condition in elsewhere:
            return elsewhere[condition].load([row])[0][0]
        return tests.under(condition, np.array([row]))[0]

    tables = BottleneckTables(
        pd.DataFrame(head_rows(found, truth, seed)),
        pd.DataFrame([row for c in found if c != CLEAN for row in drift_rows(model, found, c, context)]),
        pd.DataFrame(separation_rows(model, context, found[CLEAN].features, changes, anomalies)),
        pd.DataFrame(
            [
                row
                for flip, condition in flips
                for row in decision_rows(model, split.test.ids[flip], found, truth, flip, condition)
            ]
        ),
        pd.DataFrame(
            [
                {
                    "perturbation": condition.name,
                    "severity": condition.severity,
                    "repeat": 0,
                    "image": split.test.ids[row],
                    "webp": thumbnail(picture(row, condition)),
                }
                for row, condition in dict.fromkeys(pair for row, c in flips for pair in ((row, CLEAN), (row, c)))
            ]
        ),
    )
    facts = {
        **model.facts(),
        "held_out": [*section.held_out],
        "held_out_contexts": [*split.unseen],
        "test_images": len(truth),
        "anomalies": 0 if anomalies is None else len(anomalies),
    }
    return tables, facts


def images_of_pieces(split: Split, conditions: tuple[Condition, ...], seed: int = 0) -> dict[str, int]:
    """Pieces that read images → maximum number of images; the training's first."""
    found = {f"{IMAGES}training": len(split.training.ids)}
    tests = (*conditions, *(condition for condition, _ in _elsewhere(split, seed)))
    found |= {_name(condition): len(split.test.ids) for condition in tests}
    return found | ({_name(Condition(ANOMALY, 0)): len(split.anomalies.ids)} if split.anomalies else {})


def _name(condition: Condition) -> str:
    return f"{IMAGES}{condition.name}-s{condition.severity}"


def _seen(model: Trained, rows: Int[np.ndarray, " images"], features: Float[np.ndarray, "images features"]) -> Seen:
    return Seen(rows, features, model.activations(features), model.decisions(features))


def _elsewhere(split: Split, seed: int) -> Iterator[tuple[Condition, LabelledImages]]:
    """The test images' objects on other backgrounds, if they can be rendered and the class stays the same."""
    test = split.test
    if test.moved is None or split.with_context:
        return
    seen = sorted(set(split.training.contexts))
    for condition, choices in ((OTHER_BACKGROUND, seen), (UNSEEN_BACKGROUND, list(split.unseen))):
        drawn = []
        for name, own in zip(test.ids, test.contexts, strict=True):
            others = [choice for choice in choices if choice != own]
            if not others:
                break
            drawn.append(others[int(generator(seed, "bottleneck", condition.name, name).integers(len(others)))])
        else:
            yield condition, test.moved(drawn)
