"""The published filters of a label-free bottleneck's concept set, in their order.

The similarity of two texts is (sentence cosine + 3 · CLIP text cosine) / 4. The release's class filter compares indices
of two different lists, so that concept j is never tested against class j; here every concept is tested against every
class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from tasks.roles import ImageTextEncoder, SentenceEncoder

TextSimilarity = Callable[[Sequence[str], Sequence[str]], Float[np.ndarray, "a b"]]

_ARTICLES = ("a ", "an ", "the ")
_CLIP_WEIGHT = 3
_MOST_VISIBLE = 5


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the filters; the published values, which are specific to the published encoders.

    Attributes:
        longest: Maximum number of characters of a concept.
        class_similarity: A concept with at least this similarity to a class name is removed.
        pair_similarity: Of two concepts with at least this similarity one is removed.
        visible: The mean of a concept's five highest CLIP values on the training images must exceed it.
        learnable: The projection's similarity on validation images must exceed it.
    """

    longest: int = 30
    class_similarity: float = 0.85
    pair_similarity: float = 0.90
    visible: float = 0.25
    learnable: float = 0.45


class Step(NamedTuple):
    """The concepts removed by one filter.

    Attributes:
        name: ``long``, ``class name``, ``duplicate``, ``not visible`` or ``not learnable``, or the caller's own.
        removed: Removed concepts, in their order.
    """

    name: str
    removed: tuple[str, ...]


class Filtered(NamedTuple):
    """Result of the filters.

    Attributes:
        kept: Remaining concepts, in their order.
        steps: One entry per filter.
    """

    kept: tuple[str, ...]
    steps: tuple[Step, ...]


def text_similarity(clip: ImageTextEncoder, sentences: SentenceEncoder | None) -> TextSimilarity:
    """The published similarity of texts; of CLIP only without a sentence encoder."""

    def similarity(first: Sequence[str], second: Sequence[str]) -> Float[np.ndarray, "a b"]:
        one, other = (clip.encode_text(list(texts)).double().cpu().numpy() for texts in (first, second))
        found = one @ other.T
        if sentences is None:
            return found
        one, other = (np.asarray(sentences.encode(list(texts)), dtype=np.float64) for texts in (first, second))
        return (one @ other.T + _CLIP_WEIGHT * found) / (1 + _CLIP_WEIGHT)

    return similarity


def filter_texts(
    concepts: Iterable[str],
    class_names: Sequence[str],
    similarity: TextSimilarity,
    thresholds: Thresholds = Thresholds(),
) -> Filtered:
    """The filters on texts only: length, class names, near-duplicates.

    Args:
        concepts: Any texts; equal ones count once.
        class_names: Classes of the bottleneck.
        similarity: Pairwise similarity of two lists of texts, in [-1, 1].
    """
    every = tuple(dict.fromkeys(concepts))
    steps = []

    def drop(name: str, keep: Bool[np.ndarray, " concepts"]) -> None:
        nonlocal every
        steps.append(Step(name, tuple(text for text, kept in zip(every, keep, strict=True) if not kept)))
        every = tuple(text for text, kept in zip(every, keep, strict=True) if kept)

    drop("long", np.array([len(text) <= thresholds.longest for text in every], dtype=bool))
    drop("class name", ~_like_a_class(every, class_names, similarity, thresholds.class_similarity))
    drop("duplicate", _distinct(every, similarity, thresholds.pair_similarity))
    return Filtered(every, tuple(steps))


def visible(values: Float[np.ndarray, "images concepts"], cutoff: float) -> Bool[np.ndarray, " concepts"]:
    """Mask of concepts whose mean of the five highest CLIP values on the training images exceeds the cutoff."""
    count = min(_MOST_VISIBLE, len(values))
    return np.partition(values, len(values) - count, axis=0)[len(values) - count :].mean(axis=0) > cutoff


def _like_a_class(
    concepts: Sequence[str], class_names: Sequence[str], similarity: TextSimilarity, cutoff: float
) -> Bool[np.ndarray, " concepts"]:
    if not concepts or not class_names:
        return np.zeros(len(concepts), dtype=bool)
    names = {_bare(name) for name in class_names}
    same = np.array([_bare(concept) in names for concept in concepts], dtype=bool)
    return same | (similarity(concepts, class_names) >= cutoff).any(axis=1)


def _distinct(concepts: Sequence[str], similarity: TextSimilarity, cutoff: float) -> Bool[np.ndarray, " concepts"]:
    keep = np.ones(len(concepts), dtype=bool)
    if len(concepts) < 2:
        return keep
    similar = similarity(concepts, concepts)
    totals = similar.sum(axis=1) - similar.diagonal()
    for first, second in np.argwhere(np.triu(similar >= cutoff, 1)):
        if keep[first] and keep[second]:
            keep[first if totals[first] < totals[second] else second] = False
    return keep


def _bare(text: str) -> str:
    """Without case or article: the release removes class names in several cases and with any article."""
    plain = " ".join(text.casefold().split())
    return next((plain.removeprefix(article) for article in _ARTICLES if plain.startswith(article)), plain)
