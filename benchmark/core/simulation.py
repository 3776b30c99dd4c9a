"""What a label predicts of a unit's activation, image by image, on images that nothing was fitted to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from baselines.linear.method import split
from baselines.linear.probability import probability
from benchmark.core.presence import Presence
from metrics.simulation import simulation_correlation
from tasks.activations.spool import blocks
from tasks.observe import IMAGES_AT_ONCE
from tasks.probing.base import ProbingSet
from tasks.profiles.build import Roles


class Claim(NamedTuple):
    """What a label says: one text, or a weighted sum of concepts where the method gives one.

    Attributes:
        terms: Concept and weight of each term; empty for a single text.
        bias: Added to the sum.
    """

    text: str
    terms: tuple[tuple[str, float], ...] = ()
    bias: float = 0.0

    @classmethod
    def of(cls, text: str, said: Mapping[str, Any]) -> Claim:
        """From a label and what its method noted of the unit; a note of another form than ``linear``'s is no sum."""
        terms, bias = said.get("sum"), said.get("bias", 0.0)
        try:
            found = tuple((str(name), float(weight)) for name, weight in terms or ())
            numbers = np.array([*(weight for _, weight in found), float(bias)])
        except (TypeError, ValueError):
            return cls(text)
        return cls(text, found, float(bias)) if found and np.isfinite(numbers).all() else cls(text)


class Simulation:
    """Predicts activations from a label by annotation, and by the profile's second image-text encoder if there is one.

    Args:
        probing: The clean probing images. The fifth of them on which ``linear`` fits nothing is predicted.
        presence: Which of these images show a label.
        roles: Provide the second encoder.
        seed: The run's own; the fifth is drawn with it.
    """

    def __init__(self, probing: ProbingSet, presence: Presence, roles: Roles, seed: int) -> None:
        self._probing, self._presence, self._roles = probing, presence, roles
        self._test = split(probing.ids, seed)[2]
        self._predicted: dict[Claim, dict[str, Float[np.ndarray, " test"] | None]] = {}

    def correlations(self, activations: Float[np.ndarray, " images"], claim: Claim) -> dict[str, float]:
        """Pearson's r of activation and prediction; 0 for a constant prediction.

        Args:
            activations: Of one unit on all of the images.

        Returns:
            Column of ``leaderboard.store.schema.FAITHFULNESS`` → r; NaN without a prediction, and for a unit that is
            constant on these images.
        """
        if claim not in self._predicted:
            shown = {"simulation_correlation": self._by_encoder, "simulation_by_annotation": self._by_annotation}
            self._predicted[claim] = {name: predict(claim) for name, predict in shown.items()}
        found = {}
        # One unit at a time, so that the last digits do not depend on its neighbours.
        own = np.ascontiguousarray(activations[self._test])[:, None]
        for name, predicted in self._predicted[claim].items():
            found[name] = np.nan
            if predicted is not None and len(own):
                r = float(simulation_correlation(own, predicted[:, None])[0])
                silent = np.isnan(r) and np.ptp(predicted) == 0 and np.ptp(own) > 0
                found[name] = 0.0 if silent else r
        return found

    def _by_annotation(self, claim: Claim) -> Float[np.ndarray, " test"] | None:
        if not claim.terms:
            shown = self._presence.annotated(claim.text)
            return None if shown is None else shown[self._test].astype(np.float64)
        names = self._probing.concepts
        if not {name for name, _ in claim.terms} <= set(names):
            return None
        columns = [names.index(name) for name, _ in claim.terms]
        return _summed(claim, self._probing.presence[self._test][:, columns].astype(np.float64))

    def _by_encoder(self, claim: Claim) -> Float[np.ndarray, " test"] | None:
        encoder, source = self._roles.simulator, self._roles.profile.simulator
        if encoder is None or source is None:
            return None
        texts = [name for name, _ in claim.terms] or [claim.text]
        words = encoder.encode_text(texts).double().numpy()
        shown = probability(self._embeddings @ words.T, source.scale, source.shift)
        return _summed(claim, shown) if claim.terms else shown[:, 0]

    @cached_property
    def _embeddings(self) -> Float[np.ndarray, "test d"]:
        encoder = self._roles.simulator
        assert encoder is not None  # noqa: S101 - asked only if there is one
        parts = [self._test[part.start : part.stop] for part in blocks(len(self._test), IMAGES_AT_ONCE)]
        return torch.cat([encoder.encode_images(self._probing.load(part.tolist())) for part in parts]).double().numpy()


def _summed(claim: Claim, shown: Float[np.ndarray, "test terms"]) -> Float[np.ndarray, " test"]:
    return shown @ np.array([weight for _, weight in claim.terms]) + claim.bias
