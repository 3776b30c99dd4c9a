"""The perturbations as their callers see them: identity, seeds, sizes, strengths, errors."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import UserError
from tasks.perturbations import PERTURBATIONS, SUITES, perturb
from tasks.perturbations.worker import perturb_numpy

NAMES = tuple(PERTURBATIONS)
RANDOM = tuple(name for name, entry in PERTURBATIONS.items() if entry.random)
GOLDEN = Path(__file__).parents[1] / "data" / "imagecorruptions_astronaut.npz"
# Not stronger at each published step: snow changes its kind, frost mixes two images, saturate turns round.
UNEVEN = {"glass_blur", "snow", "frost", "saturate"}


@pytest.fixture(scope="module")
def astronaut() -> np.ndarray:
    with np.load(GOLDEN) as golden:
        return golden["image"]


def batch(count: int, height: int = 48, width: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth colour images with a rectangle of noise on them, and its mask."""
    draws = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    images = np.empty((count, 3, height, width), np.uint8)
    masks = np.zeros((count, height, width), bool)
    for image, mask in zip(images, masks, strict=True):
        phase = draws.uniform(0, 6, (3, 1, 1))
        image[:] = 128 + 100 * np.sin(phase + rows / draws.uniform(4, 9) + columns / draws.uniform(4, 9))
        mask[height // 4 : height // 2, width // 4 : width // 2] = True
        image[:, mask] = draws.integers(0, 256, (3, mask.sum()))
    return torch.from_numpy(images), torch.from_numpy(masks)


@pytest.mark.parametrize("name", NAMES)
def test_severity_0_is_the_identity_and_a_copy(name: str) -> None:
    images, masks = batch(2)
    out = perturb(images, name, 0, [1, 2], masks)
    assert torch.equal(out, images)
    assert out.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("name", NAMES)
def test_pixels_do_not_depend_on_batch_or_order(name: str) -> None:
    images, masks = batch(3)
    before = images.clone()
    seeds = [7, 2**40 + 1, 0]
    together = perturb(images, name, 3, seeds, masks)
    assert together.dtype == torch.uint8
    assert together.shape == images.shape
    assert torch.equal(images, before)
    turned = perturb(images.flip(0), name, 3, seeds[::-1], masks.flip(0)).flip(0)
    alone = torch.cat([perturb(images[i : i + 1], name, 3, [seeds[i]], masks[i : i + 1]) for i in range(3)])
    assert torch.equal(together, turned)
    assert torch.equal(together, alone)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_matters_exactly_where_the_registry_says(name: str) -> None:
    images, masks = batch(1)
    # Several seeds: two of them may well draw the same of six textures, but not all the same piece of it.
    results = [perturb(images, name, 3, [seed], masks) for seed in (1, 2, 3)]
    assert all(torch.equal(results[0], other) for other in results[1:]) != PERTURBATIONS[name].random


@pytest.mark.parametrize("name", NAMES)
def test_global_generators_are_neither_read_nor_changed(name: str) -> None:
    images, masks = batch(1)
    results = []
    for start in (0, 1):
        np.random.seed(start)  # noqa: NPY002 the global generator is the subject
        random.seed(start)
        torch.manual_seed(start)
        before = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()  # noqa: NPY002
        results.append(perturb(images, name, 4, [5], masks))
        after = np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist()  # noqa: NPY002
        assert before == after
    assert torch.equal(*results)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 70)], ids=str)
@pytest.mark.filterwarnings("error")
def test_any_size_from_32_on(name: str, size: tuple[int, int]) -> None:
    images, masks = batch(1, *size)
    for severity in (1, 5):
        out = perturb(images, name, severity, [3], masks)
        assert out.shape == images.shape
        assert not torch.equal(out, images)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(NAMES),
    severity=st.integers(1, 5),
    height=st.integers(32, 70),
    width=st.integers(32, 70),
    seed=st.integers(0, 2**70),
    grey=st.sampled_from([0, 128, 255]),
)
@pytest.mark.filterwarnings("error")
def test_flat_images_of_any_size_give_images(
    name: str, severity: int, height: int, width: int, seed: int, grey: int
) -> None:
    image = np.full((height, width, 3), grey, np.uint8)
    out = perturb_numpy(image, name, severity, seed, np.zeros((height, width), bool))
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    if PERTURBATIONS[name].family in ("blur", "selective_blur"):
        assert np.abs(out.astype(int) - grey).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_distance_to_the_clean_image_grows_with_severity(name: str, astronaut: np.ndarray) -> None:
    image = astronaut[::2, ::2]
    mask = np.zeros(image.shape[:2], bool)
    mask[20:90, 30:80] = True
    severities = (1, 5) if name in UNEVEN else (1, 2, 3, 4, 5)
    distances = [
        np.mean([np.abs(perturb_numpy(image, name, s, seed, mask).astype(int) - image).mean() for seed in range(3)])
        for s in severities
    ]
    assert distances[0] > 0.5
    assert (np.diff(distances) > 0).all(), distances


def test_suites_hold_the_published_lists() -> None:
    assert set(SUITES) == {"gaussian_blur", "foreground_blur", "background_blur", "imagenet_c", "imagenet_c_extra"}
    assert " ".join(SUITES["imagenet_c"]) == (
        "gaussian_noise shot_noise impulse_noise defocus_blur glass_blur motion_blur zoom_blur snow frost fog "
        "brightness contrast elastic_transform pixelate jpeg_compression"
    )
    assert set(SUITES["imagenet_c_extra"]) == {"speckle_noise", "gaussian_blur", "spatter", "saturate"}
    assert {name for suite in SUITES.values() for name in suite} == set(PERTURBATIONS)
    assert all(len(entry.parameters) == 5 and entry.name == name for name, entry in PERTURBATIONS.items())
    assert PERTURBATIONS["gaussian_blur"].parameters == (1, 2, 3, 4, 6)


IMAGES, MASKS = batch(2)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: perturb(IMAGES, "gausian_blur", 1, [0, 1]), "Unknown perturbation 'gausian_blur'. Did you mean gauss"),
        (lambda: perturb(IMAGES, "fog", 6, [0, 1]), "Severity 6 of fog does not exist"),
        (lambda: perturb(IMAGES, "fog", -1, [0, 1]), "Severity -1 of fog does not exist"),
        (lambda: perturb(IMAGES, "fog", True, [0, 1]), "Severity True of fog does not exist"),
        (lambda: perturb(IMAGES[..., :31], "fog", 1, [0, 1]), "48 x 31 px is too small"),
        (lambda: perturb(IMAGES.float(), "fog", 1, [0, 1]), "must be uint8"),
        (lambda: perturb(IMAGES[0], "fog", 1, [0, 1]), r"must have the shape \[n, 3, h, w\]"),
        (lambda: perturb(IMAGES[:, :1], "fog", 1, [0, 1]), r"must have the shape \[n, 3, h, w\]"),
        (lambda: perturb(IMAGES, "fog", 1, [0]), "1 seeds were given for 2 images"),
        (lambda: perturb(IMAGES, "fog", 1, [0, -1]), "Seed -1 is negative"),
        (lambda: perturb(IMAGES, "fog", 1, [0, 0.5]), "Seed 0.5 is not a whole number"),
        (lambda: perturb(IMAGES, "foreground_blur", 1, [0, 1]), "foreground_blur needs a foreground mask"),
        (lambda: perturb(IMAGES, "background_blur", 1, [0, 1], MASKS.int()), "must be boolean"),
        (lambda: perturb(IMAGES, "background_blur", 1, [0, 1], MASKS[:1]), r"has the shape \[1, 48, 40\]"),
    ],
)
def test_mistakes_get_one_clear_sentence(call, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


def test_no_images_give_no_images() -> None:
    assert perturb(IMAGES[:0], "snow", 3, []).shape == (0, 3, 48, 40)


def test_the_registry_and_the_workers_import_no_torch() -> None:
    code = (
        "import sys, tasks.perturbations, tasks.perturbations.registry\n"
        "assert not {'torch', 'cv2', 'skimage', 'imagecorruptions'} & set(sys.modules)\n"
        "import tasks.perturbations.worker, numpy as np\n"
        "tasks.perturbations.worker.perturb_numpy(np.zeros((32, 32, 3), np.uint8), 'fog', 1, 0)\n"
        "assert not {'torch', 'imagecorruptions', 'pkg_resources'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error::DeprecationWarning:tasks", "-c", code], check=True, timeout=120)
