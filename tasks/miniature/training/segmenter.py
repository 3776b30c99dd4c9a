"""The foreground segmenter: torchvision's LR-ASPP on MobileNetV3, trained from scratch."""

from __future__ import annotations

import time
from typing import Any, Final

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from tasks.images import resize, to_array, to_tensor
from tasks.miniature.render import render
from tasks.miniature.scene import scene_at
from tasks.miniature.training.common import Recipe, image_batch, log, optimiser, pick_device, scheduled
from tasks.miniature.training.data import batches
from tasks.models.layout import place

RECIPE: Final = Recipe(images=6_000, views=16_000, batch=32, peak_rate=2e-3, weight_decay=0.02)
SIDE: Final = 160
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)


def train_segmenter() -> tuple[nn.Module, dict[str, Any]]:
    """Train the segmenter; its scenes are larger than the shared ones and few, so they are rendered on the way.

    Returns:
        The network in eval mode on the CPU (one logit a pixel), and facts for its model card.
    """
    device = pick_device()
    torch.manual_seed(RECIPE.seed)
    images, masks = _scenes(RECIPE.images)
    model = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=1)
    place(model, device, channels_last=True).train()
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    generator = np.random.default_rng(RECIPE.seed)
    order = batches(len(images), RECIPE.batch, generator)
    optimizer = optimiser([model], RECIPE)
    started, loss = time.monotonic(), torch.tensor(0.0)
    for step in scheduled(optimizer, RECIPE, "segmenter"):
        rows = next(order)
        batch = (image_batch(images[rows], device) - mean) / std
        wanted = torch.from_numpy(masks[rows]).to(device).float()[:, None]
        flip = torch.from_numpy(generator.random(len(rows)) < 0.5).to(device)[:, None, None, None]
        batch, wanted = torch.where(flip, batch.flip(3), batch), torch.where(flip, wanted.flip(3), wanted)
        logits = model(batch.contiguous(memory_format=torch.channels_last))["out"]
        shares = torch.sigmoid(logits)
        overlap = 2 * (shares * wanted).sum((1, 2, 3)) / (shares + wanted).sum((1, 2, 3)).clamp(min=1)
        loss = functional.binary_cross_entropy_with_logits(logits, wanted) + (1 - overlap.mean())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("segmenter: step %d, loss %.4f", step, loss.item())
    settle_batch_norm(model, images, device)
    stage = {"views": RECIPE.views, "seconds": round(time.monotonic() - started), "loss": round(loss.item(), 4)}
    facts = {"side": SIDE, "stages": [stage]}
    return place(model, "cpu", channels_last=False).eval(), facts


def settle_batch_norm(model: nn.Module, images: np.ndarray, device: torch.device, batch: int = 32) -> None:
    """Set the batch-norm statistics to their plain average over 640 images.

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
        for start in range(0, 640, batch):
            model((image_batch(images[start : start + batch], device) - mean) / std)


def _scenes(count: int) -> tuple[np.ndarray, np.ndarray]:
    images, masks = [], []
    for number in range(count):
        drawn = render(scene_at("train", number))
        images.append(to_array(resize(to_tensor(drawn.image[None]), SIDE))[0])
        cover = cv2.resize(drawn.foreground.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        masks.append(cover >= 0.5)
    return np.stack(images), np.stack(masks)
