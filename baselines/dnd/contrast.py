"""Contrast in Describe-and-Dissect: look-alikes that leave the unit inactive, and the choice by CSP.

After the candidates of Contrastive Semantic Projection (Bouanani et al., arXiv 2604.22477).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from baselines.base import Label
from baselines.evidence import order_among_ties
from baselines.semantic_lens import CSP_IMAGES, GAMMA, TopImages, double, look_alikes, unit_length
from tasks.observation import Observation
from tasks.roles import ImageTextEncoder


class Contrast:
    """The images of an observation, compared in CLIP's space."""

    def __init__(self, observation: Observation) -> None:
        self._layer = observation.activations
        self._images = unit_length(double(observation.clip_embeddings))
        self._ties = order_among_ties(observation.activations)

    def look_alikes(self, unit: int, top: Sequence[int]) -> tuple[int, ...]:
        """For each top image the most similar image that activates the unit less than its mean.

        Returns:
            Image numbers in the order of ``top``, possibly repeated; empty if no image is below the mean.
        """
        found = look_alikes(double(self._layer[:, unit]), self._images, np.array(top, dtype=np.int64))
        return tuple(number for number in found.tolist() if number >= 0)

    def ranked(self, unit: int, candidates: Sequence[str], clip: ImageTextEncoder) -> tuple[Label, ...]:
        """A unit's candidates by their cosine with what its top images do not share with their look-alikes.

        Returns:
            Best first; ties in the order of the candidates.
        """
        if not candidates:
            return ()
        found = TopImages(double(self._layer[:, unit]), self._images, CSP_IMAGES, self._ties, contrast=True)
        scores = unit_length(double(clip.encode_text(candidates))) @ found.vector(GAMMA, "fixed")
        best = sorted(range(len(candidates)), key=lambda number: -scores[number])
        return tuple(Label(candidates[number], float(scores[number])) for number in best)
