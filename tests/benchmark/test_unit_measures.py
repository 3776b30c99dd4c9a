"""What top images say of units: the measures of the formulas, whichever units are asked for and however images lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines.evidence import order_among_ties, top_images
from benchmark.core.unit_measures import MEASURES, TOP_IMAGES, unit_measures
from metrics.clarity import clarity, monosemanticity, polysemanticity, redundancy
from tasks.observation import Observation

DEAD, SPARSE, LONELY, FLAT_TOP = 3, 5, 8, 11


@pytest.fixture(scope="module")
def seen() -> Observation:
    random = torch.Generator().manual_seed(0)
    activations = torch.randn((90, 300), generator=random)
    activations[:, DEAD] = 0.5
    activations[:, [SPARSE, LONELY]] = 0.0
    activations[4:11, SPARSE] = torch.arange(1.0, 8.0)
    activations[7, LONELY] = 1.0
    activations[:, FLAT_TOP] = activations[:, FLAT_TOP].clamp(max=-0.2)
    embeddings = torch.nn.functional.normalize(torch.randn((90, 16), generator=random), dim=1)
    ids = tuple(f"{number:02}" for number in range(90))
    # No images: nothing but activations and embeddings is read.
    return Observation("layer4", "spatial", "fog", 3, 0, ids, activations, None, embeddings, images=None)  # pyright: ignore[reportArgumentType]


def test_they_are_the_formulas_on_the_top_images(seen):
    found = unit_measures(seen, range(300), 7)
    assert list(found) == list(MEASURES)
    ties, vectors = order_among_ties(seen.activations), seen.clip_embeddings.double().numpy()
    top = [top_images(seen.activations[:, unit], TOP_IMAGES, among_ties=ties) for unit in range(300)]
    assert [len(top[unit]) for unit in (0, SPARSE, LONELY, FLAT_TOP)] == [TOP_IMAGES, 7, 1, TOP_IMAGES]
    for unit in (0, SPARSE, FLAT_TOP, 299):
        own = vectors[top[unit]][None]
        assert found["clarity"][unit] == pytest.approx(clarity(own)[0])
        assert found["polysemanticity"][unit] == polysemanticity(own, seed=7)[0]
    means = np.array([vectors[images].mean(axis=0) for images in top])
    means[DEAD] = np.nan
    np.testing.assert_allclose(found["redundancy"], redundancy(means))
    without_ties = np.arange(300) != FLAT_TOP
    expected = monosemanticity(seen.activations, vectors)
    np.testing.assert_allclose(found["monosemanticity"][without_ties], expected[without_ties])


def test_dead_units_have_none_and_one_image_has_no_pairs(seen):
    found = unit_measures(seen, (0, DEAD, LONELY), 0)
    missing = {name: np.isnan(values).tolist() for name, values in found.items()}
    assert missing["clarity"] == missing["polysemanticity"] == missing["monosemanticity"] == [False, True, True]
    assert missing["redundancy"] == [False, True, False]


def test_no_value_depends_on_the_units_asked_for_or_on_the_order_of_images(seen):
    every = unit_measures(seen, range(300), 0)
    some = unit_measures(seen, (299, FLAT_TOP, SPARSE), 0)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    shuffled = replace(seen, activations=seen.activations[order], clip_embeddings=seen.clip_embeddings[order])
    moved = unit_measures(shuffled, range(300), 0)
    for name in MEASURES:
        np.testing.assert_array_equal(some[name], every[name][[299, FLAT_TOP, SPARSE]])
        np.testing.assert_allclose(moved[name], every[name], atol=1e-9)


def test_few_images_are_all_top_images():
    activations = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 1.0]])
    embeddings = torch.eye(3)
    few = Observation("fc", "vector", "clean", 0, 0, ("a", "b", "c"), activations, None, embeddings, images=None)  # pyright: ignore[reportArgumentType]
    found = unit_measures(few, (0, 1), 0)
    assert found["clarity"].tolist() == [0.0, 0.0]
    assert found["redundancy"].tolist() == pytest.approx([1.0, 1.0])
