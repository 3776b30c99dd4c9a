from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from leaderboard.pages.frame import environment
from leaderboard.store import escape

HOSTILE: list[str] = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text())
TEXT = st.one_of(st.text(), st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zs", "Po", "Sm", "Sc"])))
hostile = pytest.mark.parametrize("label", HOSTILE, ids=lambda label: ascii(label[:20]))


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text, self.tags, self.attributes = "", [], {}

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data):
        self.text += data


def read_latex(source: str) -> str:
    """The text that a small, strict reading of the escape's own commands gives back; anything else is an error."""
    words = {
        "textbackslash": "\\",
        "textasciicircum": "^",
        "textasciitilde": "~",
        "textless": "<",
        "textgreater": ">",
        "textbar": "|",
        "textquotedblright": '"',
        "textquotedblleft": '"',
        "textquoteright": "'",
        "textquoteleft": "`",
        "textendash": "\u2013",
        "textemdash": "\u2014",
        "ldots": "\u2026",
    }
    pattern = re.compile(
        r"\\texttt\{U\+([0-9A-F]{4,6})\}|\{\\([a-z]+)\}|\\([a-z]+)\{\}|\\([{}$&#%_])|\{([\[\]*])\}|(\{\})|(~)|([^\\{}$&#%_^~\[\]*<>|\"'`])",
        re.S,
    )
    out, position = "", 0
    while position < len(source):
        match = pattern.match(source, position)
        assert match, f"active character at {source[position : position + 20]!r}"
        point, group, word, symbol, wrapped, empty, tie, plain = match.groups()
        name = group or word
        out += (
            chr(int(point, 16))
            if point
            else words[name]
            if name
            else symbol or wrapped or ("" if empty else " " if tie else plain)
        )
        position = match.end()
    return out


@hostile
def test_html_shows_the_label_and_runs_nothing(label):
    reader = _Reader()
    # Plain text, escaped by the engine of the pages.
    page = environment().from_string('<p title="{{ label|plain }}">{{ label|plain }}</p>')
    reader.feed(page.render(label=label))
    reader.close()
    assert reader.tags == ["p"]
    assert reader.text == reader.attributes["title"] == escape.plain(label)


@hostile
def test_latex_text_is_the_label_and_nothing_is_active(label):
    shown = escape.plain(label)
    quotes = str.maketrans({"\u2018": "`", "\u2019": "'", "\u201c": '"', "\u201d": '"'})
    assert read_latex(escape.latex(label)) == shown.translate(quotes)
    assert not re.search(r"--|,,", escape.latex(label))


@given(TEXT)
def test_latex_of_any_text_has_no_active_character(label):
    read_latex(escape.latex(label))


def test_latex_of_other_scripts():
    assert escape.latex("\u9b5a \u00e9 \u0142") == r"\texttt{U+9B5A} é ł"
    assert escape.latex("\u9b5a", unicode_engine=True) == "\u9b5a"
    assert escape.latex("gaussian_blur") == r"gaussian\_blur"


@hostile
def test_terminal_output_has_no_control_codes(label):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="truecolor", width=20_000, legacy_windows=False)
    console.print(Text(escape.terminal(label)), end="", soft_wrap=True)
    shown = stream.getvalue()
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs")]
    assert shown == escape.plain(label)


def test_terminal_shortens():
    assert escape.terminal("abcdef", limit=4) == "abc…"
    assert escape.terminal("abcd", limit=4) == "abcd"


@hostile
def test_csv_cells_are_text_and_come_back(label):
    stream = io.StringIO()
    csv.writer(stream).writerow([escape.csv(label), "next"])
    (row,) = csv.reader(io.StringIO(stream.getvalue()))
    assert row[1] == "next"
    assert not row[0].lstrip().startswith(tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20"))
    assert row[0].removeprefix("'") == escape.plain(label).removeprefix("'")


@hostile
def test_matplotlib_takes_the_label_as_text(label):
    mathtext = pytest.importorskip("matplotlib.cbook").is_math_text
    shown = escape.mpl(label)
    assert not mathtext(shown)
    assert not shown.startswith("_")
    assert shown.replace(r"\$", "$").lstrip() == escape.plain(label).lstrip()


@hostile
def test_file_names_stay_in_their_folder(label, tmp_path):
    path = tmp_path / escape.filename(label)
    assert path.resolve().parent == tmp_path.resolve()
    path.write_text("x")
    assert [entry.name for entry in tmp_path.iterdir()] == [escape.filename(label)]
    assert len(path.name) <= 80


def test_other_labels_other_files():
    assert len({escape.filename(label).lower() for label in HOSTILE}) == len(HOSTILE)


@given(TEXT)
def test_plain_text_is_stable_and_visible(label):
    shown = escape.plain(label)
    assert escape.plain(shown) == shown
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_usual_labels_are_unchanged_everywhere():
    label = "red striped fish"
    for sink in (escape.latex, escape.terminal, escape.csv, escape.mpl):
        assert sink(label) == label


def test_the_corpus_is_large_and_has_no_double():
    assert len(HOSTILE) == len(set(HOSTILE)) >= 60
    assert Path("..") not in {Path(escape.filename(label)) for label in HOSTILE}
