"""Keeping a key out of what a server sends back, however it spells it."""

from __future__ import annotations

import base64
import re

# What may stand between two letters of a key: spaces, punctuation, letters without width.
_BETWEEN = r"[\W_]{0,4}"
_SHORTEST = 8


class Hidden:
    """Replaces a key in texts: as it is, in other capitals, with its letters apart, in base64, in hexadecimal digits.

    Args:
        key: What nobody may read; one of less than eight letters is a word such as ``none``, and stays.
    """

    def __init__(self, key: str) -> None:
        forms = [key, key.encode().hex(), *_base64(key.encode())]
        spelt = "|".join(_BETWEEN.join(map(re.escape, form)) for form in forms)
        self._spelt = re.compile(spelt, re.IGNORECASE) if len(key) >= _SHORTEST else None

    def __call__(self, text: str) -> str:
        """The text with ``[key]`` in its place."""
        return text if self._spelt is None else self._spelt.sub("[key]", text)


def _base64(key: bytes) -> set[str]:
    """The letters that stand for a key alone, wherever it begins in what is encoded."""
    forms = set()
    for before in range(3):
        first, end = -(-before * 8 // 6), (before + len(key)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(bytes(before) + key).decode()[first:end])
    return forms
