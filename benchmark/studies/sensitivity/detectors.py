"""Detectors of degraded images from the most sensitive units of a layer, tested on unseen data.

Three ways to train: on one perturbation, on all but one family, and on all, which shows the cost of an unseen
perturbation. Test images are always unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from metrics.degradation import FOLDS, auroc_interval, best_units, fit, fold_numbers, training_aurocs
from tasks.common.seeding import generator, integer_seed
from tasks.observe import Condition

COUNTS: Final = (1, 4, 16, 64, 256)
"""Numbers of units of a detector."""

TRANSFER_COUNT: Final = 64
"""Numbers of units of a detector trained on one perturbation."""

ALL: Final = "all"


@dataclass
class Detectors:
    """Collects a layer's activations condition by condition, and trains and tests detectors on them.

    The activations are kept in files, so that memory holds at most two conditions' and the selected units of the
    others.

    Attributes:
        place: An empty folder.
        clean: Activations on clean images.
        seed: Seed of folds and random choices.
        task: Name of the task, part of the address of random numbers.
    """

    place: Path
    clean: Float[np.ndarray, "images units"]
    seed: int
    task: str

    def __post_init__(self) -> None:
        self._families: dict[Condition, str] = {}
        self._aurocs: dict[Condition, Float[np.ndarray, "folds units"]] = {}
        self.numbers = fold_numbers(len(self.clean), FOLDS, integer_seed(self.seed, "detectors", self.task))

    def add(self, condition: Condition, family: str, perturbed: Float[np.ndarray, "images units"]) -> None:
        """Add a condition; the images are those of ``clean``, in the same order."""
        self._families[condition] = family
        self._aurocs[condition] = training_aurocs(self.clean, perturbed, self.numbers)
        np.save(self._file(condition), perturbed)

    def rows(self) -> pd.DataFrame:
        """One row per detector and tested condition, and per family: columns of ``DETECTORS`` except task, profile."""
        return pd.DataFrame(
            [
                {"trained_on": name, "selection": selection, "count": count, "images": len(self.clean), **row}
                for name, train, tested in self._trainings()
                for selection, count in self._sizes(name)
                for row in self._tested(name, train, *self._scores(train, tested, selection, count))
            ]
        )

    def _tested(
        self,
        name: str,
        train: Sequence[Condition],
        clean: Float[np.ndarray, " images"],
        perturbed: Mapping[Condition, Float[np.ndarray, " images"]],
    ) -> Iterator[dict[str, Any]]:
        def row(perturbation: str, severity: int, family: str, scores: Sequence[np.ndarray]) -> dict[str, Any]:
            interval = auroc_interval(clean, scores, seed=self.seed)
            place = {"perturbation": perturbation, "severity": severity, "family": family}
            return {**place, "auroc": interval.estimate, "low": interval.low, "high": interval.high}

        for condition, scores in perturbed.items():
            yield row(condition.name, condition.severity, self._families[condition], [scores])
        for family in dict.fromkeys(self._families[condition] for condition in perturbed):
            # Training conditions of a detector would bias a mean over unseen conditions upward.
            own = [
                scores
                for condition, scores in perturbed.items()
                if self._families[condition] == family and (name == ALL or condition not in train)
            ]
            if own:
                yield row(ALL, 0, family, own)

    def _trainings(self) -> Iterator[tuple[str, list[Condition], list[Condition]]]:
        """Name, training conditions and test conditions of the detectors."""
        every = list(self._families)
        for name in dict.fromkeys(condition.name for condition in every):
            middle = min((c for c in every if c.name == name), key=lambda c: (abs(c.severity - 3), c.severity))
            yield str(middle), [middle], every
        families = list(dict.fromkeys(self._families.values()))
        if len(families) > 1:
            for family in families:
                inside = [condition for condition in every if self._families[condition] == family]
                yield f"all but {family}", [condition for condition in every if condition not in inside], inside
        if every:
            yield ALL, every, every

    def _sizes(self, name: str) -> list[tuple[str, int]]:
        available = len(self._usable)
        if not available:
            return []
        if not name.startswith(ALL):
            return [("best", min(TRANSFER_COUNT, available))]
        counts = sorted({min(count, available) for count in COUNTS})
        return [(selection, count) for selection in ("best", "random") for count in counts]

    @cached_property
    def _usable(self) -> Int[np.ndarray, " usable"]:
        """The units without a NaN or infinite activation under any condition."""
        return np.flatnonzero(np.all([np.isfinite(found).all(axis=0) for found in self._aurocs.values()], axis=0))

    def _scores(
        self, train: Sequence[Condition], tested: Sequence[Condition], selection: str, count: int
    ) -> tuple[Float[np.ndarray, " images"], Mapping[Condition, Float[np.ndarray, " images"]]]:
        """Scores of the clean images, and of the images of each tested condition, all by the detector of their fold."""
        clean = np.empty(len(self.clean))
        perturbed = {condition: np.empty(len(self.clean)) for condition in tested}
        for fold in range(FOLDS):
            mine = self.numbers == fold
            units = self._chosen(train, selection, count, fold)
            detector = fit(
                self.clean[np.ix_(~mine, units)],
                [self._load(condition)[np.ix_(~mine, units)] for condition in train],
            )
            clean[mine] = detector(self.clean[np.ix_(mine, units)])
            for condition, scores in perturbed.items():
                scores[mine] = detector(self._load(condition)[np.ix_(mine, units)])
        return clean, perturbed

    def _chosen(self, train: Sequence[Condition], selection: str, count: int, fold: int) -> Int[np.ndarray, " count"]:
        if selection == "random":
            # The first units of a larger selection are those of a smaller one.
            return generator(self.seed, "detectors", self.task, fold).permutation(self._usable)[:count]
        aurocs = np.stack([self._aurocs[condition][fold] for condition in train])
        return self._usable[best_units(aurocs[:, self._usable], count)]

    def _load(self, condition: Condition) -> Float[np.ndarray, "images units"]:
        return np.load(self._file(condition), mmap_mode="r")

    def _file(self, condition: Condition) -> Path:
        return self.place / f"{condition.name}-{condition.severity}.npy"
