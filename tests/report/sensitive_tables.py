"""Small tables of the analysis of sensitive units, for the tests of what is made of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from leaderboard.store.schema import LABELS

CONDITIONS = (
    ("gaussian_blur", 3, "blur"),
    ("motion_blur", 3, "blur"),
    ("fog", 3, "weather"),
    ("foreground_blur", 3, "mask"),
)
AUROC = {
    0: (0.95, 0.85, 0.60, 0.80),  # a specific detector of blur
    1: (0.03, 0.20, 0.05, 0.40),  # falls under anything
    2: (0.55, 0.50, 0.97, 0.50),  # fog
    3: (0.92, 0.50, 0.80, 0.50),  # blur, with a leaning to fog
    4: (0.50, 0.50, 0.50, 0.50),
    5: (np.nan, np.nan, np.nan, np.nan),  # dead
}


def units(task: str = "toy", conditions: tuple = CONDITIONS, p: float = 1e-9) -> pd.DataFrame:
    rows = [
        {"perturbation": name, "severity": severity, "family": family, "unit": unit, "auroc": values[place % 4]}
        for unit, values in AUROC.items()
        for place, (name, severity, family) in enumerate(conditions)
    ]
    frame = pd.DataFrame(rows).assign(task=task, profile="miniature", images=20)
    frame["paired_auroc"] = frame["auroc"]
    frame["effect"] = 4 * (frame["auroc"] - 0.5)
    frame["p_value"] = frame["p_corrected"] = np.where(
        frame["auroc"].isna(), np.nan, np.where(frame["auroc"] == 0.5, 1, p)
    )
    return frame


def detectors(task: str = "toy") -> pd.DataFrame:
    rows = []
    for name, family in (("all but blur", "blur"), ("all but weather", "weather"), ("all", "blur"), ("all", "weather")):
        for selection in ("best", "random"):
            for count in (1, 4, 16, 64, 256):
                value = (
                    0.5
                    + count / 1000
                    + 0.1 * (family == "blur")
                    - 0.05 * (selection == "random")
                    + 0.1 * (name == "all")
                )
                own = [(p, s) for p, s, f in CONDITIONS if f == family]
                for place, (perturbation, severity) in enumerate([*own, ("all", 0)]):
                    rows.append((name, selection, count, family, perturbation, severity, value + place / 100))
    for trained, family, value in (
        ("gaussian_blur 3", "blur", 0.9),
        ("gaussian_blur 3", "weather", 0.6),
        ("fog 3", "blur", 0.55),
    ):
        rows.append((trained, "best", 64, family, "all", 0, value))
    columns = ["trained_on", "selection", "count", "family", "perturbation", "severity", "auroc"]
    frame = pd.DataFrame(rows, columns=columns).assign(task=task, profile="miniature", images=20)
    return frame.assign(low=frame["auroc"] - 0.02, high=frame["auroc"] + 0.02)


def labels(*texts: str, **by_method: str) -> pd.DataFrame:
    """Clean labels: one a unit by one method, or one a method of unit 0."""
    rows = [{"method": "dnd", "label": text, "unit": unit} for unit, text in enumerate(texts)]
    rows += [{"method": method, "label": text, "unit": 0} for method, text in by_method.items()]
    place = {"task": "toy", "profile": "miniature", "perturbation": "clean", "severity": 0, "repeat": 0}
    frame = pd.DataFrame(rows, dtype=object).assign(**place, rank=1, score=1.0)
    return frame[[column.name for column in LABELS.columns]]
