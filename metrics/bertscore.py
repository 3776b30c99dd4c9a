"""BERTScore (Zhang, Kishore, Wu, Weinberger & Artzi, ICLR 2020), with a language model from a local folder.

Scores are raw, not rescaled by a baseline: the two differ by a factor of six. Scores of different models, layers or
weightings are not comparable.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class BertScore(NamedTuple):
    """Raw BERTScore: a mean of cosines, in practice far above 0 for unrelated texts; higher is better.

    Attributes:
        precision: In [-1, 1]; how well the candidate's tokens are found in the reference.
        recall: In [-1, 1]; how well the reference's tokens are found in the candidate.
        f1: Harmonic mean of the two.
    """

    precision: Float[np.ndarray, " pairs"]
    recall: Float[np.ndarray, " pairs"]
    f1: Float[np.ndarray, " pairs"]


class Tokens(NamedTuple):
    """One text as tokens of the language model.

    Attributes:
        ids: Token ids.
        vectors: Contextual embeddings of unit norm.
        special: Tokens that are not part of the text, such as its end.
    """

    ids: Int[np.ndarray, " tokens"]
    vectors: Float[np.ndarray, "tokens d"]
    special: Bool[np.ndarray, " tokens"]


def match(
    candidate: Tokens, reference: Tokens, weights: Mapping[int, float] | None = None
) -> tuple[float, float, float]:
    """Precision, recall and F1 of one pair by greedy matching.

    precision = Σ_j w(x̂_j) max_i x_i·x̂_j / Σ_j w(x̂_j), recall = Σ_i w(x_i) max_j x_i·x̂_j / Σ_i w(x_i), F1 = 2PR/(P + R),
    for reference tokens x_i and candidate tokens x̂_j. Special tokens can be matched but have no weight.

    Args:
        reference: The label to compare with.
        weights: Token id → w; 1 for all tokens if None.

    Returns:
        NaN if the weights of a text sum to 0: an empty text, or one of words that all references contain.

    Example:
        >>> one = Tokens(np.array([7]), np.array([[1.0, 0.0]]), np.array([False]))
        >>> two = Tokens(np.array([7, 8]), np.array([[0.8, 0.6], [0.0, 1.0]]), np.array([False, False]))
        >>> [round(value, 4) for value in match(one, two)]
        [0.8, 0.4, 0.5333]
    """
    cosines = np.clip(candidate.vectors @ reference.vectors.T, -1.0, 1.0)
    precision = _weighted(cosines.max(axis=1, initial=-1.0), candidate, weights)
    recall = _weighted(cosines.max(axis=0, initial=-1.0), reference, weights)
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total != 0 else 0.0


def inverse_document_frequencies(references: Sequence[Tokens]) -> Mapping[int, float]:
    """idf(t) = log((M + 1) / (m_t + 1)), where m_t of the M references contain token t.

    Returns:
        Token id → idf, for any token: log(M + 1) for one that no reference contains.
    """
    held = Counter(token for reference in references for token in set(reference.ids.tolist()))
    everywhere = len(references) + 1
    found = {token: math.log(everywhere / (count + 1)) for token, count in held.items()}
    return defaultdict(lambda: math.log(everywhere), found)


class BertScorer:
    """BERTScore with one layer of a ``transformers`` model.

    Args:
        folder: A local folder with config.json, model.safetensors and the tokenizer's files. Nothing is ever
            downloaded.
        layer: Which layer's output, 1 for the first (the paper uses 17 of roberta-large's 24).
        device: For example "cpu" or "cuda".
        batch_size: Texts per forward pass; only texts of equal length are batched, so that there is no padding.

    Raises:
        ValueError: The folder contains no such model or the model has no such layer.
    """

    def __init__(self, folder: str | Path, layer: int, device: str = "cpu", batch_size: int = 64) -> None:
        self._tokenizer, self._model = _load(Path(folder))
        layers = int(self._model.config.num_hidden_layers)
        if not 1 <= layer <= layers:
            raise ValueError(f"layer must be 1 to {layers} for the model in {folder}, not {layer}")
        self._model.eval().to(device)
        self._layer, self._device, self._batch_size = layer, device, batch_size
        self._seen: dict[str, Tokens] = {}
        self.token_limit = _token_limit(self._tokenizer, self._model.config)

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts have more tokens than the model accepts; they are truncated at the end, special tokens kept."""
        return np.array(
            [len(self._tokenizer(_spaced(text), verbose=False).input_ids) > self.token_limit for text in texts],
            dtype=bool,
        )

    def score(
        self, candidates: Sequence[str | None], references: Sequence[str | None], *, idf: bool = False
    ) -> BertScore:
        """Raw scores of pairs of texts.

        Args:
            candidates: Labels; None or blank is missing.
            references: One per candidate.
            idf: Weight tokens by how rare they are among the given references. Off by default, as the weights and thus
                each score would depend on which other labels are scored.

        Returns:
            NaN if a label of the pair is missing.

        Raises:
            ValueError: The two differ in length or one is a single string.
        """
        if isinstance(candidates, str) or isinstance(references, str):
            raise ValueError("candidates and references must be lists of texts, not one text")
        if len(candidates) != len(references):
            raise ValueError(f"{len(candidates)} candidates cannot be paired with {len(references)} references")
        self._embed([text for text in (*candidates, *references) if text and text.strip()])
        weights = None
        if idf:
            weights = inverse_document_frequencies([self._seen[text] for text in references if text and text.strip()])
        scores = np.full((len(candidates), 3), np.nan)
        for row, (candidate, reference) in enumerate(zip(candidates, references, strict=True)):
            if candidate and reference and candidate.strip() and reference.strip():
                scores[row] = match(self._seen[candidate], self._seen[reference], weights)
        return BertScore(*scores.T)

    def _embed(self, texts: Sequence[str]) -> None:
        """Embed all texts that were not seen before."""
        import torch
        from torch.nn import functional

        by_length: dict[int, list[tuple[str, list[int], list[int]]]] = {}
        for text in dict.fromkeys(text for text in texts if text not in self._seen):
            read = self._tokenizer(
                _spaced(text), truncation=True, max_length=self.token_limit, return_special_tokens_mask=True
            )
            by_length.setdefault(len(read.input_ids), []).append((text, read.input_ids, read.special_tokens_mask))
        for alike in by_length.values():
            for start in range(0, len(alike), self._batch_size):
                batch = alike[start : start + self._batch_size]
                ids = torch.tensor([tokens for _, tokens, _ in batch], device=self._device)
                with torch.inference_mode():
                    states = self._model(input_ids=ids, output_hidden_states=True).hidden_states[self._layer]
                vectors = functional.normalize(states.double(), dim=-1).cpu().numpy()
                for (text, tokens, special), rows in zip(batch, vectors, strict=True):
                    self._seen[text] = Tokens(np.array(tokens), rows, np.array(special, dtype=bool))


def _weighted(best: Float[np.ndarray, " tokens"], text: Tokens, weights: Mapping[int, float] | None) -> float:
    weight = np.array([1.0 if weights is None else weights[int(token)] for token in text.ids]) * ~text.special
    return float(best @ weight / weight.sum()) if weight.sum() > 0 else float("nan")


def _spaced(text: str) -> str:
    """The text after one space: byte-level tokenizers then read its first word as they read one inside a sentence."""
    return f" {text.strip()}"


def _load(folder: Path) -> tuple[Any, Any]:
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"BERTScore needs a folder on this machine that holds a language model (config.json, model.safetensors, "
            f"tokenizer), and {str(folder)!r} is none; models are not downloaded."
        )
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # the run shows its own
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"The language model for BERTScore in {str(folder)!r} cannot be read: {reason}") from error
    return tokenizer, model


def _token_limit(tokenizer: Any, config: Any) -> int:
    """The smaller limit of the tokenizer and the model's positions."""
    # RoBERTa-style models count positions from the padding token on.
    skipped = config.pad_token_id + 1 if "roberta" in config.model_type or config.model_type == "camembert" else 0
    return min(int(tokenizer.model_max_length), int(config.max_position_embeddings) - skipped)
