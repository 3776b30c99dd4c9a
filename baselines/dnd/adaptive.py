"""Draw until it is decided: no more images are drawn of a candidate concept that can hardly win any more.

All candidates get two images each. Then the images still to come are simulated: a candidate's activations as normal
around its mean so far (shrunk towards that of all candidates), with one spread for all candidates of the unit, and its
cosines as their mean so far. The method's own rule decides each simulation; the share that a candidate wins estimates
its chance. The candidates with the smallest chances are dropped as long as the chances of all that the unit has dropped
add up to at most ``RISK``, which is thus the estimated risk that the choice is not the full one. The others get further
images, up to all, until one is left. A unit's choice depends on its own images and its own seed alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float

from baselines.dnd.scoring import concept_scores, mean_of_best, synthetic_ranks
from baselines.dnd.study import Study
from baselines.drawing import Request

Drawing = Literal["full", "adaptive"]
"""Whether every candidate gets all its images, as published, or as many as it takes to decide."""

ROUNDS: Final = (2, 3, 4, 5, 6, 7, 8, 9)
"""Images per candidate after which candidates may be dropped."""

RISK: Final = 0.03
SIMULATIONS: Final = 500

PRIOR_IMAGES: Final = 3.0
"""The spread of a concept's images is estimated as if so many more images had been seen, with the spread of all the
unit's images: two images of each candidate alone often look alike by chance."""

PRIOR_DISTANCE: Final = 0.3
"""Variance of the candidates' true means, relative to that of one concept's images, if the images seen show none."""

LINEAR: Final = 0.3
"""Activations below this share of their mean size are modelled as they are, larger ones by their logarithm."""


def rounds(drawing: Drawing, images: int) -> tuple[int, ...]:
    """The numbers of images per candidate after which candidates are compared, ending in ``images``."""
    return (*(n for n in ROUNDS if n < images), images) if drawing == "adaptive" else (images,)


@dataclass
class Contest:
    """One unit's candidates while images are drawn of them; a candidate is its place among the unit's candidates.

    Attributes:
        requests: All images of each candidate.
        left: Candidates that may still be chosen.
        ranked: The others, best first.
        tested: Each candidate's record of the last test that it took part in.
        risk: Summed chances of the candidates that were dropped.
    """

    study: Study
    requests: tuple[Request, ...]
    left: list[int] = field(default_factory=list)
    ranked: list[int] = field(default_factory=list)
    tested: dict[int, dict[str, Any]] = field(default_factory=dict)
    risk: float = 0.0

    def __post_init__(self) -> None:
        self.left = list(range(len(self.requests)))

    def asked(self, count: int) -> list[Request]:
        """The first images of each candidate that is left."""
        return [replace(self.requests[number], count=count) for number in self.left]

    def hopeful(self, chances: Float[np.ndarray, " left"]) -> set[int]:
        """Places of the candidates that stay, given the chances of those that are left; the risk grows accordingly."""
        *others, best = sorted(range(len(chances)), key=lambda place: chances[place])
        stay = {best, *others}
        for place in others:
            if self.risk + chances[place] > RISK:
                break
            self.risk += float(chances[place])
            stay.remove(place)
        return stay

    def settle(self, tested: Sequence[dict[str, Any]], order: Sequence[int], likely: Collection[int]) -> None:
        """Rank the candidates that are out after a test; a single likely one has won.

        Args:
            tested: Records of those that are left.
            order: Places in ``tested``, best first.
            likely: Places of those that may still be chosen.
        """
        self.tested.update(zip(self.left, tested, strict=True))
        best_first = sorted(order, key=lambda place: place not in likely)
        out = [self.left[place] for place in best_first if len(likely) == 1 or place not in likely]
        self.ranked = out + self.ranked
        self.left = [number for number in self.left if number not in out]


def chances(
    scoring: str,
    activations: Float[np.ndarray, "concepts images"],
    cosines: Float[np.ndarray, "concepts images"],
    total: int,
    behind: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, " concepts"]:
    """Estimated probability of each concept to be chosen once ``total`` images of each are drawn.

    Args:
        scoring: A name of ``baselines.dnd.scoring.Scoring``.
        activations: The unit's activation on the images drawn so far: at least two concepts and two images.
        cosines: Their mean cosine with the described images.
        behind: Number of concepts that were dropped before.
        generator: Draws the simulations.

    Returns:
        Shares of the simulations, with sum 1.
    """
    values = np.asarray(activations, dtype=np.float64)
    size = np.abs(values).mean()
    # Only ranks count, so that any increasing function of the activations serves; this one makes them less skewed.
    values = np.arcsinh(values / (LINEAR * size)) if size > 0 else values
    concepts, seen = values.shape
    own = values.mean(axis=1)
    freedom = concepts * (seen - 1) + PRIOR_IMAGES
    squares = np.square(values - own[:, None]).sum() + PRIOR_IMAGES * values.var()
    within = squares / freedom
    between = max(own.var(ddof=1) - within / seen, 0.0) + PRIOR_DISTANCE * within
    trusted = between / (between + within / seen) if within > 0 else 1.0  # the others' mean counts for the rest
    centre = own.mean() + trusted * (own - own.mean())
    spread = np.sqrt(squares / generator.chisquare(freedom, (SIMULATIONS, 1, 1)))
    off = np.sqrt(trusted / seen) * generator.standard_normal((SIMULATIONS, concepts, 1))
    coming = centre[:, None] + spread * (off + generator.standard_normal((SIMULATIONS, concepts, total - seen)))
    ranks = synthetic_ranks(np.concatenate([np.broadcast_to(values, (SIMULATIONS, concepts, seen)), coming], -1))
    expected = np.repeat(cosines.mean(axis=1, keepdims=True), total - seen, axis=1)
    similarity = mean_of_best(ranks, np.concatenate([cosines, expected], axis=1))
    scores = concept_scores(scoring, ranks, similarity, behind)
    winners = concepts - 1 - scores[:, ::-1].argmax(axis=1)  # ties go to the larger index, as in ``best_first``
    return np.bincount(winners, minlength=concepts) / SIMULATIONS
