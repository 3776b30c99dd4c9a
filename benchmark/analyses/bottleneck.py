"""A label-free concept bottleneck under the task's perturbations.

Its accuracy, the drift of its concepts, the decisions that flip and because of which concepts, and whether its concepts
tell a change of context from a genuine anomaly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from benchmark.analyses.bottleneck_images import LabelledImages, Split
from benchmark.analyses.bottleneck_model import Trained, read, train
from benchmark.analyses.bottleneck_rows import Seen, decision_rows, drift_rows, examples, head_rows
from benchmark.analyses.bottleneck_separation import separation_rows
from benchmark.display import Stage
from benchmark.thumbnails import thumbnail
from tasks.errors import UserError
from tasks.observe import CLEAN, Condition, image_seeds
from tasks.perturbations.settings import Settings, needs_foreground
from tasks.profiles.build import Roles
from tasks.schema import Bottleneck, Task
from tasks.seeding import generator

OTHER_BACKGROUND: Final = Condition("other_background", 0)
UNSEEN_BACKGROUND: Final = Condition("unseen_background", 0)
"""The same objects elsewhere: on another background of the training, and on one that it never showed."""

_READ_AT_ONCE: Final = 128


class BottleneckTables(NamedTuple):
    """What a task's bottleneck leaves, in the columns of ``leaderboard.schema``.

    Attributes:
        heads: ``BOTTLENECK``: accuracy of each head under each condition.
        drift: ``CONCEPT_DRIFT``: how each concept moves, and its part in the decisions that flip.
        separation: ``CONTEXT_ANOMALY``: AUROCs of changed contexts and genuine anomalies.
        decisions: ``DECISIONS``: single decisions, concept by concept.
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
    ) -> None:
        self._ids, self._device, self._seed, self._settings = test.ids, roles.device, seed, settings
        self._images, self._foreground = test.load(range(len(test.ids)))
        if any(needs_foreground(condition.name) for condition in conditions):
            if masks == "segmenter":
                self._foreground = roles.segmenter.foreground(self._images).cpu()
            if self._foreground is None:
                raise UserError("The test images have no foreground masks: add --masks segmenter, which makes them.")
            few = next((c for c in conditions if len(self.usable(c)) < 2), None)
            if few is not None:
                raise UserError(
                    f"{few} can be made of {len(self.usable(few))} of {len(self._ids)} test images, but two are "
                    "needed: leave the perturbation out, or try --masks segmenter."
                )

    def usable(self, condition: Condition) -> Int[np.ndarray, " rows"]:
        """The images that it can be made of: all, or those with a foreground and a background."""
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
) -> tuple[BottleneckTables, dict[str, Any]]:
    """Train a task's bottleneck and test it.

    Args:
        roles: The profile's models.
        task: Network, layer and pooling.
        section: Its bottleneck.
        split: The images.
        concepts: The concept set, unfiltered.
        conditions: ``clean`` first.
        masks: Where foreground masks come from: ``probing_set`` or ``segmenter``.
        seed: The run's seed.
        settings: How images are perturbed.
        stage: For progress.

    Returns:
        The tables without the columns ``task`` and ``profile``, and facts for ``run.json``.
    """
    stage.note("training")
    model = train(roles, task, section, split, concepts, seed, stage.advance)
    tests = _Tests(roles, split.test, conditions, masks, seed, settings)
    truth = split.numbers(split.test)

    def shown(condition: Condition) -> Seen:
        stage.note(str(condition))
        rows, target, parts = tests.usable(condition), roles.target(task.model), []
        for start in range(0, len(rows), _READ_AT_ONCE):
            images = tests.under(condition, rows[start : start + _READ_AT_ONCE])
            parts.append(target.read(images, {task.layer: task.pooling})[task.layer].pooled.numpy())
            stage.advance(len(images))
        return _seen(model, rows, np.concatenate(parts))

    found = {condition: shown(condition) for condition in conditions}
    elsewhere = dict(_elsewhere(split, seed))
    for condition, images in elsewhere.items():
        stage.note(str(condition))
        found[condition] = _seen(model, np.arange(len(truth)), read(roles, task, images, stage.advance)[0])
    anomalies = None
    if split.anomalies is not None:
        stage.note("anomalies")
        anomalies = read(roles, task, split.anomalies, stage.advance)[0]
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


def images_to_read(split: Split, conditions: tuple[Condition, ...]) -> int:
    """How many images pass through the network, at most."""
    tests = len(conditions) + sum(1 for _ in _elsewhere(split, 0))
    return len(split.training.ids) + tests * len(split.test.ids) + len(split.anomalies.ids if split.anomalies else ())


def _seen(model: Trained, rows: Int[np.ndarray, " images"], features: Float[np.ndarray, "images features"]) -> Seen:
    return Seen(rows, features, model.activations(features), model.decisions(features))


def _elsewhere(split: Split, seed: int) -> Iterator[tuple[Condition, LabelledImages]]:
    """The test images' objects on other backgrounds, where somebody can draw them and the class stays what it was."""
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
