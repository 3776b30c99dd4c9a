"""From a chat to a concept: a reply becomes a name only if it looks like one."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from tasks.common.seeding import integer_seed
from tasks.common.text import is_visible
from tasks.language.chat import ChatModel, Message, NoAnswerError
from tasks.language.prompts import Mode, corrected_messages, zero_shot_messages

MOST_WORDS = 5
LLAMA2_LETTERS = 75
"""Letters at which a candidate of the Llama-2 variant is cut."""
_LONGEST_LABEL = 80
# Letters of any script, digits, and what may occur inside a word: "t-shirt", "women's", "black/white", "R&B".
_WORD = re.compile(r"[^\W_]+(?:['’&/+-][^\W_]+)*")
# Some templates hold the opening tag themselves, so that a reply has the closing one alone.
_THOUGHT = re.compile(r"^.*(?:</think>|<\|message\|>)", re.DOTALL)
# What a server leaves of its model's template.
_END = re.compile(r"(?:<\|\w+\|>\s*)+$")
_SPACE, _NOTHING = re.compile(r"[\u00a0\u2009\u202f\u3000]"), re.compile(r"[\u200b\u2060\ufeff]")
_REFUSAL = re.compile(
    r"(i[’']m|i am) (sorry|unable|afraid|not able)\b|sorry,|as an ai\b|i (can|could|will|wo)( ?not|n?[’']t)\b",
    re.IGNORECASE,
)
_QUOTES = "\"'“”‘’`*«»「」"


class ConceptNamer:
    """Asks a chat model for one concept, as in Describe-and-Dissect (Bai et al., TMLR 2025), step 2b.

    In ``fixed`` mode a reply counts only if it is one line of one to five words. A reply that is a list is summarised
    again once, one of another wrong shape is asked for again once; if the result is still no label, there is no name.
    In ``code`` mode replies are cut at colons and commas as in the release and not checked; in ``llama2`` mode the text
    after the last ": " is cut at 75 letters. In every mode a reply begins after the model's reasoning, and refusals,
    empty and truncated replies give no name.

    Args:
        mode: ``fixed``, ``code`` or ``llama2``.
        temperature: Sampling temperature; 0.3 as published.
        max_tokens: Maximum number of tokens of a reply.

    Attributes:
        unusable: Why replies gave no name, other than those that the model itself counts → how many.
    """

    def __init__(self, model: ChatModel, mode: Mode = "fixed", temperature: float = 0.3, max_tokens: int = 256) -> None:
        self.model = model
        self.mode: Mode = mode
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.unusable: Counter[str] = Counter()

    def name(self, messages: Sequence[Message], seed: int) -> str:
        """The concept that a chat ends in; an empty string if there is none.

        Args:
            messages: The chat up to the question.
            seed: Selects the sample of the reply, in [0, 2³²).

        Raises:
            LanguageModelError: The model cannot be used; see ``tasks.language.chat``.
        """
        reply = self.ask(messages, seed)
        if self.mode == "llama2":
            concept = reply.rpartition(": ")[2].strip()[:LLAMA2_LETTERS].strip()
            return concept if is_visible(concept) else ""
        again = integer_seed(seed, "language model", "once more")
        concept = self._concept(reply)
        pieces = [piece.strip() for piece in concept.split(",") if piece.strip()]
        if "," in concept and pieces:
            concept = self._concept(self.ask(zero_shot_messages(pieces, self.mode), again))
        elif self.mode == "fixed" and reply and not is_label(concept):
            concept = self._concept(self.ask(corrected_messages(messages, reply), again))
        if is_label(concept) or (self.mode == "code" and is_visible(concept)):
            return concept
        if reply:
            self.unusable["The reply was a refusal, or not one line of one to five words, twice."] += 1
        return ""

    def ask(self, messages: Sequence[Message], seed: int) -> str:
        """The model's reply; an empty string if it gives no answer to this request."""
        try:
            reply = self.model.chat(messages, temperature=self.temperature, max_tokens=self.max_tokens, seed=seed)
        except NoAnswerError:
            return ""
        text = _END.sub("", _THOUGHT.sub("", reply.text)).strip()
        # The releases have no rule for a refusal. In fixed mode it is a reply of a wrong shape, asked for once more.
        if self.mode == "fixed" or not is_refusal(text):
            return text
        self.unusable["The reply was a refusal."] += 1
        return ""

    def _concept(self, reply: str) -> str:
        if self.mode == "code":
            return after_colon(reply).strip()
        return tidy(after_colon(tidy(reply)))


def tidy(reply: str) -> str:
    """A reply without surrounding quotation marks, the final full stop or spaces of no width."""
    text = _NOTHING.sub("", _SPACE.sub(" ", reply)).strip().strip(_QUOTES).strip()
    return text.removesuffix(".").strip(_QUOTES).strip()


def is_label(text: str) -> bool:
    """Whether a text is one line of one to five plausible words, one of them with a letter."""
    # Marks (accents, vowel signs) belong to the letters that they stand on.
    words = "".join(letter for letter in text if not unicodedata.category(letter).startswith("M")).split(" ")
    return (
        not is_refusal(text)
        and len(text) <= _LONGEST_LABEL
        and len(words) <= MOST_WORDS
        and all(_WORD.fullmatch(word) for word in words)
        and any(letter.isalpha() for letter in text)
    )


def is_refusal(text: str) -> bool:
    """Whether a reply begins as models do when they decline."""
    return _REFUSAL.match(text.strip()) is not None


def has_word(text: str) -> bool:
    """Whether a text contains a word at all."""
    return _WORD.search(text) is not None


def after_colon(reply: str) -> str:
    """The text between the first and the second colon; the whole text if there is none."""
    return reply.split(":")[1].strip() if ":" in reply else reply
