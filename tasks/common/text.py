"""Text from outside (a model's reply, a plugin's label) as text that every file and terminal can hold."""

from __future__ import annotations


def valid(text: str) -> str:
    """Text that has a UTF-8 form: two surrogates that belong together become their letter, lone ones U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_visible(text: str) -> bool:
    """Whether anything of a text is seen: not white space, control characters and characters without width alone."""
    return any(letter.isprintable() and not letter.isspace() for letter in text)
