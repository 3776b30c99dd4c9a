"""The simulated sanity checks of Neuron_Eval (Oikarinen, Yan & Weng, ICML 2025), with expectations in place of draws.

Five units respond to exactly the images of their concept: the first γN of N = 500,000. Each image with the concept
loses its label with probability 1/2 (missing labels), or each other image gets it with probability γ / (1 − γ) (extra
labels), which halves or doubles the labels on average. The paper reports the mean change of a score over 1,000 draws,
as a share of the score's range, and how often the score falls by more than 0.001.

F1, IoU, correlation, cosine and AUPRC are those of ``metrics.faithfulness``; CLEAR does not use the others, which are
defined here. The released code breaks ties between ranks by adding 10⁻⁷ u with u uniform in [0, 1). In float32 this
does not separate values at 1: the sum is 1 or 1 + 2⁻²³, so that the order of the images decides. The published AUC and
Spearman contain that, and so do the numbers here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from metrics import faithfulness

FREQUENCIES: Final = (0.499, 0.1, 0.01, 0.001, 0.0001)
"""How often a concept is present: the paper's five frequencies."""

TOLERANCE: Final = 1e-3
"""A score has dropped if it is lower by more than this, as in the paper."""

IMAGES: Final = 500_000
_SCALE: Final = 25
"""All counts of the simulation are divisible by this, and no score changes if all are divided by it."""

_RAISED: Final = 1 - 2.0**-24 / 1e-7
"""Share of the ones that the released code's tie breaking raises to the next float32."""

_TOP_AND_RANDOM: Final = 25
_SMALLEST: Final = float(np.log(np.float32(1e-8)))
"""Logarithm that WPMI takes of an absent concept."""

TESTS: Final = ("missing labels", "extra labels")


class Change(NamedTuple):
    """How a score responds to damaged labels.

    Attributes:
        mean: Mean difference, as a share of the score's range.
        falls: Share of draws that lower it by more than the tolerance, in [0, 1].
    """

    mean: float
    falls: float


class Cells(NamedTuple):
    """Numbers of images by activity of the unit and by label; arrays of one shape."""

    both: Float[np.ndarray, " draws"]
    active: Float[np.ndarray, " draws"]
    labelled: Float[np.ndarray, " draws"]
    neither: Float[np.ndarray, " draws"]


def change(measure: str, frequency: float, test: str) -> Change:
    """Response of a measure at one frequency of the concept.

    Args:
        measure: A name of ``MEASURES``.
        frequency: One of ``FREQUENCIES``.
        test: One of ``TESTS``.

    Raises:
        KeyError: There is no such measure.
    """
    return MEASURES[measure](frequency, test)


def falls(measure: str, test: str) -> float:
    """Share of draws that lower a measure, averaged over the five frequencies, in %."""
    return 100 * float(np.mean([change(measure, frequency, test).falls for frequency in FREQUENCIES]))


# ---- scores of a table of counts ----


@dataclass(frozen=True)
class _OfCounts:
    """A score of the four counts; exact over the binomial distribution of the labels that are lost or added."""

    score: Callable[[Cells], Float[np.ndarray, " draws"]]
    span: Callable[[], float] = lambda: 1.0

    def __call__(self, frequency: float, test: str) -> Change:
        active = round(frequency * IMAGES)
        cells, probability = _damaged(active, test)
        right = Cells(*(np.array([count], dtype=float) for count in (active, 0, 0, IMAGES - active)))
        differences = (self.score(cells) - self.score(right)) / self.span()
        return Change(float(probability @ differences), float(probability @ (differences < -TOLERANCE)))


def _damaged(active: int, test: str) -> tuple[Cells, Float[np.ndarray, " draws"]]:
    rest = IMAGES - active
    trials, share = (active, 0.5) if test == TESTS[0] else (rest, active / rest)
    width = 8 * np.sqrt(trials * share * (1 - share)) + 1
    counts = np.arange(max(0, int(trials * share - width)), min(trials, int(trials * share + width)) + 1, dtype=float)
    none = np.zeros_like(counts)
    probability = stats.binom.pmf(counts, trials, share)
    cells = (
        Cells(active - counts, counts, none, none + rest)
        if test == TESTS[0]
        else Cells(none + active, none, counts, rest - counts)
    )
    return cells, probability / probability.sum()


def _recall(cells: Cells) -> np.ndarray:
    return cells.both / (cells.both + cells.active)


def _precision(cells: Cells) -> np.ndarray:
    return cells.both / np.maximum(cells.both + cells.labelled, 1)


def _accuracy(cells: Cells) -> np.ndarray:
    return (cells.both + cells.neither) / sum(cells)


def _balanced_accuracy(cells: Cells) -> np.ndarray:
    return (_recall(cells) + cells.neither / (cells.neither + cells.labelled)) / 2


def _inverse_balanced_accuracy(cells: Cells) -> np.ndarray:
    return (_precision(cells) + cells.neither / np.maximum(cells.neither + cells.active, 1)) / 2


def _mad(cells: Cells) -> np.ndarray:
    return _precision(cells) - cells.active / np.maximum(cells.neither + cells.active, 1)


def _inverse_auprc(cells: Cells) -> np.ndarray:
    """Average precision of "is the image labelled?" by the activation, which is 0 or 1."""
    share = (cells.both + cells.labelled) / sum(cells)
    found = cells.both / np.maximum(cells.both + cells.labelled, 1)
    return found * _recall(cells) + (1 - found) * share


def _wpmi(cells: Cells) -> np.ndarray:
    absent = cells.active / (cells.both + cells.active)
    return _SMALLEST * absent - np.log(np.maximum(cells.both + cells.labelled, 1) / sum(cells))


def _wpmi_span() -> float:
    """Largest minus smallest score of all five units and five concepts, whose images are nested."""
    share = np.array(FREQUENCIES)
    smaller = np.minimum(share[:, None], share[None, :]) / share[:, None]  # [units, concepts], share of active images
    extra = smaller + (1 - smaller) * share / (1 - share)
    present, prior = np.stack([smaller, smaller / 2, extra]), np.stack([share, share / 2, 2 * share])[:, None]
    scores = _SMALLEST * (1 - present) - np.log(prior)
    return float(scores.max() - scores.min())


# ---- scores of images ----


@dataclass(frozen=True)
class _OfImages:
    """A score of the images, at the expected number of labels."""

    score: Callable[[Bool[np.ndarray, " images"], Bool[np.ndarray, " images"]], float]
    span: float = 1.0
    noise: float = 0.0

    def __call__(self, frequency: float, test: str) -> Change:
        active, labelled = _images(frequency, test)
        mean = (self.score(active, labelled) - self.score(active, active)) / self.span
        below = -TOLERANCE - mean
        return Change(mean, float(stats.norm.cdf(below / self.noise)) if self.noise else float(below > 0))


def _images(frequency: float, test: str) -> tuple[Bool[np.ndarray, " images"], Bool[np.ndarray, " images"]]:
    """Where the unit is active, and where the concept is labelled: evenly spread among those it may be drawn from."""
    count, images = round(frequency * IMAGES) // _SCALE, IMAGES // _SCALE
    active = np.arange(images) < count
    labelled = active.copy()
    if test == TESTS[0]:
        labelled[:count:2] = False
    else:
        labelled[count + (np.arange(count) * (images - count)) // count] = True
    return active, labelled


def _of_matrix(name: str) -> Callable[[np.ndarray, np.ndarray], float]:
    """A metric of ``metrics.faithfulness``, looked up when it is called."""

    def score(active: np.ndarray, labelled: np.ndarray) -> float:
        return float(getattr(faithfulness, name)(active[:, None], labelled[:, None])[0, 0])

    return score


def _ranks(ones: Bool[np.ndarray, " items"]) -> Float[np.ndarray, " items"]:
    """Expected rank from 0 of zeros and ones in the released code; ones of equal float32 are in their order."""
    count, rest = int(ones.sum()), int((~ones).sum())
    ranks = np.full(len(ones), (rest - 1) / 2)
    place = np.arange(count)
    ranks[ones] = rest + _RAISED * (1 - _RAISED) * (count - 1) + (_RAISED**2 + (1 - _RAISED) ** 2) * place
    return ranks


def _rank_auc(target: Bool[np.ndarray, " images"], score: Bool[np.ndarray, " images"]) -> float:
    """P(an image of the target ranks above one outside it)."""
    count = target.sum()
    return float((_ranks(score)[target].mean() - (count - 1) / 2) / (len(target) - count))


def _spearman(active: Bool[np.ndarray, " items"], labelled: Bool[np.ndarray, " items"]) -> float:
    """Covariance of the expected ranks by the variance of ranks without ties."""
    covariance = np.cov(_ranks(active), _ranks(labelled), bias=True)[0, 1]
    return float(12 * covariance / (len(active) ** 2 - 1))


# ---- top and random ----


def _correlation_top_and_random(frequency: float, test: str) -> Change:
    """Correlation over all active images and 25 random ones, over the distributions of both random numbers."""
    active = round(frequency * IMAGES)
    inactive = np.arange(1, _TOP_AND_RANDOM + 1)  # without any the correlation does not exist
    weight = stats.binom.pmf(inactive, _TOP_AND_RANDOM, 1 - frequency)
    mean = falling = 0.0
    for rest, probability in zip(inactive.tolist(), (weight / weight.sum()).tolist(), strict=True):
        top = active + _TOP_AND_RANDOM - rest
        if test == TESTS[0]:
            found, share = Cells(*(np.array([count]) for count in (top / 2, top / 2, 0.0, float(rest)))), np.ones(1)
        else:
            extra = np.arange(rest + 1.0)
            share = stats.binom.pmf(extra, rest, active / (IMAGES - active))
            found = Cells(np.full(rest + 1, float(top)), np.zeros(rest + 1), extra, rest - extra)
        differences = (_phi(found) - 1) / 2
        mean += probability * float(share @ differences)
        falling += probability * float(share @ (differences < -TOLERANCE))
    return Change(mean, falling)


def _phi(cells: Cells) -> np.ndarray:
    """Pearson's correlation of two binary variables; 0 if one is constant, as in the released code."""
    both, active, labelled, neither = cells
    product = (both + active) * (labelled + neither) * (both + labelled) * (active + neither)
    difference = both * neither - active * labelled
    return np.divide(difference, np.sqrt(product), out=np.zeros_like(difference), where=product > 0)


def _spearman_top_and_random(frequency: float, test: str) -> Change:
    """As the released code orders them: all active images, then 25 random ones with their expected numbers."""
    active = round(frequency * IMAGES)
    again = round(_TOP_AND_RANDOM * frequency)
    unit = np.arange(active + _TOP_AND_RANDOM) < active + again
    labelled = unit.copy()
    if test == TESTS[0]:
        labelled[: active + again : 2] = False
    else:
        labelled[active + again : active + again + round(_TOP_AND_RANDOM * frequency)] = True
    mean = (_spearman(unit, labelled) - _spearman(unit, unit)) / 2
    return Change(mean, float(mean < -TOLERANCE))


MEASURES: Final[dict[str, Callable[[float, str], Change]]] = {
    "Recall": _OfCounts(_recall),
    "Precision": _OfCounts(_precision),
    "F1": _OfImages(_of_matrix("f1")),
    "IoU": _OfImages(_of_matrix("iou")),
    "Accuracy": _OfCounts(_accuracy),
    "Balanced accuracy": _OfCounts(_balanced_accuracy),
    "Inverse balanced accuracy": _OfCounts(_inverse_balanced_accuracy),
    "AUC": _OfImages(_rank_auc),
    "Inverse AUC": _OfImages(lambda active, labelled: _rank_auc(labelled, active)),
    "Correlation": _OfImages(_of_matrix("correlation"), span=2.0),
    "Correlation T&R": _correlation_top_and_random,
    # The ranks of half a million images with random ties vary by 1 / √N.
    "Spearman": _OfImages(_spearman, span=2.0, noise=0.5 / IMAGES**0.5),
    "Spearman T&R": _spearman_top_and_random,
    "Cosine": _OfImages(_of_matrix("cosine"), span=2.0),
    "WPMI": _OfCounts(_wpmi, _wpmi_span),
    "MAD": _OfCounts(_mad),
    "AUPRC": _OfImages(_of_matrix("auprc")),
    "Inverse AUPRC": _OfCounts(_inverse_auprc),
}
"""Name, as in the paper's table → how it responds."""
