"""Labels of one task's units from one observation, and whether they are correct: for studies without cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from baselines.base import Method
from baselines.checks import check_labels
from baselines.evidence import dead_units
from benchmark.core.display import Display
from benchmark.core.prepare import asked_roles
from benchmark.core.scoring import CleanLabels, LabelEmbeddings, compare_with_clean
from benchmark.core.toolbox import background_words, make_toolbox
from benchmark.core.truth import Truth, right_labels, unit_truth
from benchmark.core.work import Work
from benchmark.studies.base import StudyInput
from tasks.models.target import TargetModel
from tasks.observation import Observation, Toolbox
from tasks.observe import CLEAN, Condition, Images, Probe, observe
from tasks.profiles.build import Roles

HELD_OUT = "held out"
"""Name of the mean over the conditions that no image was perturbed with on purpose."""


@dataclass(frozen=True)
class Subject:
    """The units to label, the methods, and their inputs.

    Attributes:
        shown: Names of the columns of ``presence``.
        presence: Concepts that an image shows.
    """

    work: Work
    methods: Mapping[str, Method]
    concepts: tuple[str, ...]
    roles: Roles
    probe: Probe
    shown: tuple[str, ...]
    presence: Bool[np.ndarray, "images shown"]
    seed: int

    @classmethod
    def of(cls, work: Work, given: StudyInput) -> Subject:
        """The units of one of a study's tasks, with all of its methods."""
        probe, probing = given.probes[work.task.name]
        concepts, shown = given.concepts[work.task.name], (probing.concepts, probing.presence)
        return cls(work, given.methods, concepts, given.roles, probe, *shown, given.seed)

    @cached_property
    def plain(self) -> TargetModel:
        """The task's network from the profile."""
        return self.roles.target(self.work.task.model)

    def observe(self, target: TargetModel, probe: Probe, condition: Condition, images: Images) -> Observation:
        """Observation of the task's layer of a network on the images; with maps of the units to label."""
        task = self.work.task
        maps = {task.layer: self.work.units}
        found = observe(target, {task.layer: task.pooling}, probe, condition, images, self.roles.clip, maps=maps)
        return found[task.layer]

    def tools(self, target: TargetModel, clean: Callable[[], Observation]) -> Toolbox:
        """The tools that methods may use besides observations of a network.

        Args:
            target: The network. One toolbox per network: what a method caches in it, such as synthetic images and their
                activations, is then valid for all observations.
            clean: Current clean images, for the background word frequencies of captions.
        """
        counted: list[tuple[Observation, Mapping[str, float]]] = []

        def words() -> Mapping[str, float]:
            shown = clean()
            if not counted or counted[0][0] is not shown:
                said = background_words(self.roles.captioner, shown.images, len(shown.image_ids))
                counted[:] = [(shown, said)]
            return counted[0][1]

        # What is measured of generated images is kept for other runs, but only of the profile's own network.
        own = None if target is self.plain else target
        return make_toolbox(
            self.roles, self.work.task, self.concepts, self.seed, words, asked=asked_roles(self.methods), target=own
        )

    def measure(
        self,
        observations: Mapping[Condition, Observation],
        tools: Toolbox,
        truth: Truth,
        advance: Callable[[], None] = lambda: None,
        first: dict[str, list[str | None]] | None = None,
    ) -> dict[tuple[str, str, str], Float[np.ndarray, " units"]]:
        """Accuracy and stability of the methods' labels.

        Args:
            observations: ``clean``, and the conditions under which labels are compared.
            advance: Called after each labelling.
            first: Method → clean labels of the first network that was measured with it; filled by that one.

        Returns:
            Method; ``accuracy``, ``stability`` or, with ``first``, ``kept`` (stability relative to it); and ``clean``,
            a condition or ``HELD_OUT`` → one value per unit. NaN for dead units; for stability also for missing labels,
            for accuracy also if the truth is unknown.
        """
        dead = self.dead(observations[CLEAN])
        found: dict[tuple[str, str, str], np.ndarray] = {}
        for method in self.methods:
            labels = {}
            for condition, observation in observations.items():
                labels[condition] = self.label(method, observation, tools, dead)
                advance()
            before = [] if first is None else first.setdefault(method, labels[CLEAN])
            every = [label for own in (*labels.values(), before) for label in own if label is not None]
            embeddings = LabelEmbeddings(self.roles, every)
            clean = CleanLabels.of(labels[CLEAN], [], embeddings)
            under = {condition: own for condition, own in labels.items() if condition != CLEAN}
            moved = {
                "accuracy": {str(c): self.right(own, truth, dead) for c, own in under.items()},
                "stability": {
                    str(c): np.asarray(compare_with_clean(own, clean, embeddings)["stability"], np.float64)
                    for c, own in under.items()
                },
            }
            found[method, "accuracy", str(CLEAN)] = self.right(labels[CLEAN], truth, dead)
            if before:
                kept = compare_with_clean(labels[CLEAN], CleanLabels.of(before, [], embeddings), embeddings)
                found[method, "kept", str(CLEAN)] = np.asarray(kept["stability"], np.float64)
            for measure, values in moved.items():
                found |= {(method, measure, condition): own for condition, own in values.items()}
                if values:
                    found[method, measure, HELD_OUT] = np.mean(list(values.values()), axis=0)
        return found

    def label(self, method: str, observation: Observation, tools: Toolbox, dead: np.ndarray) -> list[str | None]:
        """A method's label of each unit; None if it is missing, and for dead units."""
        answer = self.methods[method].label(observation, self.work.units, tools)
        found = check_labels(method, answer, self.work.units, len(observation.image_ids))
        return [
            None if lost or not labels.ranked else labels.ranked[0].text
            for labels, lost in zip(found, dead, strict=True)
        ]

    def dead(self, clean: Observation) -> np.ndarray:
        """Which of the units to label are dead or constant."""
        return np.asarray(dead_units(clean.activations))[list(self.work.units)]

    def truth(self, clean: Observation) -> Truth:
        """The true concepts of the units to label, from the source that the task specifies."""
        dead = np.asarray(dead_units(clean.activations))
        return unit_truth(self.work.task, self.work.units, clean, dead, self.shown, self.presence, self.roles)

    def right(self, labels: Sequence[str | None], truth: Truth, dead: np.ndarray) -> Float[np.ndarray, " units"]:
        """1 if a label names the true concept, else 0; NaN if the truth is unknown, and for dead units.

        A missing label is wrong, as in ``leaderboard.board.summary``: labelling fewer units must not appear more
        accurate.
        """
        known = [None if lost else truth.get(unit) for unit, lost in zip(self.work.units, dead, strict=True)]
        right = right_labels(labels, known, self.roles)
        return np.array([np.nan if own is None else bool(one) for own, one in zip(known, right, strict=True)], float)


def label_pairs(
    units: Sequence[int],
    labels: Mapping[str, Sequence[str | None]],
    right: Mapping[str, Float[np.ndarray, " units"]],
    embeddings: LabelEmbeddings,
) -> pd.DataFrame:
    """A method's labels of units beside those found elsewhere: ``leaderboard.store.analysis_schema.EXCHANGE``.

    Args:
        labels: ``own``, ``again`` in a repeat, and ``other``: one per unit.
        right: Of ``own`` and ``other``, from ``Subject.right``.
    """
    clean = CleanLabels.of(labels["own"], [labels["again"]], embeddings)
    moved = {name: compare_with_clean(labels[name], clean, embeddings) for name in ("again", "other")}
    return pd.DataFrame(
        {
            "unit": units,
            "own_label": labels["own"],
            "other_label": labels["other"],
            "similarity": moved["other"]["clip_similarity"],
            "noise_floor": clean.noise_floor,
            "chance": clean.chance,
            "same": moved["other"]["exact"],
            "same_again": moved["again"]["exact"],
            "right": _flags(right["own"]),
            "other_right": _flags(right["other"]),
        }
    )


def _flags(values: np.ndarray) -> list[bool | None]:
    return [None if np.isnan(value) else bool(value) for value in values]


def possible(subject: Subject, display: Display) -> Subject:
    """The subject with the methods that its layer allows; a warning names the others."""
    task = subject.work.task
    if subject.plain.read(subject.probe.load([0]), {task.layer: task.pooling})[task.layer].kind != "vector":
        return subject
    allowed = {name: method for name, method in subject.methods.items() if "maps" not in method.needs}
    left_out = sorted(set(subject.methods) - set(allowed))
    if left_out:
        display.warning(f"{task.layer} has no maps, so {', '.join(left_out)} cannot label its units.")
    return replace(subject, methods=allowed)
