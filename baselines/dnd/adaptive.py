"""Draw until it is decided: no more images are drawn of a candidate concept that can hardly win any more.

All candidates get two images each. Then the images still to come are simulated: a candidate's activations as normal
around its mean so far, with one spread for all candidates of the unit, and its cosines as their mean so far. The
method's own rule decides each simulation, and a candidate that wins fewer than ``ALPHA`` of them is dropped. The others
get further images, up to all, until one is left. A unit's choice depends on its own images and its own seed alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Float

from baselines.dnd.scoring import concept_scores, mean_of_best, synthetic_ranks
from baselines.dnd.study import Study
from baselines.drawing import Request

Drawing = Literal["full", "adaptive"]
"""Whether every candidate gets all its images, as published, or as many as it takes to decide."""

ROUNDS: Final = (2, 3, 4, 6)
"""Images per candidate after which candidates may be dropped."""

ALPHA: Final = 0.05
SIMULATIONS: Final = 200

PRIOR_IMAGES: Final = 2.0
PRIOR_VARIANCE: Final = 0.5
"""The spread of a concept's images is estimated as if so many more images had been seen, with this share of the
variance of all the unit's images: two images of each candidate alone often look alike by chance."""


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
    """

    study: Study
    requests: tuple[Request, ...]
    left: list[int] = field(default_factory=list)
    ranked: list[int] = field(default_factory=list)
    tested: dict[int, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.left = list(range(len(self.requests)))

    def asked(self, count: int) -> list[Request]:
        """The first images of each candidate that is left."""
        return [replace(self.requests[number], count=count) for number in self.left]

    def settle(self, tested: Sequence[Mapping[str, Any]], order: Sequence[int], likely: Collection[int]) -> None:
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
        activations: The unit's activation on the images drawn so far, at least two per concept.
        cosines: Their mean cosine with the described images.
        behind: Number of concepts that were dropped before.
        generator: Draws the simulations.

    Returns:
        Shares of the simulations, with sum 1.
    """
    activations = np.asarray(activations, dtype=np.float64)
    concepts, seen = activations.shape
    centre = activations.mean(axis=1)
    freedom = concepts * (seen - 1) + PRIOR_IMAGES
    squares = np.square(activations - centre[:, None]).sum() + PRIOR_IMAGES * PRIOR_VARIANCE * activations.var()
    spread = np.sqrt(squares / generator.chisquare(freedom, (SIMULATIONS, 1, 1)))
    mean = centre[:, None] + spread * generator.standard_normal((SIMULATIONS, concepts, 1)) / np.sqrt(seen)
    coming = mean + spread * generator.standard_normal((SIMULATIONS, concepts, total - seen))
    ranks = synthetic_ranks(np.concatenate([np.broadcast_to(activations, (SIMULATIONS, concepts, seen)), coming], -1))
    expected = np.repeat(cosines.mean(axis=1, keepdims=True), total - seen, axis=1)
    similarity = mean_of_best(ranks, np.concatenate([cosines, expected], axis=1))
    scores = concept_scores(scoring, ranks, similarity, behind)
    winners = concepts - 1 - scores[:, ::-1].argmax(axis=1)  # ties go to the larger index, as in ``best_first``
    return np.bincount(winners, minlength=concepts) / SIMULATIONS
