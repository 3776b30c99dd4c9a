"""Synthetic inputs for the timing probe: repeated images and random scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from benchmark.core.work import Work
from leaderboard.store.schema import SCORES
from tasks.activations.maps import MemoryMaps
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
    few = Observation(
        layer=layer,
        kind=reading.kind,
        condition=CLEAN.name,
        severity=0,
        repeat=0,
        image_ids=probe.ids,
        activations=reading.pooled,
        maps=None if reading.maps is None else MemoryMaps(reading.maps),
        clip_embeddings=embeddings,
        images=probe.load,
        segmentation=probe.segmentation,
        presence=probe.presence,
    )
    again = few.of([number % len(probe.ids) for number in range(images)])
    return replace(again, image_ids=tuple(f"plan-{number}" for number in range(images)))


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
