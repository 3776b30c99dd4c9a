"""Tuning by image sets: probing sets with a share of perturbed images, and networks fine-tuned on perturbed images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from baselines.costs import Amount
from benchmark.core.display import Display
from benchmark.core.work import Work
from benchmark.studies.base import Groups, StudyCost, StudyInput
from benchmark.studies.labelling import HELD_OUT, Subject, possible
from benchmark.studies.tuning.images import Suite, mixed, replaced, with_suite
from benchmark.studies.tuning.networks import UNTUNED, Performance, Plan, performances, tuned_networks, why_not
from leaderboard.board.intervals import difference_interval, mean_interval
from leaderboard.store.analysis_schema import TUNING
from leaderboard.store.identity import as_json
from metrics.robustness import error_ratio
from metrics.statistics import Interval, holm, paired_permutation
from tasks.common.errors import UserError
from tasks.models.target import TargetModel
from tasks.observe import CLEAN, Condition, Images, Probe, perturbed
from tasks.perturbations.settings import Settings, needs_foreground
from tasks.profiles.build import Roles

SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the probing images that are perturbed on purpose."""

PROBING: Final = "probing set"
NETWORK: Final = "network"
"""The two studies; the second is also the subject of rows that are not about labels."""

TUNED_ON: Final = "tuned on"
"""Name of the mean over the conditions that images were perturbed with on purpose."""

_PLACE: Final = ("task", "profile")
_VERSION: Final = 2


class _Key(NamedTuple):
    study: str
    arm: str
    subject: str
    measure: str
    conditions: str


@dataclass(frozen=True)
class _Found:
    """Values per unit, image or concept by key; and ratios over all images."""

    values: dict[_Key, Float[np.ndarray, " n"]]
    ratios: dict[_Key, Interval]


@dataclass(frozen=True)
class Tuning:
    """Runs both studies for each task; see ``benchmark.studies.base.Study``.

    Labels are compared under the task's conditions that are not in the plan.

    Attributes:
        plan: Perturbations and images for tuning.
    """

    name: str = "tuning"
    masked: bool = True
    plan: Plan = field(default_factory=Plan)

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse tasks whose conditions are all among those used for tuning."""
        for work in (work for group in groups for work in group):
            check_held_out(work, self.plan)

    def costs(self, groups: Groups, roles: Roles) -> Iterator[StudyCost]:
        """Labellings per share and per network, and the training."""
        for work in (work for group in groups for work in group):
            yield _cost(work, self.plan, roles)

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """Shares, plan, methods and held-out conditions."""
        return {
            "version": _VERSION,
            "seed": given.seed,
            "shares": [*SHARES],
            "plan": as_json(asdict(self.plan)),
            "methods": {name: method.version for name, method in given.methods.items()},
            "tasks": {
                work.task.name: {
                    "images": work.images,
                    "units": [*work.units],
                    "held_out": [str(condition) for condition in held_out(work, self.plan)],
                }
                for work in given.works
            },
        }

    def measure(self, given: StudyInput) -> dict[str, list[pd.DataFrame]]:
        """The table ``tuning``."""
        parts = []
        for work in given.works:
            parts.append(_measured(Subject.of(work, given), self.plan, given.settings, given.display))
        return {"tuning": parts}


STUDY: Final = Tuning()


def check_held_out(work: Work, plan: Plan) -> None:
    """Refuse a task whose conditions are all among those used for tuning.

    Raises:
        UserError: It has no other condition.
    """
    if not held_out(work, plan):
        raise UserError(
            f"The study tuning compares labels under held-out conditions, and {work.task.name} "
            f"has none: choose --suites beyond {', '.join(plan.names)}."
        )


def held_out(work: Work, plan: Plan) -> list[Condition]:
    """The task's conditions that are not used for tuning."""
    return [one for one in work.conditions if one != CLEAN and one.name not in plan.names]


def _cost(work: Work, plan: Plan, roles: Roles) -> StudyCost:
    conditions = 1 + len(held_out(work, plan))
    networks = 0 if why_not(work, roles) else len(plan.suites()) + 2
    read = (2 + networks) * conditions * work.images
    scenes = trained = 0
    if networks:
        scenes = (plan.train + plan.validation) * (1 + 2) + plan.test * (conditions + len(plan.conditions))
        trained = (len(plan.suites()) + 1) * plan.recipe.steps * plan.recipe.batch
    return StudyCost(
        work,
        Amount.of(read + scenes),
        Amount.of(read),
        # All shares use one network; a tuned network has its own images.
        ((len(SHARES) + networks) * conditions, 1 + networks),
        # An image is used clean or perturbed, for any share and any network.
        Amount((len(SHARES) + networks) * work.images, 2 * work.images),
        trained,
    )


def _measured(subject: Subject, plan: Plan, settings: Settings, display: Display) -> pd.DataFrame:
    work = subject.work
    check_held_out(work, plan)
    others = held_out(work, plan)
    _check_masks(subject.probe, (*others, *plan.conditions))
    conditions = (CLEAN, *others)
    probe, device = subject.probe, subject.roles.device
    images = {one: perturbed(probe, one, subject.seed, settings, device) for one in conditions}
    subject = possible(subject, display)
    reason = why_not(work, subject.roles)
    if reason:
        display.message(f"{work.task.name}: the network is not tuned: {reason}")

    found = _Found({}, {})
    labellings = len(conditions) * len(subject.methods)
    with display.stage(f"{work.task.name}, shares", len(SHARES) * labellings, "labellings") as stage:
        for share, values in _augmented(subject, images, plan, settings, stage.advance):
            stage.note(f"{share:g} of the images perturbed")
            found.values.update({_Key(PROBING, f"{share:g}", *name): own for name, own in values.items()})
    if not reason:
        ways = len(plan.suites()) + 1
        with display.stage(f"{work.task.name}, tuning", ways, "networks") as stage:
            tuned = tuned_networks(subject.plain, plan, subject.seed, settings, stage)
        targets = {UNTUNED: subject.plain, **{name: one.target for name, one in tuned.items()}}
        _performances(found, targets, subject, plan, (CLEAN, *plan.conditions, *others), settings, display)
        untuned: dict[str, list[str | None]] = {}
        with display.stage(f"{work.task.name}, networks", len(targets) * labellings, "labellings") as stage:
            for name, target in targets.items():
                stage.note(name)
                observations = {one: subject.observe(target, probe, one, images[one]) for one in conditions}
                clean = observations[CLEAN]
                tools = subject.tools(target, lambda clean=clean: clean)
                values = subject.measure(observations, tools, subject.truth(clean), stage.advance, untuned)
                found.values.update({_Key(NETWORK, name, *key): own for key, own in values.items()})
    table = _table(found, subject.seed)
    return table.assign(task=work.task.name, profile=work.profile)


def _check_masks(probe: Probe, conditions: Sequence[Condition]) -> None:
    if probe.masks is None and any(needs_foreground(condition.name) for condition in conditions):
        raise UserError(
            "The study tuning blurs backgrounds, and the images have no foreground masks: try --masks segmenter."
        )


def _augmented(
    subject: Subject, images: Mapping[Condition, Images], plan: Plan, settings: Settings, advance: Callable[[], None]
) -> Iterator[tuple[float, dict[tuple[str, str, str], np.ndarray]]]:
    """Share of perturbed probing images → the values of the labels found with them."""
    target, probe, seed = subject.plain, subject.probe, subject.seed
    suite = Suite(plan.names, plan.severity)
    plain, changed = {}, {}
    for condition, own in images.items():
        plain[condition] = subject.observe(target, probe, condition, own)
        after = with_suite(probe, own, suite, seed, settings, subject.roles.device)
        changed[condition] = subject.observe(target, probe, condition, after)
    # The truth of a unit comes from unperturbed images, at every share.
    truth = subject.truth(plain[CLEAN])
    shown = plain
    tools = subject.tools(target, lambda: shown[CLEAN])
    for share in SHARES:
        rows = np.where(replaced(probe.ids, share, seed), np.arange(len(probe.ids)), -1)
        shown = {one: mixed(plain[one], changed[one], rows) for one in images}
        yield share, subject.measure(shown, tools, truth, advance)


def _performances(
    found: _Found,
    targets: Mapping[str, TargetModel],
    subject: Subject,
    plan: Plan,
    conditions: Sequence[Condition],
    settings: Settings,
    display: Display,
) -> None:
    """How well the networks recognise concepts: per condition, and as the mean over both kinds of conditions."""
    shown: dict[Condition, dict[str, Performance]] = {}
    with display.stage(f"{subject.work.task.name}, performance", len(conditions), "conditions") as stage:
        for condition, own in performances(targets, subject.plain, plan, conditions, subject.seed, settings):
            shown[condition] = own
            stage.advance()
    groups: dict[str, list[Condition]] = {str(one): [one] for one in conditions}
    groups[TUNED_ON] = [*plan.conditions]
    groups[HELD_OUT] = [one for one in conditions if one != CLEAN and one not in plan.conditions]
    for name in targets:
        for group, members in groups.items():
            own, before = ([shown[one][which] for one in members] for which in (name, UNTUNED))
            errors, reference = (np.stack([one.errors for one in some], axis=1) for some in (own, before))
            found.values[_Key(NETWORK, name, NETWORK, "error", group)] = errors.mean(axis=1)
            found.values[_Key(NETWORK, name, NETWORK, "auroc", group)] = np.mean([one.auroc for one in own], axis=0)
            ratio = error_ratio(errors, reference, seed=subject.seed)
            found.ratios[_Key(NETWORK, name, NETWORK, "error_ratio", group)] = ratio


def _table(found: _Found, seed: int) -> pd.DataFrame:
    """One row per key: its mean with its interval, and its difference from the untuned network or the plain set."""
    rows = []
    for key, values in found.values.items():
        row = {**key._asdict(), **_interval(mean_interval(values, seed))}
        first = UNTUNED if key.study == NETWORK else f"{SHARES[0]:g}"
        if key.arm != first:
            before = found.values[key._replace(arm=first)]
            apart = difference_interval(values, before, seed)
            p_value = paired_permutation(values, before, seed=seed).p_value
            row |= {"difference": apart.estimate, "difference_low": apart.low, "difference_high": apart.high}
            row["p_value"] = p_value
        rows.append(row)
    rows += [{**key._asdict(), **_interval(ratio)} for key, ratio in found.ratios.items()]
    table = pd.DataFrame(rows, columns=[column.name for column in TUNING.columns if column.name not in _PLACE])
    # Single conditions explain the means; only the means are tested. Labels keep from none to all of themselves.
    tested = table["conditions"].isin((str(CLEAN), TUNED_ON, HELD_OUT)).to_numpy() & (table["measure"] != "kept")
    table["p_value"] = table["p_value"].astype(np.float64).where(tested)
    for study in (PROBING, NETWORK):
        own = (table["study"] == study).to_numpy()
        table.loc[own, "p_corrected"] = holm(table.loc[own, "p_value"].to_numpy(np.float64)).p_values
    return table


def _interval(found: Interval) -> dict[str, float | int]:
    return {"value": found.estimate, "low": found.low, "high": found.high, "n": found.n}
