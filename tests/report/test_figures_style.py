from __future__ import annotations

import warnings

import matplotlib
import pytest
from figure_boards import HOSTILE
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from leaderboard.board.facts import RunFacts
from leaderboard.board.names import AboutMethod
from leaderboard.store import escape
from report.figures import style


def drawn(text: str):
    """What Matplotlib makes of it: the text to draw, and whether it is mathematics."""
    figure = Figure()
    artist = figure.text(0.5, 0.5, text)
    FigureCanvasAgg(figure).draw()
    return artist._preprocess_math(artist.get_text())


@pytest.mark.parametrize("raw", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_is_drawn_as_itself(raw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown, mathematics = drawn(style.text(raw, 10_000))
    assert not mathematics
    expected = escape.plain(raw)
    assert len(shown.removeprefix(" ")) == len(expected.removeprefix(" "))
    assert all(one in (other, "\ufffd") for one, other in zip(shown[::-1], expected[::-1], strict=False))


def test_text_is_clipped_and_stays_on_one_line():
    assert style.text("a\nb" * 100, 12) == "a ba ba ba …"
    assert len(style.text("$" * 10_000, 12).replace("\\$", "$")) == 12
    assert style.title_of("gaussian_blur") == "gaussian blur"
    assert style.method_title("random_label", RunFacts()) == "random label (trivial)"


def test_letters_that_the_font_lacks_are_replaced():
    assert style.text("魚 fish 🐟 é") == "\ufffd fish \ufffd é"


def test_a_methods_look_is_its_own_in_every_company():
    names = ["clip_dissect", "dnd", "dnd (mode=code)", "network_dissection", "mine", "yours", "random_label"]
    together = style.looks(names, RunFacts())
    for name in names:
        assert style.looks([name], RunFacts())[name] == together[name]
        assert style.looks(["dnd", name, "clip_dissect"], RunFacts())[name] == together[name]


def test_no_two_methods_look_alike():
    names = [f"method {number}" for number in range(8)] + [f"dnd (beam={number})" for number in range(5)]
    floors = ["constant_label", "my_floor", "random_label"]
    facts = RunFacts(methods={"my_floor": AboutMethod(trivial=True)})
    found = style.looks([*names, "dnd", *floors], facts)
    assert len({(look.colour, look.marker) for look in found.values()}) == len(found)
    assert {found[name].colour for name in found if name.startswith("dnd")} == {found["dnd"].colour}
    assert [name for name in found if found[name].floor] == floors


def test_the_users_settings_neither_count_nor_change():
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        with style.styled():
            assert matplotlib.rcParams["font.size"] == 8
            assert matplotlib.rcParams["axes.facecolor"] == "white"
        assert matplotlib.rcParams["font.size"] == 30
