"""Contact sheets of the scenes: as they are drawn, and at the networks' size under perturbations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.common.images import to_array, to_tensor
from tasks.miniature.captions import full_caption
from tasks.miniature.render import render
from tasks.miniature.scene import scene_at
from tasks.miniature.vocabulary import SIDE
from tasks.perturbations import perturb
from tasks.perturbations.suites import load_suite, perturbations_of
from tasks.view import View

TASK: Final = "resnet50_layer4"
"""The task whose perturbations are shown: the main job's."""
STRIP: Final = 20

Picture = UInt8[np.ndarray, "h w 3"]


def write_gallery(path: Path, split: str = "test", rows: int = 4, columns: int = 6, first: int = 0) -> None:
    """Write a PNG of rows × columns scenes with their captions.

    Raises:
        UserError: The file cannot be written.
    """
    scenes = [scene_at(split, number) for number in range(first, first + rows * columns)]
    _write(path, [_tile(render(scene).image, full_caption(scene)) for scene in scenes], columns)


def write_perturbed(path: Path, split: str = "test", severity: int = 3, scenes: int = 4, columns: int = 2) -> None:
    """Write a PNG of the first scenes at the networks' size: clean, then under each perturbation of the main job.

    Raises:
        UserError: The file cannot be written.
    """
    drawn, view = [render(scene_at(split, number)) for number in range(scenes)], View(SIDE)
    clean = view(to_tensor(np.stack([item.image for item in drawn])))
    masks = torch.from_numpy(np.stack([view.mask(item.foreground) for item in drawn]))
    shown = {"clean": clean}
    for name in perturbations_of(load_suite(suite) for suite in load_task(TASK).suites):
        shown[name] = perturb(clean, name, severity, range(scenes), masks)
    rows = {name: np.concatenate(list(to_array(images)), axis=1) for name, images in shown.items()}
    _write(path, [_tile(row, name.replace("_", " ")) for name, row in rows.items()], columns)


def _tile(image: Picture, text: str) -> Picture:
    """An image over its caption, in a white frame."""
    height, width = image.shape[:2]
    tile = np.full((height + STRIP, width, 3), 255, np.uint8)
    tile[:height] = image
    shown = text if len(text) <= 42 else text[:41] + "..."
    cv2.putText(tile, shown, (2, height + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.31, (20, 20, 20), 1, cv2.LINE_AA)
    return cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _write(path: Path, tiles: Sequence[Picture], columns: int) -> None:
    blank = np.full_like(tiles[0], 255)
    full = [*tiles, *[blank] * (-len(tiles) % columns)]
    sheet = np.concatenate([np.concatenate(full[at : at + columns], axis=1) for at in range(0, len(full), columns)])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); name another file with --out.") from None
