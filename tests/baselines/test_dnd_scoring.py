"""The choice among candidate concepts, against reference cases, scipy and plain loops."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from baselines.dnd import select_concepts
from baselines.dnd.scoring import (
    Scoring,
    best_first,
    concept_scores,
    mean_cosines,
    mean_of_best,
    synthetic_ranks,
    topk_compare,
    topk_squared_mean_rank,
)
from tasks.common.errors import UserError

CASES = np.load(Path(__file__).parents[1] / "data" / "dnd_selection.npz")


@pytest.mark.parametrize("case", range(20))
def test_reference_cases(case):
    ranks, weights = CASES["ranks"][case].astype(int), CASES["weights"][case]
    assert select_concepts(ranks, weights) == CASES["order"][case].tolist()
    assert select_concepts(ranks.tolist(), weights.tolist()) == CASES["order"][case].tolist()
    np.testing.assert_allclose(topk_squared_mean_rank(ranks), CASES["topk_sq_mean"][case], rtol=1e-12)


def test_selection_follows_the_concepts_not_their_places():
    ranks, weights = CASES["ranks"][0].astype(int), CASES["weights"][0]
    best = select_concepts(ranks, weights)[0]
    for order in itertools.permutations(range(5)):
        again = select_concepts(ranks[list(order)], weights[list(order)])
        assert order[again[0]] == best


def test_ranks_are_ordinal_among_the_synthetic_images_only():
    values = np.random.default_rng(0).integers(0, 6, size=(4, 10)).astype(float)
    expected = stats.rankdata(-values.ravel(), method="ordinal").reshape(values.shape) - 1
    np.testing.assert_array_equal(synthetic_ranks(values), expected)
    np.testing.assert_array_equal(np.sort(synthetic_ranks(values), axis=None), np.arange(40))


def test_image_products_is_the_mean_over_all_pairs():
    rng = np.random.default_rng(1)

    def unit(*shape):
        vectors = rng.normal(size=shape)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    described, synthetic = unit(7, 6), unit(3, 10, 6)
    ranks = synthetic_ranks(np.stack([rng.normal(3, 1, 10), rng.normal(2, 1, 10), np.full(10, -9.0)]))
    got = mean_of_best(ranks, mean_cosines(described, synthetic))
    for concept in range(2):
        pairs = [
            t @ s for t in described for s, rank in zip(synthetic[concept], ranks[concept], strict=True) if rank < 10
        ]
        assert got[concept] == pytest.approx(np.mean(pairs))
    assert got[2] == -1.0


def test_every_scoring_by_a_plain_loop():
    ranks, weights = CASES["ranks"][3].astype(int), CASES["weights"][3]
    plain = {
        "mean": [-sum(r) / 10 for r in ranks],
        "median": [-stats.scoreatpercentile(r, 50) for r in ranks],
        "sq_mean": [-sum(int(x) ** 2 for x in r) / 10 for r in ranks],
        "topk_sq_mean": [-sum(int(x) ** 2 for x in sorted(r)[:5]) / 5 for r in ranks],
        "image_products": list(weights),
    }
    worse = plain["topk_sq_mean"]
    plain["topk_compare"] = [w * sum(v <= s for v in worse) for s, w in zip(worse, weights, strict=True)]
    assert set(plain) == set(get_args(Scoring))
    for name, expected in plain.items():
        np.testing.assert_allclose(concept_scores(name, ranks, weights), expected, err_msg=name)


def test_without_images_in_the_top_ten_the_better_ranked_scores_lower():
    ranks = np.arange(30).reshape(3, 10)
    assert topk_compare(ranks, np.array([0.5, -1.0, -1.0])).tolist() == [1.5, -2.0, -1.0]
    assert select_concepts(ranks, [0.5, -1.0, -1.0]) == [0, 2, 1]


def test_ties_go_to_the_larger_index():
    assert best_first([1.0, 2.0, 2.0, 1.0]) == [2, 1, 3, 0]
    assert select_concepts([[0, 3], [1, 2], [4, 5]], [0.0, 0.0, 0.0]) == [2, 1, 0]


def test_bad_input_is_named():
    assert select_concepts([], []) == []
    with pytest.raises(ValueError, match="one image similarity per concept"):
        select_concepts([[0, 1], [2, 3]], [0.5])
    with pytest.raises(UserError, match="topk_sq_mean"):
        concept_scores("topk-sq-mean", np.arange(4).reshape(2, 2), np.zeros(2))


def test_importing_the_package_needs_no_torch():
    code = "import sys; from baselines.dnd import select_concepts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
