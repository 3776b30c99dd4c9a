"""Synthetic inputs for the timing probe: repeated images and random scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from benchmark.run.work import Work
from leaderboard.store.schema import SCORES
from tasks.activations.maps import Maps, MemoryMaps, image_blocks
from tasks.common.seeding import generator
from tasks.models.target import LayerReading
from tasks.observation import Observation
from tasks.observe import CLEAN, Probe

TABLE_CONDITIONS: Final = 2
_FIXED: Final = {
    "noise_floor": "number",
    "chance": "number",
    "right_clean": "flag",
    "clean_label": "text",
    "truth": "text",
}


def enlarged(
    probe: Probe, layer: str, reading: LayerReading, embeddings: Float[Tensor, "few d"], images: int
) -> Observation:
    """An observation as large as that of a run, made of a few repeated images.

    Args:
        layer: Name of the layer.
        reading: Its output for these images.
        embeddings: Their CLIP embeddings.
        images: Number of images to imitate.
    """
    few = len(probe.ids)
    again = [number % few for number in range(images)]
    whole = probe.segmentation
    return Observation(
        layer=layer,
        kind=reading.kind,
        condition=CLEAN.name,
        severity=0,
        repeat=0,
        image_ids=tuple(f"plan-{number}" for number in range(images)),
        activations=reading.pooled[again],
        maps=None if reading.maps is None else TiledMaps(MemoryMaps(reading.maps), images),
        clip_embeddings=embeddings[again],
        images=lambda indices: probe.load([again[index] for index in indices]),
        segmentation=whole and replace(whole, pixels=lambda index: whole.pixels(index % few)),
        presence=probe.presence and probe.presence.of(again),
    )


class TiledMaps:
    """A few maps, repeated.

    Args:
        maps: The maps to repeat.
        images: Number of images to imitate.
    """

    def __init__(self, maps: Maps, images: int) -> None:
        self._maps = maps
        self.shape = (images, *maps.shape[1:])

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        """See ``tasks.activations.maps.Maps``."""
        return self._maps.read([image % self._maps.shape[0] for image in images], units)

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        """See ``tasks.activations.maps.Maps``."""
        images, count, height, width = self.shape
        for part in image_blocks(images, count * height * width):
            yield part, self.read(part, range(count) if units is None else units)


def made_up_scores(work: Work, units: int, seed: int) -> pd.DataFrame:
    """Random scores of a few conditions and one clean repeat, to time their statistics.

    Args:
        units: Number of units.
    """
    conditions = (CLEAN, *(condition for condition in work.conditions if condition != CLEAN))[:TABLE_CONDITIONS]
    draw = generator(seed, "plan", "scores", units)
    frames = []
    for method in work.methods:
        fixed = {name: _column(kind, units, draw) for name, kind in _FIXED.items()}
        for condition, repeat in ((CLEAN, 1), *((condition, 0) for condition in conditions)):
            columns = {column.name: _column(column.kind, units, draw) for column in SCORES.columns}
            columns |= {"task": work.task.name, "profile": work.profile, "method": method, "unit": np.arange(units)}
            columns |= {"perturbation": condition.name, "severity": condition.severity, "repeat": repeat}
            columns |= {"dead": False, "missing": False, "truth_op": "single"}
            frames.append(pd.DataFrame(columns | fixed))
    return pd.concat(frames, ignore_index=True)


def _column(kind: str, units: int, draw: np.random.Generator) -> np.ndarray:
    values = draw.random(units)
    if kind == "flag":
        return values < 0.5
    return values if kind == "number" else np.array([f"word {value:.1f}" for value in values], dtype=object)
