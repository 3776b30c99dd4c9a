"""Concept sets: text files with one concept per line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.common.errors import UserError
from tasks.common.files import read_bounded

_LIMIT = 100_000_000


def load_concepts(path: str | Path) -> tuple[str, ...]:
    """Read a concept set: UTF-8 (a byte-order mark is allowed), one concept per line, LF or CRLF.

    The same returned list is used for text features and for look-up, so a blank line or a duplicate cannot shift labels
    (the release of CLIP-Dissect drops blank lines in one place and keeps them in the other).

    Returns:
        The concepts in file order, stripped, without blank lines and duplicates (the first is kept; comparison ignores
        case).

    Raises:
        UserError: The file is missing, unreadable, not UTF-8 text, or without a concept.
    """
    path = Path(path)
    try:
        data = read_bounded(path, _LIMIT)
    except FileNotFoundError:
        raise UserError(f"The concept set {path} does not exist; give a text file with one concept per line.") from None
    except OSError as error:
        raise UserError(f"The concept set {path} cannot be read: {error.strerror or error}.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"The concept set {path} is not UTF-8 text (line {line}); save it as UTF-8.") from None
    if "\0" in text:
        raise UserError(f"The concept set {path} is not a text file (it holds NUL bytes); give one concept per line.")
    concepts = unique_concepts(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    if not concepts:
        raise UserError(f"The concept set {path} holds no concept; write one concept per line.")
    return concepts


def unique_concepts(lines: Iterable[str]) -> tuple[str, ...]:
    """Strip each line; drop blank lines and later duplicates, ignoring case."""
    first: dict[str, str] = {}
    for line in lines:
        concept = line.strip()
        if concept:
            first.setdefault(concept.casefold(), concept)
    return tuple(first.values())
