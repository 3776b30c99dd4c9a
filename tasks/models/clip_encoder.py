"""CLIP by open_clip, from a local folder or with published weights."""

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

from tasks.common.errors import unknown_name
from tasks.models.batches import Batches
from tasks.models.preprocessing import Preprocessing


class OpenClipEncoder:
    """An open_clip model as the image-text role; embeddings have unit norm.

    Args:
        source: A folder with ``open_clip_config.json``, weights and, for small models, a tokenizer; or an open_clip
            name, e.g. ``ViT-B-16``.
        batch_size: Images or texts per forward pass.
        pretrained: Tag of the published weights of a name, e.g. ``openai``.
        half: Whether weights are float16, except those of normalisations.

    Attributes:
        token_limit: Maximum tokens of a text, including its start and end token (77 for OpenAI's models).

    Raises:
        UserError: open_clip does not have the name or tag.
    """

    def __init__(
        self,
        source: Path | str,
        device: torch.device,
        batch_size: int = 128,
        pretrained: str | None = None,
        half: bool = False,
    ) -> None:
        if isinstance(source, Path):
            name, options = f"local-dir:{source}", {}
        else:
            # Some weights were trained with a different GELU than the named model's; open_clip would only warn.
            name, gelu = source, clip_tag(source, pretrained or "").get("quick_gelu", False)
            options = {"pretrained": pretrained, "force_quick_gelu": gelu}
        options |= {"precision": "fp16" if half else "fp32"}
        model: Any = open_clip.create_model(name, require_pretrained=True, weights_only=True, **options)
        self._model = (model if half else model.float()).eval().to(device)
        self._dtype = torch.float16 if half else torch.float32
        self._tokenizer: Any = open_clip.get_tokenizer(name)
        self.token_limit = int(self._tokenizer.context_length)
        self._device = device
        self._batch_size = batch_size
        self._batches = Batches(batch_size)
        settings = open_clip.get_model_preprocess_cfg(model)
        side = int(settings["size"][0] if isinstance(settings["size"], (tuple, list)) else settings["size"])
        mean, std = tuple(settings["mean"]), tuple(settings["std"])
        self._prepare = Preprocessing(side, None, mean, std, settings["interpolation"])

    @torch.inference_mode()
    def encode_images(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Embed images; float32 on the CPU."""

        def encode(batch: Tensor) -> Tensor:
            pixels = self._prepare(batch.to(self._device)).to(self._dtype)
            return functional.normalize(self._model.encode_image(pixels).float(), dim=-1).cpu()

        return torch.cat(list(self._batches.run(encode, images)))

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embed strings without a template; longer texts are truncated at the token limit, the end token is kept."""
        parts = []
        for start in range(0, len(texts), self._batch_size):
            tokens = self._tokenizer(list(texts[start : start + self._batch_size])).to(self._device)
            parts.append(functional.normalize(self._model.encode_text(tokens).float(), dim=-1).cpu())
        return torch.cat(parts)

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts have more tokens than ``encode_text`` reads."""
        if not texts:
            return np.zeros(0, dtype=bool)
        # Tokenizers report no length, but with room for one more token a truncated text no longer ends at the same
        # place.
        read = self._tokenizer(list(texts))
        wider = self._tokenizer(list(texts), context_length=self.token_limit + 1)
        return (wider[:, : self.token_limit] != read).any(dim=1).numpy()


def clip_tag(name: str, tag: str) -> dict[str, Any]:
    """open_clip's description of published weights.

    Raises:
        UserError: open_clip does not have the name or tag; the message lists close matches.
    """
    if name not in open_clip.list_models():
        raise unknown_name("model of open_clip", name, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags:
        raise unknown_name(f"weights of open_clip's {name}", tag, tags)
    return dict(open_clip.get_pretrained_cfg(name, tag))


def clip_tokenizer(name: str) -> str | None:
    """The hub repository from which open_clip takes the tokenizer of a name; None if its own package has it."""
    return (open_clip.get_model_config(name) or {}).get("text_cfg", {}).get("hf_tokenizer_name")
