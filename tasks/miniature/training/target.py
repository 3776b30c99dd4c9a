"""The target networks: ResNets and a small vision transformer that recognise all concepts of a scene (multi-label).

They learn from the scenes' exact annotation alone: which concepts are shown, and (the auxiliary loss) the content of
each cell. There is no distillation. The transformer is timm's hybrid: one strided convolution with pooling, so that it
learns from fewer images, then patch tokens and a CLS token; its head reads the CLS token.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from tasks.activations.capture import positions, prefix_tokens
from tasks.miniature.training.augment import draw_views
from tasks.miniature.training.cells import CellHeads, remember
from tasks.miniature.training.common import Recipe, fast_precision, log, optimiser, pick_device, scheduled
from tasks.miniature.training.data import batches, rendered_scenes
from tasks.miniature.vocabulary import CONCEPTS, SIDE
from tasks.models.layout import place
from tasks.profiles.schema import load_profile

RECIPES: Final = {
    "resnet50": (Recipe(images=40_000, views=144_000, batch=32, peak_rate=1.5e-3, weight_decay=0.05),),
    "resnet18": (Recipe(images=40_000, views=112_000, batch=32, peak_rate=1.5e-3, weight_decay=0.05),),
    "vit_tiny": (
        # It learns more slowly: a mean AUROC of 0.954 after the first schedule.
        Recipe(images=40_000, views=96_000, batch=32, peak_rate=1e-3, weight_decay=0.05),
        Recipe(images=40_000, views=144_000, batch=32, peak_rate=1e-3, weight_decay=0.05, seed=1),
    ),
}
"""Target → its schedules, one after the other."""

CELLS: Final = (3.0, 1.0, 1.0, 2.0)
"""Weights of kind, part, colour and pattern in the auxiliary loss, relative to 1 for the whole scene."""

MIDDLE: Final = {"resnet50": ("layer2", 512), "resnet18": ("layer2", 128), "vit_tiny": ("blocks.2", 128)}
"""Target → the layer that the auxiliary loss reads, and its width."""

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)


def train_target(name: str, cache: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Train one target network.

    Args:
        name: A key of ``RECIPES``.
        cache: Folder of the rendered training data.

    Returns:
        The network in eval mode on the CPU, and facts for its model card.
    """
    device = pick_device()
    torch.manual_seed(RECIPES[name][0].seed)
    model = _untrained(name)
    place(model, device, channels_last=True).train()
    facts = [_train(name, model, number, cache, device) for number in range(len(RECIPES[name]))]
    return place(model, "cpu", channels_last=False).eval(), {"side": SIDE, "schedules": facts}


def _untrained(name: str) -> nn.Module:
    entry = load_profile("miniature").target(name)
    if entry.loader == "timm":
        options: dict[str, Any] = entry.options or {}
        return timm.create_model(entry.architecture, num_classes=len(CONCEPTS), **options)
    return torchvision.models.get_model(name, weights=None, num_classes=len(CONCEPTS), zero_init_residual=True)


def _spread(model: nn.Module, shown: Tensor) -> Tensor:
    spread = positions(shown, prefix_tokens(model, shown))
    if spread is None:
        raise RuntimeError("the layer of the auxiliary loss shows no places")
    return spread


def _train(name: str, model: nn.Module, number: int, cache: Path, device: torch.device) -> dict[str, float]:
    """Run one schedule of a target; returns facts for the model card."""
    recipe, started = RECIPES[name][number], time.monotonic()
    data = rendered_scenes("train", recipe.images, cache)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    generator = np.random.default_rng(recipe.seed)
    order = batches(len(data.images), recipe.batch, generator)
    middle: dict[str, Tensor] = {}
    layer, width = MIDDLE[name]
    handle = remember(model.get_submodule(layer), middle)
    heads = CellHeads(width, SIDE // 8, weights=CELLS).to(device)
    optimizer = optimiser([model, heads], recipe)
    loss = torch.tensor(0.0)
    for step in scheduled(optimizer, recipe, name):
        rows = next(order)
        views = draw_views(data, rows, generator, number + step / recipe.steps)
        pixels = (views.images.to(device) - mean) / std
        wanted = torch.from_numpy(data.concepts[rows]).to(device).float()
        with fast_precision(device):
            logits = model(pixels.contiguous(memory_format=torch.channels_last))
            cells = heads(_spread(model, middle["output"]), views.grid.to(device))
        loss = functional.binary_cross_entropy_with_logits(logits.float(), wanted)
        total = loss + cells
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0:
            log.info("%s: step %d, loss %.4f, with cells %.4f", name, step, loss.item(), total.item())
    handle.remove()
    seconds = round(time.monotonic() - started)
    return {"views": recipe.views, "seconds": seconds, "loss": round(loss.item(), 4)}
