"""Models fed with batches of one fixed size, padded where fewer inputs are left.

On a CPU the last bits of a matrix product depend on the number of rows: measured on the miniature's CLIP, an image
alone and the same image in a batch of 128 differ by 1e-7. With a fixed number of rows an answer depends on its own
input only, not on its neighbours, its position or (measured, from 16 rows on) the number of threads, so that answers
computed at different times and in different batches are comparable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tasks.roles import Captioner, ImageTextEncoder


def rows_for(device: torch.device) -> int:
    """The cheapest batch size: small batches waste little on a CPU, large ones use a GPU well."""
    return 16 if device.type == "cpu" else 128


class PaddedEncoder:
    """An image-text encoder in batches of a fixed size.

    Args:
        load: Returns the model; called on first use and then often, so it should memoise.
        rows: Images or texts per forward pass.
    """

    def __init__(self, load: Callable[[], ImageTextEncoder], rows: int) -> None:
        self.load = load
        self.rows = rows

    def encode_images(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Embed images."""
        model = self.load()
        parts = [model.encode_images(filled(part, self.rows))[: len(part)] for part in images.split(self.rows)]
        return torch.cat(parts)

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embed strings without a template; text beyond the token limit is truncated."""
        model, parts = self.load(), []
        for start in range(0, len(texts), self.rows):
            part = list(texts[start : start + self.rows])
            filled = part + part[-1:] * (self.rows - len(part))
            parts.append(model.encode_text(filled)[: len(part)])
        return torch.cat(parts)

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts ``encode_text`` truncates."""
        return self.load().over_limit(texts)


class PaddedCaptioner:
    """A captioner in batches of a fixed size.

    Args:
        load: Returns the model; see ``PaddedEncoder``.
        rows: Images per call.
    """

    def __init__(self, load: Callable[[], Captioner], rows: int) -> None:
        self.load = load
        self.rows = rows

    def caption(self, images: UInt8[Tensor, "n 3 h w"]) -> list[str]:
        """Caption images deterministically."""
        model = self.load()
        parts = [model.caption(filled(part, self.rows))[: len(part)] for part in images.split(self.rows)]
        return [caption for part in parts for caption in part]


def filled(images: UInt8[Tensor, "n 3 h w"], rows: int) -> UInt8[Tensor, "rows 3 h w"]:
    """The last image once more until there are enough; no image stays no image."""
    lacking = rows - len(images)
    return images if lacking == 0 or not len(images) else torch.cat([images, images[-1:].expand(lacking, -1, -1, -1)])
