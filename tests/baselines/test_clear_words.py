"""Parts of captions, and the contexts' names."""

from __future__ import annotations

import pytest
import torch

from baselines.clear.words import Mentions, collocations, parts_of
from baselines.contexts import SEEN, Context, apply_context, parse_contexts
from tasks.common.errors import UserError

CAPTIONS = ["a red fish by a brick wall", "a blue fish by a brick wall", "a red star", "a brick wall of red bricks"]


def test_words_that_hardly_occur_without_each_other_are_one_part():
    together = collocations(CAPTIONS)
    assert together == {("brick", "wall")}
    assert parts_of(CAPTIONS[0], together) == ["red", "fish", "brick wall"]
    assert parts_of(CAPTIONS[0], frozenset()) == ["red", "fish", "brick", "wall"]
    assert parts_of("in the", together) == []


def test_neighbours_across_a_function_word_are_no_collocation():
    assert collocations(["salt and pepper", "salt and pepper"]) == frozenset()
    assert collocations(["salt pepper"]) == frozenset(), "once may be chance"


def test_a_caption_holds_a_concept_with_all_its_content_words():
    mentions = Mentions(["red fish", "a fish", "fish red brick wall", "the"])
    assert mentions.of(CAPTIONS[:3]).tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert mentions.share(CAPTIONS[:2]).tolist() == [0.5, 1, 0.5, 0]
    assert mentions.share([]).tolist() == [0, 0, 0, 0]


def test_contexts_are_read_and_the_given_images_come_first():
    found = parse_contexts("clean, gaussian_blur:3,fog:5,")
    assert found == (SEEN, Context("gaussian_blur", 3), Context("fog", 5))
    assert [str(context) for context in found] == ["as_given", "gaussian_blur:3", "fog:5"]
    assert parse_contexts("") == parse_contexts(None) == (SEEN,)


@pytest.mark.parametrize(
    ("text", "message"),
    [("gaussian_blur", "severity"), ("fog:9", "severity"), ("fgo:3", "fog"), ("fog:2,fog:2", "twice")],
)
def test_a_wrong_context_is_refused_in_a_sentence(text, message):
    with pytest.raises(UserError, match=message):
        parse_contexts(text)


def test_only_the_masked_part_changes_and_the_mask_is_made_of_the_image_itself():
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=rng, dtype=torch.uint8)
    shown = []

    def left_half(seen):
        shown.append(seen)
        mask = torch.zeros(len(seen), 32, 32, dtype=torch.bool)
        mask[:, :, :16] = True
        return mask

    blurred = apply_context(images, Context("foreground_blur", 5), [0, 0], left_half)
    assert torch.equal(shown[0], images)
    assert torch.equal(blurred[..., 16:], images[..., 16:])
    assert not torch.equal(blurred[..., :16], images[..., :16])
    assert torch.equal(apply_context(images, SEEN, [0, 0], None), images)
    with pytest.raises(UserError, match="segmenter"):
        apply_context(images, Context("foreground_blur", 5), [0, 0], None)
