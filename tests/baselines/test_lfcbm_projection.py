"""The projection on concepts: its loss is cos-cubed, its training the published one, and the same every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.clip_dissect.scores import similarity
from benchmark.studies.bottleneck.lfcbm.projection import cos_cubed, fit_projection


def by_hand(first: np.ndarray, second: np.ndarray) -> list[float]:
    found = []
    for a, b in zip(first.T, second.T, strict=True):
        a, b = (a - a.mean()) ** 3, (b - b.mean()) ** 3
        found.append(float(a @ b / np.sqrt((a @ a) * (b @ b))))
    return found


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Features, and targets that are linear in some of them."""
    draws = np.random.default_rng(0)
    features = draws.normal(size=(300, 12)).astype(np.float32)
    targets = features[:, :4] @ draws.normal(size=(4, 5)) * 0.05 + 0.3 + draws.normal(size=(300, 5)) * 0.005
    return features, targets.astype(np.float32)


def fitted(data, **options):
    features, targets = data
    return fit_projection(features[:240], targets[:240], features[240:], targets[240:], **{"seed": 3, **options})


def test_cos_cubed_is_the_formula_and_that_of_clip_dissect():
    draws = np.random.default_rng(1)
    first, second = draws.normal(size=(2, 50, 6))
    found = cos_cubed(torch.tensor(first), torch.tensor(second))
    assert found.numpy() == pytest.approx(by_hand(first, second))
    pairs = similarity("cos_cubed", torch.tensor(second / 10), torch.tensor(first))
    assert found.numpy() == pytest.approx(pairs.diagonal().numpy())


def test_cos_cubed_has_no_scale_and_no_nan():
    draws = np.random.default_rng(2)
    first, second = (torch.tensor(part, dtype=torch.float32) for part in draws.normal(size=(2, 50, 3)))
    torch.testing.assert_close(cos_cubed(first * 1e-6 + 0.5e-6, second * 1e4), cos_cubed(first, second))
    assert cos_cubed(torch.ones(5, 1), torch.arange(5.0)[:, None]).tolist() == [0.0]


def test_it_learns_and_says_how_well(data):
    found = fitted(data)
    features, targets = data
    assert found.similarity == pytest.approx(by_hand(found(features[240:]), targets[240:]), abs=1e-4)
    assert found.similarity.min() > 0.9
    assert found.checks[0][0] == 0
    assert found.checks[0][1] < 0.5


def test_the_first_check_that_does_not_improve_ends_it_and_the_best_weights_stay(data):
    found = fitted(data, learning_rate=0.3, check_every=5)
    steps, values = zip(*found.checks, strict=True)
    assert len(steps) < 201
    assert values[-1] <= values[-2]
    assert all(np.diff(values[:-1]) > 0)
    assert float(found.similarity.mean()) == pytest.approx(max(values), abs=1e-6)


def test_checks_are_every_fifty_steps_and_after_the_last(data):
    found = fitted(data, steps=120, learning_rate=1e-4)
    assert [step for step, _ in found.checks] == [0, 50, 100, 120]


def test_the_same_seed_gives_the_same_bytes_whatever_else_is_drawn(data):
    first = fitted(data, steps=20)
    torch.manual_seed(99)
    torch.rand(3)
    with torch.no_grad():
        again = fitted(data, steps=20)
    assert first.weights.tobytes() == again.weights.tobytes()
    assert first.weights.tobytes() != fitted(data, steps=20, seed=4).weights.tobytes()


def test_a_step_of_fewer_images_is_drawn_by_the_seed(data):
    first, again = (fitted(data, steps=20, batch=60) for _ in range(2))
    assert first.weights.tobytes() == again.weights.tobytes()
    assert first.weights.tobytes() != fitted(data, steps=20).weights.tobytes()


@pytest.mark.parametrize(
    ("cut", "words"),
    [((0, 1, 0, 0), "do not match"), ((0, 0, 5, 0), "do not match"), ((239, 239, 0, 0), "two training")],
)
def test_what_does_not_fit_is_refused(data, cut, words):
    features, targets = data
    parts = [features[:240], targets[:240], features[240:], targets[240:]]
    with pytest.raises(ValueError, match=words):
        fit_projection(*(part[count:] for part, count in zip(parts, cut, strict=True)), seed=0)
