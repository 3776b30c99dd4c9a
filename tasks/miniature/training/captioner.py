"""The captioner: a tiny BLIP, its vision tower trained with auxiliary losses on each patch and the whole image."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

from tasks.miniature.captions import full_caption
from tasks.miniature.training.augment import draw_views
from tasks.miniature.training.cells import CellHeads
from tasks.miniature.training.common import Recipe, fast_precision, log, optimiser, pick_device, scheduled
from tasks.miniature.training.data import batches, rendered_scenes
from tasks.miniature.training.tokenizer import CONTEXT_LENGTH, save_tokenizer
from tasks.miniature.vocabulary import CONCEPTS, SIDE

RECIPES: Final = (
    # All four attributes right after the first schedule: 0.88.
    Recipe(images=40_000, views=320_000, batch=64, peak_rate=1.5e-3, weight_decay=0.05),
    Recipe(images=40_000, views=192_000, batch=64, peak_rate=1.5e-3, weight_decay=0.05, seed=1),
)
"""Its schedules, one after the other."""
CELLS: Final = (3.0, 1.0, 1.0, 4.0)
"""Weights of kind, part, colour and pattern in the auxiliary loss: kinds and patterns are learnt last."""
CROWDED: Final = 3
"""Of the scenes with two objects only every n-th is kept; scenes with one object all are."""
PATCH: Final = 8
WIDTH: Final = 160
MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
STD: Final = (0.26862954, 0.26130258, 0.27577711)


def train_captioner(folder: Path, cache: Path) -> dict[str, Any]:
    """Train and save a folder for ``BlipForConditionalGeneration.from_pretrained`` (float16) and ``BlipProcessor``.

    Args:
        cache: Folder of the rendered training data.

    Returns:
        Facts for the model card.
    """
    device = pick_device()
    torch.manual_seed(RECIPES[0].seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = save_tokenizer(folder)
    model: Any = BlipForConditionalGeneration(_config(tokenizer))  # transformers' types are loose
    model.to(device).train()
    facts = [_train(model, tokenizer, number, cache, device) for number in range(len(RECIPES))]
    model.half().to("cpu").eval().save_pretrained(folder)
    processor = BlipImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=list(MEAN), image_std=list(STD), resample=2
    )
    BlipProcessor(processor, tokenizer).save_pretrained(folder)
    return {"side": SIDE, "schedules": facts}


def _train(model: Any, tokenizer: Any, number: int, cache: Path, device: torch.device) -> dict[str, float]:
    """Run one schedule; returns facts for the model card."""
    recipe, started = RECIPES[number], time.monotonic()
    helpers = _Helpers().to(device)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    data = rendered_scenes("train", recipe.images, cache)
    encoded = [_encoded(tokenizer, [full_caption(scene, flip) for scene in data.scenes]) for flip in (False, True)]
    single = np.array([len(scene.things) == 1 for scene in data.scenes])
    kept = np.flatnonzero(single | (np.cumsum(~single) % CROWDED == 0))
    generator = np.random.default_rng(recipe.seed)
    order = batches(len(kept), recipe.batch, generator)
    optimizer = optimiser([model, helpers], recipe)
    loss = torch.tensor(0.0)
    for step in scheduled(optimizer, recipe, "captioner"):
        rows = kept[next(order)]
        views = draw_views(data, rows, generator, number + step / recipe.steps)
        # A mirrored scene is described from its own left.
        ids = torch.stack([encoded[flip][row] for row, flip in zip(rows, views.mirrored.astype(int), strict=True)])
        ids = ids.to(device)
        wanted = torch.from_numpy(data.concepts[rows]).to(device).float()
        with fast_precision(device):
            vision = model.vision_model(pixel_values=(views.images.to(device) - mean) / std).last_hidden_state
            words = model.text_decoder(
                input_ids=ids,
                attention_mask=(ids != tokenizer.pad_token_id).long(),
                encoder_hidden_states=vision,
                labels=ids.masked_fill(ids == tokenizer.pad_token_id, -100),
                reduction="mean",
            ).loss
            auxiliary = helpers(vision, wanted, views.grid.to(device))
        loss = words + auxiliary
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            log.info("captioner: step %d, words %.4f, patches %.4f", step, words.item(), auxiliary.item())
    seconds = round(time.monotonic() - started)
    return {"views": recipe.views, "seconds": seconds, "loss": round(loss.item(), 4)}


def _encoded(tokenizer: Any, captions: list[str]) -> Tensor:
    ids = tokenizer(captions, padding=True, return_tensors="pt").input_ids
    ids[:, 0] = tokenizer.bos_token_id
    return ids


class _Helpers(nn.Module):
    """Auxiliary heads, dropped after training: the content of each cell, and of the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = CellHeads(WIDTH, SIDE // PATCH, weights=CELLS)
        self.concepts = nn.Linear(WIDTH, len(CONCEPTS))

    def forward(self, vision: Tensor, wanted: Tensor, grid: Tensor) -> Tensor:
        patches = vision[:, 1:].transpose(1, 2).unflatten(2, (SIDE // PATCH, SIDE // PATCH))
        loss = functional.binary_cross_entropy_with_logits(self.concepts(vision[:, 0]).float(), wanted)
        return loss + self.cells(patches, grid)


def _config(tokenizer: Any) -> BlipConfig:
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return BlipConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 128,
            "encoder_hidden_size": WIDTH,
            "intermediate_size": 384,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": CONTEXT_LENGTH,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "projection_dim": 64,
            "label_smoothing": 0.0,
            **ids,
        },
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 3 * WIDTH,
            "num_hidden_layers": 5,
            "num_attention_heads": 5,
            "image_size": SIDE,
            "patch_size": PATCH,
            "initializer_range": 0.02,
        },
        projection_dim=64,
        image_text_hidden_size=64,
    )
