"""The similarity of two labels, and whether a label names a concept; the latter is decided by words.

A cosine cannot distinguish red from blue.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

Synonyms = Mapping[str, Iterable[str]]


def exact_similarity(labels: Sequence[str | None], references: Sequence[str | None]) -> Float[np.ndarray, " pairs"]:
    """1 if two labels are equal after ``normalise``, else 0.

    Args:
        labels: None or blank is missing.
        references: One per label.

    Returns:
        0 or 1; NaN if one is missing.

    Raises:
        ValueError: The two differ in length or one is a single string.

    Example:
        >>> exact_similarity(["Brick wall.", "wall", None], ["brick-wall", "brick wall", "wall"]).tolist()
        [1.0, 0.0, nan]
    """
    _check_pairs(labels, references)
    pairs = [(_present(label), _present(reference)) for label, reference in zip(labels, references, strict=True)]
    return np.array([np.nan if not a or not b else float(exact_match(a, b)) for a, b in pairs], dtype=np.float64)


# A run compares the same few texts for every unit and condition.
@functools.lru_cache(maxsize=4096)
def normalise(label: str) -> str:
    """Lower case, single spaces, no punctuation; hyphens and underscores separate words, apostrophes join them.

    Example:
        >>> normalise("  A Brick-WALL, (red)! ")
        'a brick wall red'
    """
    text = unicodedata.normalize("NFKC", label).casefold()
    text = re.sub(r"['’`]", "", text)
    # Marks (accents, vowel signs) belong to the letters that they stand on.
    kept = "".join(one if one.isalnum() or unicodedata.category(one).startswith("M") else " " for one in text)
    words = [word for word in kept.split() if any(map(str.isalnum, word))]
    # Where there is no letter at all, symbols ("🌊", "+") say something, and punctuation still does not.
    return " ".join(words) or "".join(one for one in text if unicodedata.category(one).startswith("S"))


def exact_match(label: str, reference: str) -> bool:
    """Whether two labels are equal after ``normalise``.

    Example:
        >>> exact_match("Brick wall.", "brick-wall")
        True
    """
    return normalise(label) == normalise(reference)


def concept_match(label: str, concept: str, synonyms: Synonyms, rivals: Iterable[str] = ()) -> bool:
    """Whether a label names a concept, and none of its rivals.

    A concept is named if the label contains all words of its name or of one of its synonyms, in any order, singular or
    plural. A rival is another concept of the same category, so that "red and blue fish" does not pass for red; a rival
    that uses only some of the words of the concept's own name ("wall" for "brick wall") does not count; one that shares
    a synonym with the concept does, as the label does not distinguish them.

    Args:
        label: Free text, e.g. "two red striped fishes".
        concept: The true concept, e.g. "fish".
        synonyms: Concept → other words or phrases for it.
        rivals: Other concepts that the label must not name; the concept itself is skipped.

    Returns:
        False for an empty label.

    Raises:
        ValueError: A string was given instead of a list of strings, or the concept has no word.

    Example:
        >>> concept_match("crimson fishes", "red", {"red": ["crimson"]}, rivals=["blue"])
        True
    """
    if isinstance(rivals, str):
        raise ValueError(f"rivals must be a list of concepts, not the string {rivals!r}")
    words = _forms(label)
    own = _named_by(words, concept, synonyms)
    if own is None:
        return False
    for rival in rivals:
        if normalise(rival) == normalise(concept):
            continue
        other = _named_by(words, rival, synonyms)
        if other is not None and not other < own:
            return False
    return True


def named_concepts(label: str, vocabulary: Iterable[str], synonyms: Synonyms) -> tuple[str, ...]:
    """All concepts of a vocabulary that a label names, in the vocabulary's order.

    A concept whose words are all part of a longer one that is also named is left out: "brick wall" names the brick
    wall, not also "wall".

    Args:
        label: Free text.
        synonyms: Concept → other words or phrases for it.

    Raises:
        ValueError: A string was given instead of a list of strings.

    Example:
        >>> named_concepts("a red car by a brick wall", ["wall", "brick wall", "red", "blue"], {})
        ('brick wall', 'red')
    """
    if isinstance(vocabulary, str):
        raise ValueError(f"vocabulary must be a list of concepts, not the string {vocabulary!r}")
    words = _forms(label)
    named = [(concept, _named_by(words, concept, synonyms)) for concept in vocabulary]
    found = [(concept, phrase) for concept, phrase in named if phrase is not None]
    return tuple(concept for concept, phrase in found if not any(phrase < other for _, other in found))


def _check_pairs(labels: Sequence[str | None], references: Sequence[str | None]) -> None:
    if isinstance(labels, str) or isinstance(references, str):
        raise ValueError("labels and references must be lists of texts, not one text")
    if len(labels) != len(references):
        raise ValueError(f"{len(labels)} labels cannot be compared with {len(references)} references")


def _present(label: str | None) -> str | None:
    """The label, or None if it is missing or blank."""
    return label if label and label.strip() else None


def _named_by(words: frozenset[str], concept: str, synonyms: Synonyms) -> frozenset[str] | None:
    """The words of the longest name of the concept that the label contains; None if it contains none."""
    others = synonyms.get(concept, ())
    if isinstance(others, str):
        raise ValueError(f"the synonyms of {concept!r} must be a list of strings, not the string {others!r}")
    phrases = [frozenset(normalise(name).split()) for name in (concept, *others)]
    if not phrases[0]:
        raise ValueError(f"the concept {concept!r} holds no word")
    held = [phrase for phrase in phrases if phrase and all(not words.isdisjoint(_word_forms(word)) for word in phrase)]
    return max(held, key=len, default=None)


def _forms(label: str) -> frozenset[str]:
    return frozenset(form for word in normalise(label).split() for form in _word_forms(word))


def _word_forms(word: str) -> frozenset[str]:
    """The word and its possible singulars; short words and those in -ss ("gas", "grass") are not plurals."""
    forms = {word}
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        forms.add(word[:-1])
        for ending, singular in (("es", ""), ("ies", "y"), ("ves", "f")):
            if word.endswith(ending) and len(word) > len(ending) + 1:
                forms.add(word.removesuffix(ending) + singular)
    return frozenset(forms)
