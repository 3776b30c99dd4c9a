"""One escape function per output format. A label is data from a model: nothing in it may act as code.

Every function first drops what no reader should see: control characters, invisible format characters (zero-width,
bidirectional, tags) and lone surrogates. The raw text stays in the store.
"""

from __future__ import annotations

import logging
import re
import unicodedata

from leaderboard.store.identity import safe_name

# After `\\` LaTeX reads `[` and `*` as arguments.
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\textquotedblright}",
    "'": r"{\textquoteright}",
    "`": r"{\textquoteleft}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "\u00a0": "~",
    "\u2013": r"\textendash{}",
    "\u2014": r"\textemdash{}",
    "\u2018": r"{\textquoteleft}",
    "\u2019": r"{\textquoteright}",
    "\u201c": r"{\textquotedblleft}",
    "\u201d": r"{\textquotedblright}",
    "\u2026": r"\ldots{}",
}
# Letters that pdfLaTeX sets in its default font encoding; the rest of Latin (ogoneks, eth, thorn) needs a different
# one.
_LATEX_LETTERS = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿĂăĆćČčĎďĚěŁłŃńŇňŐőŒœŔŕŘřŚśŞşŠšŤťŮůŰűŸŹźŻżŽž"
)
_LATEX_LIGATURE = re.compile(r"([-,])(?=\1)")

# An underscore inside a word is not markup, so that names stay readable in the source; `www.` and `:` make links.
_MARKDOWN_ACTIVE = re.compile(r"[\\`*\[\]<>&|~$@#]|:(?=\S)|(?<=[wW]{3})\.|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")

_FORMULA_STARTS = "=+-@\uff1d\uff0b\uff0d\uff20"


def plain(text: str) -> str:
    """The text as a reader should see it, without format-specific escaping.

    Each white-space character becomes one space; NUL and other control, format and private-use characters are removed;
    lone surrogates become U+FFFD.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def latex(text: str, unicode_engine: bool = False) -> str:
    r"""For LaTeX text, also first in a table row.

    Args:
        unicode_engine: For XeLaTeX and LuaLaTeX, which accept any character. Otherwise a character without a glyph in
            pdfLaTeX is written as its code point, e.g. ``\texttt{U+4E2D}``.
    """
    escaped = "".join(_latex_character(character, unicode_engine) for character in plain(text))
    return _LATEX_LIGATURE.sub(r"\1{}", escaped)


def markdown(text: str) -> str:
    """For Markdown (CommonMark and GitHub's tables): no markup, no HTML, no link, no mathematics."""
    return _MARKDOWN_ACTIVE.sub(r"\\\g<0>", plain(text))


def terminal(text: str, limit: int | None = None) -> str:
    """For ``rich.text.Text`` (never for markup) and plain lines: no control sequences, one line.

    Args:
        limit: Maximum number of characters; longer text ends in an ellipsis.
    """
    shown = plain(text)
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


class TerminalLog(logging.Formatter):
    """For messages of ``logging``, tracebacks among them: what raised may be anybody's."""

    def format(self, record: logging.LogRecord) -> str:
        """Line by line, without control sequences."""
        return "\n".join(map(terminal, super().format(record).splitlines()))


def csv(text: str) -> str:
    """For one CSV cell that a spreadsheet must not run as a formula; quoting is left to the ``csv`` module."""
    shown = plain(text)
    return "'" + shown if shown.lstrip().startswith(tuple(_FORMULA_STARTS)) else shown


def mpl(text: str) -> str:
    """For Matplotlib titles, ticks and legends: no mathematics, and no leading underscore, which legends omit."""
    shown = plain(text).replace("$", r"\$")
    return " " + shown if shown.startswith("_") else shown


def filename(text: str, limit: int = 80) -> str:
    """For one file or folder name, unique per text. See ``leaderboard.store.identity.safe_name``."""
    return safe_name(text, limit)


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if character.isspace() and category in ("Cc", "Zl", "Zp", "Zs"):
        return character if category == "Zs" else " "
    if category == "Cs":
        return "\ufffd"
    return "" if category in ("Cc", "Cf", "Co", "Cn") else character


def _latex_character(character: str, unicode_engine: bool) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii() or unicode_engine or character in _LATEX_LETTERS:
        return character
    if character.isspace():
        return " "
    return rf"\texttt{{U+{ord(character):04X}}}"
