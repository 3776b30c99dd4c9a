"""A vision-language model as the captioner: it is asked about each image alone, through its chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torchvision.transforms.functional import to_pil_image
from transformers import GenerationConfig

from tasks.language.local import TransformersVisionChat


class PromptedCaptioner:
    """The first line of each greedy answer; one that is cut off at the longest length counts as it is.

    Args:
        source: A folder with config, processor (with a chat template) and safetensors weights, or a hub repository.
        prompt: The question.
        batch_size: Images per call of ``generate``.
        max_new_tokens: Maximum caption length.
        revision: Commit of the hub repository.
        half: Whether weights are bfloat16, in which such models are trained; float16 overflows in some of them.

    Raises:
        LanguageModelError: The model cannot be read, or has no chat template.
    """

    def __init__(
        self,
        source: Path | str,
        device: torch.device,
        prompt: str,
        batch_size: int = 16,
        max_new_tokens: int = 32,
        revision: str | None = None,
        half: bool = False,
    ) -> None:
        self._chat = TransformersVisionChat(source, device, dtype="bfloat16" if half else "float32", revision=revision)
        self._content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        self._batch_size = batch_size
        ends = self._chat.ends
        self._settings = GenerationConfig(
            do_sample=False, max_new_tokens=max_new_tokens, eos_token_id=ends, pad_token_id=ends[0]
        )

    @torch.inference_mode()
    def caption(self, images: UInt8[Tensor, "n 3 h w"]) -> list[str]:
        """Caption images of one size deterministically."""
        captions = []
        for batch in images.split(self._batch_size):
            shown = [[{"type": "image", "image": to_pil_image(image)}] for image in batch]
            # Images of one size make prompts of one length, so that nothing is padded.
            inputs = self._chat.prompt([[{"role": "user", "content": [*image, *self._content]}] for image in shown])
            tokens = self._chat.model.generate(**inputs, generation_config=self._settings)
            written = tokens[:, inputs["input_ids"].shape[1] :]
            answers = self._chat.tokenizer.batch_decode(written, skip_special_tokens=True)
            captions += [answer.strip().partition("\n")[0].strip() for answer in answers]
        return captions
