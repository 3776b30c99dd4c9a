"""BLIP and BLIP-2 as the captioner (Li et al., ICML 2022 and 2023), from a local folder or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from transformers import (
    AutoTokenizer,
    Blip2ForConditionalGeneration,
    BlipForConditionalGeneration,
    BlipImageProcessor,
)
from transformers.utils.logging import disable_progress_bar

from tasks.common.errors import UserError
from tasks.common.images import Interpolation
from tasks.models.preprocessing import Preprocessing

_CLASSES = {"blip": BlipForConditionalGeneration, "blip2": Blip2ForConditionalGeneration}
# Pillow's numbers of filters, as image processors store them.
_INTERPOLATION: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}


class BlipCaptioner:
    """Greedy captions without a prompt, as in Describe-and-Dissect (at most 32 new tokens).

    Args:
        source: A folder written by ``save_pretrained`` of the model and its processor, or the name of a hub repository.
        batch_size: Images per call of ``generate``.
        max_new_tokens: Maximum caption length.
        min_length: Minimum length: for BLIP as transformers counts it, including the start token; for BLIP-2 of new
            tokens. None sets none.
        kind: ``blip`` or ``blip2``.
        revision: Commit of the hub repository.
        half: Whether weights are float16.

    Raises:
        UserError: The tokenizer is not the model's, or images are resized by another filter than (bi)linear or bicubic.
    """

    def __init__(
        self,
        source: Path | str,
        device: torch.device,
        batch_size: int = 128,
        max_new_tokens: int = 32,
        min_length: int | None = None,
        kind: str = "blip",
        revision: str | None = None,
        half: bool = False,
    ) -> None:
        disable_progress_bar()  # the run shows its own
        where: dict[str, Any] = {"revision": revision, "local_files_only": isinstance(source, Path)}
        dtype = torch.float16 if half else torch.float32
        # transformers' own types are loose here: a nested config may be a dictionary or absent.
        model: Any = _CLASSES[kind].from_pretrained(source, dtype=dtype, **where)
        self._model = model.eval().to(device)
        self._tokenizer = AutoTokenizer.from_pretrained(source, **where)
        _check_tokenizer(len(self._tokenizer), self._model.config.text_config.vocab_size, source)
        processor: Any = BlipImageProcessor.from_pretrained(source, **where)
        if int(processor.resample) not in _INTERPOLATION:
            raise UserError(f"{source}: images are resized by Pillow's filter {processor.resample}, which CLEAR lacks.")
        self._prepare = Preprocessing(
            int(processor.size["height"]),
            None,
            tuple(processor.image_mean),
            tuple(processor.image_std),
            _INTERPOLATION[int(processor.resample)],
        )
        self._device, self._dtype = device, dtype
        self._batch_size = batch_size
        limit = self._model.config.text_config.max_position_embeddings
        self._lengths = {"max_new_tokens": min(max_new_tokens, limit - 1)}
        # BLIP-2's prompt is its image tokens, which count towards min_length.
        prompt = self._model.config.num_query_tokens if kind == "blip2" else 0
        self._image_tokens = [self._model.config.image_token_index] * prompt if prompt else []
        if min_length is not None:
            self._lengths["min_new_tokens" if prompt else "min_length"] = min_length

    @torch.inference_mode()
    def caption(self, images: UInt8[Tensor, "n 3 h w"]) -> list[str]:
        """Caption images deterministically."""
        captions = []
        for batch in images.split(self._batch_size):
            pixels = self._prepare(batch.to(self._device)).to(self._dtype)
            tokens = self._model.generate(pixel_values=pixels, do_sample=False, num_beams=1, **self._lengths)
            written = [self._without_prompt(row) for row in tokens.tolist()]
            captions += [text.strip() for text in self._tokenizer.batch_decode(written, skip_special_tokens=True)]
        return captions

    def _without_prompt(self, tokens: list[int]) -> list[int]:
        """Remove the image tokens that some versions of transformers return before the caption."""
        count = len(self._image_tokens)
        return tokens[count:] if count and tokens[:count] == self._image_tokens else tokens


def _check_tokenizer(entries: int, vocabulary: int, source: Path | str) -> None:
    """Refuse the near-empty tokenizer that some versions of transformers build without an error.

    A published vocabulary may be padded beyond its tokenizer, and a marker for images may be added to the latter, so
    they need not be equal.
    """
    if not 0.9 * vocabulary <= entries <= vocabulary + 8:
        raise UserError(f"{source}: the tokenizer has {entries} entries, the model {vocabulary}; restore the folder.")
