"""A summariser that counts words: it names what most captions share and the probing set overall does not.

It takes the place of the large language model in Describe-and-Dissect (Bai et al., TMLR 2025), costs microseconds,
needs no weights, and has no world knowledge: only a stop list of English function words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from scipy.special import bdtrc

from tasks.common.seeding import generator

# Closed-class English words, and words by which captions refer to themselves ("a close up photo of …").
_FUNCTION_WORDS = """
a an the this that these those some any each every another other such
and or but nor so as than if while then
of on in at by to from with without into onto over under above below behind beside between near next against
around across along through inside outside up down off out for about front back top side middle
i you he she it we they its his her their our your who which what where when
is are was were be been being am has have had having do does did can could will would shall should may might must
there here not no very just only also too both
image images picture pictures photo photos photograph photographs view close shot
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
ARTICLES = frozenset({"a", "an", "the"})
# A word that the probing set's captions never use is rare, not impossible.
RAREST = 0.01
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class WordCount:
    """Statistics of one word in a group of captions.

    Attributes:
        word: The word, lower-case.
        share: Share of the captions that contain it, in (0, 1].
        base: Share of all captions of the probing set that contain it, in (0, 1].
        p_value: Probability of at least as many captions with the word if each contained it with probability ``base``
            (one-sided binomial test).
    """

    word: str
    share: float
    base: float
    p_value: float


def words_of(caption: str) -> list[str]:
    """The words of a caption in order, lower-case, without punctuation."""
    return _WORD.findall(caption.lower())


def caption_background(captions: Sequence[str]) -> dict[str, float]:
    """Share of the captions that contain each word, as the ``background`` of a counting summariser.

    Args:
        captions: Captions of the probing set, one per image.
    """
    holders = Counter(word for caption in captions for word in set(words_of(caption)))
    return {word: count / len(captions) for word, count in sorted(holders.items())}


class CountingSummariser:
    """Names what captions share: words in most of them and well above their base rate, in caption order.

    ``summarise`` keeps a word if it is over-represented in all given captions (at least ``min_ratio`` times its base
    rate, and a one-sided binomial test against that rate gives p < ``alpha``) and if at least ``min_share`` of a random
    subset of them contain it. The subset (``keep`` of the captions, without replacement, by the seed) is the analogue
    of a language model's temperature: with ten captions a word in seven or more survives every draw, a word in five or
    six survives only some, so that several calls give several candidates exactly if the captions are ambiguous.
    (Testing within the subset loses clear words: measured, it names the shared concept of ten captions exactly in 0.87
    of generated cases instead of 0.95.)

    Of more than ``max_words`` words those in the most captions are kept. If no word passes, the single most
    over-represented word of the subset (smallest p-value) is the name.

    Args:
        min_share: Minimum share of the drawn captions, in (0, 1].
        min_ratio: Minimum ratio of share and base rate.
        alpha: Significance level of the binomial test.
        max_words: Maximum number of words of a name.
        keep: Share of the captions in each draw, in (0, 1]; 1 makes every seed give the same name.
    """

    uses_background: bool = True
    cleans_replies: bool = False
    version: ClassVar[str] = "1"

    def __init__(
        self,
        min_share: float = 0.6,
        min_ratio: float = 1.5,
        alpha: float = 0.01,
        max_words: int = 5,
        keep: float = 0.8,
    ) -> None:
        if not (0 < min_share <= 1 and 0 < keep <= 1 and max_words >= 1):
            raise ValueError(
                "CountingSummariser needs min_share and keep in (0, 1] and max_words of at least 1; "
                f"got {min_share}, {keep} and {max_words}."
            )
        self.min_share = min_share
        self.min_ratio = min_ratio
        self.alpha = alpha
        self.max_words = max_words
        self.keep = keep

    def simplify(self, caption: str, seed: int) -> str:
        """Drop articles everywhere and function words at both ends; every content word is kept.

        Places are kept too ("fish on sandy beach"): the unit may respond to the place.

        Args:
            seed: Unused; the result is the same for every seed.
        """
        tokens = [token for token in caption.strip().rstrip(".").split() if token.lower() not in ARTICLES]
        content = [i for i, token in enumerate(tokens) if any(w not in FUNCTION_WORDS for w in words_of(token))]
        return " ".join(tokens[content[0] : content[-1] + 1]) if content else caption.strip()

    def summarise(self, captions: Sequence[str], seed: int, background: Mapping[str, float] | None = None) -> str:
        """Name what most captions share, in at most ``max_words`` words; an empty string if they contain no words.

        Args:
            seed: Draws the subset of the captions that must share a word.
            background: Word → share of all probing images whose caption contains it, in [0, 1]. Without it only shares
                count.

        Raises:
            ValueError: ``captions`` is one string instead of a list.
        """
        if isinstance(captions, str):
            raise ValueError("summarise needs a list of captions, not one string; wrap it in a list.")
        words = [found for found in map(words_of, captions) if found]
        drawn = self._draw(words, seed)
        # A draw may contain nothing but function words; then all captions together decide.
        in_draw = count_words(drawn, background) or count_words(words, background)
        if not in_draw:
            return ""
        shared = {count.word: count for count in in_draw if count.share >= self.min_share}
        kept = [c for c in count_words(words, background) if c.word in shared and self._stands_out(c, background)]
        if not kept:
            return min(in_draw, key=lambda c: (c.p_value, -c.share)).word
        ordered = _caption_order([count.word for count in kept], words)
        kept.sort(key=lambda c: (-c.share, c.p_value, ordered.index(c.word)))
        best = {count.word for count in kept[: self.max_words]}
        return " ".join(word for word in ordered if word in best)

    def _draw(self, captions: list[list[str]], seed: int) -> list[list[str]]:
        size = max(1, round(self.keep * len(captions))) if captions else 0
        # Sorted first: the draw then depends on the seed and the captions alone, not on their order.
        ordered = sorted(captions)
        return [ordered[i] for i in generator(seed, "counting_summariser").permutation(len(ordered))[:size]]

    def _stands_out(self, count: WordCount, background: Mapping[str, float] | None) -> bool:
        if background is None:
            return True
        return count.share >= self.min_ratio * count.base and count.p_value < self.alpha


def count_words(captions: Sequence[Sequence[str]], background: Mapping[str, float] | None) -> list[WordCount]:
    """Count the content words of captions, alphabetically.

    Args:
        captions: The words of each caption.
        background: Word → base rate; without it every base rate is 1/2, so that only shares rank.
    """
    holders = Counter(word for caption in captions for word in set(caption) if word not in FUNCTION_WORDS)
    total = len(captions)
    counts = []
    for word in sorted(holders):
        base = max(background.get(word, 0.0), RAREST) if background is not None else 0.5
        p_value = float(bdtrc(holders[word] - 1, total, base)) if base < 1 else 1.0
        counts.append(WordCount(word, holders[word] / total, base, p_value))
    return counts


def _caption_order(words: list[str], captions: Sequence[Sequence[str]]) -> list[str]:
    """Sort words by their mean rank among each other, over the captions that contain most of them.

    Ranks among each other, not positions in the caption: one caption that names another striped thing first would
    otherwise outweigh seven that say "red striped fish".
    """
    held = [sum(word in caption for word in words) for caption in captions]
    places: dict[str, list[int]] = {word: [] for word in words}
    for caption, count in zip(captions, held, strict=True):
        if count == max(held):
            for place, word in enumerate(sorted((w for w in words if w in caption), key=caption.index)):
                places[word].append(place)
    # A word that is in none of the fullest captions has no rank among the others and goes last.
    return sorted(words, key=lambda word: (sum(places[word]) / len(places[word]) if places[word] else len(words), word))
