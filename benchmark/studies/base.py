"""Studies: measurements on a run's tasks besides their labels, requested with ``--analysis``.

A study is a package ``benchmark.studies.NAME`` whose module ``measure`` defines ``STUDY``. Its tables are declared
in ``leaderboard.store.analysis_schema.STUDIES``, and their presentation in ``leaderboard.view.studies``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Protocol

import pandas as pd

from baselines.base import Method
from baselines.costs import NOTHING, Amount
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.work import Work
from leaderboard.store.analysis_schema import STUDIES
from leaderboard.store.errors import StoreError
from leaderboard.store.frames import empty_frame
from leaderboard.store.identity import identity_hash
from leaderboard.store.run_folder import RunFolder
from tasks.observe import Probe
from tasks.perturbations.settings import Settings
from tasks.probing.base import ProbingSet
from tasks.profiles.build import Roles

Groups = Sequence[Sequence[Work]]
"""The tasks of a run, grouped by shared network and images."""


@dataclass(frozen=True)
class StudyInput:
    """Inputs of a study.

    Attributes:
        methods: Method name → method.
        concepts: Task name → concept set.
        probes: Task name → its images, and their source.
    """

    groups: Groups
    methods: Mapping[str, Method]
    concepts: Mapping[str, tuple[str, ...]]
    roles: Roles
    probes: Mapping[str, tuple[Probe, ProbingSet]]
    seed: int
    settings: Settings
    display: Display

    @property
    def works(self) -> list[Work]:
        """The tasks of all groups."""
        return [work for group in self.groups for work in group]

    def facts_of_tasks(self) -> dict[str, Any]:
        """Task name → its images, units and conditions, as JSON: for the facts of a study that reads all of them."""
        return {
            work.task.name: {
                "images": len(self.probes[work.task.name][0].ids),
                "units": [*work.units],
                "conditions": [str(condition) for condition in work.conditions],
            }
            for work in self.works
        }


@dataclass(frozen=True)
class StudyCost:
    """Work of a study for one task, or of tasks that share network and images; its statistics are not counted.

    Attributes:
        work: The task, or the first of them.
        read: Images that the target network reads.
        embedded: Images that CLIP embeds.
        labellings: Number of times that each method labels the units of a network, and number of networks.
        captioned: Images that are captioned if a method uses word frequencies of captions.
        trained: Training images, counted in each step.
        methods: The methods that label the units; None for all of the run.
    """

    work: Work
    read: Amount = NOTHING
    embedded: Amount = NOTHING
    labellings: tuple[int, int] = (0, 0)
    captioned: Amount = NOTHING
    trained: int = 0
    methods: tuple[str, ...] | None = None


class Study(Protocol):
    """Interface of a study."""

    @property
    def name(self) -> str:
        """Name in ``--analysis``, in the facts of ``run.json``, and in ``STUDIES``."""
        ...

    @property
    def masked(self) -> bool:
        """Whether it needs foreground masks, independent of the run's conditions."""
        ...

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse unsuitable tasks before anything is measured.

        Raises:
            UserError: One sentence for the first of them.
        """
        ...

    def costs(self, groups: Groups, roles: Roles) -> Iterable[StudyCost]:
        """Its work, for the plan."""
        ...

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """Everything that its tables depend on besides the run's identity, as JSON; stored in ``run.json``."""
        ...

    def measure(self, given: StudyInput) -> Mapping[str, Sequence[pd.DataFrame]]:
        """Table name → parts of the table.

        Raises:
            UserError: Anything that the user can correct.
        """
        ...


def load_study(name: str) -> Study:
    """Look up a study by name."""
    return import_module(f"benchmark.studies.{name}.measure").STUDY


def load_studies(options: RunOptions) -> list[Study]:
    """The studies that a run's options ask for, with the options that are theirs."""
    own = {"exchange": {"folder": options.exchange}, "probing_attack": {"with_masks": options.attack_masks}}
    studies: list[Any] = [load_study(name) for name in options.analyses]
    return [replace(one, **own.get(one.name, {})) for one in studies]


def is_stored(folder: RunFolder, name: str) -> bool:
    """Whether a run folder, which need not exist, contains a study's tables, current or not."""
    if not (folder.path / "run.json").exists():
        return False
    held = folder.info()["facts"].get(name, {}).get("key")
    return bool(held) and all((folder.path / f"{schema.name}.parquet").exists() for schema in STUDIES[name])


def do_study(study: Study, folder: RunFolder, given: StudyInput) -> dict[str, pd.DataFrame]:
    """Measure and store the tables, or read those already stored for the same inputs.

    Args:
        folder: The run folder, open for writing.

    Returns:
        Table name → rows.

    Raises:
        UserError: As raised by the study.
        StoreError: A table cannot be written.
    """
    with folder.claim(study.name, wait=True):
        facts = study.facts(given)
        key = identity_hash(facts)
        # A table that may not have been requested reads as an empty one if it was deleted.
        if folder.info()["facts"].get(study.name, {}).get("key") == key and is_stored(folder, study.name):
            try:
                return _tables(study, folder)
            except StoreError as error:
                given.display.message(f"The tables of {study.name} are computed again: {error}")
        measured = study.measure(given)
        # If stopped between two tables, one must not be mistaken for that of a different run.
        folder.record(study.name, {"key": ""})
        for schema in STUDIES[study.name]:
            filled = [part for part in measured.get(schema.name, ()) if len(part)]
            folder.write_table(schema.name, pd.concat(filled, ignore_index=True) if filled else empty_frame(schema))
        folder.record(study.name, facts | {"key": key})
        return _tables(study, folder)


def _tables(study: Study, folder: RunFolder) -> dict[str, pd.DataFrame]:
    return {schema.name: folder.read_table(schema.name) for schema in STUDIES[study.name]}
