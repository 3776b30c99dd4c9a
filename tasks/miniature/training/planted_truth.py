"""What a planted unit should detect in a scene, and how well it does."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.stats import mannwhitneyu
from torch import Tensor
from torch.nn import functional

from tasks.miniature.scene import Scene
from tasks.miniature.vocabulary import BACKGROUNDS, COLOURS, KINDS, PARTS, PARTS_OF, PATTERNS
from tasks.models.planted import HALF
from tasks.models.planted_facts import Op, PlantedUnit


def occurrence(scenes: Sequence[Scene], op: Op, concepts: Sequence[str]) -> Bool[np.ndarray, " n"]:
    """Which scenes show a unit's truth; ``and`` needs one object with all concepts, its background included."""
    if op == "and":
        carried = [
            [{thing.kind, thing.colour, thing.pattern, *thing.parts, scene.background} for thing in scene.things]
            for scene in scenes
        ]
        return np.array([any(set(concepts) <= own for own in things) for things in carried])
    return np.array([not scene.concepts.isdisjoint(concepts) for scene in scenes])


def positions(
    scenes: Sequence[Scene], grid: UInt8[np.ndarray, "n 4 g g"], op: Op, concepts: Sequence[str]
) -> Bool[np.ndarray, "n g g"]:
    """Where scenes show a unit's truth: the annotations' intersection for ``and``, their union for ``or``.

    A background counts everywhere, as in Broden.
    """
    join = np.logical_and if op == "and" else np.logical_or
    return functools.reduce(join, [_annotation(scenes, grid, concept) for concept in concepts])


def in_cells(shown: Bool[np.ndarray, "*batch g g"], side: int) -> Bool[np.ndarray, "*batch side side"]:
    """Which of side × side cells contain a true position."""
    fine = shown.shape[-1] // side
    return np.asarray(shown.reshape(*shown.shape[:-2], side, fine, side, fine).any(axis=(-3, -1)))


def measure(
    op: Op,
    concepts: tuple[str, ...],
    maps: Float[Tensor, "n h w"],
    scenes: Sequence[Scene],
    grid: UInt8[np.ndarray, "n 4 g g"],
) -> PlantedUnit:
    """Measure a unit's maps against its truth; each figure is defined at ``PlantedUnit``."""
    activation = maps.mean(dim=(1, 2)).double().numpy()
    shown = occurrence(scenes, op, concepts)
    where = positions(scenes, grid, op, concepts)
    large = functional.interpolate(maps[:, None].float(), size=grid.shape[-2:], mode="bilinear")[:, 0]
    return PlantedUnit(
        op=op,
        concepts=concepts,
        share=round(float(shown.mean()), 4),
        auroc=round(auroc(activation[shown], activation[~shown]), 4),
        strict_auroc=round(_strict_auroc(activation, shown, scenes, op, concepts), 4),
        iou=round(overlap(large.numpy() > HALF, where), 4),
        cell_iou=round(overlap(maps.numpy() > HALF, in_cells(where, maps.shape[-1])), 4),
    )


def auroc(positives: Float[np.ndarray, " p"], negatives: Float[np.ndarray, " q"]) -> float:
    """P(positive > negative) + ½ P(equal); 0 without positives or without negatives, which passes no bar."""
    if not len(positives) or not len(negatives):
        return 0.0
    return float(mannwhitneyu(positives, negatives, method="asymptotic").statistic) / (len(positives) * len(negatives))


def overlap(found: Bool[np.ndarray, "n h w"], shown: Bool[np.ndarray, "n h w"]) -> float:
    """Intersection over union over all images; 0 if both are empty."""
    union = np.count_nonzero(found | shown)
    return np.count_nonzero(found & shown) / union if union else 0.0


def _strict_auroc(
    activation: Float[np.ndarray, " n"],
    shown: Bool[np.ndarray, " n"],
    scenes: Sequence[Scene],
    op: Op,
    concepts: tuple[str, ...],
) -> float:
    if op == "single" and concepts[0] not in PARTS:
        return auroc(activation[shown], activation[~shown])
    if op == "single":
        owned = occurrence(scenes, "or", [kind for kind, parts in PARTS_OF.items() if concepts[0] in parts])
        return auroc(activation[shown], activation[owned & ~shown])
    one, other = (occurrence(scenes, "single", [concept]) for concept in concepts)
    alone, apart = one ^ other, one & other & ~shown
    if op == "or":
        return min(auroc(activation[alone & own], activation[~shown]) for own in (one, other))
    # A background is never apart from an object.
    return min(auroc(activation[shown], activation[near]) for near in (alone, apart) if near.any())


def _annotation(scenes: Sequence[Scene], grid: UInt8[np.ndarray, "n 4 g g"], concept: str) -> Bool[np.ndarray, "n g g"]:
    if concept in BACKGROUNDS:
        everywhere = np.array([scene.background == concept for scene in scenes])
        return np.broadcast_to(everywhere[:, None, None], (len(scenes), *grid.shape[2:]))
    for layer, names in enumerate((KINDS, PARTS, tuple(COLOURS), PATTERNS)):
        if concept in names:
            return grid[:, layer] == 1 + names.index(concept)
    raise ValueError(f"{concept!r} is not a concept of the vocabulary")
