"""From the options to a run that can begin; writes nothing, so that any process can do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from baselines.base import Method
from baselines.concepts import load_concepts
from benchmark.core import prepare as choices
from benchmark.core.budget import with_budget
from benchmark.core.display import Display
from benchmark.core.identity import run_identity
from benchmark.core.language_check import check_key
from benchmark.core.options import RunOptions
from benchmark.core.prepare import Prepared
from benchmark.core.tiers import local_tier, open_cache
from benchmark.core.work import Work, pass_groups
from benchmark.studies.base import Study, load_studies
from benchmark.studies.bottleneck.run import has_bottlenecks
from leaderboard.store.run_folder import CellKey
from tasks.common.offline import opens_no_socket
from tasks.profiles.build import Roles
from tasks.profiles.resolve import require
from tasks.profiles.schema import Profile
from tasks.schema import Task

RolesT = TypeVar("RolesT", bound=Roles)


@dataclass(frozen=True)
class Parts(Generic[RolesT]):
    """The parts that the options name.

    Attributes:
        profile: With the user's own parts and budget.
        methods: By name; none if bottlenecks are trained.
        masked: Whether a condition or a study needs foreground masks.
        roles: The profile's models; none is loaded yet.
    """

    options: RunOptions
    profile: Profile
    tasks: Sequence[Task]
    methods: Mapping[str, Method]
    studies: Sequence[Study]
    masked: bool
    roles: RolesT


@dataclass(frozen=True)
class Job(Generic[RolesT]):
    """A run that can begin.

    Attributes:
        prepared: Its work and methods.
        groups: The work, by tasks that share network and images.
        concepts: Task name → concept set.
        masks: Source of the foreground masks; None if none are needed.
        identity: What makes two runs the same run.
    """

    options: RunOptions
    profile: Profile
    prepared: Prepared
    groups: Sequence[Sequence[Work]]
    studies: Sequence[Study]
    concepts: Mapping[str, tuple[str, ...]]
    masks: str | None
    roles: RolesT
    identity: Mapping[str, Any]

    @property
    def cells(self) -> list[CellKey]:
        """All cells."""
        return [key for work in self.prepared.works for condition in work.conditions for key in work.cells(condition)]


def load_parts(options: RunOptions, tasks: Sequence[Task], make_roles: Callable[..., RolesT]) -> Parts[RolesT]:
    """Look up what the options name; no model is loaded.

    Args:
        tasks: From ``benchmark.core.preflight.check``.
        make_roles: ``Roles``, or a class that does more.

    Raises:
        UserError: Anything that the user can correct.
    """
    profile, tasks = choices.apply_overrides(options, tasks)
    methods = {} if has_bottlenecks(tasks) else choices.load_methods(options, profile)
    studies = load_studies(options)
    masked = choices.needs_masks(options, tasks) or any(study.masked for study in studies)
    if opens_no_socket():
        require(choices.needed_parts(options, profile, tasks, methods, masked))
    profile = with_budget(profile, options.budget_usd)
    roles = make_roles(
        profile,
        choices.pick_device(options.device),
        options.batch_size or 64,
        replies=options.folder() / "replies.sqlite",
        cache=open_cache(options.cache),
        tier=local_tier(options.folder()),
    )
    return Parts(options, profile, tasks, methods, studies, masked, roles)


def prepare(parts: Parts[RolesT], display: Display) -> Job[RolesT]:
    """Determine what the options leave to the network and the images.

    Raises:
        UserError: Anything that the user can correct.
    """
    options, profile, roles = parts.options, parts.profile, parts.roles
    if roles.ask is None:
        check_key(parts.methods, profile)
    prepared = choices.prepare(options, profile, parts.tasks, parts.methods, roles, display)
    groups = pass_groups(prepared.works)
    for study in parts.studies:
        study.check(groups, roles)
    concepts = {work.task.name: load_concepts(profile.concept_set(work.task.concept_set)) for work in prepared.works}
    masks = prepared.masks if parts.masked else None
    identity = run_identity(options, profile, prepared, concepts, roles)
    return Job(options, profile, prepared, groups, parts.studies, concepts, masks, roles, identity)
