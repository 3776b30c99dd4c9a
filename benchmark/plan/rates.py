"""What the stages of a run take on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MethodTime:
    """What a cell of a method takes; generated images are left out, since cells share them.

    Attributes:
        once: Seconds for the first cell alone.
        cell: Seconds a cell, whatever the number of units.
        unit: Seconds a unit.
        cell_bytes: On disk, a cell, whatever the number of units.
        unit_bytes: On disk, a unit.
    """

    once: float
    cell: float
    unit: float
    cell_bytes: float
    unit_bytes: float


@dataclass
class Rates:
    """What one of each takes on this machine; what was not measured is absent.

    Attributes:
        seconds: Stage → seconds for one image; ``tables`` for one method under one condition; ``loading`` in all.
        perturbed: Perturbation → seconds for one image.
        methods: Method → what a cell takes.
        evidence_bytes: On disk: the evidence of one condition.
        thumbnail_bytes: The thumbnail of one image.
        unmeasured: What could not be measured → why.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    perturbed: dict[str, float] = field(default_factory=dict)
    methods: dict[str, MethodTime] = field(default_factory=dict)
    evidence_bytes: float = 0.0
    thumbnail_bytes: float = 0.0
    unmeasured: dict[str, str] = field(default_factory=dict)
