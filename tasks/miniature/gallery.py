"""A contact sheet of the world."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from tasks.errors import UserError
from tasks.miniature.captions import full_caption
from tasks.miniature.render import render
from tasks.miniature.scene import scene_at

STRIP = 20


def write_gallery(path: Path, split: str = "test", rows: int = 4, columns: int = 6, first: int = 0) -> None:
    """Write a PNG of rows × columns scenes with their captions.

    Raises:
        UserError: if the file cannot be written.
    """
    tiles = []
    for number in range(first, first + rows * columns):
        scene = scene_at(split, number)
        tile = np.full((224 + STRIP, 224, 3), 255, np.uint8)
        tile[:224] = render(scene).image
        text = full_caption(scene)
        shown = text if len(text) <= 42 else text[:41] + "..."
        cv2.putText(tile, shown, (2, 238), cv2.FONT_HERSHEY_SIMPLEX, 0.31, (20, 20, 20), 1, cv2.LINE_AA)
        tiles.append(cv2.copyMakeBorder(tile, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    sheet = np.concatenate(
        [np.concatenate(tiles[row * columns : (row + 1) * columns], axis=1) for row in range(rows)], axis=0
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))[1].tobytes())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); name another file with --out.") from None
