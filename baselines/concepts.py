"""Concept sets: text files with one concept a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks.common.errors import UserError
from tasks.common.files import read_bounded

_LIMIT = 100_000_000


def load_concepts(path: str | Path) -> tuple[str, ...]:
    """Read a concept set: UTF-8 (a byte-order mark is fine), one concept a line, LF or CRLF.

    The list returned is the only one in use, for text features and for look-up alike, so a blank line or a duplicate
    cannot shift labels (the release of CLIP-Dissect drops blank lines for the one and keeps them for the other).

    Args:
        path: The file.

    Returns:
        The concepts in file order, without surrounding space, blank lines and duplicates (the first is kept; upper and
        lower case count as equal).

    Raises:
        UserError: If the file is missing, unreadable, not UTF-8 text, or without a concept.
    """
    path = Path(path)
    try:
        data = read_bounded(path, _LIMIT)
    except FileNotFoundError:
        raise UserError(f"The concept set {path} does not exist; give a text file with one concept a line.") from None
    except OSError as error:
        raise UserError(f"The concept set {path} cannot be read: {error.strerror or error}.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"The concept set {path} is not UTF-8 text (line {line}); save it as UTF-8.") from None
    if "\0" in text:
        raise UserError(f"The concept set {path} is not a text file (it holds NUL bytes); give one concept a line.")
    concepts = unique_concepts(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    if not concepts:
        raise UserError(f"The concept set {path} holds no concept; write one concept a line.")
    return concepts


def unique_concepts(lines: Iterable[str]) -> tuple[str, ...]:
    """Strip each line; drop blank ones and later duplicates, whatever their case."""
    first: dict[str, str] = {}
    for line in lines:
        concept = line.strip()
        if concept:
            first.setdefault(concept.casefold(), concept)
    return tuple(first.values())
