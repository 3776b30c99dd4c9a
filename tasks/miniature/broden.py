"""Scenes as a folder in the format of Broden (Bau et al., CVPR 2017), readable by Network Dissection's own tools."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from tasks.errors import UserError
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.vocabulary import CATEGORIES, CONCEPTS, SIZE

_COLUMNS = ("color", "object", "part", "scene", "texture")


def export(folder: Path, split: str, count: int) -> None:
    """Write images, label maps and tables.

    Label maps are half the image's size; a pixel's label is R + 256·G. ``index.csv`` lists an image-level label as a
    number and a label map as its file, below ``images``.

    Args:
        folder: Must not exist, or be empty.
        split: ``train``, ``probe`` or ``test``.
        count: How many scenes.

    Raises:
        UserError: if the folder is not empty or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name a new folder with --out.")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    probing = MiniatureProbingSet(split, count)
    frequency: Counter[int] = Counter()
    coverage: Counter[int] = Counter()
    side = probing.segmentation.size[0]
    rows = []
    for number, name in enumerate(probing.ids):
        picture = probing.images[number].permute(1, 2, 0).numpy()
        cv2.imwrite(str(folder / "images" / f"{name}.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        row = {"image": f"{name}.png", "split": "val" if split == "test" else "train"}
        row |= {"ih": SIZE, "iw": SIZE, "sh": side, "sw": side}
        for category, labels in probing.segmentation.pixels(number).items():
            if isinstance(labels, list):
                row[category] = ";".join(str(label) for label in labels)
                frequency.update(labels)
                coverage.update({label: 1.0 for label in labels})
                continue
            row[category] = f"{name}_{category}.png"
            codes = np.zeros((*labels.shape, 3), np.uint8)
            codes[..., 2], codes[..., 1] = labels % 256, labels // 256  # OpenCV writes blue first
            cv2.imwrite(str(folder / "images" / row[category]), codes)
            values, pixels = np.unique(labels[labels > 0], return_counts=True)
            frequency.update(values.tolist())
            for value, area in zip(values.tolist(), pixels.tolist(), strict=True):
                coverage[value] += area / labels.size
        rows.append(row)
    _table(folder / "index.csv", ("image", "split", "ih", "iw", "sh", "sw", *_COLUMNS), rows)
    labels = [
        {
            "number": 1 + CONCEPTS.index(name),
            "name": name + {"color": "-c", "scene": "-s"}.get(category, ""),
            "category": f"{category}({frequency[1 + CONCEPTS.index(name)]})",
            "frequency": frequency[1 + CONCEPTS.index(name)],
            "coverage": round(coverage[1 + CONCEPTS.index(name)], 4),
            "syns": "",
        }
        for category, names in CATEGORIES.items()
        for name in names
    ]
    _table(folder / "label.csv", ("number", "name", "category", "frequency", "coverage", "syns"), labels)
    categories = [
        {"name": c, "first": 1 + CONCEPTS.index(n[0]), "last": 1 + CONCEPTS.index(n[-1]), "count": len(n),
         "frequency": sum(frequency[1 + CONCEPTS.index(name)] for name in n)}
        for c, n in CATEGORIES.items()
    ]
    _table(folder / "category.csv", ("name", "first", "last", "count", "frequency"), categories)


def _table(path: Path, columns: tuple[str, ...], rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
