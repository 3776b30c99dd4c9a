"""Rendered training data: drawn once per machine, kept as memory-mapped arrays outside the repository."""

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

from tasks.images import resize, to_array, to_tensor
from tasks.miniature.render import render
from tasks.miniature.scene import Scene, scene_at
from tasks.miniature.vocabulary import CONCEPTS

SIDE = 64
GRID = 16
CHUNK = 500
RECIPE = 1
"""Raised whenever the same scene would give other arrays, so that old files are not taken for new ones."""


@dataclass(frozen=True)
class RenderedScenes:
    """Scenes 0 … n − 1 of a split.

    Attributes:
        images: uint8 [n, 64, 64, 3], RGB, resized from 224 px as at run time.
        concepts: bool [n, concepts], the order of ``CONCEPTS``.
        grid: uint8 [n, 4, 16, 16]: kind, part, colour, pattern numbers at the cell centres, 0 = none.
        foreground: bool [n, 64, 64].
        scenes: The scene graphs.
    """

    images: np.ndarray
    concepts: np.ndarray
    grid: np.ndarray
    foreground: np.ndarray
    scenes: list[Scene]


def rendered_scenes(split: str, count: int, cache: Path, workers: int | None = None) -> RenderedScenes:
    """Render scenes 0 … count − 1 of a split, or read them back."""
    folder = cache / f"{split}-{count}-r{RECIPE}"
    names = ("images", "concepts", "grid", "foreground")
    if not (folder / "done").exists():
        _write(folder, split, count, workers or os.cpu_count() or 1)
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
    return RenderedScenes(**arrays, scenes=[scene_at(split, number) for number in range(count)])


def batches(count: int, size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Index batches, reshuffled every epoch, for ever; the last short batch of an epoch is dropped."""
    while True:
        order = generator.permutation(count)
        for start in range(0, count - size + 1, size):
            yield np.sort(order[start : start + size])


def _write(folder: Path, split: str, count: int, workers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {
        "images": ((count, SIDE, SIDE, 3), np.uint8),
        "concepts": ((count, len(CONCEPTS)), np.bool_),
        "grid": ((count, 4, GRID, GRID), np.uint8),
        "foreground": ((count, SIDE, SIDE), np.bool_),
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
    torch.set_num_threads(1)
    split, start, stop = chunk
    images, concepts, grids, foregrounds = [], [], [], []
    centres = (np.arange(GRID) * 2 + 1) * 224 // (2 * GRID)
    for number in range(start, stop):
        scene = scene_at(split, number)
        drawn = render(scene)
        images.append(drawn.image)
        concepts.append([name in scene.concepts for name in CONCEPTS])
        maps = (drawn.kind, drawn.part, drawn.colour, drawn.pattern)
        grids.append(np.stack([layer[np.ix_(centres, centres)] for layer in maps]))
        covered = cv2.resize(drawn.foreground.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        foregrounds.append(covered >= 0.5)
    return {
        "images": to_array(resize(to_tensor(np.stack(images)), SIDE)),
        "concepts": np.array(concepts),
        "grid": np.stack(grids),
        "foreground": np.stack(foregrounds),
    }
