"""What no option of Sphinx checks in a built site: links into other pages, and that nothing is asked of a server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_STYLED = re.compile(r"""(?:url\(|@import)\s*["']?\s*((?:https?:)?//[^"')\s]+)""")


_OURS = ": keep a copy in docs/_static."


class _Page(HTMLParser):
    """Anchors of a page, where its links lead, and what a browser loads to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = _STYLED.findall(text)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if "href" in found:
            (self.links if tag == "a" else self.loaded).append(found["href"])
        self.loaded += [found[name] for name in ("src", "data", "poster") if name in found]
        self.loaded += [part.split()[0] for part in found.get("srcset", "").split(",") if part.strip()]


def problems(folder: Path) -> Iterator[str]:
    """Links that lead nowhere, and what would be loaded from elsewhere, one sentence each."""
    pages = {file.resolve(): _Page(file.read_text(encoding="utf-8")) for file in sorted(folder.rglob("*.html"))}
    for file, page in pages.items():
        name = file.relative_to(folder.resolve())
        yield from (f"{name} loads {link}{why}" for link in page.loaded if (why := _loads_badly(link, file)))
        yield from (f"{name} links to {link}{why}" for link in page.links if (why := _leads_nowhere(link, file, pages)))
    for sheet in sorted(folder.rglob("*.css")):
        yield from (f"{sheet.name} loads {link}{_OURS}" for link in _STYLED.findall(sheet.read_text(encoding="utf-8")))


def _loads_badly(link: str, file: Path) -> str:
    parts = urlsplit(link)
    if parts.netloc:
        return _OURS
    there = parts.scheme or (file.parent / unquote(parts.path)).exists()
    return "" if there else ", which is not there."


def _leads_nowhere(link: str, file: Path, pages: Mapping[Path, _Page]) -> str:
    parts = urlsplit(link)
    if parts.scheme or link == "#":
        return ""
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.exists():
        return ", which is not there."
    known = not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].anchors
    return "" if known else ": there is no such heading."
