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


def propose_parts(
    own: Iterable[str],
    control: Sequence[str],
    activations: Float[np.ndarray, " control"],
    together: frozenset[tuple[str, str]],
) -> tuple[str, ...]:
    """The parts of a unit's captions, most frequent first, then those of the control images.

    Args:
        own: Captions of the unit's described images, in all contexts.
        activations: The unit's activations on the control images; parts of the most activating ones come first.
        together: See ``collocations``.
    """
    said = Counter(part for text in own for part in parts_of(text, together))
    strongest = [int(place) for place in np.argsort(-activations, kind="stable")]
    at_large = (part for place in strongest for part in parts_of(control[place], together))
    return tuple(dict.fromkeys([*(part for part, _ in said.most_common()), *at_large]))


def join_parts(one: str, other: str, said: Iterable[Sequence[str]]) -> str:
    """Two parts as one concept, in the order in which most captions contain them; as given if no caption contains both.

    Args:
        said: The parts of each caption, in order.
    """
    turned = 0
    for parts in said:
        if one in parts and other in parts:
            turned += 1 if parts.index(other) < parts.index(one) else -1
    return f"{other} {one}" if turned > 0 else f"{one} {other}"


def holds(captions: Sequence[str], concepts: Sequence[str]) -> Float[np.ndarray, "concepts captions"]:
    """1 if a caption contains all content words of a concept, in any order, else 0; 0 for a concept without any."""
    said = [set(words_of(caption)) for caption in captions]
    table = np.zeros((len(concepts), len(captions)))
    for row, concept in enumerate(concepts):
        words = {word for word in words_of(concept) if word not in FUNCTION_WORDS}
        table[row] = [bool(words) and words <= one for one in said]
    return table
