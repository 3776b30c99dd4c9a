"""Measured rates of the stages of a run on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MethodTime:
    """Time and space of a method's cells; generated images are excluded, since cells share them.

    Attributes:
        once: Seconds for the first cell only.
        cell: Seconds per cell, independent of the number of units.
        unit: Seconds per unit.
        cell_bytes: Bytes on disk per cell, independent of the number of units.
        unit_bytes: Bytes on disk per unit.
    """

    once: float
    cell: float
    unit: float
    cell_bytes: float
    unit_bytes: float


@dataclass
class Rates:
    """Measured rates on this machine; what was not measured is absent.

    Attributes:
        seconds: Stage → seconds per image; ``evidence`` per unit; ``tables`` per method and condition and ``compared``
            per task, with ``tables_unit`` and ``compared_unit`` for each unit besides; ``faithfulness`` per unit and
            label; ``loading`` in total.
        perturbed: Perturbation → seconds per image.
        methods: Method → rates of its cells.
        evidence_bytes: Bytes on disk of a unit's evidence under one condition.
        unmeasured: Stage or method that could not be measured → reason.
        basis: Stage or method → on how much the rate rests.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    perturbed: dict[str, float] = field(default_factory=dict)
    methods: dict[str, MethodTime] = field(default_factory=dict)
    evidence_bytes: float = 0.0
    thumbnail_bytes: float = 0.0
    unmeasured: dict[str, str] = field(default_factory=dict)
    basis: dict[str, str] = field(default_factory=dict)
