"""Single decisions of a concept bottleneck as bars: what each concept adds, clean and perturbed side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

CONCEPTS: Final = 6
"""Concepts of a chart; the others are one bar together."""

OTHERS: Final = "all others"

_STAYS: Final = 2


@dataclass(frozen=True)
class Panel:
    """One chart: a decision on an image as it is, or as it is perturbed.

    Attributes:
        part: The decision's rows.
        perturbed: Which of the two.
    """

    part: pd.DataFrame
    perturbed: bool

    @property
    def told(self) -> dict[str, Any]:
        """What all rows say alike."""
        return self.part.iloc[0].to_dict()

    @property
    def condition(self) -> tuple[str, int]:
        """Of the image that is shown."""
        return (str(self.told["perturbation"]), int(self.told["severity"])) if self.perturbed else ("clean", 0)

    @property
    def decision(self) -> str:
        """The class that is decided."""
        return str(self.told["decision" if self.perturbed else "clean_decision"])

    @property
    def right(self) -> bool:
        """Whether the decision is right."""
        return self.decision == self.told["truth"]

    def bars(self) -> list[tuple[str, float]]:
        """The bars, strongest first: the concept, NOT before it where it is less than usual, and what it adds."""
        kind = "" if self.perturbed else "clean_"
        columns = [self.part[name].tolist() for name in ("concept", f"{kind}contribution", f"{kind}activation")]
        rows = [row for row in zip(*columns, strict=True) if row[1]]
        rows.sort(key=lambda row: (-abs(row[1]), row[0]))
        found = [(f"NOT {name}" if active < 0 else str(name), float(adds)) for name, adds, active in rows[:CONCEPTS]]
        if len(rows) > CONCEPTS:
            found.append((OTHERS, float(sum(adds for _, adds, _ in rows[CONCEPTS:]))))
        return found


def panels(own: pd.DataFrame, most: int | None = None) -> list[list[Panel]]:
    """What is shown, row by row: two decisions that stay, then flips, clean and perturbed; new class pairs first.

    Args:
        own: Rows of ``leaderboard.store.schema.DECISIONS`` of one task.
        most: So many flips at most; all of them if None.
    """
    every = [part for _, part in own.groupby(["image", "perturbation", "severity"], sort=True)]
    stays = [Panel(part, False) for part in every if part["perturbation"].iloc[0] == "clean"]
    flips = sorted(
        (part for part in every if part["perturbation"].iloc[0] != "clean"),
        key=lambda part: tuple(part[["perturbation", "severity", "image"]].iloc[0]),
    )
    first, again, seen = [], [], set()
    for part in flips:
        pair = (part["clean_decision"].iloc[0], part["decision"].iloc[0])
        (again if pair in seen else first).append([Panel(part, False), Panel(part, True)])
        seen.add(pair)
    return [*([stays[:_STAYS]] if stays else []), *[*first, *again][:most]]
