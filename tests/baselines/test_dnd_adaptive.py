"""The adaptive choice, on made-up activations whose full choice is known."""

from __future__ import annotations

import numpy as np
import pytest

from baselines.dnd.adaptive import RISK, Contest, chances, rounds
from baselines.dnd.scoring import best_first, concept_scores, mean_of_best, synthetic_ranks
from baselines.drawing import Request

IMAGES = 10


def scores(activations, cosines, behind=0):
    ranks = synthetic_ranks(activations)
    return concept_scores("topk_compare", ranks, mean_of_best(ranks, cosines), behind)


def choose(activations, cosines, draws):
    """The adaptive choice, and the number of images that it looks at."""
    contest = Contest(None, tuple(Request(str(i), IMAGES, 0, None, "") for i in range(len(activations))))  # type: ignore[arg-type]
    seen = np.zeros(len(activations), int)
    for count in rounds("adaptive", IMAGES):
        left, behind = contest.left, len(contest.ranked)
        seen[left] = count
        order = best_first(scores(activations[left, :count], cosines[left, :count], behind))
        found = chances("topk_compare", activations[left, :count], cosines[left, :count], IMAGES, behind, draws)
        assert found.sum() == pytest.approx(1)
        contest.settle([{}] * len(left), order, {order[0]} if count == IMAGES else contest.hopeful(found))
        assert contest.risk <= RISK
        if not contest.left:
            break
    return contest.ranked[0], seen.sum()


@pytest.mark.parametrize(("apart", "equal", "drawn"), [(0.0, 0.85, 0.95), (1.0, 0.93, 0.8), (3.0, 0.98, 0.45)])
def test_it_seldom_errs_and_draws_the_less_the_farther_candidates_are_apart(apart, equal, drawn):
    draws = np.random.default_rng(0)
    right, used, contests = 0, 0, 300
    for _ in range(contests):
        concepts = draws.integers(2, 5)
        centres = np.arange(concepts)[:, None] * apart
        activations = draws.permutation(centres) + draws.standard_normal((concepts, IMAGES))
        cosines = 0.3 + 0.03 * draws.standard_normal((concepts, IMAGES))
        chosen, seen = choose(activations, cosines, draws)
        right += chosen == best_first(scores(activations, cosines))[0]
        used += seen / (concepts * IMAGES)
    assert right / contests >= equal
    assert used / contests <= drawn


def test_vectorised_scores_are_those_of_each_case():
    draws = np.random.default_rng(1)
    activations = draws.integers(0, 4, (50, 4, 6)).astype(float)
    cosines = draws.uniform(-1, 1, (50, 4, 6))
    np.testing.assert_array_equal(
        scores(activations, cosines, 2), [scores(*case, 2) for case in zip(activations, cosines, strict=True)]
    )


def test_a_contest_ranks_those_that_drop_out_first_last():
    contest = Contest(None, tuple(Request(name, 10, 0, None, "layer4") for name in "abcd"))  # type: ignore[arg-type]
    records = [{"concept": name} for name in "abcd"]
    contest.settle(records, [2, 0, 3, 1], {0, 2})
    assert (contest.left, contest.ranked) == ([0, 2], [3, 1])
    assert [request.concept for request in contest.asked(4)] == ["a", "c"]
    assert {request.count for request in contest.asked(4)} == {4}
    contest.settle([{"concept": "a", "images": 4}, {"concept": "c", "images": 4}], [1, 0], {0})
    assert (contest.left, contest.ranked) == ([], [0, 2, 3, 1])
    assert contest.tested[3] == {"concept": "d"}
    assert contest.tested[0]["images"] == 4


def test_the_last_round_has_all_images():
    assert rounds("full", 10) == (10,)
    assert rounds("adaptive", 10)[-1] == 10
    assert rounds("adaptive", 3) == (2, 3)
    assert rounds("adaptive", 1) == (1,)
