"""The counting summariser on captions made here, over a world that it does not know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from tasks.models.counting_summariser import (
    FUNCTION_WORDS,
    CountingSummariser,
    caption_background,
    count_words,
    words_of,
)

KINDS = ["circle", "star", "heart", "fish", "house", "tree", "car", "boat", "cup", "leaf", "flower", "moon"]
COLOURS = ["red", "green", "blue", "yellow", "orange", "purple", "pink", "brown", "black", "white"]
PATTERNS = ["solid", "striped", "dotted", "checked"]
PLACES = ["cloudy sky", "green lawn", "sandy beach", "brick wall", "blue water", "wooden planks", "starry night sky"]
WORDS = {"colour": COLOURS, "pattern": PATTERNS, "kind": KINDS, "place": PLACES}
SHARED = [
    ("kind",),
    ("colour",),
    ("pattern",),
    ("place",),
    ("colour", "kind"),
    ("pattern", "kind"),
    ("colour", "pattern", "kind"),
    ("kind", "place"),
    ("pattern", "place"),
    ("colour", "place"),
]


def a_caption(rng, shared=None, say_solid=True):
    """One or two things of different kinds somewhere; one of them has the shared attributes."""
    shared = shared or {}
    kinds = rng.permutation(KINDS)[: 1 + int(rng.random() < 0.5)]
    things = [[str(rng.choice(COLOURS)), str(rng.choice(PATTERNS)), str(kind)] for kind in kinds]
    lucky = things[rng.integers(len(things))]
    for slot, attribute in enumerate(("colour", "pattern", "kind")):
        lucky[slot] = shared.get(attribute, lucky[slot])
    said = [" ".join(word for word in thing if say_solid or word != "solid") for thing in things]
    return " and ".join(f"a {thing}" for thing in said) + f" on a {shared.get('place', rng.choice(PLACES))}"


def evaluate(summariser, say_solid=True, cases=30, seed=0):
    """Mean word F1 and share of exact names over generated groups: eight captions share a concept, two are random."""
    rng = np.random.default_rng(seed)
    background = caption_background([a_caption(rng, say_solid=say_solid) for _ in range(2000)])
    f1, exact = [], []
    for attributes in SHARED:
        for _ in range(cases):
            words = {**WORDS, "pattern": PATTERNS if say_solid else PATTERNS[1:]}
            shared = {attribute: str(rng.choice(words[attribute])) for attribute in attributes}
            captions = [a_caption(rng, shared, say_solid) for _ in range(8)]
            captions += [a_caption(rng, say_solid=say_solid) for _ in range(2)]
            truth = " ".join(shared[a] for a in WORDS if a in shared).split()
            name = summariser.summarise(captions, int(rng.integers(2**31)), background).split()
            f1.append(2 * len(set(name) & set(truth)) / (len(set(name)) + len(set(truth))))
            exact.append(name == truth)
    return float(np.mean(f1)), float(np.mean(exact))


@pytest.mark.parametrize("say_solid", [True, False])
def test_it_names_what_eight_of_ten_captions_share(say_solid):
    f1, exact = evaluate(CountingSummariser(), say_solid)
    assert f1 >= 0.96
    assert exact >= 0.9


def test_the_place_of_the_examples():
    background = {"fish": 0.1, "red": 0.15, "striped": 0.3, "sandy": 0.14, "beach": 0.14, "tree": 0.1, "green": 0.2}
    captions = ["a red striped fish on a sandy beach"] * 7 + ["a green tree on a red striped house"] * 3
    assert CountingSummariser().summarise(captions, 0, background) == "red striped fish sandy beach"


def test_frequent_words_do_not_count_unless_the_background_is_unknown():
    captions = ["a fish near water", "a fish near water", "a fish near water", "a boat near water", "a cat near water"]
    summariser = CountingSummariser(keep=1.0)
    assert summariser.summarise(captions, 0) == "fish water"
    assert summariser.summarise(captions, 0, {"water": 0.95, "fish": 0.05, "boat": 0.1, "cat": 0.1}) == "fish"


def test_when_no_word_passes_the_most_over_represented_is_the_name():
    captions = [f"a {kind} on grass" for kind in KINDS[:8]] + ["a kite on grass", "a kite on grass"]
    background = {"grass": 0.97, "kite": 0.01, **dict.fromkeys(KINDS, 0.2)}
    assert CountingSummariser(keep=1.0).summarise(captions, 0, background) == "kite"


def test_ambiguous_captions_give_several_names_and_clear_ones_a_single_name():
    background = {"fish": 0.1, "red": 0.1, "boat": 0.1}
    summariser = CountingSummariser()
    clear = ["a red fish"] * 8 + ["a boat"] * 2
    assert {summariser.summarise(clear, seed, background) for seed in range(20)} == {"red fish"}
    torn = ["a red fish"] * 5 + ["a blue fish"] * 3 + ["a boat"] * 2
    assert {summariser.summarise(torn, seed, background) for seed in range(20)} == {"fish", "red fish"}


def test_the_name_depends_on_the_captions_and_the_seed_not_on_their_order():
    rng = np.random.default_rng(2)
    captions = [a_caption(rng, {"kind": "fish"}) for _ in range(6)] + [a_caption(rng) for _ in range(4)]
    background = caption_background([a_caption(rng) for _ in range(300)])
    for seed in range(10):
        names = {CountingSummariser().summarise(list(rng.permutation(captions)), seed, background) for _ in range(4)}
        assert len(names) == 1


def test_at_most_five_words_and_the_best_shared_ones():
    captions = ["one two three four five six seven"] * 9 + ["one two three four five"]
    assert CountingSummariser(keep=1.0).summarise(captions, 0, {}) == "one two three four five"
    assert CountingSummariser(keep=1.0, max_words=2).summarise(captions, 0, {}).split() == ["one", "two"]


@pytest.mark.parametrize("captions", [[], [""], ["the of a"], ["...", "!"]])
def test_no_words_no_name(captions):
    assert CountingSummariser().summarise(captions, 0, {"fish": 0.1}) == ""


@given(st.lists(st.text(max_size=60), max_size=12), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_any_text_gives_at_most_five_words_of_the_captions(captions, seed):
    name = CountingSummariser().summarise(captions, seed, {"a": 0.5})
    seen = {word for caption in captions for word in words_of(caption)} - FUNCTION_WORDS
    assert len(name.split()) <= 5
    assert set(name.split()) <= seen
    assert bool(name) == bool(seen)


def test_p_values_agree_with_scipys_binomial_test():
    captions = [words_of(text) for text in ["red fish", "red boat", "red fish", "blue fish", "fish"]]
    for count in count_words(captions, {"red": 0.3, "fish": 0.6}):
        holders = round(count.share * 5)
        assert count.p_value == pytest.approx(binomtest(holders, 5, count.base, alternative="greater").pvalue)
    assert count_words([["sure"]] * 4, {"sure": 1.0})[0].p_value == 1.0


def test_background_counts_captions_not_words():
    assert caption_background(["fish fish boat", "Fish!", "a boat", "tree"]) == {
        "a": 0.25,
        "boat": 0.5,
        "fish": 0.5,
        "tree": 0.25,
    }


@pytest.mark.parametrize(
    ("caption", "short"),
    [
        ("a red striped fish on a sandy beach.", "red striped fish on sandy beach"),
        ("There is a close up photo of the brick wall", "brick wall"),
        ("the", "the"),
        ("", ""),
        ("  a Green tree with  ", "Green tree"),
    ],
)
def test_simplify_keeps_every_content_word(caption, short):
    summariser = CountingSummariser()
    assert summariser.simplify(caption, 1) == summariser.simplify(caption, 2) == short


def test_the_stop_list_holds_no_word_of_the_world():
    world = {word for words in WORDS.values() for phrase in words for word in phrase.split()}
    assert not FUNCTION_WORDS & world


def test_one_string_is_not_a_list_of_captions():
    with pytest.raises(ValueError, match="wrap it in a list"):
        CountingSummariser().summarise("a red fish", 0)
    with pytest.raises(ValueError, match="min_share"):
        CountingSummariser(min_share=0)


def test_importing_it_needs_no_torch():
    code = "import sys, tasks.models.counting_summariser; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
