from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from sklearn.metrics import roc_auc_score

from metrics.faithfulness import faithfulness
from metrics.statistics import bootstrap_weights
from metrics.trust import FEW, FEWEST, FOLDS, best_pair, mean_worth, worth


def units(count, seed=0, shift=1.0):
    """Half of the labels right, a signal that is higher for them, and bootstrap weights."""
    random = np.random.default_rng(seed)
    right = np.arange(count) % 2.0
    return random.normal(size=count) + shift * right, right, bootstrap_weights(count, 500, random)


@given(some.lists(some.tuples(some.integers(0, 4), some.booleans()), min_size=12, max_size=40), some.integers(0, 99))
def test_the_auroc_and_its_samples_are_scikit_learns_with_ties_counted_half(pairs, seed):
    signal, right = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    weights = bootstrap_weights(len(pairs), 3, np.random.default_rng(seed))
    found = worth(signal, right, weights)
    if min((right == 1).sum(), (right == 0).sum()) < FEWEST:
        assert found.reason == FEW
    elif signal.min() < signal.max():
        assert found.estimate == pytest.approx(roc_auc_score(right, signal))
        for draw, weight in zip(found.draws, weights, strict=True):
            if len(set(right[weight > 0])) == 2:
                assert draw == pytest.approx(roc_auc_score(right, signal, sample_weight=weight))


def test_a_missing_value_is_left_out_and_counted_and_no_verdict_is_neither():
    signal, right, weights = units(40)
    signal[:3], right[3:5] = np.nan, np.nan
    found = worth(signal, right, weights)
    kept = ~np.isnan(signal) & ~np.isnan(right)
    assert (found.n, found.left_out) == (35, 3)
    assert found.interval.left_out == 3
    assert found.estimate == pytest.approx(roc_auc_score(right[kept], signal[kept]))


@pytest.mark.parametrize(
    ("signal", "right", "reason"),
    [
        (np.arange(20.0), np.array([1.0] * 16 + [0.0] * 4), FEW),
        (np.ones(20), np.arange(20) % 2.0, "all values are equal"),
        (np.full(20, np.nan), np.arange(20) % 2.0, "no value"),
        (np.arange(20.0), np.full(20, np.nan), "no verdict"),
    ],
)
def test_where_there_is_nothing_to_tell_apart_there_is_no_number_but_a_reason(signal, right, reason):
    interval = worth(signal, right, np.ones((5, 20))).interval
    assert interval.reason == reason
    assert np.isnan([interval.estimate, interval.low, interval.high]).all()


def test_the_interval_covers_the_true_auroc():
    covered = 0
    for seed in range(100):
        found = worth(*units(60, seed)).interval
        covered += found.low <= 0.7602 <= found.high  # Φ(1 / √2)
    assert 90 <= covered <= 100


def test_a_shuffled_truth_is_worth_one_half():
    signal, right, weights = units(60)
    random = np.random.default_rng(1)
    found = [worth(signal, random.permutation(right), weights).interval for _ in range(60)]
    assert np.mean([one.low <= 0.5 <= one.high for one in found]) >= 0.9
    assert np.mean([one.estimate for one in found]) == pytest.approx(0.5, abs=0.03)


def test_the_mean_over_conditions_takes_a_units_conditions_together():
    signal, right, weights = units(60)
    one = worth(signal, right, weights)
    nothing = worth(np.ones(60), right, weights)
    assert mean_worth([one, one, nothing]).interval == one.interval
    opposite = worth(-signal, right, weights)
    assert mean_worth([one, opposite]).interval[:3] == pytest.approx((0.5, 0.5, 0.5))
    assert mean_worth([nothing]).interval.reason == "all values are equal"


def test_two_signals_that_only_together_decide_are_chosen_and_worth_more():
    random = np.random.default_rng(0)
    right = np.arange(80) % 2.0
    shared = random.normal(size=80) * 3
    signals = {
        "other": random.normal(size=80),
        "first": right + shared + random.normal(size=80) * 0.3,
        "second": -shared + random.normal(size=80) * 0.3,
        "constant": np.ones(80),
        "rare": np.where(np.arange(80) < 20, right, np.nan),
    }
    weights = bootstrap_weights(80, 200, random)
    found = best_pair(signals, right, weights, seed=0)
    assert dict(found.chosen) == {("first", "second"): FOLDS}
    assert found.worth.interval.low > worth(signals["first"], right, weights).estimate
    assert found.worth.n == 80


def test_the_best_of_many_pairs_of_noise_is_worth_one_half():
    estimates = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        signals = {str(number): random.normal(size=60) for number in range(5)}
        right = random.permutation(np.arange(60) % 2.0)
        estimates.append(best_pair(signals, right, bootstrap_weights(60, 50, random), seed).worth.estimate)
    assert np.mean(estimates) == pytest.approx(0.5, abs=0.06)


def test_a_pair_needs_two_signals_and_enough_labels():
    signal, right, weights = units(40)
    assert best_pair({"one": signal}, right, weights, 0).worth.reason == "fewer than two signals"
    right[right == 0] = np.nan
    right[:8] = 0
    assert "fewer than 10" in best_pair({"one": signal, "two": -signal}, right, weights, 0).worth.reason


def test_f1_prefers_a_rare_whole_named_for_its_part_to_a_frequent_right_concept():
    """docs/numbers.md, why F1, IoU and AUPRC may say nothing: base rate and threshold, without noise in the truth."""
    random = np.random.default_rng(0)
    images, names, activations, right = 500, [], [], []
    for number in range(40):
        frequency = (0.1, 0.2, 0.3, 0.37)[number % 4]
        label = random.permutation(images) < frequency * images
        part = label & (random.random(images) < 0.6)
        names.append(label)
        # A right label names what the unit responds to; a wrong one, a rare object whose part that is.
        right.append(float(number % 4 > 0))
        activations.append((label if right[-1] else part) + random.normal(size=images) * 0.2)
    found = faithfulness(np.array(activations).T, np.array(names, dtype=float).T)
    verdict, weights = np.array(right), np.ones((1, 40))
    worths = {name: worth(np.diag(score), verdict, weights).estimate for name, score in found._asdict().items()}
    assert max(worths["f1"], worths["iou"], worths["auprc"]) < 0.1
    assert worths["f1"] == worths["iou"]
    assert min(worths["correlation"], worths["cosine"]) > 0.9
    assert np.diag(found.f1)[verdict == 0].mean() == pytest.approx(2 * 0.05 / (0.05 + 0.1), abs=0.02)
