"""The tokenizer of the small text models: the vocabulary's words, and single letters that can spell any other word."""

from __future__ import annotations

import string
from pathlib import Path

from transformers import BertTokenizerFast  # pyright: ignore[reportAttributeAccessIssue]

from tasks.miniature.vocabulary import BACKGROUNDS, COLOURS, KINDS, PARTS, PATTERNS

CONTEXT_LENGTH = 24
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")
FUNCTION_WORDS = (
    "a",
    "an",
    "and",
    "in",
    "of",
    "on",
    "something",
    "thing",
    "the",
    "with",
    "no",
    "image",
    "photo",
    "one",
)


def build_tokenizer() -> BertTokenizerFast:
    """A word-piece tokenizer over the vocabulary; unknown words are split into letters."""
    words = [word for name in (*KINDS, *PARTS, *COLOURS, *PATTERNS, *BACKGROUNDS) for word in name.split()]
    pieces = [*SPECIAL, *FUNCTION_WORDS, *words]
    pieces += [prefix + letter for prefix in ("", "##") for letter in string.ascii_lowercase + string.digits]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = BertTokenizerFast(
        vocab=vocabulary,
        do_lower_case=True,
        bos_token="[DEC]",  # noqa: S106 - a token of text
        eos_token="[SEP]",  # noqa: S106
        model_max_length=CONTEXT_LENGTH,
    )
    # transformers 5 silently ignores a vocabulary given under another argument name.
    if len(tokenizer) != len(vocabulary):
        raise RuntimeError(f"the tokenizer has {len(tokenizer)} entries instead of {len(vocabulary)}")
    return tokenizer


def save_tokenizer(folder: Path) -> BertTokenizerFast:
    """Write the tokenizer's files into a folder and return it."""
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    return tokenizer
