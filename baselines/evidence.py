"""What a unit's activations can support: which units are dead, and which images activate a unit most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tasks.activations.sparse import SparseColumns
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
    if isinstance(activations, SparseColumns):
        finite, (low, high) = activations.finite(), activations.extremes()
    else:
        values = activations.float()
        finite, low, high = values.isfinite().all(dim=0), values.amin(dim=0), values.amax(dim=0)
    # A constant unit may differ in the last bit between batches, hence the tolerance of a few ulp.
    slack = 4 * torch.finfo(torch.float32).eps * torch.maximum(low.abs(), high.abs())
    return ~finite | ~(high - low > slack)


def top_images(
    activations: Float[Tensor, " images"] | Float[np.ndarray, " images"],
    k: int,
    *,
    among_ties: Float[np.ndarray, " images"] | None = None,
    split: bool = False,
) -> list[int]:
    """The images that activate one unit most, whatever the order of the images.

    Images that tie with one beyond the k-th are left out: most units of a ReLU layer are 0 on many images, and the
    first of these in the file would be the same under every condition. If that leaves none, k of the images that share
    the highest activation are returned.

    Args:
        activations: One unit's activation for each image.
        k: Maximum number of images; NaN values are never returned.
        among_ties: See ``order_among_ties``; without it images of equal activation keep their order.
        split: Return k images in any case, of those that tie the first ones.

    Returns:
        Image indices by descending activation.
    """
    values = np.asarray(
        activations.detach().cpu() if isinstance(activations, Tensor) else activations, dtype=np.float64
    )
    order = np.argsort(-values, kind="stable")
    leading = values[order[: k + 1]]
    if among_ties is not None and (leading[1:] == leading[:-1]).any():
        order = np.lexsort((among_ties, -values))
    order = order[~np.isnan(values[order])]
    cut = max(k, 0)
    if 0 < cut < len(order) and not split:
        cut = int((values > values[order[cut]]).sum()) or cut
    return order[:cut].tolist()


def order_among_ties(layer: Float[Tensor, "images units"]) -> Float[np.ndarray, " images"]:
    """A number of each image's own, in [0, 1), that favours no content and does not depend on the order of the images.

    Args:
        layer: Activations of the complete layer.
    """
    if isinstance(layer, SparseColumns):
        sums = layer.image_sums()
    else:
        sums = layer.detach().nan_to_num(0, 0, 0).sum(dim=1, dtype=torch.float64).cpu().numpy()
    # The fourth digit of the sum and the following.
    return 1e3 * sums / (np.abs(sums).max() or 1.0) % 1


def tied_images(activations: Float[Tensor, "images units"], k: int) -> Int[Tensor, " units"]:
    """How many images share each unit's k-th highest activation with an image beyond the k-th; else 0.

    Args:
        activations: Pooled activations; NaN ties with nothing.
        k: At least 1.
    """
    if len(activations) <= k:
        return torch.zeros(activations.shape[1], dtype=torch.int64, device=activations.device)
    last = activations.topk(k + 1, dim=0).values[k - 1 :]
    return torch.where(last[0] == last[1], (activations == last[0]).sum(dim=0), 0)


def top_image_table(activations: Float[Tensor, "images units"], k: int) -> Int[Tensor, "units k"]:
    """The k images that activate each unit of a layer most, ties by smaller index; all values must be finite.

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
