"""The sweep: one pass over the images per condition, then every method's cell; finished work is not repeated."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from baselines.base import Method, UnitLabels
from baselines.checks import check_labels
from baselines.evidence import EVIDENCE_SIZE, dead_units, top_images
from benchmark.run.budget import TimeBudget
from benchmark.run.display import Display, Stage
from benchmark.run.interrupt import TookTooLong, time_limit
from benchmark.run.passes import Passes, mapped_images
from benchmark.run.prepare import asked_roles
from benchmark.run.thumbnails import thumbnail_rows
from benchmark.run.toolbox import background_words, make_toolbox
from benchmark.run.truth import unit_truth
from benchmark.run.work import Work, all_conditions
from leaderboard.store.errors import StoreError
from leaderboard.store.identity import as_json
from leaderboard.store.run_folder import CellKey, RunFolder
from metrics.evidence import activation_correlation
from tasks.activations.capture import Pooling
from tasks.common.errors import UserError
from tasks.observation import Observation, Toolbox
from tasks.observe import CLEAN, Condition, Images, Probe, perturbed, repeated
from tasks.perturbations.settings import Settings
from tasks.probing.base import ProbingSet
from tasks.profiles.build import Roles

log = logging.getLogger(__name__)


@dataclass
class Sweep:
    """Tasks that share a network and its images, so that one pass per condition serves them all.

    Attributes:
        concepts: Task name → concept set.
        probe: The probing images.
        probing: The probing set that they come from, with its annotation.
        settings: How images are perturbed.
        thumbnails: Number of top images per unit kept as thumbnails.
        budget: The session's time budget.
        cell_timeout: Seconds after which a cell counts as failed, or None for no limit.
        failed: Cells that failed in this session, each with its reason.
    """

    works: tuple[Work, ...]
    methods: Mapping[str, Method]
    concepts: Mapping[str, tuple[str, ...]]
    roles: Roles
    probe: Probe
    probing: ProbingSet
    seed: int
    settings: Settings
    thumbnails: int = 0
    budget: TimeBudget = field(default_factory=TimeBudget)
    cell_timeout: float | None = None
    failed: dict[CellKey, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._clean: dict[str, Float[np.ndarray, "images units"]] = {}

    def run(self, folder: RunFolder, display: Display) -> None:
        """Compute all cells that are not done, have not failed, and are not claimed by another process."""
        pending = [condition for condition in all_conditions(self.works) if self._open_work(folder, condition)]
        if not pending:
            return
        left = {key for condition in pending for key in self._cells(condition) if self._is_open(folder, key)}
        begun: list[Condition] = []
        parts = {"pass": len(pending), "evidence": len(pending), **Counter(key.method for key in left)}
        with display.stage(self._title(), len(left), "cells", parts) as stage:
            for condition in pending:
                with folder.claim(f"{self._title()} {condition}") as mine:
                    if mine:
                        self._condition(folder, condition, left, stage)
                    else:
                        begun.append(condition)
            # Another process has these images in memory, so they come last.
            for condition in begun:
                self._condition(folder, condition, left, stage)

    def _condition(self, folder: RunFolder, condition: Condition, left: Container[CellKey], stage: Stage) -> None:
        """Compute what is left of one condition, if anything."""
        keys = [key for key in self._cells(condition) if key in left]
        if not self._open_work(folder, condition):
            self._skip(stage, keys)
            return
        stage.note(str(condition))
        self.budget.check(f"the pass over the images, {condition}", stage.pace.expected("pass"))
        try:
            with stage.part("pass"):
                images = perturbed(self.probe, condition, self.seed, self.settings, self.roles.device)
                observations = self._observe(condition, images)
        except (UserError, StoreError, MemoryError):
            raise
        # A failure of one perturbation, perhaps a plugin's, must not lose the other conditions.
        except Exception as error:
            log.warning("condition %s failed", condition, exc_info=True)
            self.failed |= dict.fromkeys(keys, f"{type(error).__name__}: {error}")
            self._skip(stage, keys)
            return
        with stage.part("evidence"):
            for work in self._with(condition):
                with folder.claim(work.observation_key(condition), wait=True):
                    self._write_evidence(folder, work, condition, observations[work.task.layer])
        for work in self._with(condition):
            mine = [key for key in work.cells(condition) if key in left]
            self._label(folder, work, mine, observations[work.task.layer], stage)

    def _skip(self, stage: Stage, keys: Sequence[CellKey]) -> None:
        for kind in ("pass", "evidence"):
            stage.skip(kind)
        for key in keys:
            stage.skip(key.method, 1)

    def _title(self) -> str:
        return " + ".join(work.task.name for work in self.works)

    def _with(self, condition: Condition) -> Iterator[Work]:
        return (work for work in self.works if condition in work.conditions)

    def _cells(self, condition: Condition) -> list[CellKey]:
        return [key for work in self._with(condition) for key in work.cells(condition)]

    def _is_open(self, folder: RunFolder, key: CellKey) -> bool:
        """Whether a cell is neither done nor failed nor claimed by another process."""
        return key not in self.failed and folder.is_free(key) and not folder.is_done(key)

    def _open_work(self, folder: RunFolder, condition: Condition) -> bool:
        keys = self._cells(condition)
        if any(self._is_open(folder, key) for key in keys):
            return True
        seen = [work.observation_key(condition) for work in self._with(condition)]
        # Where the images themselves could not be had, there is no evidence of them either.
        return not any(key in self.failed for key in keys) and not all(
            is_seen(folder, key, self.thumbnails) for key in seen
        )

    def _observe(self, condition: Condition, images: Images) -> dict[str, Observation]:
        layers: dict[str, Pooling] = {work.task.layer: work.task.pooling for work in self._with(condition)}
        # Methods read the maps only of the units they label.
        maps = {
            layer: sorted({unit for work in self._with(condition) if work.task.layer == layer for unit in work.units})
            for layer in layers
        }
        return self._passes.observe(self.probe, condition, images, layers, maps)

    @cached_property
    def _passes(self) -> Passes:
        model = self.works[0].task.model
        read = mapped_images(self.methods.values())
        return Passes(self.roles, model, self.probe, self.probing.digest, self.settings, self.seed, read)

    @cached_property
    def _tools(self) -> dict[str, Toolbox]:
        return {
            work.task.name: make_toolbox(
                self.roles,
                work.task,
                self.concepts[work.task.name],
                self.seed,
                lambda: self._background,
                asked=asked_roles(self.methods),
            )
            for work in self.works
        }

    @cached_property
    def _background(self) -> Mapping[str, float]:
        return background_words(self.roles.captioner, self.probe.load, len(self.probe.ids))

    def _label(
        self, folder: RunFolder, work: Work, keys: Sequence[CellKey], observation: Observation, stage: Stage
    ) -> None:
        for key in keys:
            self.budget.check(f"{key.method}, {stage.noted}", stage.pace.expected(key.method))
            with folder.claim(key) as mine:
                if not mine or folder.is_done(key):
                    stage.skip(key.method, 1)  # another process does it, or did
                    continue
                with stage.part(key.method, 1):
                    self._cell(folder, work, key, observation)

    def _cell(self, folder: RunFolder, work: Work, key: CellKey, observation: Observation) -> None:
        started = time.monotonic()
        try:
            tools = self._tools[work.task.name]
            with time_limit(self.cell_timeout):
                answer = self.methods[key.method].label(repeated(observation, key.repeat), work.units, tools)
            found = check_labels(key.method, answer, work.units, len(observation.image_ids))
            facts = as_json(unit_facts(found))
            extra = {"seconds": round(time.monotonic() - started, 3), "units": facts}
            # What cannot be stored is this cell's fault; a disk that is full is not.
            folder.write_cell(key, label_rows(found), extra)
        except (UserError, StoreError, KeyboardInterrupt, MemoryError):
            raise
        # One method's failure must not lose the others' cells; it is listed at the end.
        except (Exception, TookTooLong) as error:
            log.warning("cell %s failed", key.name, exc_info=True)
            self.failed[key] = f"{type(error).__name__}: {error}"

    def _write_evidence(self, folder: RunFolder, work: Work, condition: Condition, observation: Observation) -> None:
        key = work.observation_key(condition)
        if is_seen(folder, key, self.thumbnails):
            return
        dead = dead_units(observation.activations)
        before = self._clean_activations(work, observation if condition == CLEAN else None)
        extra: dict[str, Any] = {"dead": [unit for unit in work.units if dead[unit]]}
        extra["correlation"] = self._correlation(work, observation, before)
        if condition == CLEAN:
            extra["layer_units"] = observation.activations.shape[1]
            extra["layer_dead"] = int(np.asarray(dead).sum())
            seen = (self.probing.concepts, self.probing.presence)
            truth = unit_truth(work.task, work.units, observation, np.asarray(dead), *seen, self.roles)
            extra["truth"] = {str(unit): facts for unit, facts in truth.items()}
        evidence = evidence_rows(observation, work.units)
        # The evidence is written last: once it exists, the condition is not processed again.
        if self.thumbnails:
            shown = evidence.loc[evidence["rank"].to_numpy() <= self.thumbnails, "image"]
            folder.write_thumbnails(key, thumbnail_rows(observation, sorted(set(shown))))
        folder.write_evidence(key, evidence, extra)

    def _clean_activations(self, work: Work, observation: Observation | None) -> Float[np.ndarray, "images units"]:
        """Those of the units to label; computed again if an earlier session did the clean condition."""
        name = work.task.name
        if name not in self._clean:
            if observation is None:
                observation = self._observe(CLEAN, self.probe.load)[work.task.layer]
            self._clean[name] = observation.activations[:, list(work.units)].numpy()
        return self._clean[name]

    def _correlation(
        self, work: Work, observation: Observation, before: Float[np.ndarray, "images units"]
    ) -> dict[str, float]:
        """Unit → correlation of its activations with the clean ones, if there is one."""
        found = activation_correlation(before, observation.activations[:, list(work.units)].numpy()).pearson
        pairs = zip(work.units, found.tolist(), strict=True)
        return {str(unit): round(value, 6) for unit, value in pairs if not math.isnan(value)}


def is_seen(folder: RunFolder, key: CellKey, thumbnails: int) -> bool:
    """Whether a condition's evidence is there, and its thumbnails where some are wanted."""
    # Looked at in any case: a damaged part is set aside by it, and would be in the way of the tables.
    shown = folder.is_done(key, "thumbnails")
    return folder.is_done(key, "evidence") and (shown or not thumbnails)


def label_rows(found: Sequence[UnitLabels]) -> pd.DataFrame:
    """The rows of a cell: one per unit and rank."""
    rows = [
        (labels.unit, rank, label.text, label.score)
        for labels in found
        for rank, label in enumerate(labels.ranked, start=1)
    ]
    return pd.DataFrame(rows, columns=["unit", "rank", "label", "score"])


def unit_facts(found: Sequence[UnitLabels]) -> dict[str, Any]:
    """A method's further facts about each unit: detector flags, traces, the images used."""
    return {str(labels.unit): {"evidence": list(labels.evidence), **labels.extra} for labels in found}


def evidence_rows(observation: Observation, units: Sequence[int]) -> pd.DataFrame:
    """The top images of each unit."""
    rows = []
    for unit in units:
        column = observation.activations[:, unit]
        for rank, image in enumerate(top_images(column, EVIDENCE_SIZE), start=1):
            value = float(column[image])
            rows.append((unit, rank, observation.image_ids[image], value if math.isfinite(value) else math.nan))
    return pd.DataFrame(rows, columns=["unit", "rank", "image", "activation"])
