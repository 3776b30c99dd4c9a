"""A sheet for tests of pictures."""

from __future__ import annotations

from benchmark.trace.sheet import Sheet


class RecordingSheet(Sheet):
    """Paints as ever, and notes what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.rows: list[list] = []

    def text(self, text, *args, **kwargs):
        self.texts.append(text)
        super().text(text, *args, **kwargs)

    def pill(self, text, colour):
        self.texts.append(text)
        super().pill(text, colour)

    def thumbs(self, thumbs, most=2):
        self.rows.append(list(thumbs))
        super().thumbs(thumbs, most)
