"""Resizing and the two layouts of images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from tasks.common.images import resize, resize_to, to_array, to_tensor


def some_images(count=3, height=90, width=90, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 9, 9), generator=generator, dtype=torch.uint8)
    return v2.functional.resize(coarse, [height, width], antialias=True)


@pytest.mark.parametrize("side", [17, 64, 90, 130])
def test_resize_agrees_with_pillow(side):
    images = some_images()
    small = resize(images, side)
    assert small.shape == (3, 3, side, side)
    assert small.dtype == torch.uint8
    for image, expected in zip(to_array(small), to_array(images), strict=True):
        pillow = np.asarray(Image.fromarray(expected).resize((side, side), Image.Resampling.BILINEAR))
        assert np.abs(image.astype(int) - pillow.astype(int)).max() <= 1


def test_resize_does_not_keep_the_aspect_ratio_and_does_not_alias():
    images = some_images(1, 60, 120)
    assert resize(images, 30).shape == (1, 3, 30, 30)
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    assert (resize(stripes, 16)[..., 1:-1].float() - 127.5).abs().max() < 3


def test_resize_to_takes_height_first():
    assert resize_to(some_images(2, 40, 60), (20, 50)).shape == (2, 3, 20, 50)


def test_an_image_of_the_right_size_comes_back_as_it_is():
    images = some_images()
    assert resize(images, 90) is images


def test_pixels_do_not_depend_on_batch_or_memory_layout():
    images = some_images(7)
    together = resize(images, 33)
    alone = torch.cat([resize(image[None], 33) for image in images])
    last = resize(images.contiguous(memory_format=torch.channels_last), 33)
    assert torch.equal(together, alone)
    assert torch.equal(together, last)


@given(st.integers(0, 3), st.integers(1, 5), st.integers(1, 5), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_layouts_go_there_and_back(count, height, width, seed):
    array = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    tensor = to_tensor(array)
    assert tensor.shape == (count, 3, height, width)
    assert np.array_equal(to_array(tensor), array)
    for channel in range(3):
        assert np.array_equal(tensor[:, channel].numpy(), array[..., channel])


def test_to_array_is_contiguous_and_to_tensor_shares_memory():
    array = np.zeros((2, 4, 5, 3), np.uint8)
    tensor = to_tensor(array)
    array[1, 2, 3, 0] = 9
    assert tensor[1, 0, 2, 3] == 9
    assert to_array(tensor).flags.c_contiguous
    assert to_tensor(array[:, ::-1]).shape == (2, 3, 4, 5)
