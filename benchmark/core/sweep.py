"""The sweep: one pass over the images per condition, then every method's cell; what is done is not done again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from baselines.base import Method, UnitLabels
from baselines.checks import check_labels
from baselines.evidence import EVIDENCE_SIZE, dead_units, order_among_ties, tied_images, top_images
from benchmark.core.facts import DENSE
from benchmark.core.interrupt import time_limit
from benchmark.core.items import Item
from benchmark.core.once import once
from benchmark.core.passes import Passes, mapped_images
from benchmark.core.prepare import asked_roles
from benchmark.core.thumbnails import thumbnail_rows
from benchmark.core.toolbox import background_words, make_toolbox
from benchmark.core.truth import unit_truth
from benchmark.core.unit_measures import unit_measures
from benchmark.core.work import Work, all_conditions
from leaderboard.store.identity import as_json
from leaderboard.store.run_folder import CellKey, RunFolder
from metrics.evidence import activation_correlation
from tasks.activations.sparse import SparseColumns
from tasks.observation import Observation, Toolbox
from tasks.observe import CLEAN, Condition, Probe, repeated
from tasks.perturbations.settings import Settings
from tasks.probing.base import ProbingSet
from tasks.profiles.build import Roles

Drive: TypeAlias = Callable[[str, Generator[Any, Any, list[UnitLabels]]], list[UnitLabels]]
"""``drive(task, steps)`` answers what the steps of a method ask, until they return labels."""


@dataclass
class Sweep:
    """Tasks that share a network and its images, so that one pass per condition serves them all.

    Attributes:
        group: Its number in the run.
        folder: The run folder, open for writing.
        concepts: Task name → concept set.
        probe: The probing images.
        probing: The probing set that they come from, with its annotation.
        thumbnails: Number of top images per unit kept as thumbnails.
        cell_timeout: Seconds after which a cell counts as failed, or None for no limit.
    """

    group: int
    folder: RunFolder
    works: tuple[Work, ...]
    methods: Mapping[str, Method]
    concepts: Mapping[str, tuple[str, ...]]
    roles: Roles
    probe: Probe
    probing: ProbingSet
    seed: int
    settings: Settings
    thumbnails: int = 0
    cell_timeout: float | None = None

    def __post_init__(self) -> None:
        self._held: tuple[Condition, dict[str, Observation]] | None = None

    @property
    def title(self) -> str:
        """The names of its tasks."""
        return " + ".join(work.task.name for work in self.works)

    def items(self, failed: Container[CellKey] = (), only: Condition | None = None) -> list[Item]:
        """What is left, apart from what other processes hold: each condition's pass, then its cells.

        Args:
            failed: Cells that are not tried again.
            only: One of the conditions, instead of all.
        """
        found: list[Item] = []
        for condition in all_conditions(self.works) if only is None else (only,):
            own = Item("pass", self.group, condition.name, condition.severity)
            keys = self.cells(own)
            left = [key for key in keys if key not in failed and self._is_open(key)]
            # Where the images themselves could not be had, there is no evidence of them either.
            unseen = not any(key in failed for key in keys) and not self.is_observed(own)
            if left or unseen:
                found += [own, *(replace(own, kind="block", cell=key) for key in left)]
        return found

    def cells(self, item: Item) -> list[CellKey]:
        """All cells of an item's condition."""
        condition = Condition(item.condition, item.severity)
        return [key for work in self._with(condition) for key in work.cells(condition)]

    def is_observed(self, item: Item) -> bool:
        """Whether the evidence of an item's condition is there, for all tasks."""
        condition = Condition(item.condition, item.severity)
        seen = [work.observation_key(condition) for work in self._with(condition)]
        return all([is_seen(self.folder, key, self.thumbnails) for key in seen])

    def observe(self, item: Item) -> None:
        """Pass the images of a condition through network and CLIP; held until the next condition, or ``release``."""
        condition = Condition(item.condition, item.severity)
        if condition == CLEAN:
            self._held = None
            _ = self._clean  # other processes, which need them too, wait for this pass
        self._observations(condition)

    def release(self) -> None:
        """Forget the condition that is held."""
        self._held = None

    def store_evidence(self, item: Item) -> list[CellKey]:
        """Write what belongs to a condition, independent of the methods; what is there is not written again.

        Returns:
            The keys of its evidence.
        """
        condition = Condition(item.condition, item.severity)
        keys = []
        for work in self._with(condition):
            keys.append(work.observation_key(condition))
            with self.folder.claim(keys[-1], wait=True):
                self._write_evidence(work, condition, self._observations(condition)[work.task.layer])
        return keys

    def label(self, item: Item, drive: Drive | None = None) -> list[UnitLabels]:
        """The labels of a block: of some of its cell's units, or of all of them.

        Args:
            drive: Runs the steps of a method that has them; None draws what they ask at once.
        """
        assert item.cell is not None  # noqa: S101 - a block has one
        key, work = item.cell, self.work(item.cell)
        units, method = item.units or work.units, self.methods[key.method]
        observation = self._observations(Condition(item.condition, item.severity))[work.task.layer]
        given = repeated(observation, key.repeat), units, self.tools[key.task]
        steps = None if drive is None else getattr(method, "steps", None)
        with time_limit(self.cell_timeout):
            answer = method.label(*given) if drive is None or steps is None else drive(key.task, steps(*given))
        return check_labels(key.method, answer, units, len(observation.image_ids))

    def write_cell(self, key: CellKey, found: Iterable[UnitLabels], seconds: float) -> None:
        """Store a cell.

        Args:
            found: The labels of all of its units, in any order.
            seconds: Time that they took.

        Raises:
            ValueError: Units are missing, or given twice.
        """
        labels = sorted(found, key=lambda one: one.unit)
        if [one.unit for one in labels] != list(self.work(key).units):
            raise ValueError(f"the blocks of {key.name} do not make up the units of its cell")
        facts = as_json(unit_facts(labels))
        self.folder.write_cell(key, label_rows(labels), {"seconds": round(seconds, 3), "units": facts})

    def _with(self, condition: Condition) -> Iterator[Work]:
        return (work for work in self.works if condition in work.conditions)

    def _is_open(self, key: CellKey) -> bool:
        """Whether a cell is neither done nor claimed by another process."""
        return self.folder.is_free(key) and not self.folder.is_done(key)

    def work(self, key: CellKey) -> Work:
        """The work that a cell belongs to."""
        return next(work for work in self.works if work.task.name == key.task)

    def _observations(self, condition: Condition) -> dict[str, Observation]:
        """Layer → the images under a condition; a pass that the cache holds is not made again."""
        if self._held is None or self._held[0] != condition:
            self._held = None  # two conditions' maps need not fit into memory
            self._held = (condition, self._observe(condition))
        return self._held[1]

    def _observe(self, condition: Condition) -> dict[str, Observation]:
        return self._passes.of_tasks(tuple(self._with(condition)), condition)

    @cached_property
    def _passes(self) -> Passes:
        model = self.works[0].task.model
        read = mapped_images(self.methods.values())
        return Passes(self.roles, model, self.probe, self.probing.digest, self.settings, self.seed, read)

    @cached_property
    def tools(self) -> dict[str, Toolbox]:
        """Task → what its methods may use."""
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
        captioner = self.roles.captioner
        if captioner is None:
            return {}

        def make() -> dict[str, Tensor]:
            words = json.dumps(background_words(captioner, self.probe.load, len(self.probe.ids)))
            return {"json": torch.tensor(list(words.encode()), dtype=torch.uint8)}

        return json.loads(bytes(once(self.folder, f"caption words of {self.title}", make)["json"].tolist()))

    def _write_evidence(self, work: Work, condition: Condition, observation: Observation) -> None:
        key = work.observation_key(condition)
        if is_seen(self.folder, key, self.thumbnails):
            return
        dead = dead_units(observation.activations)
        extra: dict[str, Any] = {"dead": [unit for unit in work.units if dead[unit]]}
        extra["correlation"] = self._correlation(work, observation)
        for name, values in unit_measures(observation, work.units, self.seed).items():
            extra[name] = _of_units(work.units, values)
        tied = tied_images(observation.activations[:, list(work.units)], EVIDENCE_SIZE)
        extra["tied"] = {str(unit): count for unit, count in zip(work.units, tied.tolist(), strict=True) if count}
        if condition == CLEAN:
            extra["layer_units"] = observation.activations.shape[1]
            extra["layer_dead"] = int(np.asarray(dead).sum())
            if isinstance(observation.activations, SparseColumns):
                extra["layer_dense"] = int((observation.activations.shares() > DENSE).sum())
            seen = (self.probing.concepts, self.probing.presence)
            truth = unit_truth(work.task, work.units, observation, np.asarray(dead), *seen, self.roles)
            extra["truth"] = {str(unit): facts for unit, facts in truth.items()}
        evidence = evidence_rows(observation, work.units)
        # The evidence is written last: once it exists, the condition is not processed again.
        if self.thumbnails:
            shown = evidence.loc[evidence["rank"].to_numpy() <= self.thumbnails, "image"]
            self.folder.write_thumbnails(key, thumbnail_rows(observation, sorted(set(shown))))
        self.folder.write_evidence(key, evidence, extra)

    @cached_property
    def _clean(self) -> Mapping[str, Float[Tensor, "images units"]]:
        """Task → clean activations of the units to label; from the pass of whichever process makes it first."""

        def make() -> dict[str, Tensor]:
            seen = self._held[1] if self._held is not None and self._held[0] == CLEAN else self._observe(CLEAN)
            if self._held is None:
                self._held = (CLEAN, seen)
            return {w.task.name: seen[w.task.layer].activations[:, list(w.units)] for w in self.works}

        return once(self.folder, f"clean activations of {self.title}", make)

    def _correlation(self, work: Work, observation: Observation) -> dict[str, float]:
        """Unit → correlation of its activations with the clean ones, if there is one."""
        before, now = self._clean[work.task.name], observation.activations[:, list(work.units)]
        return _of_units(work.units, activation_correlation(before.numpy(), now.numpy()).pearson)


def _of_units(units: Sequence[int], values: Float[np.ndarray, " units"]) -> dict[str, float]:
    """Unit → its value to six digits, if it has one."""
    pairs = zip(units, values.tolist(), strict=True)
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
    rows, ties = [], order_among_ties(observation.activations)
    for unit in units:
        column = observation.activations[:, unit]
        for rank, image in enumerate(top_images(column, EVIDENCE_SIZE, among_ties=ties), start=1):
            value = float(column[image])
            rows.append((unit, rank, observation.image_ids[image], value if math.isfinite(value) else math.nan))
    return pd.DataFrame(rows, columns=["unit", "rank", "image", "activation"])
