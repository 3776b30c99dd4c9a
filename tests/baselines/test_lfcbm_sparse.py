"""The final layer ends at the optimum of the published objective: by its conditions, by scikit-learn, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from benchmark.studies.bottleneck.lfcbm.sparse import ALPHA, Head, fit_dense, fit_sparse, kkt_violation, standard


def objective(weights, bias, inputs, classes, penalty, alpha=ALPHA) -> float:
    """As the paper writes it, with λ the ℓ1 weight."""
    logits = inputs @ weights.T + bias
    loss = np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(classes)), classes])
    return loss + penalty * np.abs(weights).sum() + penalty * (1 - alpha) / alpha / 2 * (weights**2).sum()


def problem(classes: int = 3, inputs: int = 8, images: int = 200, seed: int = 0):
    draws = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    raw = draws.normal(size=(images, inputs))
    raw[:, :classes] += 1.2 * np.eye(classes)[labels]
    return standard(raw)(raw), labels


@pytest.mark.parametrize("penalty", [0.001, 0.02, 0.1])
def test_it_is_the_optimum_by_its_conditions(penalty):
    inputs, labels = problem()
    head = fit_sparse(inputs, labels, penalty=penalty)
    assert kkt_violation(head, inputs, labels, penalty=penalty) <= 1.01e-3


def test_the_conditions_notice_a_weight_that_is_off():
    inputs, labels = problem()
    head = fit_sparse(inputs, labels, penalty=0.02)
    moved = head._replace(weights=head.weights * 1.01)
    assert kkt_violation(moved, inputs, labels, penalty=0.02) > 0.02
    assert kkt_violation(head._replace(bias=head.bias + np.array([0.01, 0, 0])), inputs, labels, penalty=0.02) > 0.02
    missing = head.weights.copy()
    missing[np.unravel_index(np.abs(missing).argmax(), missing.shape)] = 0
    assert kkt_violation(head._replace(weights=missing), inputs, labels, penalty=0.02) > 0.1


@pytest.mark.parametrize("alpha", [0.99, 0.5])
def test_scikit_learns_saga_comes_to_the_same(alpha):
    inputs, labels = problem()
    penalty = 0.02
    head = fit_sparse(inputs, labels, penalty=penalty, alpha=alpha, tolerance=1e-5)
    saga = LogisticRegression(
        C=alpha / (penalty * len(inputs)),
        l1_ratio=alpha,
        solver="saga",
        tol=1e-8,
        max_iter=20_000,
        random_state=0,
    )
    saga.fit(inputs, labels)
    assert head.weights == pytest.approx(saga.coef_, abs=2e-4)
    assert ((head.weights != 0) == (np.abs(saga.coef_) > 1e-5)).all()
    own = objective(head.weights, head.bias, inputs, labels, penalty, alpha)
    assert own == pytest.approx(objective(saga.coef_, saga.intercept_, inputs, labels, penalty, alpha), abs=1e-7)


def test_a_search_without_gradients_finds_nothing_better():
    inputs, labels = problem(classes=2, inputs=2, images=60)
    head = fit_sparse(inputs, labels, penalty=0.05, tolerance=1e-6)
    own = objective(head.weights, head.bias, inputs, labels, 0.05)

    def at(flat):
        return objective(flat[:4].reshape(2, 2), flat[4:], inputs, labels, 0.05)

    found = minimize(at, np.zeros(6), method="Powell", options={"maxiter": 50_000, "xtol": 1e-9, "ftol": 1e-12})
    assert own <= found.fun + 1e-7
    # Of two classes' weights neither is needed more than the other.
    assert head.weights[0] == pytest.approx(-head.weights[1], abs=1e-3)


def test_inputs_beyond_the_first_ones_join():
    inputs, labels = problem(inputs=400, images=120)
    head = fit_sparse(inputs, labels, penalty=0.01)
    assert kkt_violation(head, inputs, labels, penalty=0.01) <= 1.01e-3
    assert (head.weights != 0).any(axis=0).sum() > 50


def test_a_large_penalty_leaves_the_shares_of_the_classes():
    inputs, labels = problem()
    head = fit_sparse(inputs, labels, penalty=10.0)
    assert not head.weights.any()
    shares = np.exp(head.bias - logsumexp(head.bias))
    assert shares == pytest.approx(np.bincount(labels) / len(labels), abs=1e-3)


def test_a_dense_layer_is_scikit_learns_ridge():
    inputs, labels = problem()
    head = fit_dense(inputs, labels, ridge=0.01)
    expected = LogisticRegression(C=1 / (0.01 * len(inputs)), tol=1e-8, max_iter=5_000).fit(inputs, labels)
    assert head.weights == pytest.approx(expected.coef_, abs=1e-3)
    assert (head.decide(inputs) == expected.predict(inputs)).all()
    assert (head.weights != 0).all()


def test_standardising_uses_the_training_inputs_and_keeps_constants():
    draws = np.random.default_rng(0)
    training = np.concatenate([draws.normal(3, 2, (50, 2)), np.full((50, 1), 7.0)], axis=1)
    shown = standard(training)
    assert shown(training)[:, :2].mean(axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert shown(training)[:, :2].std(axis=0) == pytest.approx([1, 1])
    assert shown(np.full((1, 3), 8.0))[0, 2] == 1.0


def test_it_is_the_same_every_time():
    inputs, labels = problem()
    first, again = (fit_sparse(inputs, labels, penalty=0.01) for _ in range(2))
    assert first.weights.tobytes() == again.weights.tobytes()


def test_decisions_are_the_highest_logit():
    head = Head(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0.0, 0.5]), 1)
    assert head.decide(np.array([[1.0, 0.0], [0.0, 0.0], [0.5, 0.0]])).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        ([0, 0, 0], {"penalty": 1.0}, "k of at least 2"),
        ([0, 2, 2], {"penalty": 1.0}, "each at least once"),
        ([0, 1, 1], {"penalty": 0.0}, "must be above 0"),
        ([0, 1, 1], {"penalty": 1.0, "alpha": 1.5}, "alpha"),
    ],
)
def test_what_makes_no_sense_is_refused(labels, options, words):
    with pytest.raises(ValueError, match=words):
        fit_sparse(np.eye(3), np.array(labels), **options)
