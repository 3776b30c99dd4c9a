"""Collects from the cells what units depend on according to the methods, in one table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.core.work import Work
from leaderboard.store.frames import empty_frame
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import DEPENDENCE

_VALUES = ("foreground", "background", "context")


def dependence_rows(folder: RunFolder, works: Sequence[Work]) -> pd.DataFrame:
    """One row per unit and one per part of its label, for every finished cell whose method states their dependence.

    Returns:
        Columns of ``leaderboard.store.schema.DEPENDENCE``. Anything but a number in [0, 1] is absent.
    """
    rows = list(_rows(folder, works))
    if not rows:
        return empty_frame(DEPENDENCE)
    return pd.DataFrame(rows, columns=[column.name for column in DEPENDENCE.columns])


def _rows(folder: RunFolder, works: Sequence[Work]) -> Iterator[dict[str, Any]]:
    for key in (key for work in works for condition in work.conditions for key in work.cells(condition)):
        marker = folder.marker(key)
        units = {} if marker is None else marker.extra.get("units", {})
        place = {"task": key.task, "profile": key.profile, "method": key.method}
        place |= {"perturbation": key.condition, "severity": key.severity, "repeat": key.repeat}
        for unit, facts in units.items():
            said = facts.get("dependence")
            if not isinstance(said, Mapping):
                continue
            yield place | {"unit": int(unit), "part": ""} | {name: _share(said.get(name)) for name in _VALUES}
            listed = said.get("parts")
            listed = listed if isinstance(listed, list) else []
            parts = {str(part.get("part", "")): part for part in listed if isinstance(part, Mapping)}
            for name, part in parts.items():
                if name:
                    own = {where: _share(part.get(where)) for where in _VALUES[:2]}
                    yield place | {"unit": int(unit), "part": name, **own, "context": math.nan}


def _share(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else math.nan
