from __future__ import annotations

import gc

import pandas as pd
import pytest

from leaderboard.board import intervals
from leaderboard.store.run_folder import CellKey


@pytest.fixture(scope="module")
def few_resamples():
    """For tests of what does not depend on how often intervals and tests resample."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", 199)
        # statsmodels collects garbage at each correction, which takes half a second once torch is loaded.
        patch.setattr(gc, "collect", lambda *_: 0)
        yield


@pytest.fixture
def identity() -> dict:
    return {"seed": 0, "images": 500, "tasks": ["resnet50_layer4"], "method_options": {"dnd": {"k": 10}}}


@pytest.fixture
def key() -> CellKey:
    return CellKey("resnet50_layer4", "miniature", "dnd", "fog", 3, 0)


@pytest.fixture
def labels() -> pd.DataFrame:
    return pd.DataFrame(
        {"unit": [3, 3, 1], "rank": [1, 2, 1], "label": ["red fish", "fish", "cup"], "score": [0.9, 0.5, float("nan")]}
    )
