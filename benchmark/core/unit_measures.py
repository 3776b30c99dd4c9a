"""What a unit's top images under a condition say of the unit itself, in the space of the profile's CLIP model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from baselines.evidence import dead_units, order_among_ties, top_images
from metrics.clarity import clarity, monosemanticity, polysemanticity, redundancy
from tasks.observation import Observation

TOP_IMAGES: Final = 20
"""Number of images that stand for a unit, as in SemanticLens' tutorials; ten have a quarter as many pairs."""

MEASURES: Final = ("clarity", "redundancy", "polysemanticity", "monosemanticity")

_AT_ONCE: Final = 256


def unit_measures(observation: Observation, units: Sequence[int], seed: int) -> dict[str, Float[np.ndarray, " asked"]]:
    """The measures of ``metrics.clarity`` of each unit, on the images of one condition.

    Top images are those of ``baselines.evidence.top_images``: of images that tie at the end none counts, so that a
    sparse unit may have fewer. A unit is compared with all living units of its layer for redundancy, so no value
    depends on which units are asked for. Nothing is read but pooled activations and embeddings.

    Args:
        observation: ``activations`` and ``clip_embeddings`` are read.
        units: Unit numbers, from 0.

    Returns:
        Name → one value per unit; NaN for a unit that is dead under the condition or has a single top
        image, and where ``metrics.clarity`` says so.
    """
    activations, asked = observation.activations.detach().cpu(), list(units)
    embeddings = observation.clip_embeddings.detach().cpu().double().numpy()
    dead, ties = dead_units(activations).numpy(), order_among_ties(activations)
    found = {name: np.full(len(asked), np.nan) for name in MEASURES}
    by_size: dict[int, list[int]] = defaultdict(list)
    shown = {place: top_images(activations[:, unit], TOP_IMAGES, among_ties=ties) for place, unit in enumerate(asked)}
    for place, images in shown.items():
        if len(images) > 1 and not dead[asked[place]]:
            by_size[len(images)].append(place)
    for places in by_size.values():
        pictures = embeddings[np.array([shown[place] for place in places])]
        found["clarity"][places] = clarity(pictures)
        found["polysemanticity"][places] = polysemanticity(pictures, seed=seed)
    living = np.flatnonzero(~dead)
    doubles = np.full(len(dead), np.nan)
    doubles[living] = redundancy(_mean_embeddings(activations, living, embeddings, ties))
    found["redundancy"] = doubles[asked]
    # It takes the first of images that tie, which may not be those of the file.
    order = np.argsort(ties, kind="stable")
    responses = monosemanticity(activations[:, asked].numpy()[order], embeddings[order])
    found["monosemanticity"] = np.where(dead[asked], np.nan, responses)
    return found


def _mean_embeddings(
    activations: Float[Tensor, "images units"],
    chosen: Int[np.ndarray, " some"],
    embeddings: Float[np.ndarray, "images d"],
    ties: Float[np.ndarray, " images"],
) -> Float[np.ndarray, "some d"]:
    """Mean embedding of the top images of each chosen unit."""
    images = len(activations)
    means = np.zeros((len(chosen), embeddings.shape[1]))
    for start in range(0, len(chosen), _AT_ONCE):
        block = activations[:, chosen[start : start + _AT_ONCE]]
        values, places = (part.numpy() for part in block.topk(min(TOP_IMAGES + 1, images), dim=0))
        counted = values > (values[-1] if images > TOP_IMAGES else -np.inf)
        sums = np.einsum("kud,ku->ud", embeddings[places], counted.astype(np.float64))
        means[start : start + _AT_ONCE] = sums / np.maximum(counted.sum(axis=0), 1)[:, None]
        for column in np.flatnonzero(~counted.any(axis=0)):  # more images than that share the highest activation
            own = top_images(block[:, column], TOP_IMAGES, among_ties=ties)
            means[start + column] = embeddings[own].mean(axis=0)
    return means
