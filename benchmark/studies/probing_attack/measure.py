"""How many labels an adversary turns who changes a few of the probing images by a few grey levels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from baselines.costs import Amount
from baselines.evidence import dead_units, order_among_ties, top_images
from benchmark.core.display import Stage
from benchmark.core.truth import Truth
from benchmark.studies.base import Groups, StudyCost, StudyInput
from benchmark.studies.labelling import Subject, possible
from benchmark.studies.tuning.images import mixed
from leaderboard.store.identity import as_json
from metrics.text import exact_match
from tasks.activations.spool import Spool
from tasks.attack import Aim, Budget, attacked, change_sha256, check_gradients, noisy
from tasks.common.errors import UserError
from tasks.common.seeding import integer_seed
from tasks.observation import Observation, Segmentation, Toolbox
from tasks.observe import CLEAN, Images, Probe, repeated
from tasks.profiles.build import Roles

SHARES: Final = (0.01, 0.05, 0.1)
"""Shares of the probing images that are attacked; a smaller share is a subset of a larger one."""

ATTACK: Final = "attack"
NOISE: Final = "noise"
AGAIN: Final = "again"
"""A clean repeat: how many labels change without any change of the images."""

_VERSION: Final = 1

_DISSECTION: Final = "network_dissection"


@dataclass(frozen=True)
class Places:
    """Where the concepts of two units stand.

    Attributes:
        names: Concept of the attacked unit, and of the other: Network Dissection's clean labels.
        pixels: Of each concept, over all images of the probing set.
    """

    names: tuple[str, str]
    pixels: tuple[Bool[np.ndarray, "n a b"], Bool[np.ndarray, "n a b"]]

    @classmethod
    def of(cls, names: tuple[str, str], segmentation: Segmentation, count: int) -> Places:
        """Read from the annotation of ``count`` images; an image-level concept stands everywhere in its images."""
        numbers = [segmentation.labels.index(name) for name in names]
        pixels = np.zeros((2, count, *segmentation.size), np.bool_)
        for image in range(count):
            for own in segmentation.pixels(image).values():
                for which, number in enumerate(numbers):
                    pixels[which, image] |= number in own if isinstance(own, list) else own == number
        return cls(names, (pixels[0], pixels[1]))

    def weights(self, images: Sequence[int]) -> Float[Tensor, "k a b"]:
        """What makes the weighted sum of maps the published objective: mean in the other's concept minus in the own."""
        own, other = (torch.from_numpy(pixels[[*images]]).float() for pixels in self.pixels)
        return other / other.sum().clamp(min=1) - own / own.sum().clamp(min=1)


@dataclass(frozen=True)
class Victims:
    """The images that are attacked for one unit.

    Half of each share are the unit's strongest images, whose activation is lowered, and half the strongest images of
    another unit, whose activation is raised; with masks, of those that show the unit's concept.

    Attributes:
        lowered: Image numbers, strongest first.
        raised: Likewise; none of them is among ``lowered``.
    """

    lowered: tuple[int, ...]
    raised: tuple[int, ...]

    @classmethod
    def of(cls, unit: int, target: int, clean: Observation, places: Places | None = None) -> Victims:
        """The victims at the largest share.

        Args:
            unit: The attacked unit.
            target: The unit whose strongest images are to become those of ``unit``.
            clean: Observation of the clean images.
            places: Where their concepts stand, in an attack with masks.
        """
        count = round(max(SHARES) * len(clean.image_ids))
        ties = order_among_ties(clean.activations)
        first, second = (
            top_images(clean.activations[:, one], len(clean.image_ids), among_ties=ties) for one in (unit, target)
        )
        if places is not None:
            first, second = (
                [image for image in order if pixels[image].any()]
                for order, pixels in zip((first, second), places.pixels, strict=True)
            )
        lowered = tuple(first[: math.ceil(count / 2)])
        return cls(lowered, tuple([image for image in second if image not in lowered][: count // 2]))

    @property
    def images(self) -> tuple[int, ...]:
        """All of them."""
        return (*self.lowered, *self.raised)

    def rows(self, share: float, count: int) -> Int[np.ndarray, " images"]:
        """The place in ``images`` of each image of the probing set that is attacked at a share; -1 for the others."""
        attacked = round(share * count)
        places = np.full(count, -1)
        for start, own, most in (
            (0, self.lowered, math.ceil(attacked / 2)), (len(self.lowered), self.raised, attacked // 2),
        ):  # fmt: skip
            for place, image in enumerate(own[:most], start=start):
                places[image] = place
        return places


@dataclass(frozen=True)
class ProbingAttack:
    """Attacks the images of each unit; see ``benchmark.studies.base.Study``.

    Attributes:
        budget: How far an image may be changed.
        with_masks: Whether activations count inside the pixels of the units' concepts only, as published.
    """

    name: str = "probing_attack"
    masked: bool = False
    budget: Budget = field(default_factory=Budget)
    with_masks: bool = False

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse networks without gradients, single units, and too few images for the smallest share."""
        for work in (work for group in groups for work in group):
            if len(work.units) < 2:
                raise UserError(
                    f"The study probing_attack gives a unit the images of another, and of {work.task.name} one unit "
                    "is labelled: choose more with --units, or omit the study."
                )
            if round(min(SHARES) * work.images) < 1:
                raise UserError(
                    f"The study probing_attack changes 1 % of the images, and {work.task.name} has {work.images}: use "
                    "at least 51 with --images, or omit the study."
                )
            task = work.task
            if self.with_masks and _DISSECTION not in work.methods:
                raise UserError(
                    f"--attack-masks needs the concepts that {_DISSECTION} finds, which is not among the methods of "
                    f"{task.name}: add it to --methods, or omit --attack-masks."
                )
            aim = Aim(roles.target(task.model), task.model, task.layer, task.pooling, work.units[0])
            check_gradients(aim, masked=self.with_masks)

    def costs(self, groups: Groups, roles: Roles) -> Iterator[StudyCost]:
        """A gradient as one pass more (no weights), and labellings per share with attack and noise."""
        for work in (work for group in groups for work in group):
            changed = len(work.units) * round(max(SHARES) * work.images)
            read = work.images + changed * (2 * self.budget.steps + 2)
            times = 2 + 2 * len(SHARES)
            yield StudyCost(
                work, Amount.of(read), Amount.of(work.images + 2 * changed), (times, 1), Amount.of(work.images)
            )

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """Shares, budget, methods, images and units."""
        return {
            "version": _VERSION,
            "seed": given.seed,
            "shares": [*SHARES],
            "budget": as_json(asdict(self.budget)),
            "methods": {name: method.version for name, method in given.methods.items()},
            "tasks": {
                work.task.name: {"images": work.images, "units": [*work.units]} for work in given.works
            },
            **({"with_masks": True} if self.with_masks else {}),
        }  # fmt: skip

    def measure(self, given: StudyInput) -> dict[str, list[pd.DataFrame]]:
        """The tables ``attacks`` and ``attacked_labels``."""
        attacks, labels = [], []
        for work in given.works:
            subject = possible(Subject.of(work, given), given.display)
            with given.display.stage(f"{work.task.name}, attack", len(work.units), "units") as stage:
                found = _measured(subject, self, stage)
            place = {"task": work.task.name, "profile": work.profile}
            attacks.append(pd.DataFrame(found[0]).assign(**place))
            labels.append(pd.DataFrame(found[1]).assign(**place))
        return {"attacks": attacks, "attacked_labels": labels}


STUDY: Final = ProbingAttack()

_Rows = list[dict[str, Any]]


def _measured(subject: Subject, study: ProbingAttack, stage: Stage) -> tuple[_Rows, _Rows]:
    """The rows of both tables without their place."""
    clean = subject.observe(subject.plain, subject.probe, CLEAN, subject.probe.load)
    tools, truth = subject.tools(subject.plain, lambda: clean), subject.truth(clean)
    dead = np.asarray(dead_units(clean.activations))
    alive = [unit for unit in subject.work.units if not dead[unit]]
    first = {method: _labels(subject, method, clean, tools) for method in subject.methods}
    segmentation, concepts = subject.probe.segmentation, None
    if study.with_masks:
        concepts = {unit: label for unit, label in first[_DISSECTION].items() if label is not None}
    attacks: _Rows = []
    labels: _Rows = []
    for unit in alive:
        stage.note(f"unit {unit}")
        others = _targets(unit, alive, concepts)
        if others:
            target = others[integer_seed(subject.seed, "attack target", subject.work.task.name, unit) % len(others)]
            own = replace(subject, work=replace(subject.work, units=(unit,)))
            places = None
            if concepts is not None and segmentation is not None:
                places = Places.of((concepts[unit], concepts[target]), segmentation, len(subject.probe.ids))
            attack = _Attack(own, unit, target, clean, study.budget, places)
            attacks.append(attack.facts())
            for method in subject.methods:
                told = _Told(own, truth, first[method][unit], first[method][target])
                labels += [{"method": method, "unit": unit, **row} for row in told.rows(attack, method, tools)]
        stage.advance()
    return attacks, labels


def _labels(subject: Subject, method: str, observation: Observation, tools: Toolbox) -> dict[int, str | None]:
    found = subject.label(method, observation, tools, subject.dead(observation))
    return dict(zip(subject.work.units, found, strict=True))


def _targets(unit: int, alive: Sequence[int], concepts: Mapping[int, str] | None) -> list[int]:
    """The units whose images the unit may be given; with masks, those whose concept is known and not the unit's own."""
    others = [other for other in alive if other != unit]
    if concepts is None:
        return others
    known = [other for other in others if unit in concepts and other in concepts]
    return [other for other in known if concepts[other] != concepts[unit]]


class _Attack:
    """The attacked images of one unit, and their controls, as the network sees them."""

    def __init__(
        self, subject: Subject, unit: int, target: int, clean: Observation, budget: Budget, places: Places | None
    ) -> None:
        self.unit, self.target, self.clean, self.places = unit, target, clean, places
        self.victims = Victims.of(unit, target, clean, places)
        self._before, self._after = _images(subject, unit, self.victims, budget, places)
        self._seed = subject.seed
        ids = tuple(clean.image_ids[image] for image in self.victims.images)
        probe = Probe(ids, self._before)

        def noise(indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
            chosen = [ids[index] for index in indices]
            return noisy(self._before(indices), self._after(indices), chosen, self._seed, unit)

        self._seen = {
            arm: subject.observe(subject.plain, probe, CLEAN, images)
            for arm, images in ((ATTACK, self._after), (NOISE, noise))
        }

    def observation(self, arm: str, share: float) -> Observation:
        """The probing set with a share of it attacked, or changed at random by as much."""
        return mixed(self.clean, self._seen[arm], self.victims.rows(share, len(self.clean.image_ids)))

    def facts(self) -> dict[str, Any]:
        """The row of ``leaderboard.store.analysis_schema.ATTACKS``."""
        images = [*self.victims.images]
        own = self.clean.activations[:, self.unit].double()
        apart, middle = own.std(correction=0), len(self.victims.lowered)
        moved = {
            arm: ((seen.activations[:, self.unit].double() - own[images]) / apart).split([middle, len(images) - middle])
            for arm, seen in self._seen.items()
        }
        rows = range(len(images))
        before, after = self._before(rows), self._after(rows)
        change = (after.double() - before.double()).abs()
        error = float(change.square().mean())
        return {
            "unit": self.unit,
            "target_unit": self.target,
            "images": len(images),
            "lowered": float(moved[ATTACK][0].mean()),
            "raised": float(moved[ATTACK][1].mean()),
            "lowered_by_noise": float(moved[NOISE][0].mean()),
            "raised_by_noise": float(moved[NOISE][1].mean()),
            "mean_change": float(change.mean()),
            "largest_change": int(change.max()),
            "psnr": 10 * math.log10(255**2 / error) if error else math.nan,
            "sha256": change_sha256(before, after),
            "source_concept": self.places.names[0] if self.places else None,
            "target_concept": self.places.names[1] if self.places else None,
        }


def _images(
    subject: Subject, unit: int, victims: Victims, budget: Budget, places: Places | None
) -> tuple[Images, Images]:
    """The victims clean and attacked, by their place in ``victims.images``; the latter kept on disk."""
    task, load = subject.work.task, subject.probe.load
    aim = Aim(subject.plain, task.model, task.layer, task.pooling, unit)
    chosen, up = victims.images, len(victims.lowered)

    def before(indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        return load([chosen[index] for index in indices])

    weights = None if places is None else places.weights(chosen)

    def made(indices: Sequence[int]) -> UInt8[np.ndarray, "k 3 h w"]:
        if weights is not None:
            # They are negative where the activation is to fall.
            return attacked(aim, before(indices), torch.ones(len(indices)).bool(), budget, weights[[*indices]]).numpy()
        return attacked(aim, before(indices), torch.tensor([index >= up for index in indices]), budget).numpy()

    kept = Spool(len(chosen), tuple(load([0]).shape[1:]), np.uint8, made)
    return before, lambda indices: torch.from_numpy(kept.read(indices))


@dataclass(frozen=True)
class _Told:
    """What one method says of one unit.

    Attributes:
        subject: The unit alone.
        clean: Its clean label.
        wanted: The clean label of the unit whose images it is given.
    """

    subject: Subject
    truth: Truth
    clean: str | None
    wanted: str | None

    def rows(self, attack: _Attack, method: str, tools: Toolbox) -> Iterator[dict[str, Any]]:
        """The rows of ``leaderboard.store.analysis_schema.ATTACKED_LABELS``, without method and unit."""
        yield self._row(AGAIN, 0.0, self._label(repeated(attack.clean, 1), attack.unit, method, tools))
        for share in SHARES:
            for arm in (ATTACK, NOISE):
                now = self._label(attack.observation(arm, share), attack.unit, method, tools)
                yield self._row(arm, share, now)

    def _label(self, seen: Observation, unit: int, method: str, tools: Toolbox) -> str | None:
        return _labels(self.subject, method, seen, tools)[unit]

    def _row(self, arm: str, share: float, now: str | None) -> dict[str, Any]:
        return {
            "images": arm,
            "share": share,
            "clean_label": self.clean,
            "label": now,
            "changed": not _same(now, self.clean),
            "clean_right": self._right(self.clean),
            "right": self._right(now),
            # Where both units have one label, nothing can be reached.
            "reached": None if self.wanted is None or _same(self.wanted, self.clean) else _same(now, self.wanted),
        }

    def _right(self, label: str | None) -> bool | None:
        found = float(self.subject.right([label], self.truth, np.zeros(1, np.bool_))[0])
        return None if math.isnan(found) else bool(found)


def _same(first: str | None, second: str | None) -> bool:
    return first == second if first is None or second is None else bool(exact_match(first, second))
