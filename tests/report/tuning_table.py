"""A small table of the analysis of tuning, for the tests of what is made of it."""

from __future__ import annotations

import numpy as np
import pandas as pd

SHARES = ("0", "0.5", "1")
ARMS = ("untuned", "both", "clean images", "corruptions")


def tuning(
    task: str = "toy", *, networks: bool = True, methods: tuple[str, ...] = ("clip_dissect", "dnd")
) -> pd.DataFrame:
    """Values count up by arm; held out is 0.1 below clean; of ``dnd`` all is 0.2 higher."""
    rows = []
    for study, arms in (("probing set", SHARES), ("network", ARMS if networks else ())):
        for place, arm in enumerate(arms):
            for method in methods:
                base = 0.3 + place / 10 + 0.2 * (method == "dnd")
                rows.append((study, arm, method, "accuracy", "clean", base, 8))
                for measure in ("accuracy", "stability"):
                    rows += [(study, arm, method, measure, name, base - 0.1, 8) for name in ("fog 3", "held out")]
            if study == "network":
                for group in ("clean", "tuned on", "held out", "fog 3", "brightness 3"):
                    rows.append((study, arm, "network", "auroc", group, 0.9, 46))
                    rows.append((study, arm, "network", "error", group, 0.1, 30))
                    ratio = 1 - place / 10 - 0.05 * (group == "tuned on")
                    rows.append((study, arm, "network", "error_ratio", group, ratio, 30))
    frame = pd.DataFrame(rows, columns=["study", "arm", "subject", "measure", "conditions", "value", "n"])
    frame = frame.assign(task=task, profile="miniature", low=frame["value"] - 0.05, high=frame["value"] + 0.05)
    frame = frame.assign(difference=np.nan, difference_low=np.nan, difference_high=np.nan, p_value=np.nan)
    moved = (frame["measure"] == "stability") & (frame["arm"] == "1") & (frame["conditions"] == "held out")
    frame["p_corrected"] = np.where(moved, 0.01, np.nan)
    return frame
