"""Which units feel a perturbation, and detectors of degraded images made of them; for whole layers, without labels."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from benchmark.run.display import Display
from benchmark.run.work import Work, all_conditions
from benchmark.studies.sensitivity.detectors import COUNTS, TRANSFER_COUNT, Detectors
from leaderboard.store.errors import StoreError
from leaderboard.store.frames import empty_frame
from leaderboard.store.identity import identity_hash
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import DETECTORS, SENSITIVITY
from metrics.degradation import FOLDS, SHRINKAGE
from metrics.sensitivity import BAR, FOREIGN_BAR, sensitivity
from metrics.statistics import holm
from tasks.activations.capture import Pooling
from tasks.activations.spool import blocks
from tasks.common.errors import UserError
from tasks.observe import CLEAN, Condition, Probe, perturbed
from tasks.perturbations.registry import PERTURBATIONS
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles

PART: Final = "mask"
"""The family that changes a part of the image: no training or test of a detector of degraded images."""

_VERSION: Final = 1
_READ_AT_ONCE: Final = 128


class SensitivityTables(NamedTuple):
    """What the analysis leaves.

    Attributes:
        units: In the columns of ``leaderboard.store.schema.SENSITIVITY``.
        detectors: In the columns of ``leaderboard.store.schema.DETECTORS``.
    """

    units: pd.DataFrame
    detectors: pd.DataFrame


def measure_sensitivity(
    folder: RunFolder,
    groups: Sequence[Sequence[Work]],
    roles: Roles,
    probes: Mapping[str, Probe],
    seed: int,
    settings: Settings,
    display: Display,
) -> SensitivityTables:
    """Measure every unit of the tasks' layers and store both tables; what is stored for the same run is read.

    Memory holds the clean activations of a layer and those of one condition; those of all conditions lie in a temporary
    folder until the detectors are done.

    Args:
        folder: The run folder, open for writing.
        groups: Tasks that share network and images, one pass each.
        roles: The profile's models and data.
        probes: Task name → its images.
        seed: The run's seed.
        settings: How images are perturbed.
        display: For progress.

    Raises:
        StoreError: If a table cannot be written.
    """
    with folder.claim("sensitivity", wait=True):
        facts = _facts(groups, probes, seed)
        key = identity_hash(facts)
        stored = _stored(folder, key)
        if stored is not None:
            return stored
        found = [_measured(group, roles, probes[group[0].task.name], seed, settings, display) for group in groups]
        units, detectors = ([tables[number] for part in found for tables in part] for number in (0, 1))
        # Stopped between the two, one table must not pass for that of another run.
        folder.record("sensitivity", {"key": ""})
        folder.write_table("sensitivity", _stacked(units, empty_frame(SENSITIVITY)))
        folder.write_table("detectors", _stacked(detectors, empty_frame(DETECTORS)))
        folder.record("sensitivity", facts | {"key": key})
        return SensitivityTables(folder.read_table("sensitivity"), folder.read_table("detectors"))


def _facts(groups: Sequence[Sequence[Work]], probes: Mapping[str, Probe], seed: int) -> dict[str, Any]:
    works = [work for group in groups for work in group]
    return {
        "version": _VERSION,
        "seed": seed,
        "bar": BAR,
        "foreign_bar": FOREIGN_BAR,
        "folds": FOLDS,
        "shrinkage": SHRINKAGE,
        "counts": [*COUNTS],
        "transfer_count": TRANSFER_COUNT,
        "images": {work.task.name: len(probes[work.task.name].ids) for work in works},
        "planted_from": {work.task.name: work.task.units.first for work in works if work.task.units.first},
    }


def _stored(folder: RunFolder, key: str) -> SensitivityTables | None:
    if folder.info()["facts"].get("sensitivity", {}).get("key") != key:
        return None
    try:
        return SensitivityTables(folder.read_table("sensitivity"), folder.read_table("detectors"))
    except StoreError:
        # Lost or damaged: it is made again.
        return None


def _stacked(parts: Sequence[pd.DataFrame], empty: pd.DataFrame) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else empty


def _measured(
    works: Sequence[Work], roles: Roles, probe: Probe, seed: int, settings: Settings, display: Display
) -> list[SensitivityTables]:
    conditions = [condition for condition in all_conditions(works) if condition != CLEAN]
    layers: dict[str, Pooling] = {work.task.layer: work.task.pooling for work in works}
    counts = {condition: len(probe.usable(condition).ids) for condition in (CLEAN, *conditions)}
    few = next((condition for condition, count in counts.items() if count < 2), None)
    if few is not None:
        raise UserError(
            f"{few} can be made of {counts[few]} of {len(probe.ids)} images, and the analysis needs two: try --masks "
            "segmenter, or leave the perturbation out."
        )

    with (
        tempfile.TemporaryDirectory(prefix="clear-sensitivity-") as place,
        display.stage("sensitivity", sum(counts.values()), "images") as stage,
    ):

        def read(condition: Condition) -> dict[str, Float[np.ndarray, "images units"]]:
            stage.note(str(condition))
            usable = probe.usable(condition)
            target = roles.target(works[0].task.model)
            parts: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
            images = perturbed(usable, condition, seed, settings, roles.device)
            for part in blocks(len(usable.ids), _READ_AT_ONCE):
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
        position = {name: row for row, name in enumerate(probe.ids)}
        for condition in conditions:
            rows = np.array([position[name] for name in probe.usable(condition).ids], dtype=np.int64)
            activations = read(condition)
            for one in passes:
                if condition in one.work.conditions:
                    one.add(condition, rows, activations[one.work.task.layer])
        stage.note("detectors")
        return [one.tables() for one in passes]


class _Pass:
    """Takes a task's activations condition by condition."""

    def __init__(self, work: Work, clean: Float[np.ndarray, "images units"], place: Path, seed: int) -> None:
        self.work = work
        self._clean = clean
        self._rows: list[pd.DataFrame] = []
        # Fewer images do not make folds of two.
        self._detectors = Detectors(place, clean, seed, work.task.name) if len(clean) >= 2 * FOLDS else None

    def add(self, condition: Condition, rows: np.ndarray, activations: Float[np.ndarray, "images units"]) -> None:
        family = PERTURBATIONS[condition.name].family
        found = sensitivity(self._clean[rows], activations)
        self._rows.append(
            pd.DataFrame(
                {
                    "perturbation": condition.name,
                    "severity": condition.severity,
                    "family": family,
                    "unit": np.arange(activations.shape[1]),
                    "images": len(rows),
                    **{name: getattr(found, name) for name in ("auroc", "paired_auroc", "effect", "p_value")},
                }
            )
        )
        if self._detectors is not None and family != PART and len(rows) == len(self._clean):
            self._detectors.add(condition, family, activations)

    def tables(self) -> SensitivityTables:
        place = {"task": self.work.task.name, "profile": self.work.profile}
        if not self._rows:
            return SensitivityTables(pd.DataFrame(), pd.DataFrame())
        units = pd.concat(self._rows, ignore_index=True)
        units["p_corrected"] = holm(units["p_value"].to_numpy(np.float64)).p_values
        detectors = pd.DataFrame() if self._detectors is None else self._detectors.rows()
        return SensitivityTables(units.assign(**place), detectors.assign(**place))
