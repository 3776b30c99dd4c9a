"""A chat model in this process, with transformers: the reply depends on the messages and the seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from tasks.language.chat import LanguageModelError, Message, NoAnswerError, Reply
from tasks.models.weights import file_sha256


class SeededSampling(LogitsProcessor):
    """Turns greedy decoding into sampling at a temperature, with its own random generator.

    Gumbel noise added to scores / temperature makes the argmax a sample of their softmax (the Gumbel-max trick).
    ``generate`` can only sample from torch's global generator; this way it is never touched.

    Args:
        temperature: Above 0.
        seed: Seed of the noise, which is drawn on the CPU, so that it is the same on every device.
    """

    def __init__(self, temperature: float, seed: int) -> None:
        self.temperature = temperature
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(
        self, input_ids: Int[Tensor, "chats tokens"], scores: Float[Tensor, "chats vocabulary"]
    ) -> Float[Tensor, "chats vocabulary"]:
        """The scores of the next token, with noise."""
        noise = -torch.empty(scores.shape).exponential_(generator=self.generator).log()
        return scores.float() / self.temperature + noise.to(scores.device)


class TransformersChat:
    """A causal language model with a chat template, from a local folder or the hub. Code from the hub is never run.

    Sampling is from the whole vocabulary, at the requested temperature: a checkpoint's own top-k or top-p is not used.

    Args:
        name_or_path: A folder, or a model on the hub.
        dtype: ``auto`` (that of the checkpoint), ``float32``, ``float16`` or ``bfloat16``.
        revision: Of a model on the hub.
        offline: Use only files from the local folder or the hub's cache.

    Raises:
        LanguageModelError: The model cannot be read, or has no chat template.
    """

    _kind: ClassVar[str] = "language model"
    _needed: ClassVar[str] = "tokenizer"
    _readers: ClassVar[Any] = AutoTokenizer
    _models: ClassVar[Any] = AutoModelForCausalLM
    _identifying: ClassVar[tuple[str, ...]] = ("*.safetensors", "tokenizer*", "*.jinja")

    def __init__(
        self,
        name_or_path: str | Path,
        device: torch.device,
        *,
        dtype: str = "auto",
        revision: str | None = None,
        offline: bool = False,
    ) -> None:
        self.place = name_or_path
        where: dict[str, Any] = {
            "revision": revision,
            "local_files_only": offline or isinstance(name_or_path, Path),
            "trust_remote_code": False,
        }
        if isinstance(name_or_path, Path) and not name_or_path.is_dir():
            raise LanguageModelError(f"There is no folder {name_or_path} with a {self._kind}; correct the profile.")
        try:
            # A tokenizer, or a processor that contains one; both have the chat template.
            self.reader: Any = self._readers.from_pretrained(name_or_path, **where)
            model = self._models.from_pretrained(name_or_path, dtype=dtype, use_safetensors=True, **where)
        except (OSError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise LanguageModelError(
                f"The {self._kind} {name_or_path} cannot be read ({reason}); it needs config.json, a "
                f"{self._needed} and safetensors weights."
            ) from None
        if not self.reader.chat_template:
            raise LanguageModelError(f"The {self._kind} {name_or_path} has no chat template; take one made for chats.")
        # The type stubs of transformers hide that a model is a module.
        self.model: Any = torch.nn.Module.to(model, device).eval()
        self.device = device

    @property
    def identity(self) -> str:
        """The folder's name and a hash of its weights and tokenizer; on the hub, the name and commit."""
        return self._identity

    @cached_property
    def _identity(self) -> str:
        if not isinstance(self.place, Path):
            return f"{self.place}@{getattr(self.model.config, '_commit_hash', None)}"
        files = sorted(file for pattern in self._identifying for file in self.place.glob(pattern))
        digest = hashlib.sha256("".join(file.name + file_sha256(file) for file in files).encode()).hexdigest()
        return f"{self.place.name}@{digest[:16]}"

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self.reader

    def _prompt(self, messages: Sequence[Message]) -> Any:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self.reader.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.device)

    @cached_property
    def ends(self) -> list[int]:
        """The end-of-sequence tokens."""
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return ends if isinstance(ends, list) else [ends]

    def chat(self, messages: Sequence[Message], *, temperature: float, max_tokens: int, seed: int) -> Reply:
        """Answer the last message; see ``tasks.language.chat.ChatModel``.

        Raises:
            NoAnswerError: The reply is empty or was cut off at ``max_tokens``.
        """
        prompt = self._prompt(messages)
        noise = LogitsProcessorList([SeededSampling(temperature, seed)] if temperature > 0 else [])
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=max_tokens, eos_token_id=self.ends, pad_token_id=self.ends[0]
        )
        with torch.inference_mode():
            tokens = self.model.generate(**prompt, generation_config=settings, logits_processor=noise)
        read = prompt["input_ids"].shape[1]
        written = tokens[0, read:].tolist()
        if not written or written[-1] not in self.ends:
            raise NoAnswerError(f"The reply of {self.place} was cut off at {max_tokens} tokens; raise max_tokens.")
        text = self.tokenizer.decode(written, skip_special_tokens=True).strip()
        if not text:
            raise NoAnswerError(f"The reply of {self.place} is empty.")
        return Reply(text, read, len(written), self.identity)


class TransformersVisionChat(TransformersChat):
    """The same with a vision-language model (image-text-to-text), whose messages may contain images.

    Its processor prepares the images as the model was trained.
    """

    _kind: ClassVar[str] = "vision-language model"
    _needed: ClassVar[str] = "processor"
    _readers: ClassVar[Any] = AutoProcessor
    _models: ClassVar[Any] = AutoModelForImageTextToText
    _identifying: ClassVar[tuple[str, ...]] = (*TransformersChat._identifying, "*processor_config.json")

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.reader.tokenizer

    def _prompt(self, messages: Sequence[Message]) -> Any:
        return self.prompt([{"role": message.role, "content": _parts(message)} for message in messages])

    def prompt(self, turns: Sequence[Any]) -> Any:
        """The model's inputs for the turns of one conversation, or of several of equal length."""
        return self.reader.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_tensors="pt", return_dict=True
        ).to(self.device, dtype=self.model.dtype)


def _parts(message: Message) -> list[dict[str, Any]]:
    shown = [{"type": "image", "image": picture.image()} for picture in message.pictures]
    return [{"type": "text", "text": message.content}, *shown]
