"""Items: the pieces of a run that one process does without another. Plain data, as JSON too; imports nothing heavy.

The cell stays the unit of identity, storage and resumption. What is handed out is smaller, because a cell of a drawing
method over a whole layer takes hours: one condition's pass over the images, one cell's block of units, a few concepts
to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from leaderboard.store.parts import CellKey

Kind = Literal["draw", "block", "pass"]

BLOCK: Final = 64
"""Units per block, where a method can be split by units."""


@dataclass(frozen=True)
class Item:
    """A piece of work.

    Attributes:
        kind: ``pass``: the images of one condition through network and CLIP, and their evidence. ``block``: the labels
            of one cell's units. ``draw``: the images of distinct concepts, and what is measured on them.
        group: Index of the tasks that share network and images (``benchmark.core.work.pass_groups``).
        condition: ``clean`` or the perturbation's name; empty for a ``draw``.
        severity: 0 for clean, else 1 to 5.
        cell: The cell of a ``block``.
        units: The units of a ``block``, sorted; empty means all of its cell.
        draws: Names of the concepts of a ``draw``, opaque here.
        epoch: How often the item had been handed out before; a report about an earlier epoch comes from a worker that
            was thought to be lost.
    """

    kind: Kind
    group: int
    condition: str = ""
    severity: int = 0
    cell: CellKey | None = None
    units: tuple[int, ...] = ()
    draws: tuple[str, ...] = ()
    epoch: int = 0

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"units": list(self.units), "draws": list(self.draws)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Item:
        """From ``facts``."""
        cell = facts["cell"]
        own = {"units": tuple(facts["units"]), "draws": tuple(facts["draws"]), "cell": cell and CellKey(**cell)}
        return cls(**{**facts, **own})

    def blocks(self, units: Sequence[int], split: str = "units", size: int = BLOCK) -> list[Item]:
        """The item of a whole cell, cut into blocks.

        Args:
            units: All units of the cell, sorted.
            split: ``Method.split``; ``never`` leaves the cell whole.
            size: Units per block; the last may have fewer.
        """
        if split == "never":
            return [self]
        return [replace(self, units=tuple(units[start : start + size])) for start in range(0, len(units), size)]
