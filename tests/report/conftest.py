from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from small_runs import few_resamples as few_resamples

from leaderboard.store.schema import SUMMARY


@pytest.fixture(scope="module", autouse=True)
def quick(few_resamples: None) -> None:
    pass


@pytest.fixture
def summary_row() -> Callable[..., dict]:
    """A row of the summary with chosen values; everything optional that is not given is absent."""

    def row(method: str, perturbation: str, stability: float | None, **values) -> dict:
        base = {column.name: None for column in SUMMARY.columns}
        base |= {"task": "resnet50_layer4", "profile": "miniature", "severity": "3"}
        base |= {"units": 24, "dead": 2, "missing": 1, "distinct": 20, "known": 15, "noise_floor": 0.97, "chance": 0.61}
        return {**base, "method": method, "perturbation": perturbation, "stability": stability, **values}

    return row


@pytest.fixture
def summary(summary_row) -> pd.DataFrame:
    rows = []
    for method, shift in (("random_label", -0.8), ("dnd", 0.0), ("clip_dissect", 0.1)):
        for number, name in enumerate(("snow", "gaussian_noise", "background_blur", "gaussian_blur")):
            value = 0.5 + shift + number / 10
            rows.append(
                summary_row(method, name, value, stability_low=value - 0.1, stability_high=value + 0.05, p_adjusted=0.2)
            )
        rows.append(summary_row(method, "all", 0.6 + shift, stability_low=0.4, stability_high=0.7))
    return pd.DataFrame(rows)
