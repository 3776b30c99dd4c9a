"""How CLEAR shortlists and chooses concepts: what the probing images say of each, and the rank of its drawn images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata


class Follower:
    """Correlation of a unit's activations with the CLIP similarity of the same images to a text.

    Needs no table of images × texts: cosines are linear in the text, so that their variance follows from the covariance
    of the image embeddings.

    Args:
        images: Unit-norm CLIP embeddings of the probing images, float64.
    """

    def __init__(self, images: Float[np.ndarray, "images d"]) -> None:
        self._centred = images - images.mean(axis=0)
        self._covariance = self._centred.T @ self._centred / len(images)

    def spread(self, texts: Float[np.ndarray, "texts d"]) -> Float[np.ndarray, " texts"]:
        """Standard deviation of the images' cosines to each text; see ``correlation``."""
        return np.sqrt(np.maximum(((texts @ self._covariance) * texts).sum(axis=1), 0))

    def correlation(
        self,
        activations: Float[np.ndarray, " images"],
        texts: Float[np.ndarray, "texts d"],
        spread: Float[np.ndarray, " texts"],
    ) -> Float[np.ndarray, " texts"]:
        """Pearson correlation with each text, in [-1, 1]; 0 where the unit or the cosines are constant.

        Args:
            activations: The unit's, float64.
            texts: Unit-norm embeddings, float64.
            spread: That of the same texts.
        """
        own = activations - activations.mean()
        together = texts @ (self._centred.T @ own / len(own))
        scale = own.std() * spread
        return np.divide(together, scale, out=np.zeros_like(together), where=scale > 1e-12)


def standardised(values: Float[np.ndarray, " concepts"]) -> Float[np.ndarray, " concepts"]:
    """Values minus their mean, in standard deviations; 0 if they are all equal."""
    width = values.std()
    return (values - values.mean()) / width if width > 1e-12 else np.zeros_like(values)


def combined(
    terms: Mapping[str, Float[np.ndarray, " concepts"]], weights: Mapping[str, float]
) -> Float[np.ndarray, " concepts"]:
    """Weighted sum of the standardised terms: the evidence for each concept.

    Args:
        terms: Term → its value for each concept.
    """
    return np.sum([weight * standardised(terms[name]) for name, weight in weights.items()], axis=0)


def activation_term(activations: Sequence[Float[np.ndarray, " images"]]) -> Float[np.ndarray, " concepts"]:
    """Mean rank of each concept's drawn images by one unit's activation, among those of all candidates.

    Args:
        activations: The unit's activation on every drawn image of each concept.

    Returns:
        Rank as a share, in (0, 1), ties counted half; 1/2 for a single candidate.
    """
    ranks = rankdata(np.concatenate(activations)) - 0.5
    return np.array([own.mean() for own in np.split(ranks, np.cumsum([*map(len, activations)])[:-1])]) / len(ranks)
