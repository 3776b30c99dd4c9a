"""The responses of a layer's units to perturbations as arrays, read off the table ``sensitivity``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from leaderboard.board.groups import by_task
from leaderboard.board.names import ORDER, SIGNIFICANT
from metrics.sensitivity import BAR, Detection, detection

FAMILIES: Final = ("blur", "noise", "weather", "digital", "mask")
PART: Final = "mask"
"""The family that changes a part of the image only: it counts neither for nor against a detector of another family."""


@dataclass(frozen=True)
class Responses:
    """How the units of one task's layer respond.

    Attributes:
        conditions: Perturbation and severity, family by family.
        families: Of each condition.
        auroc: Of each unit under each condition; NaN without a response.
        effect: Cohen's d_av.
        p_corrected: Corrected over all units and conditions.
        images: Number of images of each condition.
    """

    task: str
    profile: str
    conditions: tuple[tuple[str, int], ...]
    families: tuple[str, ...]
    units: Int[np.ndarray, " units"]
    auroc: Float[np.ndarray, "conditions units"]
    effect: Float[np.ndarray, "conditions units"]
    p_corrected: Float[np.ndarray, "conditions units"]
    images: Int[np.ndarray, " conditions"]

    def inside(self, family: str) -> Bool[np.ndarray, " conditions"]:
        """The conditions of a family."""
        return np.array([own == family for own in self.families])

    def detection(self, family: str) -> Detection:
        """Which units detect a family of whole-image perturbations."""
        inside = self.inside(family)
        return detection(self.auroc, self.p_corrected, inside, ~inside & ~self.inside(PART), alpha=SIGNIFICANT)

    def past_the_bar(self, condition: int) -> tuple[Bool[np.ndarray, " units"], Bool[np.ndarray, " units"]]:
        """The units that detect a condition by rising, and those that do by falling."""
        sure = self.p_corrected[condition] < SIGNIFICANT
        return sure & (self.auroc[condition] >= BAR), sure & (self.auroc[condition] <= 1 - BAR)

    @property
    def whole_families(self) -> tuple[str, ...]:
        """The families of whole-image perturbations, in order."""
        return tuple(family for family in dict.fromkeys(self.families) if family != PART)


def responses(table: pd.DataFrame) -> list[Responses]:
    """The rows of the table ``sensitivity`` as arrays, one per task."""
    return [_responses((task, profile), rows) for task, profile, rows in by_task(table)]


def _responses(names: tuple[str, str], rows: pd.DataFrame) -> Responses:
    each = pd.DataFrame(rows[["family", "perturbation", "severity", "images"]].drop_duplicates())
    found = [{str(name): value for name, value in row.items()} for row in each.to_dict("records")]
    found.sort(
        key=lambda row: (
            _place(row["family"]),
            ORDER.get(row["perturbation"], len(ORDER)),
            row["perturbation"],
            row["severity"],
        )
    )
    conditions = tuple((str(row["perturbation"]), int(row["severity"])) for row in found)
    units = np.unique(rows["unit"].to_numpy(np.int64))
    wide = rows.set_index(["perturbation", "severity", "unit"]).sort_index()

    def matrix(column: str) -> Float[np.ndarray, "conditions units"]:
        values = [wide.loc[condition, column].reindex(units) for condition in conditions]
        return np.stack([row.to_numpy(np.float64) for row in values])

    return Responses(
        *names,
        conditions,
        tuple(str(row["family"]) for row in found),
        units,
        matrix("auroc"),
        matrix("effect"),
        matrix("p_corrected"),
        np.array([row["images"] for row in found]),
    )


def _place(family: str) -> tuple[int, str]:
    return (FAMILIES.index(family) if family in FAMILIES else len(FAMILIES), family)
