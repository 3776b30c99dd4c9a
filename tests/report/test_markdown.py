from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from leaderboard.store import escape
from leaderboard.view.content import Cell, Row, Section, Table
from report.markdown import markdown_tables

HOSTILE: list[str] = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text())
HALF = Cell(0.5)
markdown_it = pytest.importorskip("markdown_it", reason="markdown-it-py comes with rich")


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.cells, self.inside = set(), [], False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag in ("th", "td"):
            self.cells.append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("th", "td")

    def handle_data(self, data):
        if self.inside:
            self.cells[-1] += data


def read(source: str) -> _Reader:
    reader = _Reader()
    reader.feed(markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table").render(source))
    return reader


def table(method="dnd", row="fog", title="", cell=HALF, task="resnet50_layer4") -> Table:
    parts = ("stability", task, "miniature", "Stability", "of unit labels", True, "Perturbation", (method,))
    return Table(*parts, (Section((Row(row, (cell,)),), title),), ("A note.",))


@pytest.mark.parametrize("label", HOSTILE, ids=lambda label: ascii(label[:20]))
def test_a_label_is_shown_as_text(label):
    reader = read(markdown_tables([table(method=label, row=label, task=label)]))
    assert reader.tags <= {"table", "thead", "tbody", "tr", "th", "td", "p", "strong", "ul", "li"}
    shown = " ".join(escape.terminal(label, 200).split())
    head, method, row, value = (" ".join(cell.split()) for cell in reader.cells)
    assert (head, method, row, value) == ("Perturbation", shown, shown, "0.50")


@pytest.mark.parametrize("label", ["https://example.org", "www.example.org", "a@b.org", "#12", "@someone", ":smile:"])
def test_what_github_turns_into_links_is_escaped(label):
    assert re.search(r"\\[:.@#]", escape.markdown(label))


def test_names_stay_readable_in_the_source():
    assert escape.markdown("network_dissection: 95 %, p = 0.05") == "network_dissection: 95 %, p = 0.05"
    assert escape.markdown("_a_") == r"\_a\_"


def test_cells():
    cell = Cell(0.35, -0.41, 0.6, marked=True, tied=True)
    assert r"| fog | 0.35\*† [-0.41, 0.60] |" in markdown_tables([table(cell=cell)])
    assert "| fog | **0.35** |" in markdown_tables([table(cell=Cell(0.35, best=True))])
    assert "| fog | – |" in markdown_tables([table(cell=Cell())])
    assert "| fog | 12 |" in markdown_tables([table(cell=Cell(12, digits=0))])
    assert "| *n (2)* |  |" in markdown_tables([table(title="n (2)")])


def test_no_tables_no_text():
    assert markdown_tables([]) == ""
