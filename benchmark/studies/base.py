"""Studies: what is measured of a run's tasks beside their labels, asked for with ``--analysis``.

A study is one module, or one folder, ``benchmark.studies.NAME`` whose ``measure`` holds ``STUDY``. Its tables are
declared in ``leaderboard.store.analysis_schema.STUDIES``, and what they say to readers in ``leaderboard.view.studies``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import pandas as pd

from baselines.base import Method
from baselines.costs import NOTHING, Amount
from benchmark.run.display import Display
from benchmark.run.work import Work
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
"""The tasks of a run, those together that share network and images."""


@dataclass(frozen=True)
class StudyInput:
    """What a study measures, and with what.

    Attributes:
        methods: By name.
        concepts: Task name → concept set.
        roles: The profile's models and data.
        probes: Task name → its images, and where they come from.
        seed: The run's own.
        settings: How images are perturbed.
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


@dataclass(frozen=True)
class StudyCost:
    """What a study asks of one task, or of tasks that share network and images; its statistics are not counted.

    Attributes:
        work: The task, or the first of them.
        read: Images that the target network reads.
        embedded: Images that CLIP embeds.
        labellings: How often each method labels the units of a network, and with how many networks.
        captioned: Images that are captioned where a method counts the words of captions.
        trained: Images that networks are trained with, counted again in each step.
    """

    work: Work
    read: Amount = NOTHING
    embedded: Amount = NOTHING
    labellings: tuple[int, int] = (0, 0)
    captioned: Amount = NOTHING
    trained: int = 0


class Study(Protocol):
    """Something to measure."""

    @property
    def name(self) -> str:
        """Of the option's value, of its facts in ``run.json``, and its key in ``STUDIES``."""
        ...

    @property
    def masked(self) -> bool:
        """Whether it needs foreground masks whatever the run's conditions are."""
        ...

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse tasks that it cannot be made of, before anything is measured.

        Raises:
            UserError: One sentence for the first of them.
        """
        ...

    def costs(self, groups: Groups, roles: Roles) -> Iterable[StudyCost]:
        """What it asks, for the plan."""
        ...

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """All that its tables depend on beside the run's identity, as JSON; stored in ``run.json``."""
        ...

    def measure(self, given: StudyInput) -> Mapping[str, Sequence[pd.DataFrame]]:
        """Table name → parts of that table.

        Raises:
            UserError: For anything that the user can put right.
        """
        ...


def load_study(name: str) -> Study:
    """The study of that name."""
    return import_module(f"benchmark.studies.{name}.measure").STUDY


def is_stored(folder: RunFolder, name: str) -> bool:
    """Whether a run folder, which need not exist, holds a study's tables; whether they are current is not looked at."""
    if not (folder.path / "run.json").exists():
        return False
    held = folder.info()["facts"].get(name, {}).get("key")
    return bool(held) and all((folder.path / f"{schema.name}.parquet").exists() for schema in STUDIES[name])


def do_study(study: Study, folder: RunFolder, given: StudyInput) -> dict[str, pd.DataFrame]:
    """Measure and store; what is stored of the same is read.

    Args:
        folder: The run folder, open for writing.

    Returns:
        Table name → rows.

    Raises:
        UserError: As the study's.
        StoreError: A table cannot be written.
    """
    with folder.claim(study.name, wait=True):
        facts = study.facts(given)
        key = identity_hash(facts)
        # A table that nobody need have asked for reads as an empty one where it was deleted.
        if folder.info()["facts"].get(study.name, {}).get("key") == key and is_stored(folder, study.name):
            try:
                return _tables(study, folder)
            except StoreError as error:
                given.display.message(f"The tables of {study.name} are made again: {error}")
        measured = study.measure(given)
        # Stopped between two tables, one must not pass for that of another run.
        folder.record(study.name, {"key": ""})
        for schema in STUDIES[study.name]:
            filled = [part for part in measured.get(schema.name, ()) if len(part)]
            folder.write_table(schema.name, pd.concat(filled, ignore_index=True) if filled else empty_frame(schema))
        folder.record(study.name, facts | {"key": key})
        return _tables(study, folder)


def _tables(study: Study, folder: RunFolder) -> dict[str, pd.DataFrame]:
    return {schema.name: folder.read_table(schema.name) for schema in STUDIES[study.name]}
