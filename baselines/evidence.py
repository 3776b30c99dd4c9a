"""What a unit's activations can support: which units are dead, and which images activate a unit most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tasks.common.errors import UserError

EVIDENCE_SIZE = 10
"""Number of top images that a method reports as evidence: the same for all, so that overlaps are comparable."""

_SORTED_AT_ONCE = 2**25


def dead_units(activations: Float[Tensor, "images units"]) -> Bool[Tensor, " units"]:
    """Units without evidence: constant over all images (up to float32 rounding), or with a NaN or infinite value.

    Such a unit gets no label from any method: sorting equal values only returns the first images of the file, the same
    for every dead unit and every condition, which would count as perfect stability.

    Args:
        activations: Pooled activations of a layer; any float type, any range.

    Returns:
        True for a dead unit. With one image, or none, every unit is dead.
    """
    images, units = activations.shape
    if images < 2:
        return torch.ones(units, dtype=torch.bool, device=activations.device)
    values = activations.float()
    finite = values.isfinite().all(dim=0)
    # A constant unit may differ in the last bit between batches, hence the tolerance of a few ulp.
    slack = 4 * torch.finfo(torch.float32).eps * values.abs().amax(dim=0)
    spread = values.amax(dim=0) - values.amin(dim=0)
    return ~finite | ~(spread > slack)


def top_images(activations: Float[Tensor, " images"] | Float[np.ndarray, " images"], k: int) -> list[int]:
    """The images that activate one unit most.

    Args:
        activations: One unit's activation for each image.
        k: Maximum number of images; NaN values are never returned.

    Returns:
        Image indices by descending activation, ties by smaller index.
    """
    values = np.asarray(
        activations.detach().cpu() if isinstance(activations, Tensor) else activations, dtype=np.float64
    )
    order = np.argsort(-values, kind="stable")
    return [int(index) for index in order[: max(k, 0)] if not np.isnan(values[index])]


def top_image_table(activations: Float[Tensor, "images units"], k: int) -> Int[Tensor, "units k"]:
    """``top_images`` for every unit of a layer at once; all values must be finite.

    Args:
        activations: Pooled activations of a layer.
        k: Number of images, at most as many as there are.
    """
    images, units = activations.shape
    step = max(1, _SORTED_AT_ONCE // max(images, 1))
    # A stable sort rather than topk, whose order of equal values differs between devices and sizes.
    parts = [
        block.sort(dim=0, descending=True, stable=True).indices[:k].T for block in activations.split(step, dim=1)
    ] or [torch.empty(units, k, dtype=torch.int64, device=activations.device)]
    return torch.cat(parts)


def check_units(units: Sequence[int], count: int) -> None:
    """Check that the layer has the given unit numbers.

    Raises:
        UserError: A number outside 0..count − 1; the first is named.
    """
    for unit in units:
        if not 0 <= unit < count:
            raise UserError(f"Unit {unit} does not exist: the layer has {count} units, numbered 0 to {count - 1}.")
