from __future__ import annotations

import pytest

from tasks.miniature.vocabulary import CATEGORIES, CATEGORY_OF
from tasks.models.word_swapper import WordSwapper
from tasks.roles import Proposer


def proposals(history, seeds=range(300)):
    swapper = WordSwapper(CATEGORIES)
    assert isinstance(swapper, Proposer)
    return {swapper.propose(history, seed) for seed in seeds}


def test_one_word_of_the_best_concept_changes_within_its_category():
    found = proposals([("blue cup", 0.1), ("red fish", 0.9), ("green star", 0.4)])
    for concept in found:
        colour, thing = concept.split()
        assert (colour == "red") != (thing == "fish")
        assert CATEGORY_OF[colour] == "color"
        assert CATEGORY_OF[thing] == "object"
    assert len(found) == 9 + 11


def test_names_of_two_words_are_one_and_other_words_are_dropped():
    found = proposals([("the striped fish on a sandy beach", 1.0)])
    assert "striped fish brick wall" in found
    assert "dotted fish sandy beach" in found
    assert all(len(concept.split()) == 4 for concept in found)


@pytest.mark.parametrize("history", [[], [("zebra", 1.0)]])
def test_without_a_known_word_any_name_is_proposed(history):
    assert proposals(history) <= set(CATEGORY_OF)
    assert len(proposals(history)) > 30


def test_nothing_in_the_history_is_proposed_again():
    patterns = [(name, 0.5) for name in CATEGORIES["texture"]]
    assert not proposals(patterns[:3]) & {name for name, _ in patterns[:3]}
    assert proposals(patterns[:3]) == {CATEGORIES["texture"][3]}
    assert not proposals(patterns) & set(CATEGORIES["texture"]), "all siblings were tried: another category"
    assert WordSwapper({"one": ("red",)}).propose([("red", 1.0)], 0) == ""


def test_the_same_seed_proposes_the_same():
    history = [("red fish", 0.9)]
    assert WordSwapper(CATEGORIES).propose(history, 7) == WordSwapper(CATEGORIES).propose(history, 7)
