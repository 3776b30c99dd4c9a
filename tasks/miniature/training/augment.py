"""Augmented views of the rendered scenes for training: crop, mirror image, colour jitter. Shared by all roles.

These are the augmentations of published ImageNet recipes (random resized crops, mirror images, colour jitter: Szegedy
et al., CVPR 2015; Howard, arXiv:1312.5402), and none of the benchmark's perturbations: no blur, noise, weather or
compression. The hue is unchanged, because a red thing must stay red.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision.transforms import v2

from tasks.miniature.scene import Scene
from tasks.miniature.training.data import Box, RenderedScenes, crop, grid_of, mask_of
from tasks.miniature.vocabulary import SIDE, SIZE

AREA: Final = 0.5
"""Minimum share of the frame that a crop keeps."""
BRIGHTNESS: Final = 0.1
"""Factors are drawn from 1 ± this, as ``torchvision.transforms.v2.ColorJitter`` does."""
CONTRAST: Final = 0.62
"""Likewise; AutoAugment (Cubuk et al., CVPR 2019) goes from 0.1 to 1.9."""
SATURATION: Final = 0.4
RAMP: Final = 0.3
"""Share of a schedule over which the jitter grows to its full amplitude: a curriculum."""
TRIES: Final = 10


@dataclass(frozen=True)
class Views:
    """A batch of views.

    Attributes:
        images: RGB, in [0, 1].
        grid: Kind, part, colour and pattern numbers at the cell centres, 0 = none.
        mirrored: Which views are mirror images, with left and right exchanged.
    """

    images: Float[Tensor, "n 3 side side"]
    grid: Int[Tensor, "n 4 cells cells"]
    boxes: Sequence[Box]
    mirrored: Bool[np.ndarray, " n"]


def draw_views(
    data: RenderedScenes,
    rows: Sequence[int] | np.ndarray,
    generator: np.random.Generator,
    progress: float,
    side: int = SIDE,
) -> Views:
    """Draw one view of each scene; it shows every object whole, so that concepts and captions stay true.

    Args:
        rows: Indices of the scenes.
        generator: Draws crops, mirror images and contrast; brightness and saturation come from torch's generator.
        progress: Finished share of the schedule, in [0, 1]; above 1 in a second one.
        side: Side of the views in pixels.
    """
    strength = min(1.0, progress / RAMP)
    jitter = v2.ColorJitter(brightness=BRIGHTNESS * strength, saturation=SATURATION * strength)
    factors = torch.from_numpy(generator.uniform(1 - CONTRAST * strength, 1 + CONTRAST * strength, len(rows))).float()
    mirrored = generator.random(len(rows)) < 0.5
    boxes = [draw_crop(data.scenes[row], generator) for row in rows]
    images, grids = [], []
    for row, box, flip in zip(rows, boxes, mirrored, strict=True):
        image, grid = jitter(crop(data.images[row], box, side)), grid_of(data.layers[row], box)
        images.append(image.flip(2) if flip else image)
        grids.append(grid[..., ::-1] if flip else grid)
    stretched = stretch_contrast(torch.stack(images).float() / 255, factors)
    grid = torch.from_numpy(np.stack(grids)).long()
    return Views(stretched, grid, boxes, mirrored)


def masks_of(data: RenderedScenes, rows: Sequence[int] | np.ndarray, views: Views) -> Bool[Tensor, "n side side"]:
    """The foreground of views: True where an object covers at least half of a pixel."""
    side = views.images.shape[-1]
    masks = [mask_of(data.foreground[row], box, side) for row, box in zip(rows, views.boxes, strict=True)]
    return torch.stack([mask.flip(1) if flip else mask for mask, flip in zip(masks, views.mirrored, strict=True)])


def stretch_contrast(images: Float[Tensor, "n 3 h w"], factors: Float[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    """Stretch each channel about its own mean, as TensorFlow's ``adjust_contrast`` does, and clip to [0, 1]."""
    mean = images.mean((2, 3), keepdim=True)
    return (mean + (images - mean) * factors[:, None, None, None]).clamp(0, 1)


def draw_crop(scene: Scene, generator: np.random.Generator) -> Box:
    """Draw a crop of random area, 3 : 4 to 4 : 3, that contains all objects; the whole frame if none is found."""
    reach = np.array([thing.radius for thing in scene.things])[:, None]
    centres = np.array([(thing.x, thing.y) for thing in scene.things])
    first, last = np.floor((centres - reach).min(0)), np.ceil((centres + reach).max(0))
    for _ in range(TRIES):
        share, ratio = generator.uniform(AREA, 1), (4 / 3) ** generator.uniform(-1, 1)
        size = np.minimum(np.round(SIZE * np.sqrt([share * ratio, share / ratio])), SIZE)
        low, high = np.maximum(last - size, 0), np.minimum(first, SIZE - size)
        if (low <= high).all():
            left, top = generator.integers(low, high, endpoint=True)
            return int(left), int(top), int(size[0]), int(size[1])
    return 0, 0, SIZE, SIZE
