"""The foreground segmenter: torchvision's LR-ASPP on MobileNetV3, trained from scratch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from tasks.miniature.training.augment import draw_views, masks_of
from tasks.miniature.training.common import Recipe, log, optimiser, pick_device, scheduled
from tasks.miniature.training.data import FRAME, batches, crop, rendered_scenes
from tasks.models.layout import place

RECIPES: Final = (
    # Foreground IoU after the first schedule: 0.898.
    Recipe(images=40_000, views=20_000, batch=32, peak_rate=2e-3, weight_decay=0.02),
    Recipe(images=40_000, views=12_800, batch=32, peak_rate=2e-3, weight_decay=0.02, seed=1),
)
"""Its schedules, one after the other."""
INPUT: Final = 224
"""Side in pixels to which it enlarges an image: its stride is too coarse for the networks' size."""
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)


def train_segmenter(cache: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Train the segmenter.

    Args:
        cache: Folder of the rendered training data.

    Returns:
        The network in eval mode on the CPU (one logit per pixel), and facts for its model card.
    """
    device = pick_device()
    torch.manual_seed(RECIPES[0].seed)
    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=1)
    place(model, device, channels_last=True)
    facts = [_train(model, number, cache, device) for number in range(len(RECIPES))]
    return place(model, "cpu", channels_last=False).eval(), {"side": INPUT, "schedules": facts}


def _train(model: nn.Module, number: int, cache: Path, device: torch.device) -> dict[str, float]:
    """Run one schedule; returns facts for the model card."""
    recipe, started = RECIPES[number], time.monotonic()
    model.train()
    data = rendered_scenes("train", recipe.images, cache)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    generator = np.random.default_rng(recipe.seed)
    order = batches(len(data.images), recipe.batch, generator)
    optimizer = optimiser([model], recipe)
    loss = torch.tensor(0.0)
    for step in scheduled(optimizer, recipe, "segmenter"):
        rows = next(order)
        views = draw_views(data, rows, generator, number + step / recipe.steps)
        batch = (enlarged(views.images.to(device)) - mean) / std
        wanted = masks_of(data, rows, views).to(device).float()[:, None]
        # In float32: bfloat16 is slower for MobileNet's depthwise convolutions on a CPU.
        logits = model(batch.contiguous(memory_format=torch.channels_last))["out"]
        logits = functional.interpolate(logits, size=wanted.shape[-2:], mode="bilinear", align_corners=False)
        shares = torch.sigmoid(logits)
        overlap = 2 * (shares * wanted).sum((1, 2, 3)) / (shares + wanted).sum((1, 2, 3)).clamp(min=1)
        loss = functional.binary_cross_entropy_with_logits(logits, wanted) + (1 - overlap.mean())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("segmenter: step %d, loss %.4f", step, loss.item())
    seen = torch.stack([crop(image, FRAME) for image in data.images[:640]])
    settle_batch_norm(model, seen, device)
    seconds = round(time.monotonic() - started)
    return {"views": recipe.views, "seconds": seconds, "loss": round(loss.item(), 4)}


def enlarged(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 input input"]:
    """Images at the network's input side, resized as in ``tasks.models.segmenter``."""
    return functional.interpolate(images, size=(INPUT, INPUT), mode="bilinear", align_corners=False)


def settle_batch_norm(
    model: nn.Module, images: UInt8[Tensor, "n 3 h w"], device: torch.device, batch: int = 32
) -> None:
    """Set the batch-norm statistics to their plain average over some images.

    MobileNetV3's running averages move so slowly (momentum 0.01) that a short training leaves them behind: foreground
    IoU 0.56 with them, 0.90 without.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    model.train()
    with torch.inference_mode():
        for part in images.split(batch):
            model((enlarged(part.to(device).float() / 255) - mean) / std)
