"""Auxiliary heads that classify the content of each cell of a feature map; they are dropped after training."""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from tasks.miniature.vocabulary import COLOURS, GRID, KINDS, PARTS, PATTERNS

SIZES = (len(KINDS) + 1, len(PARTS) + 1, len(COLOURS) + 1, len(PATTERNS) + 1)
"""Classes of kind, part, colour and pattern, each with 0 for none."""

NONE: Final = 0.1
"""Loss weight of a position without content, relative to 1 for the others: most positions show background."""


class CellHeads(nn.Module):
    """Linear heads on a map of side × side positions; each position predicts its share of the grid.

    Args:
        width: Channels of the map.
        weights: Loss weights of kind, part, colour and pattern.
    """

    def __init__(self, width: int, side: int, weights: tuple[float, float, float, float] = (1, 1, 1, 1)) -> None:
        super().__init__()
        self.weights = weights
        self.side = side
        self.fine = GRID // side
        self.read = nn.Conv2d(width, sum(SIZES) * self.fine**2, kernel_size=1)

    def forward(
        self, features: Float[Tensor, "n width side side"], grid: Int[Tensor, "n 4 cells cells"]
    ) -> Float[Tensor, ""]:
        """Weighted sum of the four mean cross-entropies."""
        logits = functional.pixel_shuffle(self.read(features), self.fine).float()
        losses = []
        for number, (part, size) in enumerate(zip(logits.split(SIZES, dim=1), SIZES, strict=True)):
            weight = torch.tensor([NONE] + [1.0] * (size - 1), device=logits.device)
            losses.append(functional.cross_entropy(part, grid[:, number], weight=weight))
        return torch.stack([weight * loss for weight, loss in zip(self.weights, losses, strict=True)]).sum()


def remember(layer: nn.Module, memory: dict[str, Tensor]) -> RemovableHandle:
    """Store a layer's latest output under ``output``, until the returned handle is removed."""

    def keep(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        memory["output"] = output

    return layer.register_forward_hook(keep)
