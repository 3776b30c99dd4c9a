"""Text from outside has a UTF-8 form, and what cannot be seen is no label (fault F29)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks.common.text import is_visible, valid

ANY = st.text(st.characters())  # lone surrogates too


@given(ANY)
def test_what_has_a_utf8_form_stays_and_everything_else_gets_one(text: str) -> None:
    found = valid(text)
    found.encode()
    try:
        text.encode()
    except UnicodeEncodeError:
        assert "\ufffd" in found or len(found) < len(text)
    else:
        assert found == text


def test_surrogates_that_belong_together_are_one_letter() -> None:
    assert valid("a \ud83d\ude00 \ud83d") == "a 😀 \ufffd"


def test_visible() -> None:
    assert all(map(is_visible, ["a", " é ", "日", "+", "\x1b[0m"]))
    assert not any(map(is_visible, ["", " \n", "\x1b\x07", "\u200b\ufeff", "\u202e"]))
