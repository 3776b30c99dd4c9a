"""A torchvision segmentation network as the foreground segmenter."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from tasks.common.images import resize
from tasks.models.layout import place

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ForegroundSegmenter:
    """A network that gives one logit per pixel, or one per class with class 0 the background.

    Args:
        network: Maps [n, 3, side, side] to ``{"out": [n, 1 or classes, h, w]}``, as torchvision's segmentation models.
        side: Side of the network's input in pixels.
    """

    def __init__(self, network: nn.Module, side: int, device: torch.device, batch_size: int = 32) -> None:
        self._network = place(network.eval(), device, channels_last=True)
        self._side = side
        self._device = device
        self._batch_size = batch_size
        self._mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(STD, device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def foreground(self, images: UInt8[Tensor, "n 3 h w"]) -> Bool[Tensor, "n h w"]:
        """True where a pixel is more likely than not foreground."""
        parts = []
        for batch in images.split(self._batch_size):
            pixels = (resize(batch.to(self._device), self._side).float() / 255 - self._mean) / self._std
            logits = self._network(pixels.contiguous(memory_format=torch.channels_last))["out"]
            full = functional.interpolate(
                _foreground_logit(logits), size=images.shape[-2:], mode="bilinear", align_corners=False
            )
            parts.append((full[:, 0] > 0).cpu())
        return torch.cat(parts)


def lraspp(weights: dict[str, Tensor]) -> nn.Module:
    """LR-ASPP on MobileNetV3 with one logit per pixel (Howard et al., ICCV 2019), with its state dict."""
    network: nn.Module = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=1)
    network.load_state_dict(weights)
    return network


def _foreground_logit(logits: Float[Tensor, "n classes h w"]) -> Float[Tensor, "n 1 h w"]:
    """Log-odds that a pixel is of any class but the background."""
    if logits.shape[1] == 1:
        return logits
    return torch.logsumexp(logits[:, 1:], dim=1, keepdim=True) - logits[:, :1]
