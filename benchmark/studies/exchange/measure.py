"""How far labels move if the probing set is exchanged, compared with a repeat on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from baselines import registry
from baselines.costs import Amount
from benchmark.core.display import Display, Stage
from benchmark.core.scoring import LabelEmbeddings
from benchmark.core.work import Work
from benchmark.studies.base import Groups, StudyCost, StudyInput
from benchmark.studies.labelling import Subject, label_pairs, possible
from tasks.common.errors import UserError
from tasks.common.image_files import find_images
from tasks.common.seeding import integer_seed
from tasks.observation import Observation
from tasks.observe import CLEAN, probe_of, repeated
from tasks.probing.base import StoredSet
from tasks.probing.folder import Choice, open_folder
from tasks.probing.held_out import kept
from tasks.profiles.build import Roles
from tasks.profiles.schema import RetrievalSource

FEWEST: Final = 2
_VERSION: Final = 1


def other_images(work: Work, roles: Roles, folder: Path | None, seed: int) -> StoredSet:
    """As many images as the run's, none of them its own, as the network sees them; fewer if there are no more.

    Args:
        folder: Where they come from; None for the rest of the task's probing set.
        seed: Seed of the choice if there are more.

    Raises:
        UserError: There are no two.
    """
    task, view = work.task, roles.view(work.task.model)
    if folder is not None:
        generator = roles.profile.generator
        # As of the run's own images, a quarter may belong to the generator.
        hold_out = isinstance(generator, RetrievalSource) and generator.held_out
        files, _ = find_images(folder)
        found = len(kept(files) if hold_out else files)
        if found < FEWEST:
            raise UserError(f"--exchange {folder} contains {found} images that can be used, but {FEWEST} are needed.")
        choice = Choice(work.images if found > work.images else None, seed)
        return open_folder(folder, "not stated", choice, roles.cache, hold_out=hold_out).seen_by(view)
    own = roles.probing_set(task.probing_set, work.images, view)
    # A choice of more images contains that of fewer.
    count = 2 * work.images if 2 * work.images <= own.facts.available else None
    whole = roles.probing_set(task.probing_set, count, view)
    known = {*own.ids}
    others = [index for index, name in enumerate(whole.ids) if name not in known]
    if len(others) < FEWEST:
        raise UserError(
            f"The study exchange needs other images than those of {task.name}, and its probing set has no more: use "
            "fewer with --images, or give a folder with --exchange."
        )
    others.sort(key=lambda index: integer_seed(seed, "exchange", whole.ids[index]))
    return whole.only(sorted(others[: work.images]))


@dataclass(frozen=True)
class Exchange:
    """Labels the units with other images; see ``benchmark.studies.base.Study``.

    Attributes:
        folder: The other images; None for the rest of the task's probing set.
    """

    name: str = "exchange"
    masked: bool = False
    folder: Path | None = None

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse tasks for which there are no other images."""
        for work in (work for group in groups for work in group):
            other_images(work, roles, self.folder, 0)

    def costs(self, groups: Groups, roles: Roles) -> Iterator[StudyCost]:
        """Two passes, and three labellings."""
        for work in (work for group in groups for work in group):
            seen = Amount.of(2 * work.images)
            yield StudyCost(work, seen, seen, (3, 1), seen)

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """The other images by content, methods and units."""
        tasks = {}
        for work in given.works:
            others = other_images(work, given.roles, self.folder, given.seed)
            tasks[work.task.name] = {
                "images": work.images,
                "other_images": len(others.ids),
                "others": others.digest,
                "units": [*work.units],
            }
        methods = {name: method.version for name, method in given.methods.items()}
        return {"version": _VERSION, "seed": given.seed, "methods": methods, "tasks": tasks}

    def measure(self, given: StudyInput) -> dict[str, list[pd.DataFrame]]:
        """The table ``exchange``."""
        found = []
        for work in given.works:
            subject = possible(Subject.of(work, given), given.display)
            others = other_images(work, given.roles, self.folder, given.seed)
            subject = _annotated(subject, others, given.display)
            with given.display.stage(f"{work.task.name}, exchange", 3 * len(subject.methods), "labellings") as stage:
                rows = _measured(subject, others, stage)
            found.append(rows.assign(task=work.task.name, profile=work.profile))
        return {"exchange": found}


STUDY: Final = Exchange()


def _annotated(subject: Subject, others: StoredSet, display: Display) -> Subject:
    """The subject with the methods that the other images' annotation allows."""
    lacking = {
        *(() if others.segmentation is not None else ("segmentation",)),
        *(() if others.concepts else ("presence",)),
    }
    allowed = {
        name: method for name, method in subject.methods.items() if not lacking & registry.used_parts(method)
    }  # fmt: skip
    for name in sorted(set(subject.methods) - set(allowed)):
        display.warning(f"{name} needs images with concept annotation, which the other images do not have: left out.")
    return replace(subject, methods=allowed)


def _measured(subject: Subject, others: StoredSet, stage: Stage) -> pd.DataFrame:
    """The rows of the table, without their place."""
    probe = probe_of(others, masked=False)
    seen = {
        "own": subject.observe(subject.plain, subject.probe, CLEAN, subject.probe.load),
        "other": subject.observe(subject.plain, probe, CLEAN, probe.load),
    }
    truth, dead = subject.truth(seen["own"]), {name: subject.dead(one) for name, one in seen.items()}
    shown: list[Observation] = []
    tools = subject.tools(subject.plain, lambda: shown[-1])
    parts = []
    for method in subject.methods:
        labels = {}
        for name, which, repeat in (("own", "own", 0), ("again", "own", 1), ("other", "other", 0)):
            shown[:] = [seen[which]]
            labels[name] = subject.label(method, repeated(seen[which], repeat), tools, dead[which])
            stage.advance()
        embeddings = LabelEmbeddings(subject.roles, [one for own in labels.values() for one in own if one is not None])
        right = {name: subject.right(labels[name], truth, dead["own"]) for name in ("own", "other")}
        parts.append(label_pairs(subject.work.units, labels, right, embeddings).assign(method=method))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
