"""Labels of units whose activations, and whose images, are each clean or perturbed; and what units do when perturbed.

The four observations are made of two passes, which the cache holds: methods are called as always. All four are labelled
as clean ones, with the same random draws, so that nothing but the two factors differs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Bool

from baselines.costs import NOTHING as NO_WORK
from baselines.costs import Amount
from baselines.evidence import dead_units
from benchmark.core.passes import Passes, mapped_images
from benchmark.core.scoring import CleanLabels, LabelEmbeddings, compare_with_clean
from benchmark.core.truth import TRUTH_BAR, Truth
from benchmark.core.work import Work, all_conditions
from benchmark.studies.base import Groups, StudyCost, StudyInput
from benchmark.studies.labelling import Subject
from metrics.attribution import Corners
from metrics.oracle import auroc_matrix
from tasks.common.errors import UserError
from tasks.observation import Observation, Segmentation, Toolbox
from tasks.observe import CLEAN, Condition
from tasks.profiles.build import Roles

NOTHING, NETWORK, PICTURES, BOTH = Corners._fields

_VERSION: Final = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attribution:
    """Labels the units at every corner of each condition; see ``benchmark.studies.base.Study``."""

    name: str = "attribution"
    masked: bool = False

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse tasks without a perturbed condition."""
        for work in (work for group in groups for work in group):
            if work.conditions == (CLEAN,):
                raise UserError(
                    f"The study attribution compares clean with perturbed images, and {work.task.name} has no "
                    "perturbed ones: choose --suites."
                )

    def costs(self, groups: Groups, roles: Roles) -> Iterator[StudyCost]:
        """Three labellings per condition; the cached part of the passes is not known beforehand."""
        for group in groups:
            seen = Amount.of(len(all_conditions(group)) * group[0].images)
            for number, work in enumerate(group):
                passes = NO_WORK if number else seen
                times = 1 + 3 * (len(work.conditions) - 1)
                yield StudyCost(work, passes, passes, (times, 1), Amount.of(work.images))

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """Methods, images, units and conditions."""
        return {
            "version": _VERSION,
            "seed": given.seed,
            "truth_bar": TRUTH_BAR,
            "methods": {name: method.version for name, method in given.methods.items()},
            "tasks": given.facts_of_tasks(),
        }

    def measure(self, given: StudyInput) -> dict[str, list[pd.DataFrame]]:
        """The table ``attribution``."""
        found = []
        for group in given.groups:
            probe, probing = given.probes[group[0].task.name]
            read = mapped_images(given.methods.values())
            model = group[0].task.model
            passes = Passes(given.roles, model, probe, probing.digest, given.settings, given.seed, read)
            clean = passes.of_tasks(group, CLEAN)
            tasks = [_Task(Subject.of(work, given), clean[work.task.layer]) for work in group]
            conditions = all_conditions(group)
            with given.display.stage("attribution", len(conditions), "conditions") as stage:
                for condition in conditions:
                    stage.note(str(condition))
                    own = [task for task in tasks if condition in task.subject.work.conditions]
                    now = clean if condition == CLEAN else passes.of_tasks([one.subject.work for one in own], condition)
                    for task in own:
                        task.add(condition, now[task.subject.work.task.layer])
                    stage.advance()
            found += [task.table() for task in tasks]
            for task in tasks:
                for method, error in task.failed.items():
                    given.display.warning(f"{task.subject.work.task.name}: attribution leaves out {method}: {error}")
        return {"attribution": found}


STUDY: Final = Attribution()


def crossed(clean: Observation, now: Observation) -> dict[str, Observation]:
    """What is perturbed → the observation: activations and maps of one pass, all that is seen of the images of another.

    Args:
        clean: Observation of the unperturbed images.
        now: The same images under a condition.
    """
    network = {"activations": now.activations, "maps": now.maps}
    pictures = {
        "clip_embeddings": now.clip_embeddings,
        "images": now.images,
        "segmentation": now.segmentation,
        "presence": now.presence,
    }
    return {
        NETWORK: replace(clean, **network),
        PICTURES: replace(clean, **pictures),
        BOTH: replace(clean, **network, **pictures),
    }


class _Task:
    """Collects the labels of one task, condition by condition."""

    def __init__(self, subject: Subject, clean: Observation) -> None:
        self.subject = subject
        self.failed: dict[str, str] = {}
        self._clean = clean
        self._dead = subject.dead(clean)
        self._truth = subject.truth(clean)
        self._defined = _defined(self._truth, clean)
        self._labels: dict[str, dict[tuple[Condition, str], list[str | None]]] = {one: {} for one in subject.methods}
        self._now: dict[Condition, Truth] = {}
        self._tools: Toolbox = subject.tools(subject.plain, lambda: clean)

    def add(self, condition: Condition, now: Observation) -> None:
        is_clean = condition == CLEAN
        self._now[condition] = self._truth if is_clean else self._truth_now(now)
        corners = {NOTHING: self._clean} if is_clean else crossed(self._clean, now)
        for method in self.subject.methods:
            if method in self.failed:
                continue
            try:
                for moved, observation in corners.items():
                    labels = self.subject.label(method, observation, self._tools, self._dead)
                    self._labels[method][condition, moved] = labels
            except (UserError, MemoryError):
                raise
            # One method's failure must not lose the others' rows.
            except Exception as error:
                log.warning("attribution: %s failed under %s", method, condition, exc_info=True)
                self.failed[method] = f"{type(error).__name__}: {error}"

    def table(self) -> pd.DataFrame:
        subject, parts = self.subject, [pd.DataFrame()]
        for method in (name for name in subject.methods if name not in self.failed):
            labels = self._labels[method]
            embeddings = LabelEmbeddings(subject.roles, [text for own in labels.values() for text in own if text])
            clean = CleanLabels.of(labels[CLEAN, NOTHING], [], embeddings)
            for (condition, moved), own in labels.items():
                now = self._now[condition]
                parts.append(
                    pd.DataFrame(
                        {
                            "method": method,
                            "perturbation": condition.name,
                            "severity": condition.severity,
                            "perturbed": moved,
                            "unit": subject.work.units,
                            "label": own,
                            "stability": compare_with_clean(own, clean, embeddings)["stability"],
                            "right": _flags(subject.right(own, self._truth, self._dead)),
                            "right_now": _flags(subject.right(own, now, self._dead)),
                            "truth": _texts(self._truth, subject.work, self._dead),
                            "truth_now": _texts(now, subject.work, self._dead),
                        }
                    )
                )
        return pd.concat(parts, ignore_index=True).assign(task=subject.work.task.name, profile=subject.work.profile)

    def _truth_now(self, now: Observation) -> Truth:
        """What units detect under a condition.

        Units with a definition, planted ones and classes, have their own concept while their activations still tell the
        images that show it; others have the concept that an exhaustive search finds.
        """
        shown = now.presence
        if shown is None:
            return {}
        if self.subject.work.task.truth == "best_concept":
            return replace(self.subject, shown=shown.concepts, presence=shown.shown).truth(now)
        defined = self._defined if now.presence is self._clean.presence else _defined(self._truth, now)
        alive = ~np.asarray(dead_units(now.activations))
        units = [unit for unit in defined if alive[unit]]
        if not units:
            return {}
        expected = np.stack([defined[unit] for unit in units], axis=1)
        auroc = np.diagonal(auroc_matrix(now.activations[:, units].double().numpy(), expected))
        return {unit: self._truth[unit] for unit, one in zip(units, auroc, strict=True) if one >= TRUTH_BAR}


def _defined(truth: Truth, observation: Observation) -> dict[int, Bool[np.ndarray, " images"]]:
    """Unit → the images that show what it is defined to detect; units of unknown concepts are left out.

    AND needs one place that shows both, as it stands for one object.
    """
    presence, segmentation = observation.presence, observation.segmentation
    if presence is None:
        return {}
    found: dict[int, np.ndarray] = {}
    places: dict[int, tuple[str, ...]] = {}
    for unit, entry in truth.items():
        concepts = tuple(entry.get("concepts", [entry["concept"]]))
        if not set(concepts) <= set(presence.concepts):
            continue
        if entry.get("op") == "and":
            places[unit] = concepts
        else:
            columns = [presence.concepts.index(concept) for concept in concepts]
            found[unit] = np.asarray(presence.shown[:, columns].any(axis=1))
    if places and segmentation is not None:
        found |= _at_one_place(places, segmentation, len(presence.shown))
    return found


def _at_one_place(
    places: Mapping[int, tuple[str, ...]], segmentation: Segmentation, images: int
) -> dict[int, Bool[np.ndarray, " images"]]:
    number = {name: place for place, name in enumerate(segmentation.labels) if place}
    known = {unit: [number[name] for name in names] for unit, names in places.items() if set(names) <= set(number)}
    found = {unit: np.zeros(images, np.bool_) for unit in known}
    for image in range(images):
        layers = list(segmentation.pixels(image).values())
        where = {
            concept: np.any([_is(concept, layer, segmentation.size) for layer in layers], axis=0)
            for concept in {one for own in known.values() for one in own}
        }
        for unit, (one, other) in known.items():
            found[unit][image] = bool((where[one] & where[other]).any())
    return found


def _is(concept: int, layer: np.ndarray | list[int], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    return np.full(size, concept in layer) if isinstance(layer, list) else np.equal(layer, concept)


def _flags(values: np.ndarray) -> pd.Series:
    return pd.Series(values).astype("boolean")


def _texts(truth: Truth, work: Work, dead: np.ndarray) -> list[str | None]:
    known = [None if lost else truth.get(unit) for unit, lost in zip(work.units, dead, strict=True)]
    return [None if entry is None else entry["concept"] for entry in known]
