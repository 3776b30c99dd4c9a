"""Per-layer and per-unit state while labels are being computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from baselines.clear.evidence import Sight
from baselines.dnd.describe import DescribedImage
from baselines.evidence import dead_units
from tasks.observation import Observation


@dataclass(frozen=True)
class Layer:
    """The complete layer on the probing images.

    Attributes:
        standardised: Activations of live units, centred and of unit length; 0 for dead units.
        median: Median activation of each unit.
        alive: True for live units.
    """

    standardised: Float[np.ndarray, "images units"]
    median: Float[np.ndarray, " units"]
    alive: Bool[np.ndarray, " units"]

    @classmethod
    def of(cls, observation: Observation) -> Layer:
        """Summarise an observation's activations."""
        values = observation.activations.float().cpu().numpy()
        alive = ~np.asarray(dead_units(observation.activations).cpu())
        centred = np.where(alive, values, np.float32(0))
        median = np.median(centred, axis=0)
        centred -= centred.mean(axis=0, dtype=np.float64).astype(np.float32)
        length = np.sqrt(np.square(centred).sum(axis=0, dtype=np.float64))
        centred /= np.where(length > 0, length, 1.0).astype(np.float32)
        return cls(centred, median, alive)

    def correlation(self, unit: int) -> Float[np.ndarray, " units"]:
        """Correlation of every unit's activations with this unit's, in [-1, 1]; 0 for dead units."""
        return self.standardised.T @ self.standardised[:, unit]


@dataclass
class Case:
    """One unit while its label is being computed.

    Attributes:
        top: Top images, most activating first.
        described: Described images and crops, most activating first.
        sights: What is observed of it in each context.
        probes: The same for each context that only measures what the unit depends on.
        replies: The summaries of each context.
        parts: The parts of the captions, most frequent first.
        together: Word pairs that form one part.
        proposed: Concept → its source: the contexts whose summaries proposed it, ``part``, or ``joined``.
    """

    unit: int
    top: tuple[int, ...]
    described: tuple[DescribedImage, ...]
    sights: tuple[Sight, ...]
    probes: tuple[Sight, ...]
    replies: tuple[tuple[str, ...], ...]
    parts: tuple[str, ...]
    together: frozenset[tuple[str, str]]
    proposed: dict[str, tuple[str, ...]]
