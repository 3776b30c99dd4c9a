"""Scores of a made-up bottleneck whose features are its concepts: five places, one of them there, and four others."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.studies.bottleneck.lfcbm.projection import Projection
from benchmark.studies.bottleneck.lfcbm.sparse import fit_sparse, standard
from benchmark.studies.bottleneck.model import SPARSE, Trained
from benchmark.studies.bottleneck.separation import ANOMALY, DIFFERENCE, separation_rows
from tasks.observe import Condition

ELSEWHERE = Condition("unseen_background", 0)
CONTEXT = np.arange(9) < 5


@pytest.fixture(scope="module")
def rows() -> dict[tuple[str, ...], float]:
    draws = np.random.default_rng(0)

    def scenes(count: int) -> np.ndarray:
        place = np.eye(5)[draws.integers(5, size=count)]
        return np.concatenate([place, draws.normal(0, 0.3, (count, 4))], axis=1) + draws.normal(0, 0.02, (count, 9))

    training, validation, clean = scenes(800), scenes(80), scenes(60)
    classes = (training[:, 5] > 0).astype(int)
    of = standard(training)
    model = Trained(
        labels=("no", "yes"),
        concepts=tuple("abcdefghi"),
        steps=(),
        projection=Projection(np.eye(9, dtype=np.float32), np.ones(9), ()),
        of_concepts=of,
        of_features=of,
        heads={SPARSE: fit_sparse(of(training), classes, penalty=0.01)},
        violations={},
        training=training,
        validation=validation,
        known=(400, 400),
    )
    elsewhere = clean.copy()
    elsewhere[:, :5] = 0.2
    strange = scenes(30)
    strange[:, 6:] += 2.0
    found = separation_rows(model, CONTEXT, clean, {ELSEWHERE: (elsewhere, np.arange(60))}, strange)
    return {tuple(row[key] for key in ("negatives", "positives", "inputs", "score")): row["auroc"] for row in found}


def test_an_unseen_place_is_unusual_in_the_context_alone(rows):
    assert rows["clean", "unseen_background", "context", "nearest"] == 1.0
    assert rows["clean", "unseen_background", "other", "nearest"] == pytest.approx(0.5)


def test_an_anomaly_is_unusual_in_the_others_alone(rows):
    assert rows["clean", ANOMALY, "other", "nearest"] == 1.0
    assert 0.3 < rows["clean", ANOMALY, "context", "nearest"] < 0.7


def test_the_difference_tells_them_apart_and_stands_where_they_are_compared(rows):
    assert rows[ANOMALY, "unseen_background", DIFFERENCE, "nearest"] == 1.0
    assert {key[2] for key in rows if key[0] == ANOMALY} == {DIFFERENCE}
    assert not [key for key in rows if key[0] == "clean" and key[2] == DIFFERENCE]
