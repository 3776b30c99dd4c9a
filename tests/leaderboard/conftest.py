from __future__ import annotations

import pandas as pd
import pytest
from small_runs import few_resamples as few_resamples

from leaderboard.store.run_folder import CellKey


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
