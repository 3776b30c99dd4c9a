"""GrabCut finds most of the foreground of the miniature's scenes, the same for an image wherever it stands."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from drawn_scenes import drawn

from tasks.common.errors import UserError
from tasks.common.images import resize, to_tensor
from tasks.models import grabcut
from tasks.models.grabcut import GrabCutSegmenter
from tasks.roles import Segmenter

GREY = 127


@pytest.fixture(scope="module")
def scenes() -> torch.Tensor:
    return to_tensor(np.stack([drawing.image for _, drawing in drawn()[:12]]))


@pytest.fixture(scope="module")
def masks(scenes) -> torch.Tensor:
    return GrabCutSegmenter().foreground(scenes)


def test_it_fills_the_role_of_a_segmenter(scenes, masks):
    assert isinstance(GrabCutSegmenter(), Segmenter)
    assert masks.dtype == torch.bool
    assert masks.shape == (12, 224, 224)
    assert GrabCutSegmenter().foreground(scenes[:0]).shape == (0, 224, 224)


def test_it_finds_the_foreground_of_scenes(masks):
    true = np.stack([drawing.foreground for _, drawing in drawn()[:12]])
    found = masks.numpy()
    overlap = (found & true).sum((1, 2)) / (found | true).sum((1, 2))
    whole = np.zeros_like(true)
    whole[:, 11:213, 11:213] = True
    nothing_learnt = (whole & true).sum((1, 2)) / (whole | true).sum((1, 2))
    assert overlap.mean() > 0.7
    assert overlap.mean() > nothing_learnt.mean() + 0.4


def test_a_mask_depends_on_its_image_alone(scenes, masks):
    order = [7, 2, 9, 2]
    segmenter = GrabCutSegmenter()
    assert torch.equal(segmenter.foreground(scenes[order]), masks[order])
    assert torch.equal(segmenter.foreground(scenes[5:6]), masks[5:6])
    last = scenes[:2].contiguous(memory_format=torch.channels_last)
    assert torch.equal(segmenter.foreground(last), masks[:2])


@pytest.mark.parametrize("count", [1, 3])
def test_threads_do_not_matter(scenes, masks, count):
    torchs, opencvs = torch.get_num_threads(), cv2.getNumThreads()
    try:
        torch.set_num_threads(count)
        cv2.setNumThreads(count)
        assert torch.equal(GrabCutSegmenter().foreground(scenes[:4]), masks[:4])
    finally:
        torch.set_num_threads(torchs)
        cv2.setNumThreads(opencvs)


def draws() -> np.ndarray:
    return cv2.randu(np.zeros((1, 8), np.int32), 0, 1_000_000)


def test_no_generator_of_the_caller_moves_or_matters(scenes, masks):
    cv2.setRNGSeed(5)
    expected = draws()
    cv2.setRNGSeed(5)
    torchs, numpys = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    assert torch.equal(GrabCutSegmenter().foreground(scenes[:2]), masks[:2])
    assert np.array_equal(draws(), expected)
    assert torch.equal(torch.get_rng_state(), torchs)
    assert np.array_equal(np.random.get_state()[1], numpys)  # noqa: NPY002


def test_images_without_a_foreground_have_no_mask():
    grey = torch.full((2, 3, 64, 64), GREY, dtype=torch.uint8)
    grey[1, :, :, 32:] = 20
    assert not GrabCutSegmenter().foreground(grey).any()


def test_an_image_that_is_foreground_up_to_the_border_has_no_mask():
    filled = torch.full((2, 3, 64, 64), 10, dtype=torch.uint8)
    filled[0, :, 3:61, 3:61] = 240
    filled[1, :, 5:61, 3:61] = 240
    found = GrabCutSegmenter().foreground(filled)
    assert not found[0].any()
    assert torch.equal(found[1], filled[1, 0] == 240)


@pytest.mark.parametrize("size", [(60, 100), (300, 150), (40, 100)])
def test_an_object_on_a_plain_ground_is_found_at_any_size(size):
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    disk = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 < (min(size) / 3) ** 2
    image = np.where(disk[..., None], [200, 40, 30], [30, 90, 200]).astype(np.uint8)
    found = GrabCutSegmenter().foreground(to_tensor(image[None]))[0].numpy()
    assert found.shape == size
    assert (found & disk).sum() / (found | disk).sum() > 0.85


def test_it_works_at_the_stated_size(scenes, masks, monkeypatch):
    seen = []
    cut = cv2.grabCut

    def watched(image, *rest, **options):
        seen.append((image.shape, rest[1], rest[4]))
        return cut(image, *rest, **options)

    monkeypatch.setattr(grabcut.cv2, "grabCut", watched)
    assert torch.equal(GrabCutSegmenter().foreground(scenes[:1]), masks[:1])
    GrabCutSegmenter().foreground(resize(scenes[:1], 100))
    assert seen == [((112, 112, 3), (6, 6, 100, 100), 5), ((100, 100, 3), (5, 5, 90, 90), 5)]


def test_images_below_32_px_are_refused():
    with pytest.raises(UserError, match="at least 32 px per side, not 31 × 90 px"):
        GrabCutSegmenter().foreground(torch.zeros(1, 3, 31, 90, dtype=torch.uint8))
