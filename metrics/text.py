"""Does a label name a concept? Decided by words: a cosine cannot tell red from blue."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

Synonyms = Mapping[str, Iterable[str]]


def normalise(label: str) -> str:
    """Lower case, one space between words, no punctuation; hyphens and underscores part words, apostrophes join them.

    Example:
        >>> normalise("  A Brick-WALL, (red)! ")
        'a brick wall red'
    """
    text = unicodedata.normalize("NFKC", label).casefold()
    text = re.sub(r"['’`]", "", text)
    return " ".join(re.sub(r"[\W_]+", " ", text).split())


def exact_match(label: str, reference: str) -> bool:
    """Whether two labels are equal after ``normalise``.

    Example:
        >>> exact_match("Brick wall.", "brick-wall")
        True
    """
    return normalise(label) == normalise(reference)


def concept_match(label: str, concept: str, synonyms: Synonyms, rivals: Iterable[str] = ()) -> bool:
    """Whether a label names a concept, and none of its rivals.

    A concept is named when the label holds all words of its name or of one of its synonyms, in any order, singular or
    plural. A rival is another concept of the same category, so that "red and blue fish" does not pass for red; a rival
    that takes only some of the words of the concept's own name ("wall" beside "brick wall") does not count; one
    that shares a synonym with the concept does, as the label does not tell them apart.

    Args:
        label: A free text, e.g. "two red striped fishes".
        concept: The true concept, e.g. "fish".
        synonyms: Concept → other words or phrases for it.
        rivals: Other concepts that the label must not name; the concept itself is skipped.

    Returns:
        False for an empty label.

    Raises:
        ValueError: If a string stands where a list of strings belongs, or the concept has no word.

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

    A concept whose words are all part of a longer one that is named too is left out: "brick wall" names the brick wall,
    not also "wall".

    Args:
        label: A free text.
        vocabulary: The concepts.
        synonyms: Concept → other words or phrases for it.

    Raises:
        ValueError: If a string stands where a list of strings belongs.

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


def _named_by(words: frozenset[str], concept: str, synonyms: Synonyms) -> frozenset[str] | None:
    """The words of the longest name of the concept that the label holds; None if it holds none."""
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
    """The word and what it may be the plural of; short words and those in -ss ("gas", "grass") are no plurals."""
    forms = {word}
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        forms.add(word[:-1])
        for ending, singular in (("es", ""), ("ies", "y"), ("ves", "f")):
            if word.endswith(ending) and len(word) > len(ending) + 1:
                forms.add(word.removesuffix(ending) + singular)
    return frozenset(forms)
