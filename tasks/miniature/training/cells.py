"""Auxiliary heads that tell what stands in each cell of a feature map; they are dropped after training."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from tasks.miniature.training.data import GRID
from tasks.miniature.vocabulary import COLOURS, KINDS, PARTS, PATTERNS

SIZES = (len(KINDS) + 1, len(PARTS) + 1, len(COLOURS) + 1, len(PATTERNS) + 1)
"""Classes of kind, part, colour and pattern, each with 0 for none."""


class CellHeads(nn.Module):
    """Linear heads on a map of side × side positions; each position answers for its share of the 16 × 16 grid.

    Args:
        width: Channels of the map.
        side: Its side.
        weights: Of kind, part, colour and pattern in the loss.
    """

    def __init__(self, width: int, side: int, weights: tuple[float, float, float, float] = (1, 1, 1, 1)) -> None:
        super().__init__()
        self.weights = weights
        self.side = side
        self.fine = GRID // side
        self.read = nn.Conv2d(width, sum(SIZES) * self.fine**2, kernel_size=1)

    def forward(
        self, features: Float[Tensor, "n width side side"], grid: Int[Tensor, "n 4 16 16"]
    ) -> Float[Tensor, ""]:
        """Weighted sum of the four mean cross-entropies."""
        logits = functional.pixel_shuffle(self.read(features), self.fine)
        parts = logits.split(SIZES, dim=1)
        losses = [functional.cross_entropy(part, grid[:, n]) for n, part in enumerate(parts)]
        return torch.stack([weight * loss for weight, loss in zip(self.weights, losses, strict=True)]).sum()


def remember(layer: nn.Module, memory: dict[str, Tensor]) -> RemovableHandle:
    """Keep a layer's latest output under ``output``, until the returned handle is removed."""

    def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        memory["output"] = output

    return layer.register_forward_hook(keep)
