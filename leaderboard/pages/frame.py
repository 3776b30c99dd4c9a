"""What every page has in common: one frame, one stylesheet, no request, and no text that could act as code.

Pages open from a file, so each carries its style and scripts itself; a Content-Security-Policy names them by their
hashes and forbids everything else, style attributes included.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from leaderboard.board.build import Value
from leaderboard.store import escape
from leaderboard.view.words import brackets, count, p_value, percent, printed, spaced, with_minus

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """One file of the site.

    Attributes:
        path: Where it lies under the site's folder, with ``/``.
        template: Name of its template; it extends ``base.html.jinja``.
        context: What the template shows. Texts go in as they are; the frame escapes them.
    """

    path: str
    template: str
    context: Mapping[str, Any]


def render(page: Page) -> str:
    """The page as HTML.

    Its template also gets ``root``, the relative way to the site's folder (``""`` or ``"../"``, …), and ``path``, the
    page's own.
    """
    root = "../" * page.path.count("/")
    return environment().get_template(page.template).render(**page.context, root=root, path=page.path)


@functools.cache
def environment() -> Environment:
    """Templates that escape everything, and stop at a name they were not given."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals |= {"style": _style(), "scripts": _scripts(), "policy": policy()}
    made.filters |= {
        "plain": escape.plain,
        "breakable": breakable,
        "number": number,
        "percent": percent,
        "interval": interval,
        "minus": with_minus,
        "p_value": p_value,
        "spaced": spaced,
        "count": count,
    }
    return made


def policy() -> str:
    """The Content-Security-Policy: nothing but this style, these scripts and images inside the page."""
    scripts = " ".join(_hash(script) for script in _scripts())
    return (
        f"default-src 'none'; style-src {_hash(_style())}; script-src {scripts}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; a dash where there is none."""
    return with_minus(printed(value, digits))


def interval(value: Value) -> str:
    """``[0.80, 0.88]``; empty without interval."""
    return with_minus(brackets(value.low, value.high))


def breakable(name: str) -> Markup:
    """A name that a narrow column may break after an underscore; its text stays what it is."""
    return Markup("_<wbr>").join(Markup.escape(part) for part in escape.plain(name).split("_"))


def _shown(value: Any) -> Any:
    """What a template prints: text without what no reader should get (``leaderboard.store.escape.plain``)."""
    if value is None:
        raise TypeError("a template prints None: say what stands there where a value is absent")
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return escape.plain(value)


@functools.cache
def _style() -> Markup:
    # The common style comes before that of single pages, by name.
    return Markup().join(_asset(path) for path in sorted((_HERE / "assets").glob("*.css")))


@functools.cache
def _scripts() -> tuple[Markup, ...]:
    return tuple(_asset(path) for path in sorted((_HERE / "assets").glob("*.js")))


def _asset(path: Path) -> Markup:
    # Our own files, which no run can change.
    return Markup(path.read_text(encoding="utf-8"))  # noqa: S704


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
