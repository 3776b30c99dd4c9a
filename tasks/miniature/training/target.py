"""The target networks: torchvision ResNets that recognise all concepts of a scene (multi-label)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
import torchvision
from torch import nn
from torch.nn import functional

from tasks.miniature.training.common import Recipe, image_batch, log, optimiser, pick_device, scheduled
from tasks.miniature.training.data import SIDE, batches, rendered_scenes
from tasks.miniature.vocabulary import CONCEPTS

RECIPES: Final = {
    "resnet50": Recipe(images=60_000, views=64_000, batch=64, peak_rate=2e-3, weight_decay=0.05),
    "resnet18": Recipe(images=60_000, views=64_000, batch=64, peak_rate=2e-3, weight_decay=0.05),
}
SMALL_SIDE: Final = 48
"""The first half of training sees smaller images, which are 1.8 times cheaper."""

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)


def train_target(name: str, cache: Path) -> tuple[nn.Module, dict[str, float]]:
    """Train one target network.

    Args:
        name: ``resnet50`` or ``resnet18``.
        cache: Folder of the rendered training data.

    Returns:
        The network in eval mode on the CPU, and facts for its model card.
    """
    recipe = RECIPES[name]
    device = pick_device()
    torch.manual_seed(recipe.seed)
    data = rendered_scenes("train", recipe.images, cache)
    model = torchvision.models.get_model(name, weights=None, num_classes=len(CONCEPTS), zero_init_residual=True)
    model.to(device=device, memory_format=torch.channels_last).train()
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    generator = np.random.default_rng(recipe.seed)
    order = batches(len(data.images), recipe.batch, generator)
    optimizer = optimiser([model], recipe)
    started, loss = time.monotonic(), torch.tensor(0.0)
    for step in scheduled(optimizer, recipe, name):
        rows = next(order)
        images = (image_batch(data.images[rows], device, generator) - mean) / std
        if step < recipe.steps // 2:
            images = functional.interpolate(images, size=SMALL_SIDE, mode="bilinear", antialias=True)
        wanted = torch.from_numpy(data.concepts[rows]).to(device).float()
        loss = functional.binary_cross_entropy_with_logits(
            model(images.contiguous(memory_format=torch.channels_last)), wanted
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("%s: step %d, loss %.4f", name, step, loss.item())
    facts = {"seconds": time.monotonic() - started, "views": recipe.views, "side": SIDE, "loss": loss.item()}
    return model.to("cpu", memory_format=torch.contiguous_format).eval(), facts
