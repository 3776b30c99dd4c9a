"""A folder of CIFAR-10's binary form with a few images in it, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_cifar(folder: Path, each: int = 12) -> Path:
    """CIFAR-10 in its binary form, with images of one colour a class: of three classes the only ones with images."""
    draws = np.random.default_rng(0)
    folder.mkdir(parents=True)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n")
    for number, name in enumerate([*(f"data_batch_{part}.bin" for part in range(1, 6)), "test_batch.bin"]):
        labels = np.arange(each) % 3
        pixels = draws.integers(0, 60, (each, 3, 1024)) + 190 * np.eye(3, dtype=int)[labels][:, :, None]
        records = np.concatenate([labels[:, None], pixels.reshape(each, -1)], axis=1)
        records[:, -1] = number
        (folder / name).write_bytes(records.astype(np.uint8).tobytes())
    return folder
