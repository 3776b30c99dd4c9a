"""A picture that a chat shows: RGB pixels of a bounded size, which are also all that it is known by."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MOST_EDGE = 512
"""Pixels of the longer side at most: what servers that count tiles of 512 px count once."""


@dataclass(frozen=True)
class Picture:
    """Pixels of one picture, RGB, row by row.

    Attributes:
        height: In pixels, at most ``MOST_EDGE``.
        width: The same.
        pixels: 3 · height · width bytes.
    """

    height: int
    width: int
    pixels: bytes

    def __post_init__(self) -> None:
        if not (0 < self.height <= MOST_EDGE and 0 < self.width <= MOST_EDGE):
            raise ValueError(f"a picture has 1 to {MOST_EDGE} px a side, not {self.width} × {self.height}")
        if len(self.pixels) != 3 * self.height * self.width:
            raise ValueError(f"{len(self.pixels)} bytes are no RGB picture of {self.width} × {self.height} px")

    @property
    def sha256(self) -> str:
        """Of size and pixels: equal pictures are equal requests, however a file of them is written."""
        return hashlib.sha256(f"{self.height}x{self.width}:".encode() + self.pixels).hexdigest()

    def image(self) -> Image.Image:
        """The picture for libraries that read Pillow's images."""
        from PIL import Image

        return Image.frombytes("RGB", (self.width, self.height), self.pixels)

    def data_url(self) -> str:
        """The picture as a PNG file inside an address, as chat servers take it; nothing is lost."""
        file = io.BytesIO()
        self.image().save(file, "PNG")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
