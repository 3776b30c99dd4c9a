"""A CLIP of two ONNX files, by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from tasks.common.errors import UserError
from tasks.models.onnx_session import first_line, open_session
from tasks.models.preprocessing import Preprocessing

IMAGE, TEXT, TOKENIZER = "image.onnx", "text.onnx", "tokenizer.json"


class OnnxClipEncoder:
    """The image-text role by two ONNX files and a tokenizer; embeddings have unit norm. It runs on the CPU.

    ``image.onnx`` maps pixels, float32 [n, 3, side, side], and ``text.onnx`` token numbers [n, ``token_limit``] to
    embeddings [n, d], its first output. A second input of ``text.onnx`` with "mask" in its name is 1 at tokens and 0 at
    padding. With n fixed to 1 in a file, inputs go through it one by one.

    Args:
        folder: Holds ``image.onnx``, ``text.onnx`` and ``tokenizer.json`` (of the package tokenizers).
        prepare: Maps uint8 images to pixels.
        token_limit: Maximum tokens of a text, including its start and end token; shorter ones are padded as
            ``tokenizer.json`` says, or with 0.

    Raises:
        UserError: onnxruntime is not installed, a file cannot be read, or it takes or gives other shapes.
    """

    def __init__(self, folder: Path, prepare: Preprocessing, token_limit: int = 77) -> None:
        self._places = {"image": folder / IMAGE, "text": folder / TEXT}
        self._sessions = {kind: open_session(path, "image-text encoder") for kind, path in self._places.items()}
        self._prepare = prepare
        self.token_limit = token_limit
        try:
            self._tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # tokenizers raises Exception itself
            raise UserError(
                f"{folder / TOKENIZER} cannot be read as a tokenizer ({first_line(error)}); restore the file."
            ) from error
        self._pad: int = (self._tokenizer.padding or {}).get("pad_id", 0)
        self._tokenizer.no_padding()
        grey = torch.full((1, 3, prepare.side, prepare.side), 127, dtype=torch.uint8)
        sizes = [part.shape[1] for part in (self.encode_images(grey), self.encode_text(["a"]))]
        if sizes[0] != sizes[1]:
            raise UserError(
                f"{folder / IMAGE} gives embeddings of {sizes[0]} numbers and {TEXT} of {sizes[1]}; export both from "
                "one model, with their projections."
            )
        self._width = sizes[0]

    def encode_images(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Embed images; float32 on the CPU."""
        return self._run("image", self._prepare(images.cpu()).numpy())

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embed strings without a template; longer texts are truncated as the tokenizer does it."""
        self._tokenizer.enable_truncation(self.token_limit)
        read = [one.ids for one in self._tokenizer.encode_batch(list(texts))]
        tokens = np.full((len(read), self.token_limit), self._pad)
        mask = np.zeros_like(tokens)
        for row, ids in enumerate(read):
            tokens[row, : len(ids)] = ids
            mask[row, : len(ids)] = 1
        return self._run("text", tokens, mask)

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts have more tokens than ``encode_text`` reads."""
        self._tokenizer.no_truncation()
        return np.array([len(one.ids) > self.token_limit for one in self._tokenizer.encode_batch(list(texts))], bool)

    def _run(self, kind: str, values: np.ndarray, mask: np.ndarray | None = None) -> Float[Tensor, "n d"]:
        if not len(values):
            return torch.zeros((0, self._width))
        session, path = self._sessions[kind], self._places[kind]
        inputs = session.get_inputs()
        fed = {one.name: mask if mask is not None and "mask" in one.name else values for one in inputs}
        fed = {one.name: fed[one.name].astype(_TYPES.get(one.type, np.float32)) for one in inputs}
        # A dimension that an export leaves open has a name or none.
        step = 1 if isinstance(inputs[0].shape[0], int) else len(values)
        parts = []
        for start in range(0, len(values), step):
            try:
                found = session.run(None, {name: part[start : start + step] for name, part in fed.items()})[0]
            except Exception as error:  # see ``open_session``
                raise UserError(
                    f"{path} does not take {kind}s as {list(values[:1].shape)} ({first_line(error)}); correct the "
                    "profile's clip (input, token_limit), or export the file again."
                ) from error
            parts.append(torch.from_numpy(np.asarray(found, np.float32)))
            if parts[-1].ndim != 2 or len(parts[-1]) != len(values[start : start + step]):
                raise UserError(
                    f"The first output of {path} is {list(parts[-1].shape)}, where an embedding per {kind}, [n, d], is "
                    "needed; export it with its projection alone."
                )
        return functional.normalize(torch.cat(parts), dim=-1)


_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float16)": np.float16}
