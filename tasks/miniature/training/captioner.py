"""The captioner: a tiny BLIP, its vision tower helped along by what each patch and the whole image show."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

from tasks.miniature.captions import full_caption
from tasks.miniature.training.cells import CellHeads
from tasks.miniature.training.common import Recipe, image_batch, log, optimiser, pick_device, scheduled
from tasks.miniature.training.data import SIDE, batches, rendered_scenes
from tasks.miniature.training.tokenizer import CONTEXT_LENGTH, save_tokenizer
from tasks.miniature.vocabulary import CONCEPTS

RECIPE: Final = Recipe(images=60_000, views=160_000, batch=64, peak_rate=1.5e-3, weight_decay=0.05)
PATCH: Final = 8
WIDTH: Final = 160
MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
STD: Final = (0.26862954, 0.26130258, 0.27577711)


def train_captioner(folder: Path, cache: Path) -> dict[str, float]:
    """Train and save a folder for ``BlipForConditionalGeneration.from_pretrained`` (float16) and ``BlipProcessor``.

    Args:
        folder: Where to save.
        cache: Folder of the rendered training data.

    Returns:
        Facts for the model card.
    """
    device = pick_device()
    torch.manual_seed(RECIPE.seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = save_tokenizer(folder)
    model = BlipForConditionalGeneration(_config(tokenizer)).to(device).train()
    helpers = _Helpers().to(device)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    data = rendered_scenes("train", RECIPE.images, cache)
    encoded = tokenizer([full_caption(scene) for scene in data.scenes], padding=True, return_tensors="pt").input_ids
    encoded[:, 0] = tokenizer.bos_token_id
    generator = np.random.default_rng(RECIPE.seed)
    order = batches(len(data.images), RECIPE.batch, generator)
    optimizer = optimiser([model, helpers], RECIPE)
    started, loss = time.monotonic(), torch.tensor(0.0)
    for step in scheduled(optimizer, RECIPE, "captioner"):
        rows = next(order)
        pixels = (image_batch(data.images[rows], device) - mean) / std
        vision = model.vision_model(pixel_values=pixels).last_hidden_state
        ids = encoded[torch.from_numpy(rows)].to(device)
        labels = ids.masked_fill(ids == tokenizer.pad_token_id, -100)
        words = model.text_decoder(
            input_ids=ids,
            attention_mask=(ids != tokenizer.pad_token_id).long(),
            encoder_hidden_states=vision,
            labels=labels,
            reduction="mean",
        ).loss
        wanted = torch.from_numpy(data.concepts[rows]).to(device).float()
        grid = torch.from_numpy(data.grid[rows]).to(device).long()
        auxiliary = helpers(vision, wanted, grid)
        loss = words + auxiliary
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0:
            log.info("captioner: step %d, words %.4f, patches %.4f", step, words.item(), auxiliary.item())
    model.half().to("cpu").eval().save_pretrained(folder)
    processor = BlipImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=list(MEAN), image_std=list(STD), resample=2
    )
    BlipProcessor(processor, tokenizer).save_pretrained(folder)
    return {"seconds": time.monotonic() - started, "views": RECIPE.views, "side": SIDE, "loss": loss.item()}


class _Helpers(nn.Module):
    """Auxiliary heads, dropped after training: what stands in each cell, and what the image holds."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = CellHeads(WIDTH, SIDE // PATCH)
        self.concepts = nn.Linear(WIDTH, len(CONCEPTS))

    def forward(self, vision: Tensor, wanted: Tensor, grid: Tensor) -> Tensor:
        patches = vision[:, 1:].transpose(1, 2).unflatten(2, (SIDE // PATCH, SIDE // PATCH))
        loss = functional.binary_cross_entropy_with_logits(self.concepts(vision[:, 0]), wanted)
        return loss + 0.25 * self.cells(patches, grid)


def _config(tokenizer: object) -> BlipConfig:
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
