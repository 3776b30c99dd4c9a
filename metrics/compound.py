"""Is a label right for a truth made of several concepts? For one, and for AND and OR of two."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from metrics.text import Synonyms, concept_match

Op = Literal["single", "and", "or"]


def compound_match(
    label: str, op: Op, concepts: Sequence[str], synonyms: Synonyms, rivals: Mapping[str, Iterable[str]]
) -> bool:
    """Whether a label is right for a unit that responds to a concept, to two at once, or to either of two.

    With N(c) = the label names c and none of c's rivals (``concept_match``), where the truth's own concepts are never
    each other's rivals:

    - ``single``: N(a).
    - ``and``: N(a) and N(b). "red car" is right for *red AND car*; "red" alone says too little and "red and blue car"
      too much.
    - ``or``: N(a) or N(b). "red", "blue" and "red or blue" are right for *red OR blue*; "red or green" is not. One half
      is enough, because a label of one concept is what most methods give and what the unit's top images may all show. A
      rival of one concept does not spoil the other: "blue fish" is right for *red OR fish*, as for *fish*.

    Anything else in the label (a word of another category) is ignored, as for one concept.

    Args:
        label: Free text.
        op: ``single``, ``and`` or ``or``: how the concepts are combined.
        concepts: One for ``single``, two or more different ones for ``and`` and ``or``.
        synonyms: Concept → other words or phrases for it.
        rivals: Concept → concepts that a right label must not name; a concept that is absent has none.

    Returns:
        False for an empty label.

    Raises:
        ValueError: ``op`` is unknown or does not fit the number of concepts.

    Example:
        >>> compound_match("striped red fish", "and", ["red", "striped"], {}, {"red": ["blue"]})
        True
        >>> compound_match("a red fish", "and", ["red", "striped"], {}, {"red": ["blue"]})
        False
    """
    if isinstance(concepts, str):
        raise ValueError(f"concepts must be a list, not the string {concepts!r}")
    if op not in ("single", "and", "or"):
        raise ValueError(f"op must be 'single', 'and' or 'or', not {op!r}")
    if len(set(concepts)) != len(concepts) or (len(concepts) == 1) != (op == "single") or not concepts:
        raise ValueError(f"{op!r} cannot join the concepts {list(concepts)}: one for 'single', else different ones")
    named = _named(label, concepts, synonyms, rivals)
    return any(named) if op == "or" else all(named)


def names_all(
    labels: Iterable[str], concepts: Sequence[str], synonyms: Synonyms, rivals: Mapping[str, Iterable[str]]
) -> bool:
    """Whether several labels together name all concepts; each must be named by a label without its rivals.

    Args:
        labels: Free texts.
        concepts: The truth's, never each other's rivals.
        synonyms: As for ``compound_match``.
        rivals: As for ``compound_match``.

    Example:
        >>> names_all(["red", "a fish"], ["red", "fish"], {}, {}), names_all(["red"], ["red", "fish"], {}, {})
        (True, False)
    """
    named = [_named(label, concepts, synonyms, rivals) for label in labels]
    return bool(named) and all(map(any, zip(*named, strict=True)))


def _named(label: str, concepts: Sequence[str], synonyms: Synonyms, rivals: Mapping[str, Iterable[str]]) -> list[bool]:
    """Whether a label names each concept and none of its rivals."""
    return [
        concept_match(label, concept, synonyms, [rival for rival in rivals.get(concept, ()) if rival not in concepts])
        for concept in concepts
    ]
