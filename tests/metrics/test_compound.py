"""Labels for truths of one and two concepts: stated cases, and properties over the whole world's words."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics import compound
from metrics.compound import compound_match, names_all
from metrics.text import concept_match

CATEGORIES = {
    "colour": ("red", "blue", "green"),
    "kind": ("fish", "car", "star"),
    "pattern": ("striped", "dotted", "solid"),
    "scene": ("brick wall", "starry night", "cloudy sky"),
}
RIVALS = {name: [other for other in names if other != name] for names in CATEGORIES.values() for name in names}
SYNONYMS = {"car": ["automobile"], "striped": ["stripes"], "starry night": ["night"], "red": ["crimson"]}
NAMES = sorted(RIVALS)


def right(label: str, op: str, *concepts: str) -> bool:
    return compound_match(label, op, concepts, SYNONYMS, RIVALS)


@pytest.mark.parametrize(
    ("label", "op", "concepts", "expected"),
    [
        ("a red thing", "single", ("red",), True),
        ("red and blue fish", "single", ("red",), False),
        ("red striped fish", "and", ("red", "striped"), True),
        ("crimson stripes", "and", ("red", "striped"), True),
        ("stripes, red", "and", ("striped", "red"), True),
        ("red fish", "and", ("red", "striped"), False),
        ("striped fish", "and", ("red", "striped"), False),
        ("red and blue striped fish", "and", ("red", "striped"), False),
        ("red striped and dotted fish", "and", ("red", "striped"), False),
        ("blue automobiles on a brick wall", "and", ("car", "blue"), True),
        ("star on a starry night", "and", ("star", "starry night"), True),
        ("starry night", "and", ("star", "starry night"), False),
        ("a red fish and a blue car", "and", ("red", "fish"), False),
        ("red", "or", ("red", "blue"), True),
        ("blue fish", "or", ("red", "blue"), True),
        ("red or blue", "or", ("red", "blue"), True),
        ("red or green", "or", ("red", "blue"), False),
        ("red, blue and green", "or", ("red", "blue"), False),
        ("green", "or", ("red", "blue"), False),
        ("blue fish", "or", ("red", "fish"), True),
        ("red car", "or", ("red", "fish"), True),
        ("blue car", "or", ("red", "fish"), False),
        ("blue fish and car, red", "or", ("red", "fish"), False),
        ("", "or", ("red", "blue"), False),
        ("", "and", ("red", "fish"), False),
        ("zebra", "or", ("red", "fish"), False),
    ],
)
def test_stated_cases(label, op, concepts, expected):
    assert right(label, op, *concepts) is expected


labels = st.lists(st.sampled_from([*NAMES, "zebra", "night", "crimson"]), max_size=5).map(" ".join)
pairs = st.permutations(NAMES).map(lambda names: tuple(names[:2]))


@given(labels, pairs)
def test_and_implies_or_and_order_does_not_count(label, pair):
    conjunction, disjunction = right(label, "and", *pair), right(label, "or", *pair)
    assert disjunction or not conjunction
    assert conjunction is right(label, "and", *pair[::-1])
    assert disjunction is right(label, "or", *pair[::-1])


@given(labels, pairs)
def test_what_is_right_for_one_concept_is_right_for_it_or_another(label, pair):
    if concept_match(label, pair[0], SYNONYMS, RIVALS[pair[0]]):
        assert right(label, "single", pair[0])
        assert right(label, "or", *pair)


@given(pairs)
def test_the_truth_itself_is_right_and_the_whole_vocabulary_never(pair):
    for op in ("and", "or"):
        assert right(f" {op} ".join(pair), op, *pair)
        assert not right(" ".join(NAMES), op, *pair)


@pytest.mark.parametrize(
    ("op", "concepts", "message"),
    [
        ("xor", ["red", "blue"], "op must be"),
        ("single", ["red", "blue"], "cannot join"),
        ("and", ["red"], "cannot join"),
        ("or", ["red", "red"], "cannot join"),
        ("single", [], "cannot join"),
        ("and", [], "cannot join"),
        ("and", "red", "not the string"),
    ],
)
def test_bad_input_is_a_sentence(op, concepts, message):
    with pytest.raises(ValueError, match=message):
        compound_match("red", op, concepts, {}, {})


def test_examples_in_the_docstring():
    found = doctest.testmod(compound)
    assert (found.failed, found.attempted) == (0, 3)


def test_several_labels_name_all_concepts_between_them():
    def names(*labels: str) -> bool:
        return names_all(labels, ["red", "fish"], {"fish": ["trout"]}, {"red": ["blue"], "fish": ["bird", "red"]})

    assert names("red", "a fish")
    assert names("red trout")
    assert names("a trout", "blue", "red")
    assert not names("red", "blue trout and bird")  # a rival spoils the label that names it
    assert not names("red and blue", "fish")
    assert not names("red")
    assert not names()
