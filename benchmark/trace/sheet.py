"""A page of wrapped text and thumbnails, drawn from top to bottom with Pillow."""

from __future__ import annotations

import contextlib
import functools
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from leaderboard.store.escape import plain

Pixels = UInt8[np.ndarray, "h w 3"]
Box = tuple[float, float, float, float]
"""(left, top, right, bottom) as fractions of the image's sides."""

THUMB = 104
COLUMNS = 10
GAP = 10
MARGIN = 32
WIDTH = 2 * MARGIN + COLUMNS * THUMB + (COLUMNS - 1) * GAP

INK, SOFT, RULE, BAND = "#1a1a1a", "#5f6368", "#c9ccd1", "#e8eaed"
BODY, SMALL = 14, 12

_SPELT = {"×": "x", "–": "-", "—": "-", "−": "-", "·": "-", "≥": ">=", "≤": "<=", "→": "->"}


@dataclass(frozen=True)
class Thumb:
    """An image with text below it.

    Attributes:
        pixels: The image at any size; it is shown as a square, as the models see it.
        lines: Texts below it, each on separate lines and with its colour.
        tag: A short text in its corner.
        frame: Colour of its border.
        boxes: Parts of it to outline, each with a tag and a colour.
    """

    pixels: Pixels
    lines: tuple[tuple[str, str], ...] = ()
    tag: str = ""
    frame: str = RULE
    boxes: tuple[tuple[Box, str, str], ...] = ()


class Sheet:
    """A white page that grows downwards: additions are placed at once and painted when the height is known."""

    def __init__(self) -> None:
        self.y = MARGIN
        self._painters: list[Callable[[Image.Image, ImageDraw.ImageDraw], None]] = []

    def gap(self, pixels: int) -> None:
        """Leave vertical space."""
        self.y += pixels

    def text(
        self,
        text: str,
        size: int = BODY,
        colour: str = INK,
        left: int = MARGIN,
        width: int = WIDTH - 2 * MARGIN,
        most: int = 4,
    ) -> None:
        """Add text, wrapped to ``width`` and truncated after ``most`` lines."""
        for line in wrapped(text, size, width, most):
            self._paint_text(line, size, colour, left, self.y)
            self.y += line_height(size)

    def columns(self, pairs: Sequence[tuple[str, str]], count: int, left: int = MARGIN, most: int = 2) -> None:
        """Add named values side by side from ``left`` on, ``count`` per row, each truncated after ``most`` lines."""
        each = (WIDTH - MARGIN - left + GAP) // count
        for start in range(0, len(pairs), count):
            top = self.y
            ends = [top]
            for place, (name, value) in enumerate(pairs[start : start + count]):
                self.y = top
                self.text(name, SMALL, SOFT, left + place * each, each - GAP, 1)
                self.text(value, BODY, INK, left + place * each, each - GAP, most)
                ends.append(self.y)
            self.y = max(ends) + 6

    def banner(self, text: str, size: int) -> None:
        """Add one line of text on a grey band across the page."""
        y = self.y
        side = MARGIN - 12
        bottom = y + line_height(size) + 10
        self._painters.append(lambda page, draw: draw.rounded_rectangle((side, y, WIDTH - side, bottom), 8, BAND))
        self.y += 4
        self.text(text, size, most=1)
        self.y = bottom

    def pill(self, text: str, colour: str) -> None:
        """Put a short text in a filled shape at the right margin; it takes no vertical space."""
        y, right = self.y, WIDTH - MARGIN
        left = right - _length(text, BODY) - 20

        def paint(page: Image.Image, draw: ImageDraw.ImageDraw) -> None:
            draw.rounded_rectangle((left, y, right, y + 24), 12, colour)
            draw.text((left + 10, y + 3), text, "white", _font(BODY))

        self._painters.append(paint)

    def rule(self) -> None:
        """Add a thin line across the page."""
        y = self.y
        self._painters.append(lambda page, draw: draw.line((MARGIN, y, WIDTH - MARGIN, y), RULE))
        self.y += 1

    def thumbs(self, thumbs: Sequence[Thumb], most: int = 2) -> None:
        """Add images in rows of ``COLUMNS``, each text below them truncated after ``most`` lines."""
        for start in range(0, len(thumbs), COLUMNS):
            top = self.y
            ends = [top + THUMB]
            for place, thumb in enumerate(thumbs[start : start + COLUMNS]):
                left = MARGIN + place * (THUMB + GAP)
                self._painters.append(functools.partial(_paint_thumb, thumb=thumb, left=left, top=top))
                self.y = top + THUMB + 4
                for line, colour in thumb.lines:
                    self.text(line, SMALL, colour, left, THUMB, most)
                ends.append(self.y)
            self.y = max(ends) + 6

    @contextlib.contextmanager
    def card(self, fill: str, border: str) -> Iterator[None]:
        """Put a filled frame behind everything that is added in the block."""
        start, top = len(self._painters), self.y
        self.y += 8
        yield
        self.y += 2
        bottom = self.y
        side = MARGIN - 12

        def paint(page: Image.Image, draw: ImageDraw.ImageDraw) -> None:
            draw.rounded_rectangle((side, top, WIDTH - side, bottom), 8, fill, border, 2)

        self._painters.insert(start, paint)

    def image(self) -> Image.Image:
        """The painted page."""
        page = Image.new("RGB", (WIDTH, self.y + MARGIN), "white")
        draw = ImageDraw.Draw(page)
        for paint in self._painters:
            paint(page, draw)
        return page

    def _paint_text(self, line: str, size: int, colour: str, left: int, top: int) -> None:
        self._painters.append(lambda page, draw: draw.text((left, top), line, colour, _font(size)))


def wrapped(text: str, size: int, width: int, most: int) -> list[str]:
    """Lines of at most ``width`` pixels; text beyond ``most`` lines is replaced by an ellipsis.

    Only characters that the font can show are kept: see ``drawable``.
    """
    lines: list[str] = [""]
    # No visible character is narrower than a pixel, so anything beyond could not be shown anyway.
    for word in drawable(text[: most * width]).split():
        longer = f"{lines[-1]} {word}".strip()
        if _length(longer, size) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if lines[-1] and _length(lines[-1] + character, size) > width:
                lines.append("")
            lines[-1] += character
    if len(lines) <= most:
        return lines
    last = lines[most - 1]
    while last and _length(last + "…", size) > width:
        last = last[:-1]
    return [*lines[: most - 1], last.rstrip() + "…"]


def drawable(text: str) -> str:
    """The text in glyphs of Pillow's own font: accents are removed, other letters become their code points."""
    return "".join(_drawable(character) for character in plain(text))


def line_height(size: int) -> int:
    """Distance between two lines."""
    return round(size * 1.3)


@functools.cache
def _drawable(character: str) -> str:
    if character.isascii() or character == "\u00a0" or _has_glyph(character):
        return character
    spelt = _SPELT.get(character) or unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return spelt or f"<U+{ord(character):04X}>"


def _has_glyph(character: str) -> bool:
    return _painted(character) != _painted("\uffff")


def _painted(character: str) -> bytes:
    image = Image.new("L", (3 * BODY, 2 * BODY))
    ImageDraw.Draw(image).text((0, 0), character, 255, _font(BODY))
    return image.tobytes()


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _length(text: str, size: int) -> float:
    return _font(size).getlength(text)


def _paint_thumb(page: Image.Image, draw: ImageDraw.ImageDraw, thumb: Thumb, left: int, top: int) -> None:
    page.paste(Image.fromarray(thumb.pixels).resize((THUMB, THUMB), Image.Resampling.LANCZOS), (left, top))
    right, bottom = left + THUMB - 1, top + THUMB - 1
    draw.rectangle((left, top, right, bottom), outline=thumb.frame, width=1 if thumb.frame == RULE else 3)
    for box, tag, colour in thumb.boxes:
        corners = (left + box[0] * THUMB, top + box[1] * THUMB, left + box[2] * THUMB - 1, top + box[3] * THUMB - 1)
        draw.rectangle(corners, outline=colour, width=2)
        _paint_tag(draw, tag, colour, min(corners[0], right - 14), min(corners[1], bottom - 14))
    if thumb.tag:
        _paint_tag(draw, thumb.tag, INK if thumb.frame == RULE else thumb.frame, left, top)


def _paint_tag(draw: ImageDraw.ImageDraw, tag: str, colour: str, left: float, top: float) -> None:
    width = _length(tag, SMALL) + 7
    draw.rectangle((left, top, left + width, top + 15), fill=colour)
    draw.text((left + 3.5, top), tag, "white", _font(SMALL))
