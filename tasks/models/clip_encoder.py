"""CLIP by open_clip, from a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn import functional

from tasks.images import resize


class OpenClipEncoder:
    """An open_clip model as the image-text role; embeddings have unit norm.

    Args:
        folder: A folder with ``open_clip_config.json``, weights and, for small models, a tokenizer.
        device: Where it runs.
        batch_size: Images or texts a forward pass.

    Attributes:
        token_limit: Tokens of a text that are read, its start and end token among them (77 for OpenAI's models).
    """

    def __init__(self, folder: Path, device: torch.device, batch_size: int = 128) -> None:
        name = f"local-dir:{folder}"
        model: Any = open_clip.create_model_and_transforms(name)[0]
        self._model = model.float().eval().to(device)
        self._tokenizer: Any = open_clip.get_tokenizer(name)
        self.token_limit = int(self._tokenizer.context_length)
        self._device = device
        self._batch_size = batch_size
        settings = open_clip.get_model_preprocess_cfg(model)
        self._side = int(settings["size"][0] if isinstance(settings["size"], (tuple, list)) else settings["size"])
        self._mean = torch.tensor(settings["mean"], device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(settings["std"], device=device).view(1, 3, 1, 1)

    @torch.inference_mode()
    def encode_images(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Embed images; float32 on the CPU."""
        parts = []
        for batch in images.split(self._batch_size):
            pixels = (resize(batch.to(self._device), self._side).float() / 255 - self._mean) / self._std
            parts.append(functional.normalize(self._model.encode_image(pixels).float(), dim=-1).cpu())
        return torch.cat(parts)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embed bare strings; of a text beyond the token limit the last words are cut, its end token is kept."""
        parts = []
        for start in range(0, len(texts), self._batch_size):
            tokens = self._tokenizer(list(texts[start : start + self._batch_size])).to(self._device)
            parts.append(functional.normalize(self._model.encode_text(tokens).float(), dim=-1).cpu())
        return torch.cat(parts)

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts have more tokens than ``encode_text`` reads."""
        if not texts:
            return np.zeros(0, dtype=bool)
        # Tokenizers tell no length, but with room for one more token a text that was cut no longer ends where it did.
        read = self._tokenizer(list(texts))
        wider = self._tokenizer(list(texts), context_length=self.token_limit + 1)
        return (wider[:, : self.token_limit] != read).any(dim=1).numpy()
