"""A summariser that asks a language model, and accepts only replies that look like a concept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from tasks.language.naming import ConceptNamer, has_word, is_refusal, tidy
from tasks.language.prompts import VERSION, propose_messages, simplify_messages, summarise_messages

_LONGEST_CAPTION = 200


class LanguageModelSummariser(ConceptNamer):
    """Names what captions share by asking a chat model, as in Describe-and-Dissect (Bai et al., TMLR 2025), step 2b.

    See ``ConceptNamer`` for the arguments and the handling of replies. A caption that was not simplified is used as it
    is; in ``llama2`` mode none is simplified, and the prompt has no worked examples, as published for Llama-2-7b-chat.

    Captions may contain anything, including instructions to the model: they can make a label wrong, and nothing else,
    since the model has no tools and its reply is only ever a label.
    """

    uses_background: bool = False
    cleans_replies: bool = True
    version: ClassVar[str] = VERSION

    def simplify(self, caption: str, seed: int) -> str:
        """Shorten one caption; returns the caption itself if the model gives nothing usable.

        Args:
            seed: Selects the sample of the reply, in [0, 2³²).

        Raises:
            LanguageModelError: The model cannot be used; see ``tasks.language.chat``.
        """
        if not caption.strip() or self.mode == "llama2":
            return caption
        reply = self.ask(simplify_messages(caption), seed)
        if self.mode == "code":
            return reply.strip() or caption
        line = tidy(reply)
        usable = 0 < len(line) <= _LONGEST_CAPTION and line.isprintable() and has_word(line) and not is_refusal(line)
        return line if usable else caption

    def summarise(self, captions: Sequence[str], seed: int, background: Mapping[str, float] | None = None) -> str:
        """Name what most captions have in common; an empty string if there is no name.

        Args:
            seed: Selects the sample of the reply, in [0, 2³²).
            background: Not used.

        Raises:
            ValueError: ``captions`` is one string instead of a list.
            LanguageModelError: The model cannot be used; see ``tasks.language.chat``.
        """
        if isinstance(captions, str):
            raise ValueError("summarise needs a list of captions, not one string; wrap it in a list.")
        if not any(caption.strip() for caption in captions):
            return ""
        return self.name(summarise_messages(captions, self.mode), seed)

    def propose(self, history: Sequence[tuple[str, float]], seed: int) -> str:
        """Propose the next concept of a closed loop; an empty string if there is none.

        Args:
            history: Concepts that were tried and their scores, in the order in which they are shown.
            seed: Selects the sample of the reply, in [0, 2³²).

        Raises:
            LanguageModelError: The model cannot be used; see ``tasks.language.chat``.
        """
        return self.name(propose_messages(history), seed)
