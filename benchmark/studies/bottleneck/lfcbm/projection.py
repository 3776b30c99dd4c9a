"""The projection of features on concepts: linear, without bias, trained so that each one follows CLIP."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tasks.common.seeding import generator


class Projection(NamedTuple):
    """A trained projection.

    Attributes:
        weights: float32; an image's concept activations are ``features @ weights.T``.
        similarity: Cos-cubed similarity in [-1, 1] between each concept's projection and CLIP on the validation images.
        checks: (step, mean similarity on the validation images) at each check.
    """

    weights: Float[np.ndarray, "concepts features"]
    similarity: Float[np.ndarray, " concepts"]
    checks: tuple[tuple[int, float], ...]

    def __call__(self, features: Float[np.ndarray, "images features"]) -> Float[np.ndarray, "images concepts"]:
        """Concept activations."""
        return features @ self.weights.T


def cos_cubed(first: Float[Tensor, "images concepts"], second: Float[Tensor, "images concepts"]) -> Tensor:
    """Cosine of paired columns, centred and cubed elementwise; in [-1, 1], 0 for a constant column.

    The similarity of ``baselines.clip_dissect.scores.cos_cubed``, for matching columns only. Columns are rescaled
    before they are cubed: the similarity does not change, but small values stay in range.
    """
    cubes = []
    for columns in (first, second):
        centred = columns - columns.mean(dim=0)
        smallest = torch.finfo(columns.dtype).tiny
        cubed = (centred / centred.std(dim=0, unbiased=False).clamp_min(smallest)) ** 3
        cubes.append(cubed / cubed.norm(dim=0).clamp_min(smallest))
    return (cubes[0] * cubes[1]).sum(dim=0)


def fit_projection(
    features: Float[np.ndarray, "images features"],
    targets: Float[np.ndarray, "images concepts"],
    validation_features: Float[np.ndarray, "others features"],
    validation_targets: Float[np.ndarray, "others concepts"],
    *,
    seed: int,
    learning_rate: float = 1e-3,
    steps: int = 1_000,
    check_every: int = 50,
    batch: int = 50_000,
    device: torch.device | None = None,
) -> Projection:
    """Train the projection by Adam on −mean cos-cubed similarity, as published.

    It is checked on the validation images before the first step, every ``check_every`` steps and after the last; the
    first check that does not improve ends the training, and the best weights are kept.

    Args:
        features: Features of the network on training images, any range.
        targets: CLIP values of the same images with each concept.
        validation_features: Features of other images.
        validation_targets: CLIP values of those images.
        seed: Seed of the initial weights and the batches.
        learning_rate: Learning rate of Adam.
        steps: Maximum number of steps.
        check_every: Steps between two checks.
        batch: Images per step, sampled without replacement; all if there are no more.
        device: Device for training; None for the CPU.

    Raises:
        ValueError: Arrays of mismatched shape, no concept, or fewer than two training or validation images.
    """
    _check(features, targets, validation_features, validation_targets)
    device = device or torch.device("cpu")
    x, p, other_x, other_p = (
        torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)).to(device)
        for part in (features, targets, validation_features, validation_targets)
    )
    draws = generator(seed, "lfcbm", "projection")
    reach = 1 / np.sqrt(x.shape[1])
    start = draws.uniform(-reach, reach, (p.shape[1], x.shape[1])).astype(np.float32)
    weights = torch.from_numpy(start).to(device).requires_grad_()
    optimiser = torch.optim.Adam([weights], lr=learning_rate)

    def checked() -> Tensor:
        with torch.no_grad():
            return cos_cubed(other_x @ weights.T, other_p)

    found = checked()
    best, similarity, history = weights.detach().clone(), found, [(0, float(found.mean()))]
    with torch.enable_grad():
        for step in range(1, steps + 1):
            if batch < len(x):
                rows = torch.from_numpy(draws.choice(len(x), batch, replace=False)).to(device)
                loss = -cos_cubed(x[rows] @ weights.T, p[rows]).mean()
            else:
                loss = -cos_cubed(x @ weights.T, p).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if step % check_every and step != steps:
                continue
            found = checked()
            improved = float(found.mean()) > history[-1][1]
            history.append((step, float(found.mean())))
            if not improved:
                break
            best, similarity = weights.detach().clone(), found
    return Projection(best.cpu().numpy(), similarity.cpu().numpy(), tuple(history))


def _check(*parts: np.ndarray) -> None:
    features, targets, other_features, other_targets = parts
    alike = len(features) == len(targets) and len(other_features) == len(other_targets)
    if not alike or features.shape[1:] != other_features.shape[1:] or targets.shape[1:] != other_targets.shape[1:]:
        raise ValueError(f"features and targets do not match: {', '.join(str(list(p.shape)) for p in parts)}")
    if min(len(features), len(other_features)) < 2 or not targets.shape[1]:
        raise ValueError("a projection needs two training images, two validation images and a concept")
