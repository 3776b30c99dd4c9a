"""An image shown in a chat: RGB pixels of a bounded size, which are also its whole identity."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MOST_EDGE = 512
"""Maximum pixels of the longer side: servers that count tiles of 512 px count such an image once."""


@dataclass(frozen=True)
class Picture:
    """Pixels of one image, RGB, row by row.

    Attributes:
        height: In pixels, at most ``MOST_EDGE``.
        width: In pixels, likewise.
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
        """Hash of size and pixels: equal images are equal requests, however they are encoded as files."""
        return hashlib.sha256(f"{self.height}x{self.width}:".encode() + self.pixels).hexdigest()

    def image(self) -> Image.Image:
        """The image as a Pillow image."""
        from PIL import Image

        return Image.frombytes("RGB", (self.width, self.height), self.pixels)

    def data_url(self) -> str:
        """The image as a PNG data URL (lossless), as chat servers take it."""
        file = io.BytesIO()
        self.image().save(file, "PNG")
        return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
