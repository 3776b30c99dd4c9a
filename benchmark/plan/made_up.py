"""Synthetic inputs for the timing probe: repeated images and random scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

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


def made_up_scores(work: Work, seed: int) -> pd.DataFrame:
    """Random scores of a few conditions, to time their statistics."""
    conditions = (CLEAN, *(condition for condition in work.conditions if condition != CLEAN))[:TABLE_CONDITIONS]
    draw = generator(seed, "plan", "scores")
    rows = []
    for method in work.methods:
        for condition in conditions:
            for unit in work.units:
                drawn = draw.random(len(SCORES.columns))
                row: dict[str, object] = {}
                for column, value in zip(SCORES.columns, drawn, strict=True):
                    row[column.name] = {"flag": value < 0.5, "number": value}.get(column.kind, f"word {value:.1f}")
                row |= {"task": work.task.name, "profile": work.profile, "method": method, "unit": unit}
                row |= {"perturbation": condition.name, "severity": condition.severity, "repeat": 0}
                row |= {"dead": False, "missing": False, "truth_op": "single"}
                rows.append(row)
    return pd.DataFrame(rows, columns=[column.name for column in SCORES.columns])
