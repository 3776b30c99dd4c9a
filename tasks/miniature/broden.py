"""Scenes as a folder in the format of Broden (Bau et al., CVPR 2017), readable by Network Dissection's own tools."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Integer

from tasks.common.errors import UserError
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.vocabulary import CATEGORIES, CONCEPTS, SIZE

_COLUMNS = ("color", "object", "part", "scene", "texture")


def export(folder: Path, split: str, count: int) -> None:
    """Write images, label maps and tables.

    Label maps are half the image's size; a pixel's label is R + 256·G. ``index.csv`` lists an image-level label as a
    number and a label map as its file, below ``images``. ``label.csv`` gives for each label the number of images that
    show it (frequency) and the sum of the shares of their pixels (coverage). Test scenes are the split ``val``.

    Args:
        folder: Must not exist, or be empty.
        split: ``train``, ``probe`` or ``test``.
        count: Number of scenes, at least one.

    Raises:
        UserError: The folder is not empty or cannot be written.
    """
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; name a new folder with --out.")
        (folder / "images").mkdir(parents=True, exist_ok=True)
        _write(folder, MiniatureProbingSet(split, count), "val" if split == "test" else "train")
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error.strerror}); name another folder with --out.") from None


def _write(folder: Path, probing: MiniatureProbingSet, split: str) -> None:
    frequency: Counter[int] = Counter()
    coverage: dict[int, float] = defaultdict(float)
    side = probing.segmentation.size[0]
    rows = []
    for number, name in enumerate(probing.ids):
        picture = f"{name}.png"
        _write_png(folder / "images" / picture, probing.load([number])[0].permute(1, 2, 0).numpy())
        row: dict[str, str | int] = {"image": picture, "split": split, "ih": SIZE, "iw": SIZE, "sh": side, "sw": side}
        for category, labels in probing.segmentation.pixels(number).items():
            if isinstance(labels, list):
                row[category] = ";".join(str(label) for label in labels)
                shares = dict.fromkeys(labels, 1.0)
            else:
                row[category] = codes = f"{name}_{category}.png"
                _write_png(folder / "images" / codes, np.stack([labels % 256, labels // 256, 0 * labels], axis=-1))
                values, pixels = np.unique(labels[labels > 0], return_counts=True)
                shares = dict(zip(values.tolist(), (pixels / labels.size).tolist(), strict=True))
            frequency.update(shares.keys())
            for label, share in shares.items():
                coverage[label] += share
        rows.append(row)
    _write_table(folder / "index.csv", ("image", "split", "ih", "iw", "sh", "sw", *_COLUMNS), rows)
    _write_labels(folder, frequency, coverage)


def _write_labels(folder: Path, frequency: Mapping[int, int], coverage: Mapping[int, float]) -> None:
    numbers = {name: 1 + place for place, name in enumerate(CONCEPTS)}
    labels = [
        {
            "number": numbers[name],
            "name": name + {"color": "-c", "scene": "-s"}.get(category, ""),
            "category": f"{category}({frequency.get(numbers[name], 0)})",
            "frequency": frequency.get(numbers[name], 0),
            "coverage": round(coverage.get(numbers[name], 0.0), 4),
            "syns": "",
        }
        for category, names in CATEGORIES.items()
        for name in names
    ]
    _write_table(folder / "label.csv", ("number", "name", "category", "frequency", "coverage", "syns"), labels)
    categories = [
        {
            "name": category,
            "first": numbers[names[0]],
            "last": numbers[names[-1]],
            "count": len(names),
            "frequency": sum(frequency.get(numbers[name], 0) for name in names),
        }
        for category, names in CATEGORIES.items()
    ]
    _write_table(folder / "category.csv", ("name", "first", "last", "count", "frequency"), categories)


def _write_png(path: Path, rgb: Integer[np.ndarray, "h w 3"]) -> None:
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(rgb.astype(np.uint8), cv2.COLOR_RGB2BGR))[1].tobytes())


def _write_table(path: Path, columns: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
