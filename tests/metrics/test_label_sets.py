"""Sets of labels: the shortest list that reaches a level, and its coverage on labels of known frequencies."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.label_sets import Frequency, coverage, frequencies, smallest_set

LABELS = st.lists(st.sampled_from(["dog", "Dog", "cat", "fox", "owl", None]), min_size=1, max_size=40)
LEVELS = st.floats(0.01, 1.0)


def test_texts_that_differ_in_case_alone_are_one_label_and_ties_go_to_the_first_seen():
    found = frequencies(["Fox", "dog", "DOG", None, "fox", "cat"])
    assert found == [Frequency("Fox", 2), Frequency("dog", 2), Frequency("cat", 1)]


@given(LABELS, LEVELS)
def test_a_set_reaches_its_level_and_no_shorter_list_does(labels, level):
    found, draws = frequencies(labels), len(labels)
    size = smallest_set(found, draws, level)
    shares = [one.count / draws for one in found]
    for number in range(size):
        # No choice of fewer labels reaches it, not only the most frequent ones.
        assert all(sum(some) < level + 1e-9 for some in itertools.combinations(shares, number))
    assert sum(shares[:size]) >= level - 1e-9 or size == len(found)


@given(LABELS, LEVELS, LEVELS)
def test_sets_are_nested_in_the_level(labels, one, other):
    found = frequencies(labels)
    low, high = sorted((one, other))
    assert smallest_set(found, len(labels), low) <= smallest_set(found, len(labels), high)


def test_nine_of_ten_draws_reach_nine_tenths():
    assert smallest_set([Frequency("dog", 9), Frequency("cat", 1)], 10, 0.9) == 1
    assert smallest_set([Frequency("dog", 8), Frequency("cat", 2)], 10, 0.9) == 2


def test_a_level_out_of_range_is_refused():
    for level in (0.0, 1.1):
        with pytest.raises(ValueError, match="a level lies above 0"):
            smallest_set([Frequency("dog", 1)], 1, level)


def test_draws_without_a_label_are_never_covered():
    found = frequencies(["dog", "dog", None, None])
    assert smallest_set(found, 4, 0.9) == 1
    assert coverage(found, 4, 0.9, ["dog", None, "cat", "Dog"]).found == 0.5
    nothing = coverage(frequencies([None, None]), 2, 0.9, ["dog"])
    assert (nothing.size, nothing.found, nothing.randomised) == (0, 0.0, 0.0)


@given(LABELS, LEVELS, LABELS)
def test_the_randomised_coverage_lies_between_the_sets_with_and_without_the_last_label(labels, level, further):
    found = frequencies(labels)
    measured = coverage(found, len(labels), level, further)
    keys = {one.text.casefold() for one in found[: max(measured.size - 1, 0)]}
    without = sum(label is not None and label.casefold() in keys for label in further) / len(further)
    assert without - 1e-12 <= measured.randomised <= measured.found + 1e-12


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_redraws_of_known_frequencies_are_covered_as_promised(level):
    """With many draws the randomised coverage is the level, and whole sets cover at least it."""
    random = np.random.default_rng(0)
    whole, exact = [], []
    for _ in range(200):
        shares = random.dirichlet(np.full(6, 0.7))
        draws, further = ([f"label {n}" for n in random.choice(6, size, p=shares)] for size in (2_000, 500))
        measured = coverage(frequencies(draws), len(draws), level, further)
        whole.append(measured.found)
        exact.append(measured.randomised)
    error = 4 * np.std(exact) / np.sqrt(len(exact))
    assert abs(np.mean(exact) - level) < max(error, 0.005)
    assert np.mean(whole) > level
