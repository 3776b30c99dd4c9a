r"""Small pieces of LaTeX that sentences are made of. Every name and number passes through here, so nothing can act.

What is made with these needs no package but ``array``, ``booktabs`` and ``graphicx``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

from leaderboard.board.build import Value
from leaderboard.store import escape
from leaderboard.view.content import ABSENT, printed
from report.latex import latex_text

_NEGATIVE: Final = re.compile(r"(?<![\w.)}])-(?=\d)")
_LONG: Final = 12
"""Letters of one word after which a name may be broken."""
_NAMED: Final = 60
"""Longest name that is set whole."""
_SMALL: Final = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
)  # fmt: skip


def numbers(plain: str) -> str:
    """Text with figures such as ``-0.05 [-0.10, 0.02]``: a hyphen before a digit is a minus."""
    return latex_text(_NEGATIVE.sub("−", plain))


def name(plain: str, limit: int = _NAMED) -> str:
    r"""The name of a method, task, perturbation or file in typewriter letters, with places to break the line.

    Example:
        >>> name("snow"), name("a_b")
        ('\\texttt{snow}', '\\texttt{a\\_\\allowbreak{}b}')
    """
    joined, last = "", ""
    for piece in re.findall(rf"[^_\-./ ,]{{1,{_LONG}}}|[_\-./ ,]", escape.terminal(plain, limit)):
        # A line may break after a separator and within a long word, never before a separator.
        breakable = (last in tuple("_-./,") or len(last) == _LONG) and piece not in "_-./ ,"
        joined += (r"\allowbreak{}" if breakable else "") + escape.latex(piece)
        last = piece
    return rf"\texttt{{{joined}}}"


def number(value: float, digits: int = 2) -> str:
    r"""A number with a real minus.

    Example:
        >>> number(-0.054), number(float("nan"))
        ('$-0.05$', '\\textendash{}')
    """
    shown = printed(value, digits)
    return escape.latex(ABSENT) if shown == ABSENT else f"${shown}$"


def value(found: Value) -> str:
    """A mean with its interval.

    Example:
        >>> value(Value(0.5, 0.25, 0.75))
        '$0.50$~[$0.25$, $0.75$]'
    """
    if found.low is None or found.high is None or math.isnan(found.low) or math.isnan(found.high):
        return number(found.mean)
    return f"{number(found.mean)}~[{number(found.low)}, {number(found.high)}]"


def count(many: int, noun: str, plural: str = "") -> str:
    """How many of what; small numbers in words.

    Example:
        >>> count(1, "task"), count(3, "study", "studies"), count(2048, "unit")
        ('one task', 'three studies', '2,048 units')
    """
    return f"{in_words(many)} {noun if many == 1 else plural or noun + 's'}"


def in_words(many: int) -> str:
    """A count; up to twelve as a word."""
    return _SMALL[many] if many < len(_SMALL) else f"{many:,}"


def listed(items: Iterable[str], last: str = "and") -> str:
    """Items of LaTeX with commas.

    Example:
        >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"], "or")
        ('a', 'a and b', 'a, b or c')
    """
    found = list(items)
    return f" {last} ".join([*([", ".join(found[:-1])] if found[1:] else []), *found[-1:]])


def names(plain: Sequence[str], last: str = "and") -> str:
    """Several names, with commas."""
    return listed(map(name, plain), last)


def paragraphs(sentences: Iterable[Iterable[str]]) -> str:
    """LaTeX paragraphs, each made of its sentences; empty ones are left out."""
    joined = (" ".join(sentence for sentence in paragraph if sentence) for paragraph in sentences)
    return "\n\n".join(paragraph for paragraph in joined if paragraph) + "\n"


def description(items: Iterable[tuple[str, str]]) -> str:
    """A LaTeX description list of (term, text); empty for none."""
    lines = [rf"\item[{{{term}}}] {said}" for term, said in items]
    return "\n".join([r"\begin{description}", *lines, r"\end{description}", ""]) if lines else ""
