from __future__ import annotations

import numpy as np
import pytest

from baselines.base import Label, UnitLabels
from baselines.checks import check_labels

UNITS = (4, 9)


def answer(**changes: object) -> list[UnitLabels]:
    """A right answer, with the second unit changed."""
    second = {"unit": 9, "ranked": (Label("dog", 0.5), Label("cat", float("nan"))), "evidence": (0, 6), **changes}
    return [UnitLabels(4, ()), UnitLabels(**second)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"unit": np.int64(9), "ranked": (Label("dog", np.float32(0.5)),), "evidence": [np.int64(6)]},
        {"ranked": (), "evidence": (), "extra": {"dead": True}},
        {"ranked": (Label("<b>\x1b[31m", -3),)},
    ],
)
def test_a_right_answer_is_handed_on(changes):
    found = answer(**changes)
    assert check_labels("mine", found, UNITS, 7) == found
    assert check_labels("mine", tuple(found), list(UNITS), 7) == found


def test_texts_get_a_utf8_form():
    (_, found) = check_labels("mine", answer(ranked=(Label("a\ud800", 1),), extra={"t": ["\udc00"]}), UNITS, 7)
    assert found.ranked == (Label("a\ufffd", 1.0),)
    assert found.extra == {"t": ["\ufffd"]}


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (None, "returned a NoneType, not a list"),
        ({4: "dog", 9: "cat"}, "returned a dict, not a list"),
        ((entry for entry in answer()), "returned a generator, not a list"),
        ([answer()[0], None], "a list with a NoneType in it"),
        ([[Label("dog", 1.0)], [Label("cat", 1.0)]], "a list with a list in it"),
        ([], "labels for 0 units, but was asked for 2"),
        ([*answer(), *answer()], "labels for 4 units, but was asked for 2"),
        (answer()[::-1], "returned unit 9 where unit 4 was asked for"),
        (answer(unit=4), "returned unit 4 where unit 9 was asked for"),
        (answer(ranked="dog"), "returned for unit 9 a str as ranked"),
        (answer(ranked=("dog",)), "returned for unit 9 a str among ranked"),
        (answer(ranked=(Label("dog", 1.0), Label(" ", 1.0))), "for unit 9 the label ' '; a unit without a name"),
        (answer(ranked=(Label("\u200b\x07", 1.0),)), "a unit without a name"),
        (answer(extra={"detector": "x"}), "for unit 9 a str as extra['detector'], not True, False or None"),
        (answer(ranked=(Label(None, 1.0),)), "for unit 9 the label None"),
        (answer(ranked=(Label("dog", "1.0"),)), "for unit 9 the score '1.0'"),
        (answer(ranked=(Label("dog", float("inf")),)), "for unit 9 the score inf"),
        (answer(ranked=(Label("dog", None),)), "for unit 9 the score None"),
        (answer(evidence=(0, 7)), "for unit 9 the evidence 7; the images have the numbers 0 to 6"),
        (answer(evidence=(-1,)), "for unit 9 the evidence -1"),
        (answer(evidence=("a.jpg",)), "for unit 9 the evidence 'a.jpg'"),
        (answer(evidence=3), "for unit 9 an int as evidence"),
        (answer(extra=["dead"]), "for unit 9 a list as extra"),
    ],
)
def test_a_wrong_answer_is_a_sentence_that_names_the_method(found, sentence):
    with pytest.raises(ValueError, match=r"^the method mine returned") as caught:
        check_labels("mine", found, UNITS, 7)
    assert sentence in str(caught.value)
