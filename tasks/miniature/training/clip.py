"""The miniature's CLIP: open_clip with a timm ResNet and a text transformer, trained on images and captions."""

from __future__ import annotations

import json
import string
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from tasks.miniature.captions import draw_caption, holds
from tasks.miniature.training.augment import draw_views
from tasks.miniature.training.cells import CellHeads, remember
from tasks.miniature.training.common import Recipe, fast_precision, log, optimiser, pick_device, scheduled
from tasks.miniature.training.data import batches, rendered_scenes
from tasks.miniature.training.tokenizer import CONTEXT_LENGTH, save_tokenizer
from tasks.miniature.vocabulary import CONCEPTS, SIDE
from tasks.models.layout import place

RECIPE: Final = Recipe(images=40_000, views=320_000, batch=64, peak_rate=1.5e-3, weight_decay=0.05)
TOWER: Final = "resnet10t"
"""The image tower, from timm: open_clip's own ResNets halve 112 px five times by dropping the remainder."""
CELLS: Final = 1.0
"""Weight of the auxiliary loss that classifies the content of each cell of the tower's ``layer2``."""

STRANGERS: Final = 16
"""Texts per batch that are true of no image, so that words outside the vocabulary match nothing."""

EMBED_DIM: Final = 128
MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
STD: Final = (0.26862954, 0.26130258, 0.27577711)


def train_clip(folder: Path, cache: Path) -> dict[str, Any]:
    """Train and save an open_clip folder (config, float16 weights, tokenizer).

    Args:
        folder: Where ``open_clip.create_model_and_transforms("local-dir:FOLDER")`` will find it.
        cache: Folder of the rendered training data.

    Returns:
        Facts for the model card.
    """
    device = pick_device()
    torch.manual_seed(RECIPE.seed)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = save_tokenizer(folder)
    config = _config(len(tokenizer), tokenizer.convert_tokens_to_ids("[SEP]"))
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")
    model = open_clip.CLIP(**config["model_cfg"])
    place(model, device, channels_last=True).train()
    started = time.monotonic()
    loss = _train(model, tokenizer, cache, device)
    state = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return {"side": SIDE, "views": RECIPE.views, "seconds": round(time.monotonic() - started), "loss": loss}


def _train(model: open_clip.CLIP, tokenizer: Any, cache: Path, device: torch.device) -> float:
    head = nn.Linear(EMBED_DIM, len(CONCEPTS)).to(device)
    cells = CellHeads(128, SIDE // 8, weights=(3, 1, 1, 4)).to(device)
    mean = torch.tensor(MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=device).view(1, 3, 1, 1)
    data = rendered_scenes("train", RECIPE.images, cache)
    generator = np.random.default_rng(RECIPE.seed)
    order = batches(len(data.images), RECIPE.batch, generator)
    middle: dict[str, Tensor] = {}
    handle = remember(model.get_submodule("visual.trunk.layer2"), middle)
    optimizer = optimiser([model, head, cells], RECIPE)
    loss = torch.tensor(0.0)
    for step in scheduled(optimizer, RECIPE, "clip"):
        rows = next(order)
        scenes = [data.scenes[row] for row in rows]
        drawn = [draw_caption(scene, generator) for scene in scenes]
        texts = [text for text, _ in drawn] + [_stranger(generator) for _ in range(STRANGERS)]
        match = np.array([[holds(claims, scene) for _, claims in drawn] for scene in scenes])
        tokens = tokenizer(
            texts, padding="max_length", truncation=True, max_length=CONTEXT_LENGTH, return_tensors="pt"
        ).input_ids.to(device)
        views = draw_views(data, rows, generator, step / RECIPE.steps)
        with fast_precision(device):
            pixels = (views.images.to(device) - mean) / std
            shown = model.encode_image(pixels.contiguous(memory_format=torch.channels_last)).float()
            told = model.encode_text(tokens).float()
            cell_loss = cells(middle["output"], views.grid.to(device))
        features, text_features = (functional.normalize(x, dim=-1) for x in (shown, told))
        logits = model.logit_scale.exp() * features @ text_features.T
        wanted = torch.from_numpy(data.concepts[rows]).to(device).float()
        auxiliary = functional.binary_cross_entropy_with_logits(head(shown), wanted)
        loss = _contrastive_loss(logits, torch.from_numpy(match).to(device)) + 2 * auxiliary + CELLS * cell_loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, float(np.log(50)))
        if step % 50 == 0:
            losses = (loss.item(), auxiliary.item(), cell_loss.item())
            log.info("clip: step %d, loss %.3f, concepts %.4f, cells %.4f", step, *losses)
    handle.remove()
    return round(loss.item(), 4)


def _config(words: int, end: int) -> dict:
    return {
        "model_cfg": {
            "embed_dim": EMBED_DIM,
            "vision_cfg": {
                "image_size": SIDE,
                "timm_model_name": TOWER,
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "linear",
            },
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": words,
                "hf_tokenizer_name": "local",
                "width": 128,
                "heads": 4,
                "layers": 2,
                "pool_type": "eos",
                "eos_id": end,
                "pad_id": 0,
            },
        },
        "preprocess_cfg": {"mean": list(MEAN), "std": list(STD), "interpolation": "bilinear", "resize_mode": "squash"},
    }


def _stranger(generator: np.random.Generator) -> str:
    """A word of random letters, which no image shows; half of the time vowels and consonants alternate."""
    length = int(generator.integers(3, 10))
    if generator.random() < 0.5:
        return "".join(generator.choice(list(string.ascii_lowercase), size=length))
    vowels, consonants = list("aeiou"), [c for c in string.ascii_lowercase if c not in "aeiou"]
    return "".join(str(generator.choice(vowels if place % 2 else consonants)) for place in range(length))


def _contrastive_loss(logits: Tensor, match: Tensor) -> Tensor:
    """Cross-entropy in both directions, with all texts (images) that truly match an image (text) as equal targets.

    Args:
        logits: [images, texts + strangers].
        match: [images, texts], True where the text holds for the image.
    """
    images = _soft_cross_entropy(logits, functional.pad(match, (0, logits.shape[1] - match.shape[1])))
    texts = _soft_cross_entropy(logits[:, : match.shape[1]].T, match.T)
    return (images + texts) / 2


def _soft_cross_entropy(logits: Tensor, match: Tensor) -> Tensor:
    target = match.float() / match.sum(1, keepdim=True).clamp(min=1)
    return -(target * logits.log_softmax(1)).sum(1).mean()
