"""Thumbnails of the most activating images, for pages that are made from the store only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import pandas as pd
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from tasks.activations.spool import blocks
from tasks.observation import Observation

SIDE: Final = 96
"""Maximum width and height in pixels."""

_QUALITY: Final = 70


def thumbnail_rows(observation: Observation, ids: Sequence[str]) -> pd.DataFrame:
    """Thumbnails of the given images under the observation's condition.

    Args:
        ids: Identifiers among its ``image_ids``.

    Returns:
        Columns ``image`` and ``webp``, one row per identifier.
    """
    place = {name: index for index, name in enumerate(observation.image_ids)}
    parts = (observation.images([place[ids[index]] for index in part]) for part in blocks(len(ids)))
    pictures = [thumbnail(image) for images in parts for image in images]
    return pd.DataFrame({"image": pd.Series(list(ids), dtype=object), "webp": pd.Series(pictures, dtype=object)})


def thumbnail(image: UInt8[Tensor, "3 h w"]) -> bytes:
    """One image as a WebP file of at most ``SIDE`` pixels per side."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=_QUALITY, method=4)
    return buffer.getvalue()
