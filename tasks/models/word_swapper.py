"""A proposer without a language model: it changes one word of the best concept so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.common.seeding import generator


class WordSwapper:
    """Proposes the best concept so far with one of its words exchanged for another of the same category.

    A hill climber over a vocabulary that takes the place of a language model in a closed loop. It knows no other words,
    and it never adds or drops one.

    Args:
        categories: Category → its names, of one or more lower-case words; the categories have no name in common.
    """

    def __init__(self, categories: Mapping[str, Sequence[str]]) -> None:
        self._siblings = {name: tuple(names) for names in categories.values() for name in names}
        self._longest = max(len(name.split()) for name in self._siblings)

    def propose(self, history: Sequence[tuple[str, float]], seed: int) -> str:
        """A concept that is not in the history; an empty string if there is none.

        Args:
            history: Concepts and their scores; of equal scores the first counts as the best.
            seed: Draws one of the possible concepts.
        """
        tried = {concept for concept, _ in history}
        best = max(history, key=lambda one: one[1])[0] if history else ""
        left = [concept for concept in self._neighbours(best) if concept not in tried]
        left = left or [name for name in self._siblings if name not in tried]
        return left[generator(seed, "word_swapper").integers(len(left))] if left else ""

    def _neighbours(self, concept: str) -> list[str]:
        names = self._names(concept)
        return [
            " ".join([*names[:place], other, *names[place + 1 :]])
            for place, name in enumerate(names)
            for other in self._siblings[name]
            if other not in names
        ]

    def _names(self, concept: str) -> list[str]:
        """The vocabulary's names in a text, longest first at each word; other words are dropped."""
        words, found = concept.lower().split(), []
        while words:
            ends = range(min(self._longest, len(words)), 0, -1)
            length = next((end for end in ends if " ".join(words[:end]) in self._siblings), 0)
            if length:
                found.append(" ".join(words[:length]))
            words = words[max(length, 1) :]
        return found
