"""A unit's activation as a sparse weighted sum of concepts: which candidates, in which order, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from baselines.base import Mode
from tasks.common.seeding import generator

_ALPHA = 0.99
_PRESENT, _LARGEST, _VARIES = 0.5, 5, 1e-5
_FOLDS = 5
_EPOCHS, _BATCH, _STEP = 500, 512, 5e-4
_ADAM_STEPS, _ADAM_RATE = 100, 0.3
_SETTLED, _SWEEPS = 1e-6, 10_000
_RIDGE = 1e-10

Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Explanation:
    """A weighted sum of concepts.

    Attributes:
        concepts: Their numbers, largest weight first.
        weights: In the same order.
        bias: Added to the sum.
        correlation: With the activations of images that this sum was not fitted to.
    """

    concepts: tuple[int, ...]
    weights: tuple[float, ...]
    bias: float
    correlation: float

    def simulate(self, concepts: Float[np.ndarray, "images concepts"]) -> Float[np.ndarray, " images"]:
        """The activation that the sum predicts for images with these concepts."""
        return np.asarray(concepts, np.float64)[:, list(self.concepts)] @ np.array(self.weights) + self.bias


class Prepared:
    """What the explanations of all units share: the concepts that can explain anything, and their Gram matrix.

    Args:
        concepts: How much each image shows each concept, 0 to 1.
        train: Numbers of the images to fit to.
        mode: See ``explain``.
    """

    def __init__(
        self, concepts: Float[np.ndarray, "images concepts"], train: Int[np.ndarray, " n"], mode: Mode
    ) -> None:
        values = np.asarray(concepts)
        kept = _can_explain(values)
        fitted = values[train].astype(np.float64)
        spread = fitted.std(axis=0, ddof=1)
        if mode == "fixed":
            kept &= spread > _VARIES
        self.kept: Int[np.ndarray, " kept"] = np.flatnonzero(kept)
        self.values, self.train, self.mode = values, train, mode
        self.standard = (fitted[:, kept] - fitted[:, kept].mean(axis=0)) / np.maximum(spread[kept], 1e-12)

    @property
    def gram(self) -> Float[np.ndarray, "kept kept"]:
        """Products of the standardised concepts, per image."""
        if not hasattr(self, "_gram"):
            self._gram = self.standard.T @ self.standard / len(self.standard)
        return self._gram


def explain(
    activations: Float[np.ndarray | Tensor, " images"],
    concepts: Float[np.ndarray, "images concepts"] | Prepared,
    *,
    train: Int[np.ndarray, " n"],
    validation: Int[np.ndarray, " m"] | None = None,
    order: Sequence[int] | None = None,
    max_length: int = 10,
    tolerance: float = 0.02,
    width: int = 10,
    penalty: float = 0.05,
    mode: Mode = "fixed",
    seed: int = 0,
) -> Explanation | None:
    """Explain one unit's activations by a sum of at most ``max_length`` concepts.

    A sparse fit to all concepts puts them in order. Then one concept at a time is added: of the next ``width`` the one
    that raises the correlation with held-out activations most. One that raises it by less than ``tolerance`` is not
    tried again. Left out are concepts whose five largest values have a mean below 0.5, and constant ones.

    Args:
        activations: Of one unit.
        concepts: How much each image shows each concept, 0 to 1; or what ``Prepared`` made of it, for many units.
        train: Numbers of the images to fit to.
        validation: Numbers of further images; their correlation decides under ``code``. None for the training images.
        order: Candidates, best first, instead of those of the sparse fit.
        penalty: Weight of the absolute values in the sparse fit.
        mode: ``fixed``: the optimum of an elastic net, candidates by absolute weight, least squares, and correlation of
            cross-fitted predictions in five folds of training and validation images. ``code``: as released, an early
            stopped fit, candidates by signed weight, Adam, and correlation on the validation images alone.
        seed: Of the folds (``fixed``), or of Adam's first weights (``code``).

    Returns:
        None for a unit that is constant, for which no concept is left, or that no concept predicts.
    """
    given = concepts if isinstance(concepts, Prepared) else Prepared(concepts, np.asarray(train), mode)
    target = np.asarray(activations.detach().cpu() if isinstance(activations, Tensor) else activations, np.float64)
    if not np.isfinite(target).all() or not target[given.train].std() > 0 or not len(given.kept):
        return None
    candidates = [int(one) for one in order] if order is not None else _order(given, target, penalty)
    held_out = given.train if validation is None else np.asarray(validation)
    # No more than these can ever be tried: a step leaves at most ``width`` behind.
    candidates = candidates[: width * (max_length + 1)]
    trials: _CrossFitted | _Released
    if mode == "fixed":
        images = np.union1d(given.train, held_out)
        trials = _CrossFitted(given.values[images][:, candidates], target[images], seed)
    else:
        fitted, others = ((given.values[images][:, candidates], target[images]) for images in (given.train, held_out))
        trials = _Released(fitted, others, seed)
    chosen, correlation = _search(trials, len(candidates), max_length, tolerance, width)
    if not chosen:
        return None
    weights, bias = trials.fit(chosen)
    by_weight = np.argsort(-weights, kind="stable")
    return Explanation(
        tuple(candidates[chosen[place]] for place in by_weight),
        tuple(weights[by_weight].tolist()),
        float(bias),
        correlation,
    )


def _can_explain(values: Float[np.ndarray, "images concepts"]) -> Bool[np.ndarray, " concepts"]:
    few = min(_LARGEST, len(values))
    largest = np.partition(values, len(values) - few, axis=0)[-few:].mean(axis=0, dtype=np.float64)
    return (largest >= _PRESENT) & (values.std(axis=0, dtype=np.float64) >= _VARIES)


# ---- the order of the candidates ----


def _order(given: Prepared, target: Vector, penalty: float) -> list[int]:
    fitted = target[given.train]
    if given.mode == "code":
        weights = released_fit(given, target, penalty)
        return given.kept[np.argsort(-weights, kind="stable")].tolist()
    standard = (fitted - fitted.mean()) / fitted.std(ddof=1)
    products = given.standard.T @ standard / len(standard)
    weights = _elastic_net(given.gram, products, penalty)
    # By absolute weight; those without a weight after them, by absolute correlation.
    return given.kept[np.lexsort((-np.abs(products), -np.abs(weights)))].tolist()


def released_fit(given: Prepared, target: Vector, penalty: float) -> Float[np.ndarray, " kept"]:
    """The weights at which the release stops: as many proximal steps from 0 as its solver takes."""
    fitted = (target[given.train] - target.mean()) / target.std(ddof=1)
    weights, bias = np.zeros(len(given.kept)), 0.0
    products = given.standard.T @ fitted / len(fitted)
    offset = given.standard.mean(axis=0)
    for _ in range(_EPOCHS * -(-len(fitted) // _BATCH)):
        slope = given.gram @ weights + offset * bias - products
        moved = weights - _STEP * slope
        bias -= _STEP * float(bias + offset @ weights - fitted.mean())
        shrunk = np.sign(moved) * np.maximum(np.abs(moved) - _STEP * penalty, 0)
        weights = shrunk / (1 + _STEP * penalty * (1 - _ALPHA) / _ALPHA)
    return weights


def _elastic_net(
    gram: Float[np.ndarray, "kept kept"], products: Float[np.ndarray, " kept"], penalty: float
) -> Float[np.ndarray, " kept"]:
    """Coordinate descent on the concepts that violate the conditions of the optimum, until none does."""
    ridge = penalty * (1 - _ALPHA) / _ALPHA
    weights, residual = np.zeros(len(products)), products.copy()
    active: list[int] = []
    for _ in range(len(products) + 1):
        largest = 1.0
        for _ in range(_SWEEPS):
            if largest < _SETTLED:
                break
            largest = 0.0
            for one in active:
                raw = residual[one] + gram[one, one] * weights[one]
                new = np.sign(raw) * max(abs(raw) - penalty, 0.0) / (gram[one, one] + ridge)
                moved = new - weights[one]
                if moved:
                    residual -= gram[:, one] * moved
                    weights[one] = new
                    largest = max(largest, abs(moved))
        violated = np.abs(residual) - penalty
        violated[active] = 0
        if not (violated > _SETTLED).any():
            break
        active += np.argsort(-violated, kind="stable")[: int(min(10, (violated > _SETTLED).sum()))].tolist()
    return weights


# ---- which of them ----


class _Fit(NamedTuple):
    weights: Float[np.ndarray, " k"]
    bias: float


class _Moments(NamedTuple):
    """Number of images, and over them the sums of the candidates and the target and of their products."""

    images: int
    sums: Float[np.ndarray, " columns"]
    products: Float[np.ndarray, "columns columns"]

    def without(self, other: _Moments) -> _Moments:
        """The moments of the images that are not among the other's."""
        return _Moments(self.images - other.images, self.sums - other.sums, self.products - other.products)

    def least_squares(self, trials: Int[np.ndarray, "trials k"]) -> Float[np.ndarray, "trials k+1"]:
        """The weights of each trial's candidates, and its bias."""
        mean = self.sums / self.images
        scatter = self.products / self.images - np.outer(mean, mean)
        square = scatter[trials[:, :, None], trials[:, None]]
        # Concepts that are copies of each other share the weight.
        ridge = _RIDGE * np.einsum("tkk->t", square)[:, None, None] + 1e-300
        weights = np.linalg.solve(square + ridge * np.eye(trials.shape[1]), scatter[trials, -1][:, :, None])[:, :, 0]
        return np.column_stack([weights, mean[-1] - (mean[trials] * weights).sum(axis=1)])


class _CrossFitted:
    """Least squares on four folds at a time, and on all of them in the end."""

    def __init__(self, values: Float[np.ndarray, "images candidates"], target: Vector, seed: int) -> None:
        self.mean = values.mean(axis=0, dtype=np.float64)
        # Relative to the mean of all, so that sums of squares do not lose their last digits.
        self.values, self.target = values - self.mean, target
        folds = generator(seed, "linear", "folds").permutation(len(target)) % min(_FOLDS, len(target))
        self.folds = [np.flatnonzero(folds == fold) for fold in range(folds.max() + 1)]
        joined = np.column_stack([self.values, target - target.mean()])
        self.whole = _moments(joined)
        self.rest = [self.whole.without(_moments(joined[rows])) for rows in self.folds]

    def scores(self, trials: Sequence[Sequence[int]]) -> Float[np.ndarray, " trials"]:
        """The correlation of each trial's predictions for the fold that it was not fitted to."""
        columns = np.array(trials)
        found = np.empty((len(trials), len(self.target)))
        for rows, rest in zip(self.folds, self.rest, strict=True):
            fitted = rest.least_squares(columns)
            found[:, rows] = (self.values[rows][:, columns] * fitted[:, :-1]).sum(axis=2).T + fitted[:, -1:]
        return np.array([_correlation(row, self.target) for row in found])

    def fit(self, chosen: Sequence[int]) -> _Fit:
        """To all folds."""
        fitted = self.whole.least_squares(np.array([chosen]))[0]
        shift = float(self.mean[list(chosen)] @ fitted[:-1])
        return _Fit(fitted[:-1], float(fitted[-1] + self.target.mean() - shift))


def _moments(joined: Float[np.ndarray, "images columns"]) -> _Moments:
    return _Moments(len(joined), joined.sum(axis=0), joined.T @ joined)


class _Released:
    """Adam on the training images; the correlation on others decides."""

    def __init__(
        self,
        train: tuple[Float[np.ndarray, "images candidates"], Vector],
        validation: tuple[Float[np.ndarray, "others candidates"], Vector],
        seed: int,
    ) -> None:
        self.inputs, self.target = (torch.from_numpy(part.astype(np.float32)) for part in train)
        self.others, self.wanted = validation[0].astype(np.float64), validation[1]
        self._draws = generator(seed, "linear", "adam")
        self._fitted: dict[tuple[int, ...], _Fit] = {}

    def scores(self, trials: Sequence[Sequence[int]]) -> Float[np.ndarray, " trials"]:
        """The correlation of each trial's predictions with the validation images' activations."""
        length = len(trials[0])
        bound = 1 / np.sqrt(length)
        start = self._draws.uniform(-bound, bound, (len(trials), length + 1)).astype(np.float32)
        weights = torch.from_numpy(start).requires_grad_()
        columns = torch.stack([self.inputs[:, list(trial)] for trial in trials])
        adam = torch.optim.Adam([weights], lr=_ADAM_RATE)
        for _ in range(_ADAM_STEPS):
            adam.zero_grad()
            error = (columns @ weights[:, :-1, None]).squeeze(2) + weights[:, -1:] - self.target
            error.square().mean(dim=1).sum().backward()
            adam.step()
        found = weights.detach().double().numpy()
        for trial, row in zip(trials, found, strict=True):
            self._fitted[tuple(trial)] = _Fit(row[:-1], float(row[-1]))
        return np.array(
            [
                _correlation(self.others[:, list(t)] @ row[:-1], self.wanted)
                for t, row in zip(trials, found, strict=True)
            ]
        )

    def fit(self, chosen: Sequence[int]) -> _Fit:
        """The weights of the trial that was chosen."""
        return self._fitted[tuple(chosen)]


def _search(
    trials: _CrossFitted | _Released, count: int, max_length: int, tolerance: float, width: int
) -> tuple[list[int], float]:
    chosen: list[int] = []
    left, reached = list(range(count)), 0.0
    while left and len(chosen) < max_length:
        tried = left[:width]
        gains = trials.scores([[*chosen, one] for one in tried]) - reached
        enough = gains > 0 if not chosen else gains >= tolerance
        if not enough.any():
            break
        best = int(np.argmax(np.where(enough, gains, -np.inf)))
        reached += float(gains[best])
        # The first step strikes nothing out: what helps little alone may help the first.
        struck = {one for one, helps in zip(tried, enough, strict=True) if chosen and not helps} | {tried[best]}
        chosen.append(tried[best])
        left = [one for one in left if one not in struck]
    return chosen, reached


def _correlation(first: Vector, second: Vector) -> float:
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first @ first) * (second @ second)))
    return cast(float, first @ second) / norm if norm > 1e-12 else -np.inf
