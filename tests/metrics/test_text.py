from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.text import (
    concept_match,
    exact_match,
    exact_similarity,
    named_concepts,
    normalise,
)

SYNONYMS = {"red": ["crimson", "scarlet"], "brick wall": ["brickwork", "masonry"], "boat": ["sailing ship"]}
COLOURS = ["red", "blue", "green"]


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("  Red\tFish ", "red fish"),
        ("brick-wall", "brick wall"),
        ("brick_wall!", "brick wall"),
        ("bird's nest", "birds nest"),
        ("bird’s nest", "birds nest"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("ﬁsh", "fish"),
        ("café, (blue)", "café blue"),
        ("?!...", ""),
        ("魚", "魚"),
        ("cafe\u0301!", "café"),
        ("हिन्दी", "हिन्दी"),
        ("🌊", "🌊"),
        ("🌊 sea", "sea"),
        (" +! ", "+"),
    ],
)
def test_normalise(label, expected):
    assert normalise(label) == expected


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing_more(label):
    once = normalise(label)
    assert normalise(once) == once
    assert exact_match(label, once)


def test_exact_match_ignores_case_space_and_punctuation_only():
    assert exact_match("Brick wall.", " brick-wall")
    assert not exact_match("brick wall", "brick walls")
    assert not exact_match("wall brick", "brick wall")
    assert not exact_match("ป่า", "ป้า")
    assert not exact_match("🌊", "🧱")


@pytest.mark.parametrize(
    ("label", "concept"),
    [
        ("red", "red"),
        ("A RED, striped fish", "red"),
        ("crimson fish", "red"),
        ("two fishes", "fish"),
        ("fish", "fishes"),
        ("houses", "house"),
        ("buses", "bus"),
        ("starry skies", "sky"),
        ("green leaves", "leaf"),
        ("old brick walls", "brick wall"),
        ("a wall of brick", "brick wall"),
        ("masonry", "brick wall"),
        ("sailing ships", "boat"),
        ("tall grass", "grass"),
    ],
)
def test_a_label_that_names_the_concept(label, concept):
    assert concept_match(label, concept, SYNONYMS)


@pytest.mark.parametrize(
    ("label", "concept"),
    [
        ("", "red"),
        ("...", "red"),
        ("blue", "red"),
        ("reddish", "red"),
        ("infrared", "red"),
        ("wall", "brick wall"),
        ("brick house", "brick wall"),
        ("ship", "boat"),
        ("gas", "ga"),
        ("glass", "glas"),
        ("fish", "star"),
    ],
)
def test_a_label_that_does_not(label, concept):
    assert not concept_match(label, concept, SYNONYMS)


def test_rivals_of_the_same_category_undo_a_match():
    assert concept_match("red fish", "red", SYNONYMS, COLOURS)
    assert not concept_match("red and blue fish", "red", SYNONYMS, COLOURS)
    assert not concept_match("blue and scarlet", "blue", SYNONYMS, COLOURS)
    assert concept_match("red crimson fish", "red", SYNONYMS, COLOURS)
    assert concept_match("red fish on blue water", "fish", SYNONYMS, ["car", "boat"])


def test_a_rival_inside_the_concepts_own_name_does_not_count():
    assert concept_match("brick wall", "brick wall", SYNONYMS, ["wall", "brick"])
    assert not concept_match("brick wall", "wall", SYNONYMS, ["brick wall"])
    assert not concept_match("brick wall and wooden floor", "brick wall", SYNONYMS, ["wall", "wooden floor"])


def test_a_synonym_shared_with_a_rival_decides_nothing():
    shared = {"car": ["vehicle"], "bus": ["vehicle"]}
    assert concept_match("vehicle", "car", shared, ["house"])
    assert not concept_match("vehicle", "car", shared, ["bus"])
    assert named_concepts("vehicle", ["car", "bus"], shared) == ("car", "bus")


def test_named_concepts_in_the_vocabularys_order():
    vocabulary = ["wall", "brick wall", "boat", "blue", "red"]
    assert named_concepts("crimson boats by a brick wall", vocabulary, SYNONYMS) == ("brick wall", "boat", "red")
    assert named_concepts("a wall", vocabulary, SYNONYMS) == ("wall",)
    assert named_concepts("", vocabulary, SYNONYMS) == ()


@pytest.mark.parametrize("concept", ["red", "brick wall", "boat"])
def test_every_synonym_names_its_concept(concept):
    for name in (concept, *SYNONYMS[concept]):
        assert named_concepts(f"the {name.upper()}.", list(SYNONYMS), SYNONYMS) == (concept,)


def test_a_string_where_a_list_belongs_is_refused():
    with pytest.raises(ValueError, match="rivals must be a list"):
        concept_match("red", "red", {}, "blue")
    with pytest.raises(ValueError, match="synonyms of 'red' must be a list"):
        concept_match("red", "red", {"red": "crimson"})
    with pytest.raises(ValueError, match="vocabulary must be a list"):
        named_concepts("red", "red", {})
    with pytest.raises(ValueError, match="holds no word"):
        concept_match("red", "?", {})


def test_exact_similarity_of_lists():
    labels, others = ["red", "a blue car", None, "", " \n", "red"], ["red", "red", "red", "red", "red", None]
    result = exact_similarity(labels, others)
    assert result[0] == 1.0
    assert result[1] < 1.0
    assert np.isnan(result[2:]).all()
    np.testing.assert_array_equal(result, exact_similarity(others, labels))
    assert exact_similarity([], []).shape == (0,)
    assert math.isnan(exact_similarity([None], [None])[0])
    with pytest.raises(ValueError, match="lists of texts, not one text"):
        exact_similarity("red", ["red", "red", "red"])
    with pytest.raises(ValueError, match="1 labels cannot be compared with 2"):
        exact_similarity(["red"], ["red", "blue"])
