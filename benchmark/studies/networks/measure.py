"""How far labels move from one network to another: unit by unit, and to the units that match best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import torch

from baselines.costs import Amount
from benchmark.core.display import Stage
from benchmark.core.identity import weights_sha256
from benchmark.core.scoring import LabelEmbeddings
from benchmark.studies.base import Groups, StudyCost, StudyInput
from benchmark.studies.labelling import Subject, label_pairs, possible
from metrics.matching import best_among_own, best_match, correlations
from tasks.activations.spool import blocks
from tasks.common.errors import UserError
from tasks.observe import CLEAN, IMAGES_AT_ONCE, repeated
from tasks.profiles.build import Roles
from tasks.profiles.own import other_name

INDEX: Final = "same number"
ACTIVATION: Final = "by activation"
LABEL: Final = "by label"
"""The ways to match units: to the one of the same number, to the ones whose activations correlate best, and among these
to those whose labels are most similar."""

_VERSION: Final = 1


@dataclass(frozen=True)
class Networks:
    """Labels the matching units of a second network; see ``benchmark.studies.base.Study``."""

    name: str = "networks"
    masked: bool = False

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse a missing second network, and one without the layer."""
        for work in (work for group in groups for work in group):
            other = other_name(work.task.model)
            if other not in roles.profile.targets:
                raise UserError("--analysis networks compares with a second network: name it with --against.")
            roles.unit_count(other, work.task.layer)

    def costs(self, groups: Groups, roles: Roles) -> Iterator[StudyCost]:
        """Three passes; two labellings of the units, and one of up to twice as many of the other network."""
        for work in (work for group in groups for work in group):
            embedded = Amount.of(2 * work.images)
            yield StudyCost(work, Amount.of(3 * work.images), embedded, (4, 2), embedded)

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """The other network by its weights, methods and units."""
        others = {
            work.task.name: weights_sha256(given.roles.target(other_name(work.task.model)).network)
            for work in given.works
        }
        methods = {name: method.version for name, method in given.methods.items()}
        return {
            "version": _VERSION,
            "seed": given.seed,
            "methods": methods,
            "tasks": given.facts_of_tasks(),
            "others": others,
        }

    def measure(self, given: StudyInput) -> dict[str, list[pd.DataFrame]]:
        """The table ``networks``."""
        found = []
        for work in given.works:
            subject = possible(Subject.of(work, given), given.display)
            with given.display.stage(f"{work.task.name}, networks", 3 * len(subject.methods), "labellings") as stage:
                rows = _measured(subject, stage)
            found.append(rows.assign(task=work.task.name, profile=work.profile))
        return {"networks": found}


STUDY: Final = Networks()


def _measured(subject: Subject, stage: Stage) -> pd.DataFrame:
    """The rows of the table, without their place."""
    task, probe, roles = subject.work.task, subject.probe, subject.roles
    units = np.array(subject.work.units)
    own = subject.observe(subject.plain, probe, CLEAN, probe.load)
    # Only the task's own network is known to have planted units.
    truth = "best_concept" if task.truth == "planted" else task.truth
    task = task.model_copy(update={"model": other_name(task.model), "truth": truth})
    target = roles.target(task.model)
    read = [
        target.read(probe.load(part), {task.layer: task.pooling})[task.layer].pooled
        for part in blocks(len(probe.ids), IMAGES_AT_ONCE)
    ]
    alike = correlations(own.activations[:, units].numpy(), torch.cat(read).numpy())
    pairs = {ACTIVATION: best_match(alike, units)}
    if alike.shape[1] == own.activations.shape[1]:
        pairs = {INDEX: units, **pairs}
    asked = tuple(sorted({int(unit) for found in pairs.values() for unit in found if unit >= 0}))
    there = replace(subject, work=replace(subject.work, task=task, units=asked))
    seen = there.observe(target, probe, CLEAN, probe.load)
    truths = {"own": subject.truth(own), "other": there.truth(seen)}
    dead = {"own": subject.dead(own), "other": there.dead(seen)}
    tools = {"own": subject.tools(subject.plain, lambda: own), "other": there.tools(target, lambda: seen)}
    parts = []
    for method in subject.methods:
        first, again = (subject.label(method, repeated(own, one), tools["own"], dead["own"]) for one in (0, 1))
        stage.advance(2)
        other = there.label(method, seen, tools["other"], dead["other"])
        stage.advance()
        embeddings = LabelEmbeddings(roles, [one for one in (*first, *again, *other) if one is not None])
        right = subject.right(first, truths["own"], dead["own"])
        right_there = dict(zip(asked, there.right(other, truths["other"], dead["other"]), strict=True))
        texts = dict(zip(asked, other, strict=True))
        vectors = embeddings.clip(first)
        # Among as many units as the task labels, so that the chance level has the same choice.
        pool = pairs[ACTIVATION][pairs[ACTIVATION] >= 0]
        found = best_match(vectors @ embeddings.clip([texts[int(unit)] for unit in pool]).T, np.arange(len(units)))
        chosen = np.where(found >= 0, pool[found], -1)
        for matching, matched in {**pairs, LABEL: chosen}.items():
            rows = label_pairs(
                units.tolist(),
                {"own": first, "again": again, "other": [texts.get(int(unit)) for unit in matched]},
                {"own": right, "other": np.array([right_there.get(int(unit), np.nan) for unit in matched])},
                embeddings,
            ).assign(method=method, matching=matching, other_unit=matched)
            rows["correlation"] = alike[np.arange(len(units)), matched]
            if matching == LABEL:
                rows["chance"] = best_among_own(vectors @ vectors.T)
            parts.append(rows.loc[matched >= 0])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
