"""Projected gradient on the images that a unit is probed with: a few of them are changed by at most ε grey levels.

After Srivastava, Oikarinen and Weng, Corrupting Neuron Explanations of Deep Visual Features (ICCV 2023), with the
budget of their release: ε = 4 grey levels, 10 steps of 2ε/10, no random start.

In eval mode the images of a batch do not interact, so the change of an image depends on the unit and the direction
alone, not on which other images are attacked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from tasks.activations.capture import LayerCapture, Pooling, layer_kind, pool, prefix_tokens
from tasks.cache.padded import rows_for
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.models.batches import Batches
from tasks.models.target import TargetModel

_GREY: Final = 127


@dataclass(frozen=True)
class Budget:
    """How far an image may be changed.

    Attributes:
        levels: Maximum change of a value, in whole grey levels.
        steps: Number of gradient steps of 2 · ``levels`` / ``steps`` each.
    """

    levels: int = 4
    steps: int = 10


@dataclass(frozen=True)
class Aim:
    """The unit whose activation is changed.

    Attributes:
        name: Name of the network, for errors.
        layer: Dotted name of the layer.
        pooling: How the layer's output is pooled.
        unit: Index of the unit in the layer.
    """

    target: TargetModel
    name: str
    layer: str
    pooling: Pooling
    unit: int


def check_gradients(aim: Aim, *, masked: bool = False) -> None:
    """Check that the unit's activation has a gradient with respect to the image.

    Args:
        masked: Whether the attack is to have masks, see ``attacked``.

    Raises:
        UserError: It has none, as in a network that runs in another library (ONNX), or there are no maps for the masks.
    """
    side = aim.target.preprocessing.side
    with LayerCapture(aim.target.network, [aim.layer]) as capture:
        masks = torch.ones(1, side, side) if masked else None
        _gradients(aim, capture, torch.full((1, 3, side, side), float(_GREY)), torch.ones(1), masks)


def attacked(
    aim: Aim,
    images: UInt8[Tensor, "n 3 h w"],
    raised: Bool[Tensor, " n"],
    budget: Budget = Budget(),
    masks: Float[Tensor, "n a b"] | None = None,
) -> UInt8[Tensor, "n 3 h w"]:
    """Images changed so that the unit responds more, or less.

    The result of an image is the same in any batch and order; as the sign of a gradient near 0 is a matter of rounding,
    it may differ between devices.

    Args:
        images: In the network's view, see ``tasks.view.View``.
        raised: Whether the activation on an image is to be raised; otherwise it is lowered.
        masks: A weight for each pixel of the unit's map, which is enlarged bilinearly to their size: the weighted sum
            is raised or lowered in place of the pooled activation.

    Returns:
        Images of the same size, on the CPU; no value differs by more than ``budget.levels``.

    Raises:
        UserError: The network has no gradients, or masks are given and the layer has no maps.
    """
    batches = Batches(min(rows_for(aim.target.device), aim.target.batch_size))

    def work(part: Tensor) -> Tensor:
        # Always as many images at once: the last bits of a gradient depend on it.
        chosen = torch.cat([part, part[-1:].expand(batches.size - len(part))])
        signs = torch.where(raised[chosen], 1.0, -1.0)
        return _climbed(aim, images[chosen], signs, budget, None if masks is None else masks[chosen])[: len(part)]

    return torch.cat(list(batches.run(work, torch.arange(len(images))))) if len(images) else images


def noisy(
    images: UInt8[Tensor, "n 3 h w"], changed: UInt8[Tensor, "n 3 h w"], ids: Sequence[str], seed: int, unit: int
) -> UInt8[Tensor, "n 3 h w"]:
    """The control of an attack: every value is changed by as many grey levels, up or down at random.

    Where one of the two directions would leave the range of a byte, the other is taken, so that the change has the
    attack's norm in every sense.

    Args:
        changed: The attacked images.
        ids: Identifiers of the images, which address the draws.
    """
    before, size = images.int(), (changed.int() - images.int()).abs()
    shape = tuple(images.shape[1:])
    drawn = [generator(seed, "attack noise", unit, name).integers(0, 2, shape, dtype=np.int8) for name in ids]
    up = torch.from_numpy(np.stack(drawn)).bool() if len(drawn) else torch.empty(0, *shape, dtype=torch.bool)
    up = (up | (before < size)) & (before + size <= 255)
    return torch.where(up, before + size, before - size).to(torch.uint8)


def change_sha256(images: UInt8[Tensor, "n 3 h w"], changed: UInt8[Tensor, "n 3 h w"]) -> str:
    """SHA-256 of the change in grey levels (int8, in the order of the images): says whether two attacks are equal."""
    return hashlib.sha256((changed.int() - images.int()).to(torch.int8).numpy().tobytes()).hexdigest()


def _climbed(
    aim: Aim,
    images: UInt8[Tensor, "n 3 h w"],
    signs: Float[Tensor, " n"],
    budget: Budget,
    masks: Float[Tensor, "n a b"] | None,
) -> UInt8[Tensor, "n 3 h w"]:
    device = aim.target.device
    start, signs = images.to(device).float(), signs.to(device)
    # Values of a byte within the ball, so that the last rounding cannot leave it.
    low, high = (start - budget.levels).clamp(min=0), (start + budget.levels).clamp(max=255)
    step = 2 * budget.levels / budget.steps
    now = start
    with LayerCapture(aim.target.network, [aim.layer]) as capture:
        for _ in range(budget.steps):
            slope = _gradients(aim, capture, now, signs, masks)
            now = torch.minimum(torch.maximum(now + step * slope.sign(), low), high)
    return now.round().to(torch.uint8).cpu()


def _gradients(
    aim: Aim,
    capture: LayerCapture,
    images: Float[Tensor, "n 3 h w"],
    signs: Float[Tensor, " n"],
    masks: Float[Tensor, "n a b"] | None,
) -> Float[Tensor, "n 3 h w"]:
    """Gradient of the signed activations with respect to the images, in activation per grey level."""
    network = aim.target.network
    with torch.enable_grad(), torch.backends.cudnn.flags(deterministic=True, allow_tf32=False):
        levels = images.to(aim.target.device).detach().clone().requires_grad_()
        inputs = aim.target.preprocessing(levels).contiguous(memory_format=torch.channels_last)
        output = capture(inputs)[aim.layer]
        readout, prefix = aim.target.readout_of(aim.layer), prefix_tokens(network, output)
        units = output if readout is None else readout(output)
        if masks is None:
            values = pool(units, aim.pooling, prefix)[:, aim.unit]
        elif layer_kind(units) != "spatial":
            raise UserError(
                f"An attack with masks needs maps, and {aim.layer} of {aim.name} has none: omit --attack-masks."
            )
        else:
            maps = interpolate(units[:, aim.unit, None], masks.shape[1:], mode="bilinear")
            values = (maps[:, 0] * masks.to(maps.device)).sum((1, 2))
        wanted = (values * signs.to(values.device)).sum()
        found = torch.autograd.grad(wanted, levels, allow_unused=True)[0] if wanted.requires_grad else None
    if found is None:
        raise UserError(
            f"An attack needs gradients, and {aim.layer} of {aim.name} has none with respect to its images (as in a "
            "network run by ONNX, or one that detaches its output): choose another network or layer, or omit the study."
        )
    return found
