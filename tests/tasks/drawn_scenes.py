"""Scenes and renderings that several test modules look at, drawn once a process; and a rasteriser of the tests' own."""

from __future__ import annotations

from functools import cache

import numpy as np

from tasks.miniature.render import render
from tasks.miniature.scene import scene_at


@cache
def drawn(split="test", count=40):
    """(scene, rendering) of the first scenes of a split."""
    scenes = [scene_at(split, number) for number in range(count)]
    return [(scene, render(scene)) for scene in scenes]


def inside(polygon, side, fine):
    """Even-odd rule at the centres of ``fine`` × ``fine`` points a pixel, by counting crossings left of each point."""
    corners = np.asarray(polygon) * fine - 0.5
    toggles = np.zeros((side * fine, side * fine + 1), np.int64)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        low, high = sorted((y0, y1))
        rows = np.arange(max(int(np.ceil(low)), 0), min(int(np.ceil(high)), side * fine))
        crossings = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
        columns = np.clip(np.ceil(crossings).astype(int), 0, side * fine)
        np.add.at(toggles, (rows, columns), 1)
    return np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1
