"""The filters of a bottleneck's concept set cut where the paper says, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.studies.bottleneck.lfcbm.concepts import Thresholds, filter_texts, text_similarity, visible


def similarity_of(pairs: dict[tuple[str, str], float]):
    """Similarity 0 of any two texts, 1 of equal ones, and what the pairs say."""

    def similarity(first, second):
        known = {frozenset(pair): value for pair, value in pairs.items()}
        return np.array([[1.0 if a == b else known.get(frozenset((a, b)), 0.0) for b in second] for a in first])

    return similarity


def removed(found) -> dict[str, tuple[str, ...]]:
    return {step.name: step.removed for step in found.steps}


def test_filters_run_in_the_published_order_and_say_what_they_removed():
    concepts = ["a" * 31, "b" * 30, "tree", "big tree", "wheel", "tyre", "wheel"]
    found = filter_texts(concepts, ["tree"], similarity_of({("big tree", "tree"): 0.86, ("wheel", "tyre"): 0.91}))
    assert [step.name for step in found.steps] == ["long", "class name", "duplicate"]
    assert removed(found) == {"long": ("a" * 31,), "class name": ("tree", "big tree"), "duplicate": ("tyre",)}
    assert found.kept == ("b" * 30, "wheel")


@pytest.mark.parametrize("text", ["Tree", "TREE", "a tree", "An tree", "The  TREE"])
def test_class_names_go_with_any_article_and_case(text):
    assert filter_texts([text, "leaf"], ["tree"], similarity_of({})).kept == ("leaf",)


def test_every_concept_is_compared_with_every_class():
    """The release never tests concept j against class j."""
    pairs = {("aa", "x"): 0.9, ("bb", "y"): 0.9, ("cc", "x"): 0.84}
    assert filter_texts(["aa", "bb", "cc"], ["x", "y"], similarity_of(pairs)).kept == ("cc",)


def test_of_two_alike_the_one_less_like_the_rest_goes():
    pairs = {("aa", "bb"): 0.9, ("bb", "cc"): 0.5}
    assert removed(filter_texts(["aa", "bb", "cc"], [], similarity_of(pairs)))["duplicate"] == ("aa",)
    assert removed(filter_texts(["cc", "bb", "aa"], [], similarity_of(pairs)))["duplicate"] == ("aa",)


def test_a_concept_that_is_gone_takes_no_other_with_it():
    pairs = {("aa", "bb"): 0.95, ("bb", "cc"): 0.95, ("aa", "dd"): 0.3, ("cc", "dd"): 0.4}
    # bb is nearest to the rest, so aa goes, and then cc: bb stays.
    assert filter_texts(["aa", "bb", "cc", "dd"], [], similarity_of(pairs)).kept == ("bb", "dd")


def test_thresholds_are_inclusive_for_texts_and_strict_for_images():
    pairs = {("aa", "x"): 0.85, ("bb", "cc"): 0.90}
    assert filter_texts(["aa", "bb", "cc"], ["x"], similarity_of(pairs)).kept == ("bb",)
    assert filter_texts(["aa"], ["x"], similarity_of(pairs), Thresholds(class_similarity=0.86)).kept == ("aa",)
    values = np.tile([[0.25, 0.2500001]], (6, 1))
    assert visible(values, 0.25).tolist() == [False, True]


def test_visible_is_the_mean_of_the_five_highest_values():
    values = np.random.default_rng(0).normal(size=(40, 7))
    expected = np.sort(values, axis=0)[-5:].mean(axis=0)
    cutoff = float(np.median(expected))
    assert visible(values, cutoff).tolist() == (expected > cutoff).tolist()
    assert visible(values[:3], -9.0).all()


def test_no_concepts_and_no_classes_are_no_error():
    assert filter_texts([], ["x"], similarity_of({})).kept == ()
    assert filter_texts(["aa"], [], similarity_of({})).kept == ("aa",)


def test_similarity_weighs_clip_three_times():
    def unit(angle):
        return [np.cos(angle), np.sin(angle)]

    class Clip:
        def encode_text(self, texts):
            return torch.tensor([unit(len(text)) for text in texts])

    class Sentences:
        def encode(self, texts):
            return np.array([unit(2.0 * len(text)) for text in texts])

    clip, sentences = np.cos(2.0), np.cos(4.0)
    assert text_similarity(Clip(), Sentences())(["a"], ["abc"])[0, 0] == pytest.approx((sentences + 3 * clip) / 4)
    assert text_similarity(Clip(), None)(["a"], ["abc"])[0, 0] == pytest.approx(clip)
