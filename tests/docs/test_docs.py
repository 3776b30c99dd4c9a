"""What the strict build of the site cannot say of itself: that its check finds faults."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def checked(folder: Path) -> list[str]:
    return [*runpy.run_path(str(DOCS / "check.py"))["problems"](folder)]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ('<a href="other.html#units">', None),
        ('<a href="other.html#there%20too">', None),
        ('<a href="https://example.org/">', None),  # a link is no request
        ('<img src="data:image/png;base64,AA">', None),
        ('<a href="missing.html">', "page.html links to missing.html, which is not there."),
        ('<a href="other.html#unit">', "page.html links to other.html#unit: there is no such heading."),
        ('<a href="#unit">', "page.html links to #unit: there is no such heading."),
        ('<img src="missing.png">', "page.html loads missing.png, which is not there."),
        ('<script src="https://example.org/a.js">', "page.html loads https://example.org/a.js: keep a copy"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "page.html loads //example.org/a.css: keep a copy"),
        ('<img srcset="other.html 1x, http://example.org/a.png 2x">', "page.html loads http://example.org/a.png: keep"),
        ("<style>@import 'https://example.org/a.css'</style>", "page.html loads https://example.org/a.css: keep"),
    ],
)
def test_a_link_that_leads_nowhere_and_a_request_are_found(tmp_path: Path, part: str, said: str | None) -> None:
    (tmp_path / "page.html").write_text(f"<p>{part}</p>")
    (tmp_path / "other.html").write_text('<h1 id="units">Units</h1><p id="there too">')
    found = checked(tmp_path)
    assert len(found) == (said is not None)
    assert said is None or found[0].startswith(said)


def test_a_font_from_elsewhere_is_found_in_a_style_sheet(tmp_path: Path) -> None:
    (tmp_path / "own.css").write_text("a { background: url(own.png) } @font-face { src: url('https://example.org/f') }")
    assert checked(tmp_path) == ["own.css loads https://example.org/f: keep a copy in docs/_static."]


def test_every_page_is_in_a_section() -> None:
    """The strict build says so too, but only after minutes."""
    listed = re.findall(r"^[\w/]+$", (DOCS / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    pages = {
        file.relative_to(DOCS).with_suffix("").as_posix()
        for kind in ("md", "ipynb")
        for file in DOCS.rglob(f"*.{kind}")
    }
    pages = {page for page in pages if not page.startswith("reference/")}
    assert pages - {"index"} == {name for name in listed if not name.startswith("reference/")}
    assert len(listed) == len(set(listed))
