"""Perturbation-sensitive units, and detectors of degraded images built from them: whole layers, no labels."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from baselines.costs import Amount
from benchmark.core.work import Work, all_conditions
from benchmark.studies.base import Groups, StudyCost, StudyInput
from benchmark.studies.sensitivity.detectors import COUNTS, TRANSFER_COUNT, Detectors
from metrics.degradation import FOLDS, SHRINKAGE
from metrics.sensitivity import BAR, FOREIGN_BAR, sensitivity
from metrics.statistics import holm
from tasks.activations.capture import Pooling
from tasks.activations.spool import blocks
from tasks.observe import CLEAN, Condition, perturbed
from tasks.perturbations.registry import PERTURBATIONS
from tasks.profiles.build import Roles

PART: Final = "mask"
"""The family that changes only a part of the image: excluded from detectors of degraded images."""

_VERSION: Final = 1
_READ_AT_ONCE: Final = 128


class SensitivityTables(NamedTuple):
    """Measurements of one task.

    Attributes:
        units: Columns of ``leaderboard.store.analysis_schema.SENSITIVITY``.
        detectors: Columns of ``leaderboard.store.analysis_schema.DETECTORS``.
    """

    units: pd.DataFrame
    detectors: pd.DataFrame


@dataclass(frozen=True)
class Sensitivity:
    """Measures every unit of the tasks' layers; see ``benchmark.studies.base.Study``.

    Memory holds the clean activations of a layer and those of one condition; those of all conditions are in a temporary
    folder until the detectors are done.
    """

    name: str = "sensitivity"
    masked: bool = False

    def check(self, groups: Groups, roles: Roles) -> None:
        """Nothing is refused before the images are known."""

    def costs(self, groups: Groups, roles: Roles) -> Iterator[StudyCost]:
        """Each image once per condition; the cached part is not known beforehand."""
        for group in groups:
            yield StudyCost(group[0], read=Amount.of(len(all_conditions(group)) * group[0].images))

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """The thresholds and the design of the detectors."""
        names = [work.task.name for work in given.works]
        return {
            "version": _VERSION,
            "seed": given.seed,
            "bar": BAR,
            "foreign_bar": FOREIGN_BAR,
            "folds": FOLDS,
            "shrinkage": SHRINKAGE,
            "counts": [*COUNTS],
            "transfer_count": TRANSFER_COUNT,
            "images": {name: len(given.probes[name][0].ids) for name in names},
            "planted_from": {work.task.name: work.task.units.first for work in given.works if work.task.units.first},
        }

    def measure(self, given: StudyInput) -> dict[str, list[pd.DataFrame]]:
        """The tables ``sensitivity`` and ``detectors``."""
        found = [one for group in given.groups for one in _measured(group, given)]
        return {"sensitivity": [one.units for one in found], "detectors": [one.detectors for one in found]}


STUDY: Final = Sensitivity()


def _measured(works: Sequence[Work], given: StudyInput) -> list[SensitivityTables]:
    probe, roles, seed = given.probes[works[0].task.name][0], given.roles, given.seed
    conditions = [condition for condition in all_conditions(works) if condition != CLEAN]
    layers: dict[str, Pooling] = {work.task.layer: work.task.pooling for work in works}
    with (
        tempfile.TemporaryDirectory(prefix="clear-sensitivity-") as place,
        given.display.stage("sensitivity", (1 + len(conditions)) * len(probe.ids), "images") as stage,
    ):

        def read(condition: Condition) -> dict[str, Float[np.ndarray, "images units"]]:
            stage.note(str(condition))
            target = roles.target(works[0].task.model)
            parts: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
            images = perturbed(probe, condition, seed, given.settings, roles.device)
            for part in blocks(len(probe.ids), _READ_AT_ONCE):
                for layer, reading in target.read(images(part), layers).items():
                    parts[layer].append(reading.pooled.numpy())
                stage.advance(len(part))
            return {layer: np.concatenate(found) for layer, found in parts.items()}

        clean = read(CLEAN)
        passes = []
        for number, work in enumerate(works):
            folder = Path(place) / str(number)
            folder.mkdir()
            passes.append(_Pass(work, clean[work.task.layer], folder, seed))
        for condition in conditions:
            activations = read(condition)
            for one in passes:
                if condition in one.work.conditions:
                    one.add(condition, activations[one.work.task.layer])
        stage.note("detectors")
        return [one.tables() for one in passes]


class _Pass:
    """Collects a task's activations condition by condition."""

    def __init__(self, work: Work, clean: Float[np.ndarray, "images units"], place: Path, seed: int) -> None:
        self.work = work
        self._clean = clean
        self._rows: list[pd.DataFrame] = []
        # Fewer images do not give folds of two.
        self._detectors = Detectors(place, clean, seed, work.task.name) if len(clean) >= 2 * FOLDS else None

    def add(self, condition: Condition, activations: Float[np.ndarray, "images units"]) -> None:
        family = PERTURBATIONS[condition.name].family
        found = sensitivity(self._clean, activations)
        self._rows.append(
            pd.DataFrame(
                {
                    "perturbation": condition.name,
                    "severity": condition.severity,
                    "family": family,
                    "unit": np.arange(activations.shape[1]),
                    "images": len(activations),
                    **{name: getattr(found, name) for name in ("auroc", "paired_auroc", "effect", "p_value")},
                }
            )
        )
        if self._detectors is not None and family != PART:
            self._detectors.add(condition, family, activations)

    def tables(self) -> SensitivityTables:
        place = {"task": self.work.task.name, "profile": self.work.profile}
        if not self._rows:
            return SensitivityTables(pd.DataFrame(), pd.DataFrame())
        units = pd.concat(self._rows, ignore_index=True)
        units["p_corrected"] = holm(units["p_value"].to_numpy(np.float64)).p_values
        detectors = pd.DataFrame() if self._detectors is None else self._detectors.rows()
        return SensitivityTables(units.assign(**place), detectors.assign(**place))
