"""The share of its clean accuracy that each role keeps under each condition, from the table of verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from leaderboard.board import intervals
from leaderboard.board.bottlenecks import conditions_in_order
from leaderboard.board.groups import Condition, by_task
from metrics.robustness import accuracy_kept
from metrics.statistics import Interval, wilson_interval

ROLES: Final = ("network", "clip")
"""Who classifies images: the network under study and the profile's image-text encoder."""


@dataclass(frozen=True)
class Verdicts:
    """Which images one role classifies correctly, of one task and profile.

    Attributes:
        conditions: The perturbed conditions, in the order of all tables.
        right: 1 where the image is classified correctly, 0 where not, NaN where the condition leaves it out.
        clean: Whether it is when clean.
    """

    conditions: tuple[Condition, ...]
    right: Float[np.ndarray, "images conditions"]
    clean: Bool[np.ndarray, " images"]


@dataclass(frozen=True)
class Kept:
    """The accuracy of one role on one task and profile.

    Attributes:
        role: One of ``ROLES``.
        clean: Accuracy on clean images.
        conditions: The perturbed conditions, in the order of all tables.
        accuracy: Accuracy under each of them, with Wilson's interval.
        kept: Accuracy divided by that on the same images, clean.
        mean_accuracy: Mean of ``accuracy``; without interval.
    """

    task: str
    profile: str
    role: str
    clean: Interval
    conditions: tuple[Condition, ...]
    accuracy: tuple[Interval, ...]
    kept: tuple[Interval, ...]
    mean_accuracy: float
    mean_kept: Interval


def kept_accuracies(table: pd.DataFrame, seed: int) -> Iterator[Kept]:
    """Task by task and role by role, what is kept of the clean accuracy; roles without perturbed images are left out.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.ROBUSTNESS``.
    """
    for task, profile, rows in by_task(table):
        for role in ROLES:
            found = verdicts(rows, role)
            if not found.conditions:
                continue
            kept = accuracy_kept(found.right, found.clean, resamples=intervals.RESAMPLES, seed=seed)
            accuracy = tuple(_share(column[~np.isnan(column)]) for column in found.right.T)
            mean = float(np.mean([one.estimate for one in accuracy]))
            clean = _share(found.clean)
            yield Kept(task, profile, role, clean, found.conditions, accuracy, kept.conditions, mean, kept.mean)


def verdicts(table: pd.DataFrame, role: str) -> Verdicts:
    """The verdicts of one role as arrays, over the images that have one when clean.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.ROBUSTNESS`` of one task and profile.
        role: One of ``ROLES``.
    """
    own = table.loc[(table["role"] == role).to_numpy()]
    keyed = own.assign(right=own["right"].astype(float)).set_index(["image", "perturbation", "severity"])["right"]
    wide = keyed.unstack(["perturbation", "severity"])
    conditions = tuple(condition for condition in conditions_in_order(own) if condition[1])
    if ("clean", 0) not in wide:
        return Verdicts((), np.empty((0, 0)), np.empty(0, np.bool_))
    wide = wide.loc[wide["clean", 0].notna()]
    right = wide[list(conditions)].to_numpy(np.float64)
    return Verdicts(conditions, right, wide["clean", 0].to_numpy(np.float64) == 1)


def _share(right: Float[np.ndarray, " images"] | Bool[np.ndarray, " images"]) -> Interval:
    return wilson_interval(int(right.sum()), len(right))
