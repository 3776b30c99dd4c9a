"""Whether a label names the cue that a unit follows, where kind and colour, pattern or background come together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from baselines.costs import Amount
from benchmark.studies.base import Groups, StudyCost, StudyInput
from benchmark.studies.labelling import Subject, possible
from metrics.oracle import auroc_matrix
from metrics.text import Synonyms, named_concepts
from tasks.activations.spool import blocks
from tasks.common.errors import UserError
from tasks.miniature.conflict import CUES, Arrangement, Cue, conflict_set, swapped_values, tied_values
from tasks.miniature.probing import MiniatureProbingSet
from tasks.observation import Observation, Toolbox
from tasks.observe import CLEAN, IMAGES_AT_ONCE, probe_of
from tasks.probing.base import StoredSet
from tasks.profiles.build import Roles

BAR: Final = 0.9
"""Minimum AUROC of one of the two cues for a unit to count."""

APART: Final = 0.05
"""Minimum difference of the two AUROCs for a unit to follow one of them."""

LABELLED: Final[tuple[Arrangement, ...]] = ("tied", "swapped")
_VERSION: Final = 1

Follows = Literal["kind", "value", "undecided", "neither"]
Named = Literal["kind", "value", "both", "neither"]


@dataclass(frozen=True)
class Followed:
    """What a unit follows on scenes in which kind and value are independent.

    Attributes:
        kind: The kind of whose two cues one predicts the activation best.
        value: That kind's own value of the cue, see ``tied_values``.
        kind_auroc: AUROC of the activation for the kind.
        value_auroc: AUROC for the value.
        follows: ``neither`` if both are below ``BAR``, ``undecided`` if they differ by at most ``APART``.
    """

    kind: str
    value: str
    kind_auroc: float
    value_auroc: float
    follows: Follows

    @classmethod
    def of(
        cls, activations: Float[np.ndarray, "images units"], crossed: MiniatureProbingSet | StoredSet, cue: Cue
    ) -> list[Followed]:
        """What each unit follows.

        Args:
            activations: Pooled activations on ``crossed``.
            crossed: Scenes in which kind and value are independent.
        """
        pairs = list(tied_values(cue).items())
        columns = [[crossed.concepts.index(name) for name in names] for names in zip(*pairs, strict=True)]
        aurocs = [auroc_matrix(activations, crossed.presence[:, own]) for own in columns]
        found = []
        for kinds, values in zip(*aurocs, strict=True):
            best = int(np.nanargmax(np.fmax(kinds, values)))
            one, other = float(kinds[best]), float(values[best])
            follows: Follows = "neither"
            if max(one, other) >= BAR:
                follows = "kind" if one > other + APART else "value" if other > one + APART else "undecided"
            found.append(cls(*pairs[best], one, other, follows))
        return found


def named(label: str | None, kind: str, value: str, synonyms: Synonyms) -> Named:
    """Which of two cues a label names."""
    found = () if label is None else named_concepts(label, (kind, value), synonyms)
    if len(found) != 1:
        return "both" if found else "neither"
    return "kind" if found[0] == kind else "value"


@dataclass(frozen=True)
class CueConflict:
    """Labels the units on tied and on swapped scenes; see ``benchmark.studies.base.Study``."""

    name: str = "cue_conflict"
    masked: bool = False

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse profiles whose scenes cannot be drawn, and sets too small for every kind to occur."""
        for work in (work for group in groups for work in group):
            if roles.profile.vocabulary is None:
                raise UserError(
                    f"The study cue_conflict draws scenes of its own, and the profile {work.profile} has photographs: "
                    "use the profile miniature, or omit the study."
                )
            if work.images < (fewest := 2 * max(len(tied_values(cue)) for cue in CUES)):
                raise UserError(
                    f"The study cue_conflict shows each kind of object twice, and {work.task.name} has {work.images} "
                    f"images: use at least {fewest} with --images, or omit the study."
                )

    def costs(self, groups: Groups, roles: Roles) -> Iterator[StudyCost]:
        """Three sets per cue, two of them labelled; units that follow no cue are not labelled, so this is the most."""
        for work in (work for group in groups for work in group):
            images, labelled = len(CUES) * work.images, len(CUES) * len(LABELLED)
            yield StudyCost(
                work,
                Amount.of(4 * images),
                Amount.of(len(LABELLED) * images),
                (labelled, 1),
                Amount.of(len(LABELLED) * images),
            )

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """Cues, bars, methods, images and units."""
        return {
            "version": _VERSION,
            "seed": given.seed,
            "cues": [*CUES],
            "bars": [BAR, APART],
            "methods": {name: method.version for name, method in given.methods.items()},
            "tasks": {work.task.name: {"images": work.images, "units": [*work.units]} for work in given.works},
        }

    def measure(self, given: StudyInput) -> dict[str, list[pd.DataFrame]]:
        """The tables ``cue_units``, ``cue_labels`` and ``cue_network``."""
        found: dict[str, list[pd.DataFrame]] = {"cue_units": [], "cue_labels": [], "cue_network": []}
        for work in given.works:
            subject = possible(Subject.of(work, given), given.display)
            shown_last: list[Observation] = []
            tools = subject.tools(subject.plain, lambda seen=shown_last: seen[-1])
            with given.display.stage(f"{work.task.name}, cue conflict", len(CUES), "cues") as stage:
                for cue in CUES:
                    stage.note(cue)
                    for name, rows in _measured(subject, cue, tools, shown_last).items():
                        place = {"task": work.task.name, "profile": work.profile, "cue": cue}
                        found[name].append(pd.DataFrame(rows).assign(**place))
                    stage.advance()
        return found


STUDY: Final = CueConflict()


def _measured(
    subject: Subject, cue: Cue, tools: Toolbox, shown_last: list[Observation]
) -> dict[str, list[dict[str, Any]]]:
    """Table → its rows for one cue, without their place.

    Args:
        tools: Of all cues.
        shown_last: Takes what the methods see, for ``tools``.
    """
    work = subject.work
    view = subject.roles.view(work.task.model)
    sets = {
        arrangement: conflict_set(cue, arrangement, work.images, subject.seed).seen_by(view)
        for arrangement in ("crossed", *LABELLED)
    }
    output = _output_layer(subject)
    layers = {**({output: "mean"} if output else {}), work.task.layer: work.task.pooling}
    crossed = _read(subject, sets["crossed"], layers)
    followed = Followed.of(crossed[work.task.layer][:, list(work.units)], sets["crossed"], cue)
    units = [{"unit": unit, **vars(one)} for unit, one in zip(work.units, followed, strict=True)]
    decided = {unit: one for unit, one in zip(work.units, followed, strict=True) if one.follows in ("kind", "value")}
    own = replace(subject, work=replace(work, units=tuple(decided)))
    labels = []
    for arrangement in LABELLED if decided else ():
        probe = probe_of(sets[arrangement], masked=False)
        shown_last[:] = [own.observe(own.plain, probe, CLEAN, probe.load)]
        labels += _labelled(own, decided, shown_last[0], tools, cue, arrangement)
    network = []
    if output:
        swapped = _read(subject, sets["swapped"], {output: "mean"})[output]
        network = _decisions(subject, cue, crossed[output], swapped, sets["swapped"])
    return {"cue_units": units, "cue_labels": labels, "cue_network": network}


def _output_layer(subject: Subject) -> str | None:
    """The layer of the network's own output; None if it has none that can be read."""
    with contextlib.suppress(UserError):
        return subject.roles.output_layer(subject.work.task.model)
    return None


def _labelled(
    subject: Subject,
    decided: Mapping[int, Followed],
    seen: Observation,
    tools: Toolbox,
    cue: Cue,
    arrangement: Arrangement,
) -> Iterator[dict[str, Any]]:
    synonyms, dead = subject.roles.synonyms(), subject.dead(seen)
    pairs = tied_values(cue) if arrangement == "tied" else swapped_values(cue, subject.seed)
    kinds = {value: kind for kind, value in pairs.items()}
    for method in subject.methods:
        for unit, label in zip(decided, subject.label(method, seen, tools, dead), strict=True):
            one = decided[unit]
            # On the scenes that excite a unit, the other cue comes along.
            along = pairs[one.kind] if one.follows == "kind" else kinds[one.value]
            yield {
                "method": method,
                "unit": unit,
                "arrangement": arrangement,
                "label": label,
                "named": named(label, one.kind, one.value, synonyms),
                "along": label is not None and bool(named_concepts(label, (along,), synonyms)),
            }


def _read(subject: Subject, shown: StoredSet, layers: Mapping[str, Any]) -> dict[str, Float[np.ndarray, "n units"]]:
    parts = [subject.plain.read(shown.load(part), layers) for part in blocks(len(shown.ids), IMAGES_AT_ONCE)]
    return {name: torch.cat([part[name].pooled for part in parts]).double().numpy() for name in layers}


def _decisions(
    subject: Subject,
    cue: Cue,
    crossed: Float[np.ndarray, "n outputs"],
    swapped: Float[np.ndarray, "n outputs"],
    shown: StoredSet,
) -> list[dict[str, Any]]:
    """For each swapped scene, whether the network's output for its kind stands out more than that for its value's.

    Outputs are compared in standard deviations over ``crossed``. The tied kind of the value is not shown.
    """
    names = subject.roles.class_names(crossed.shape[1])
    if names is None or not {*tied_values(cue), *tied_values(cue).values()} <= set(names):
        return []
    heights = (swapped - crossed.mean(axis=0)) / crossed.std(axis=0)
    found = []
    for place, image in enumerate(shown.ids):
        (kind,) = (one for one in tied_values(cue) if shown.presence[place, shown.concepts.index(one)])
        value = swapped_values(cue, subject.seed)[kind]
        first, second = (heights[place, names.index(name)] for name in (kind, value))
        found.append({"image": image, "kind": kind, "value": value, "follows_kind": bool(first > second)})
    return found
