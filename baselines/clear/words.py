"""Words of captions: collocations, how many captions contain a word, and its base rate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from tasks.models.counting_summariser import FUNCTION_WORDS, words_of

TOGETHER = 0.8
"""Two neighbours form one part if this share of the captions that contain either contains both, side by side."""
SEEN_TWICE = 2


def collocations(captions: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Neighbouring content words that rarely occur without each other, such as "brick wall".

    Args:
        captions: Captions of control images, so that what holds there is not specific to one unit.
    """
    single: Counter[str] = Counter()
    double: Counter[tuple[str, str]] = Counter()
    for caption in captions:
        words = words_of(caption)
        content = {word for word in words if word not in FUNCTION_WORDS}
        single.update(content)
        double.update({pair for pair in pairwise(words) if set(pair) <= content})
    return frozenset(
        (one, other)
        for (one, other), count in double.items()
        if count >= SEEN_TWICE and count >= TOGETHER * max(single[one], single[other])
    )


def parts_of(caption: str, together: frozenset[tuple[str, str]]) -> list[str]:
    """The content words of a text in order, without duplicates, collocations joined.

    Example:
        >>> parts_of("a red fish by a brick wall", frozenset({("brick", "wall")}))
        ['red', 'fish', 'brick wall']
    """
    found: dict[str, None] = {}
    words = words_of(caption)
    place = 0
    while place < len(words):
        if tuple(words[place : place + 2]) in together:
            found[" ".join(words[place : place + 2])] = None
            place += 2
            continue
        if words[place] not in FUNCTION_WORDS:
            found[words[place]] = None
        place += 1
    return list(found)


class Mentions:
    """Tells which of some concepts captions contain: all content words, in any order.

    Args:
        concepts: One without content words is contained in nothing.
    """

    def __init__(self, concepts: Sequence[str]) -> None:
        self._sizes = np.zeros(len(concepts))
        self._holders: dict[str, list[int]] = {}
        for place, concept in enumerate(concepts):
            words = {word for word in words_of(concept) if word not in FUNCTION_WORDS}
            self._sizes[place] = len(words) or np.inf
            for word in words:
                self._holders.setdefault(word, []).append(place)

    def of(self, captions: Sequence[str]) -> Float[np.ndarray, "concepts captions"]:
        """1 if a caption contains a concept, else 0."""
        found = np.zeros((len(self._sizes), len(captions)))
        for column, caption in enumerate(captions):
            for word in set(words_of(caption)):
                found[self._holders.get(word, []), column] += 1
        return (found == self._sizes[:, None]).astype(float)

    def share(self, captions: Sequence[str]) -> Float[np.ndarray, " concepts"]:
        """Share of the captions that contain each concept, in [0, 1]; 0 without captions."""
        return self.of(captions).mean(axis=1) if captions else np.zeros(len(self._sizes))
