"""The final layer: a linear classifier on standardised inputs, sparse by an elastic net, or dense.

The published objective (GLM-SAGA of Wong, Santurkar and Madry, ICML 2021, whose solver divides the ℓ1 weight by α) is

    mean cross-entropy + λ‖W‖₁ + λ(1 − α)/α · ‖W‖²/2,    α = 0.99,

with a bias that is not penalised. It is convex, so any solver that reaches the optimum is valid. Stochastic ones
approach it slowly if concepts are correlated: scikit-learn's SAGA is 7 to 17 % of λ away after 1,000 passes. Here
SciPy's L-BFGS-B solves it on positive and negative parts, where it is smooth, for the inputs that matter.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

ALPHA: Final = 0.99
RIDGE: Final = 1e-4
"""Weight of ‖W‖²/2 of a dense layer: just enough that it exists where classes can be separated."""

TOLERANCE: Final = 1e-3
"""Largest accepted violation of the optimality conditions, in units of λ."""

_FIRST_INPUTS: Final = 50
_ROUNDS: Final = 100
_STEPS: Final = 20_000


class Standard(NamedTuple):
    """Mean and standard deviation of training inputs; call it to standardise others.

    Attributes:
        mean: Mean of each input.
        spread: Its standard deviation; 1 for a constant input.
    """

    mean: Float[np.ndarray, " inputs"]
    spread: Float[np.ndarray, " inputs"]

    def __call__(self, inputs: Float[np.ndarray, "images inputs"]) -> Float[np.ndarray, "images inputs"]:
        """In standard deviations from the mean."""
        return (inputs.astype(np.float64) - self.mean) / self.spread


def standard(training: Float[np.ndarray, "images inputs"]) -> Standard:
    """The training inputs' mean and standard deviation."""
    mean, spread = training.mean(axis=0, dtype=np.float64), training.std(axis=0, dtype=np.float64)
    return Standard(mean, np.where(spread > 0, spread, 1.0))


class Head(NamedTuple):
    """A linear classifier on standardised inputs.

    Attributes:
        weights: One row per class.
        bias: One number per class.
        steps: Iterations that the solver took.
    """

    weights: Float[np.ndarray, "classes inputs"]
    bias: Float[np.ndarray, " classes"]
    steps: int

    def logits(self, inputs: Float[np.ndarray, "images inputs"]) -> Float[np.ndarray, "images classes"]:
        """One number per image and class."""
        return inputs @ self.weights.T + self.bias

    def decide(self, inputs: Float[np.ndarray, "images inputs"]) -> Int[np.ndarray, " images"]:
        """The class of the highest logit; the first of ties."""
        return self.logits(inputs).argmax(axis=1)


def fit_sparse(
    inputs: Float[np.ndarray, "images inputs"],
    classes: Int[np.ndarray, " images"],
    *,
    penalty: float,
    alpha: float = ALPHA,
    tolerance: float = TOLERANCE,
) -> Head:
    """The sparse final layer.

    Only some inputs have a weight at the optimum. The problem is solved for the most promising ones, and others are
    added as long as their gradient implies a weight, so that the last solution is that of all inputs.

    Args:
        inputs: Standardised; see ``standard``.
        classes: 0 to k − 1, each at least once.
        penalty: λ above 0.
        alpha: In (0, 1].
        tolerance: Largest violation of the optimality conditions, in units of λ; see ``kkt_violation``.

    Returns:
        The layer, with exact zeros.

    Raises:
        ValueError: A penalty or an alpha out of range, or classes that are not 0 to k − 1 with k ≥ 2.
    """
    if not penalty > 0 or not 0 < alpha <= 1:
        raise ValueError(f"the penalty must be above 0 and alpha in (0, 1], not {penalty} and {alpha}")
    truth = _one_hot(classes)
    ridge = penalty * (1 - alpha) / alpha
    weights = np.zeros((truth.shape[1], inputs.shape[1]))
    bias, steps = np.log(truth.mean(axis=0)), 0
    working = np.zeros(inputs.shape[1], dtype=bool)
    for _ in range(_ROUNDS):
        used = inputs[:, working]
        errors = softmax(used @ weights[:, working].T + bias, axis=1) - truth
        excess = np.abs(errors.T @ inputs / len(inputs)).max(axis=0) - penalty
        joining = np.flatnonzero((excess > tolerance * penalty) & ~working)
        if steps and not len(joining):
            break
        best = joining[np.argsort(-excess[joining], kind="stable")]
        working[best[: max(_FIRST_INPUTS, int(working.sum()))]] = True
        weights[:, working], bias, taken = _solved(
            inputs[:, working], truth, weights[:, working], bias, penalty, ridge, tolerance * penalty
        )
        steps += max(taken, 1)
    return Head(weights, bias, steps)


def fit_dense(
    inputs: Float[np.ndarray, "images inputs"], classes: Int[np.ndarray, " images"], *, ridge: float = RIDGE
) -> Head:
    """The same layer without sparsity: mean cross-entropy + ridge · ‖W‖²/2.

    Raises:
        ValueError: Classes that are not 0 to k − 1 with k ≥ 2.
    """
    truth = _one_hot(classes)
    shape = (truth.shape[1], inputs.shape[1])
    start = np.zeros(shape[0] * (shape[1] + 1))

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[shape[0] :].reshape(shape), flat[: shape[0]]
        loss, gradient, by_bias = _loss(inputs, truth, weights, bias, ridge)
        return loss, np.concatenate([by_bias, gradient.ravel()])

    found: Any = minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS, "maxfun": 2 * _STEPS, "gtol": 1e-6}
    )
    return Head(found.x[shape[0] :].reshape(shape), found.x[: shape[0]], int(found.nit))


def kkt_violation(
    head: Head,
    inputs: Float[np.ndarray, "images inputs"],
    classes: Int[np.ndarray, " images"],
    *,
    penalty: float,
    alpha: float = ALPHA,
) -> float:
    """Distance of weights from the optimum: largest violation of the optimality conditions, in units of the penalty.

    At the optimum the gradient of the smooth part is −λ sign(w) where w ≠ 0, within [−λ, λ] where w = 0, and 0 for the
    bias.
    """
    _, gradient, by_bias = _loss(inputs, _one_hot(classes), head.weights, head.bias, penalty * (1 - alpha) / alpha)
    inside = np.maximum(np.abs(gradient) - penalty, 0)
    violation = np.where(head.weights != 0, np.abs(gradient + penalty * np.sign(head.weights)), inside)
    return float(max(violation.max(initial=0.0), np.abs(by_bias).max())) / penalty


def _solved(
    inputs: np.ndarray,
    truth: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
    penalty: float,
    ridge: float,
    gradient_bound: float,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Minimise over w = p − q with p, q ≥ 0, where ‖w‖₁ is the sum of both: smooth, with bounds."""
    count, size = len(bias), weights.size

    def parts(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (flat[:size] - flat[size : 2 * size]).reshape(weights.shape), flat[2 * size :]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient, by_bias = _loss(inputs, truth, *parts(flat), ridge)
        own = gradient.ravel()
        return loss + penalty * flat[: 2 * size].sum(), np.concatenate([penalty + own, penalty - own, by_bias])

    start = np.concatenate([np.maximum(weights, 0).ravel(), np.maximum(-weights, 0).ravel(), bias])
    found: Any = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (2 * size) + [(None, None)] * count,
        options={"maxiter": _STEPS, "maxfun": 2 * _STEPS, "maxcor": 20, "ftol": 0, "gtol": gradient_bound},
    )
    return (*parts(found.x), int(found.nit))


def _loss(
    inputs: np.ndarray, truth: np.ndarray, weights: np.ndarray, bias: np.ndarray, ridge: float
) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean cross-entropy + ridge · ‖W‖²/2, and its gradients with respect to weights and bias."""
    logs = log_softmax(inputs @ weights.T + bias, axis=1)
    errors = (np.exp(logs) - truth) / len(inputs)
    loss = -float((logs * truth).sum()) / len(inputs) + ridge / 2 * float((weights**2).sum())
    return loss, errors.T @ inputs + ridge * weights, errors.sum(axis=0)


def _one_hot(classes: np.ndarray) -> Float[np.ndarray, "images classes"]:
    found = np.unique(classes)
    if len(found) < 2 or found.tolist() != list(range(len(found))):
        raise ValueError(f"classes must be 0 to k - 1, each at least once, with k of at least 2, not {found.tolist()}")
    return np.eye(len(found))[classes]
