"""Shared by all training scripts: device, learning-rate schedule, progress, precision."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

log = logging.getLogger("tasks.miniature")


@dataclass(frozen=True)
class Recipe:
    """Length and learning rate of a model's training; part of its model card."""

    images: int
    views: int
    batch: int
    peak_rate: float
    weight_decay: float
    seed: int = 0

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return self.views // self.batch


def pick_device() -> torch.device:
    """CUDA if available, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fast_precision(device: torch.device) -> torch.autocast:
    """bfloat16 if the machine multiplies it faster than float32: on CUDA and on CPUs with AMX; losses stay float32.

    On a CPU without AMX it is several times slower.
    """
    fast = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def optimiser(modules: Sequence[nn.Module], recipe: Recipe) -> torch.optim.AdamW:
    """AdamW; biases, norms and other vectors are not decayed."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_rate, betas=(0.9, 0.98))


def scheduled(optimizer: torch.optim.Optimizer, recipe: Recipe, name: str) -> Iterator[int]:
    """Count steps, set the rate (linear warm-up over 5 %, then cosine to zero) and log progress."""
    started = time.monotonic()
    warm = max(1, recipe.steps // 20)
    for step in range(recipe.steps):
        share = min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        for group in optimizer.param_groups:
            group["lr"] = recipe.peak_rate * share
        yield step
        if (step + 1) % max(1, recipe.steps // 20) == 0:
            seconds = time.monotonic() - started
            rate = (step + 1) * recipe.batch / seconds
            log.info("%s: step %d/%d, %.0f s, %.0f images/s", name, step + 1, recipe.steps, seconds, rate)
