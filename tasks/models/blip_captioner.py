"""BLIP as the captioner (Li et al., ICML 2022), from a local folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from transformers import AutoTokenizer, BlipForConditionalGeneration, BlipImageProcessor
from transformers.utils.logging import disable_progress_bar

from tasks.errors import UserError
from tasks.images import resize


class BlipCaptioner:
    """Greedy captions without a prompt, as Describe-and-Dissect asks for (at most 32 new tokens).

    Args:
        folder: A folder written by ``save_pretrained`` of the model and its processor.
        device: Where it runs.
        batch_size: Images a call of ``generate``.
        max_new_tokens: Upper bound of a caption's length.
    """

    def __init__(self, folder: Path, device: torch.device, batch_size: int = 128, max_new_tokens: int = 32) -> None:
        disable_progress_bar()  # the run shows its own
        # transformers' own types are loose here: a nested config may be a dictionary or absent.
        model: Any = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        self._model = model.eval().to(device)
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # Some versions of transformers build a near-empty tokenizer without an error.
        if len(self._tokenizer) != self._model.config.text_config.vocab_size:
            raise UserError(
                f"{folder}: the tokenizer has {len(self._tokenizer)} entries, "
                f"the model {self._model.config.text_config.vocab_size}; restore the folder."
            )
        processor = BlipImageProcessor.from_pretrained(folder, local_files_only=True)
        self._side = int(processor.size["height"])
        self._mean = torch.tensor(processor.image_mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(processor.image_std, device=device).view(1, 3, 1, 1)
        self._device = device
        self._batch_size = batch_size
        limit = self._model.config.text_config.max_position_embeddings
        self._max_new_tokens = min(max_new_tokens, limit - 1)

    @torch.inference_mode()
    def caption(self, images: UInt8[Tensor, "n 3 h w"]) -> list[str]:
        """Caption images, deterministically."""
        captions = []
        for batch in images.split(self._batch_size):
            pixels = (resize(batch.to(self._device), self._side).float() / 255 - self._mean) / self._std
            tokens = self._model.generate(
                pixel_values=pixels, do_sample=False, num_beams=1, max_new_tokens=self._max_new_tokens
            )
            captions += [text.strip() for text in self._tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        return captions
