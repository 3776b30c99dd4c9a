"""Which groups of two profiles can be compared, and what the comparison says in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from leaderboard.board.merge import Group, Runs
from leaderboard.board.names import PREDICTING
from leaderboard.board.robustness import ROLES
from leaderboard.board.validity import Compared, Validity, compare_groups
from leaderboard.store.errors import StoreError
from metrics.statistics import Interval

TITLES: Final = {"spearman": "Spearman", "kendall": "Kendall tau-b", "difference": "mean difference"}
"""Statistic → heading."""

INTERVALS: Final = (
    "Spearman’s and Kendall’s rank correlations: 1 is the same order, 0 none, −1 the reverse. Mean difference: mean of "
    "the absolute differences. 95 % bootstrap intervals over units or images; they may lie to one side of the number, "
    "since noise makes rank correlations smaller and differences larger than they are."
)
"""What every place says below the numbers."""

_SUBJECTS: Final = {
    "stability": "labels hold best",
    "network": "the network keeps most of its accuracy",
    "clip": "CLIP keeps most of its accuracy",
}


def pairs(runs: Runs, first: str, second: str, tasks: tuple[str, str] | None = None) -> list[tuple[Group, Group]]:
    """The groups of two profiles that can be compared: units of one kind, whose networks may differ.

    A task that both profiles ran is compared with itself alone; other tasks of class units with all such tasks of the
    other profile, and other tasks of hidden layers with all of these.

    Args:
        first: Name of the profile that should predict.
        second: Name of the other one.
        tasks: A task of each, in place of that rule.

    Raises:
        StoreError: A profile has no such task, or there is no pair.
    """
    sides = [_by_task(runs, profile) for profile in (first, second)]
    if tasks is not None:
        return [(_named(sides[0], tasks[0], first), _named(sides[1], tasks[1], second))]
    for side, profile in zip(sides, (first, second), strict=True):
        if not side:
            known = ", ".join(sorted({group.profile for group in runs.groups})) or "none"
            raise StoreError(f"No run of the profile {profile} is here; there are runs of: {known}.")
    found = [
        (one, other)
        for one in sides[0].values()
        for other in sides[1].values()
        if one.task == other.task
        or (_kind(one) == _kind(other) and one.task not in sides[1] and other.task not in sides[0])
    ]
    if not found:
        raise StoreError(f"No task of {first} has units of the kind that a task of {second} has: name two with --pair.")
    return found


def asked_names(text: str | None, chosen: Sequence[tuple[Group, Group]]) -> tuple[str, ...]:
    """The perturbations that were asked for.

    Args:
        text: Their names with commas between them; None for all.
        chosen: The groups; each name must be one that some pair ran.

    Raises:
        StoreError: For another name, or none at all.
    """
    if text is None:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    sides = (set(one.scores["perturbation"]) & set(other.scores["perturbation"]) for one, other in chosen)
    known = set().union(*sides) - {"clean"}
    wrong = next((name for name in names or ("",) if name not in known), None)
    if wrong is not None:
        raise StoreError(f"Both profiles did not run {wrong!r}; --conditions takes: {', '.join(sorted(known))}.")
    return names


def against_miniature(runs: Runs) -> tuple[Validity, ...]:
    """The miniature compared with every other profile whose runs are there; nothing without either."""
    profiles = sorted({group.profile for group in runs.groups})
    found = []
    for other in profiles if PREDICTING in profiles else ():
        if other != PREDICTING:
            try:
                found += [compare_groups(*pair) for pair in pairs(runs, PREDICTING, other)]
            except StoreError:
                continue  # no tasks of one kind
    return tuple(one for one in found if one.compared)


_HARDLY: Final = 0.3
"""Below this a rank correlation is called none: less than a tenth of the variance of the ranks is shared."""

_WELL: Final = 0.8
"""From here on the order is called predicted; the bar that the miniature's calibration has to reach."""


def main_numbers(validity: Validity) -> tuple[Compared, ...]:
    """By condition: stability, of all common methods if there are several, and the accuracy that each role keeps."""
    asked = (("stability", None), *(("accuracy kept", role) for role in ROLES))
    return tuple(found for one in asked if (found := validity.by_condition(*one)) is not None)


def in_words(validity: Validity) -> tuple[str, ...]:
    """What the comparison says, one sentence for the labels and one per role; plain text."""
    first, second = validity.first.profile, validity.second.profile
    said = []
    for one in main_numbers(validity):
        subject = _SUBJECTS[one.measure if one.measure == "stability" else one.of]
        if np.isnan(one.agreement["spearman"].estimate):
            continue
        rho, gap = one.agreement["spearman"], one.agreement["difference"]
        told = f"rank correlation {told_interval(rho)}, mean difference {told_interval(gap)}"
        what = f"the conditions under which {subject} in {second}: {told}."
        said.append(f"The profile {first} {_verdict(rho)} {what}")
    return tuple(said)


def _verdict(rho: Interval) -> str:
    """How well one order predicts another, by its size: an interval above 0 alone is no prediction worth the name."""
    if rho.high < 0:
        return "inverts the order of"
    if rho.estimate < _HARDLY:
        return "hardly predicts"
    if rho.low <= 0:
        return "may or may not predict"
    return "predicts" if rho.estimate >= _WELL else "predicts in part"


def told_interval(found: Interval) -> str:
    """``0.84 [0.80, 0.88]``; the reason where there is no number."""
    if np.isnan(found.estimate):
        return found.reason
    return f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _by_task(runs: Runs, profile: str) -> dict[str, Group]:
    """Of several groups of one task the first: the newest version, with most units."""
    found: dict[str, Group] = {}
    for group in runs.groups:
        if group.profile == profile:
            found.setdefault(group.task, group)
    return found


def _named(side: Mapping[str, Group], task: str, profile: str) -> Group:
    if task not in side:
        raise StoreError(f"No run of the task {task} in the profile {profile} is here; there are: {', '.join(side)}.")
    return side[task]


def _kind(group: Group) -> str:
    """What the units are: planted ones, those of classes, or those of a hidden layer."""
    truth = str(group.about.get("truth"))
    if truth in ("class_names", "planted"):
        return truth
    return "planted" if group.task in group.about_run.planted_from else "hidden"
