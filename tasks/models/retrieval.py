"""Photographs retrieved by a text instead of images generated from it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tasks.common.errors import UserError
from tasks.common.image_files import centre_square, load_image
from tasks.common.images import to_tensor
from tasks.roles import ImageTextEncoder

_AT_ONCE = 64


def pool_sha256(pool: Sequence[tuple[str, Path]]) -> str:
    """SHA-256 over the hashes of a pool's photographs: what is retrieved depends on no path and no order."""
    return hashlib.sha256("\n".join(sorted({sha256 for sha256, _ in pool})).encode()).hexdigest()


class RetrievalGenerator:
    """The photographs of a pool whose embeddings are nearest to the text's, as the image-generator role.

    If no generator is available, retrieved photographs are the honest stand-in: they are as real as those probed. They
    show a concept only if the pool does, and only as far as the encoder can distinguish it; the nearest are returned
    whether or not they are near. The same text always gives the same photographs, whatever the seed; the prompt's
    template is ignored, because both encoders represent a bare name best.

    Args:
        pool: (SHA-256 of the file, path) of each photograph; files with the same hash count once.
        encoder: Embeds photographs and texts.
        side: Side of the images in pixels.
    """

    def __init__(self, pool: Sequence[tuple[str, Path]], encoder: ImageTextEncoder, side: int = 256) -> None:
        self._pool = sorted(dict(pool).items())
        self._encoder = encoder
        self._side = side

    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}", first: int = 0
    ) -> UInt8[Tensor, "count 3 side side"]:
        """The photographs ranked ``first`` to ``first + count - 1`` by similarity, nearest first, without duplicates.

        Args:
            seed: Not used.
            template: Not used.
            first: Rank of the first photograph, from 0.

        Raises:
            UserError: The pool has fewer photographs.
        """
        del seed, template
        paths, embeddings = self._embedded
        if (end := first + count) > len(paths):
            raise UserError(
                f"{end} photographs are requested of the generator's pool, which has {len(paths)} usable ones: give "
                "it a folder with more, or request fewer (--set dnd.images_per_concept=…)."
            )
        similarity = embeddings @ self._encoder.encode_text([concept])[0].double()
        # A stable sort: ties are ordered by hash, the same on every machine.
        nearest = similarity.argsort(descending=True, stable=True)[first:end].tolist()
        return torch.cat([self._image(paths[place]) for place in nearest]) if nearest else self._none()

    @cached_property
    def _embedded(self) -> tuple[list[Path], Float[Tensor, "n d"]]:
        """The usable photographs and their embeddings."""
        usable: list[Path] = []
        rows: list[Tensor] = []
        for start in range(0, len(self._pool), _AT_ONCE):
            images = []
            for _, path in self._pool[start : start + _AT_ONCE]:
                try:
                    images.append(self._image(path))
                except UserError:  # skipped, as in a probing set
                    continue
                usable.append(path)
            if images:
                rows.append(self._encoder.encode_images(torch.cat(images)).double().cpu())
        return usable, torch.cat(rows) if rows else torch.zeros((0, 0), dtype=torch.float64)

    def _image(self, path: Path) -> UInt8[Tensor, "1 3 side side"]:
        return to_tensor(centre_square(load_image(path), self._side)[None].copy())  # Pillow's array is read-only

    def _none(self) -> UInt8[Tensor, "0 3 side side"]:
        return torch.zeros((0, 3, self._side, self._side), dtype=torch.uint8)
