"""Rendered training data: rendered once per machine, stored as memory-mapped arrays outside the repository."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional

from tasks.miniature.render import Rendering, render
from tasks.miniature.scene import Scene, scene_at
from tasks.miniature.vocabulary import CONCEPTS, GRID, SIDE, SIZE, WORLD

KEPT = 56
"""Side of the stored annotation, a divisor of the rendered side; ``GRID`` positions are taken from it."""
CHUNK = 100
RECIPE = 2
"""Raised whenever the same scene would give different arrays, so that old files are not reused."""

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels of the drawn scene."""

FRAME: Box = (0, 0, SIZE, SIZE)


@dataclass(frozen=True)
class RenderedScenes:
    """Scenes 0 … n − 1 of a split.

    Attributes:
        images: uint8 [n, 224, 224, 3], RGB, as drawn, so that crops of them are sharp.
        concepts: bool [n, concepts], the order of ``CONCEPTS``.
        layers: uint8 [n, 4, 56, 56]: kind, part, colour, pattern numbers, 0 = none.
        foreground: uint8 [n, 224, 28]: the masks, eight pixels per byte.
    """

    images: np.ndarray
    concepts: np.ndarray
    layers: np.ndarray
    foreground: np.ndarray
    scenes: list[Scene]


def rendered_scenes(split: str, count: int, cache: Path, workers: int | None = None) -> RenderedScenes:
    """Render scenes 0 … count − 1 of a split, or read stored ones."""
    folder = cache / f"{split}-{count}-w{WORLD}r{RECIPE}"
    names = ("images", "concepts", "layers", "foreground")
    if not (folder / "done").exists():
        _write(folder, split, count, workers or os.cpu_count() or 1)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    return RenderedScenes(**arrays, scenes=[scene_at(split, number) for number in range(count)])


def crop(image: UInt8[np.ndarray, "224 224 3"], box: Box, side: int = SIDE) -> UInt8[Tensor, "3 side side"]:
    """Part of a rendered image at the networks' input size; the whole frame gives their input at run time."""
    left, top, width, height = box
    pixels = torch.from_numpy(np.array(image[top : top + height, left : left + width])).permute(2, 0, 1)
    return functional.resize(pixels, [side, side], antialias=True)


def grid_of(layers: UInt8[np.ndarray, "4 kept kept"], box: Box = FRAME) -> UInt8[np.ndarray, "4 cells cells"]:
    """The annotation at the cell centres of a part of the frame."""
    left, top, width, height = box
    share = (np.arange(GRID) + 0.5) / GRID
    columns, rows = ((start + share * length) * KEPT / SIZE for start, length in ((left, width), (top, height)))
    return layers[:, rows.astype(int)[:, None], columns.astype(int)]


def mask_of(foreground: UInt8[np.ndarray, "224 28"], box: Box = FRAME, side: int = SIDE) -> Bool[Tensor, "side side"]:
    """The mask of a part of the frame: True where the foreground covers at least half of a pixel."""
    left, top, width, height = box
    mask = np.unpackbits(foreground, axis=1)[top : top + height, left : left + width]
    return torch.from_numpy(cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA) >= 0.5)


def kept_layers(drawn: Rendering) -> UInt8[np.ndarray, "4 kept kept"]:
    """The annotation at 56 × 56 positions."""
    step = SIZE // KEPT
    layers = np.stack([drawn.kind, drawn.part, drawn.colour, drawn.pattern])
    return layers[:, step // 2 :: step, step // 2 :: step]


def batches(count: int, size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Index batches, reshuffled every epoch, without end; the last short batch of an epoch is dropped."""
    while True:
        order = generator.permutation(count)
        for start in range(0, count - size + 1, size):
            yield np.sort(order[start : start + size])


def _write(folder: Path, split: str, count: int, workers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {
        "images": ((count, SIZE, SIZE, 3), np.uint8),
        "concepts": ((count, len(CONCEPTS)), np.bool_),
        "layers": ((count, 4, KEPT, KEPT), np.uint8),
        "foreground": ((count, SIZE, SIZE // 8), np.uint8),
    }
    arrays = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
        for name, (shape, dtype) in shapes.items()
    }
    chunks = [(split, start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for (_, start, stop), parts in zip(chunks, pool.map(_render_chunk, chunks), strict=True):
            for name, part in parts.items():
                arrays[name][start:stop] = part
    for array in arrays.values():
        array.flush()
    (folder / "done").touch()


def _render_chunk(chunk: tuple[str, int, int]) -> dict[str, np.ndarray]:
    cv2.setNumThreads(1)
    split, start, stop = chunk
    scenes = [scene_at(split, number) for number in range(start, stop)]
    drawn = [render(scene) for scene in scenes]
    return {
        "images": np.stack([item.image for item in drawn]),
        "concepts": np.array([[name in scene.concepts for name in CONCEPTS] for scene in scenes]),
        "layers": np.stack([kept_layers(item) for item in drawn]),
        "foreground": np.packbits(np.stack([item.foreground for item in drawn]), axis=2),
    }
