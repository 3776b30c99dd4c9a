r"""Small pieces of LaTeX that sentences are made of. Every name and number passes through here, so nothing can act.

What is made with these needs no package but ``array``, ``booktabs`` and ``graphicx``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from leaderboard.store import escape
from leaderboard.view.words import ABSENT, listed, printed
from report.latex import latex_figures

_LONG: Final = 12
"""Letters of one word after which a name may be broken."""
_NAMED: Final = 60
"""Longest name that is set whole."""


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


def names(plain: Sequence[str], last: str = "and") -> str:
    """Several names, with commas."""
    return listed(map(name, plain), last)


def sentences(plain: Iterable[str]) -> str:
    """Plain sentences as LaTeX; a line may be broken after an underscore of a name."""
    return " ".join(latex_figures(said).replace(r"\_", r"\_\allowbreak{}") for said in plain)


def paragraphs(sentences: Iterable[Iterable[str]]) -> str:
    """LaTeX paragraphs, each made of its sentences; empty ones are left out."""
    joined = (" ".join(sentence for sentence in paragraph if sentence) for paragraph in sentences)
    return "\n\n".join(paragraph for paragraph in joined if paragraph) + "\n"


def description(items: Iterable[tuple[str, str]]) -> str:
    """A LaTeX description list of (term, text); empty for none."""
    lines = [rf"\item[{{{term}}}] {said}" for term, said in items]
    return "\n".join([r"\begin{description}", *lines, r"\end{description}", ""]) if lines else ""
