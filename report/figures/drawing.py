"""A finished figure with its words."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, Literal

from matplotlib.figure import Figure
from matplotlib.text import Text

from report.figures.style import styled

Format = Literal["pdf", "png"]

# No dates and no version: the same drawing has the same bytes tomorrow.
_METADATA: Final[dict[Format, dict[str, None]]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


@dataclass(frozen=True)
class Drawing:
    """A figure; a notebook shows it by itself.

    Attributes:
        caption: What is shown, over how many units, with which interval and test; plain text, not escaped.
        alternative: What it finds, for who cannot see it; plain text, not escaped.
    """

    figure: Figure
    caption: str
    alternative: str

    def data(self, form: Format) -> bytes:
        """The file's content; the same on every call."""
        buffer = io.BytesIO()
        for words in self.figure.findobj(Text):
            # Ligatures (Matplotlib 3.11 and later) need a second subset of the font, half the time a PDF takes.
            if hasattr(words, "set_fontfeatures"):
                words.set_fontfeatures(("-liga",))
        with styled():
            self.figure.savefig(buffer, format=form, metadata=_METADATA[form])
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.data("png")
