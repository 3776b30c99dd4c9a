"""The models of a profile behind the cache: an input that was answered before is not computed again.

Each wrapper fills the same role as its model, returns the same bits, and loads the model only on a cache miss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tasks.cache.keys import Identity, array_sha256, text_sha256
from tasks.cache.store import Cache
from tasks.roles import Captioner, ImageGenerator, ImageTextEncoder, SentenceEncoder


class CachedEncoder:
    """An image-text encoder whose embeddings are cached by the content of the image or text.

    Args:
        plain: The uncached encoder, used directly where its answers are stored in another form. Its answers must not
            depend on the batch: see ``tasks.cache.padded``.
        identity: What the answers depend on besides the image or text.
    """

    def __init__(self, plain: ImageTextEncoder, identity: Identity, cache: Cache) -> None:
        self.plain = plain
        self.identity = identity
        self._cache = cache

    def encode_images(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Embed images."""
        if not len(images):
            return self.plain.encode_images(images)

        def make(places: list[int]) -> list[bytes]:
            return _rows_as_bytes(self.plain.encode_images(images[places]).cpu().numpy())

        asked = _asked("image embeddings", self.identity)
        return torch.from_numpy(self._cache.answers(asked, pixel_hashes(images), make, _rows_from_bytes))

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Embed strings without a template; text beyond the token limit is truncated."""
        if not len(texts):
            return self.plain.encode_text(texts)

        def make(places: list[int]) -> list[bytes]:
            return _rows_as_bytes(self.plain.encode_text([texts[place] for place in places]).cpu().numpy())

        asked = _asked("text embeddings", self.identity)
        return torch.from_numpy(self._cache.answers(asked, list(map(text_sha256, texts)), make, _rows_from_bytes))

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts ``encode_text`` truncates."""
        return _over_limit(self.plain.over_limit, self.identity, self._cache, texts)


class CachedSentenceEncoder:
    """A sentence encoder whose embeddings are cached by text.

    Args:
        load: Returns the model; called only on a cache miss.
        identity: What the answers depend on besides the text.
    """

    def __init__(self, load: Callable[[], SentenceEncoder], identity: Identity, cache: Cache) -> None:
        self._load = load
        self.identity = identity
        self._cache = cache

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Embed sentences; text beyond the token limit is truncated."""
        if not len(texts):
            return self._load().encode(texts)

        def make(places: list[int]) -> list[bytes]:
            return _rows_as_bytes(self._load().encode([texts[place] for place in places]))

        asked = _asked("sentence embeddings", self.identity)
        return self._cache.answers(asked, list(map(text_sha256, texts)), make, _rows_from_bytes)

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Which texts ``encode`` truncates."""
        return _over_limit(lambda asked: self._load().over_limit(asked), self.identity, self._cache, texts)


class CachedCaptioner:
    """A captioner whose captions are cached by the image's pixels.

    Args:
        plain: The uncached captioner; see ``CachedEncoder``.
        identity: What a caption depends on besides the image.
    """

    def __init__(self, plain: Captioner, identity: Identity, cache: Cache) -> None:
        self.plain = plain
        self.identity = identity
        self._cache = cache

    def caption(self, images: UInt8[Tensor, "n 3 h w"]) -> list[str]:
        """Caption images deterministically."""

        def make(places: list[int]) -> list[bytes]:
            return [text.encode("utf-8", "surrogatepass") for text in self.plain.caption(images[places])]

        def read(found: Sequence[bytes]) -> list[str]:
            return [text.decode("utf-8", "surrogatepass") for text in found]

        return self._cache.answers(_asked("captions", self.identity), pixel_hashes(images), make, read)


class CachedGenerator:
    """An image generator whose images are cached by concept, number, seed and prompt.

    Args:
        load: Returns the model; called only on a cache miss.
        identity: What the images depend on besides these.
    """

    def __init__(self, load: Callable[[], ImageGenerator], identity: Identity, cache: Cache) -> None:
        self._load = load
        self.identity = identity
        self._cache = cache

    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}", first: int = 0
    ) -> UInt8[Tensor, "count 3 h w"]:
        """Draw images; see ``tasks.roles.ImageGenerator``."""
        asked: dict[str, Any] = {"concept": concept, "count": count, "seed": seed, "template": template}
        if first:
            asked["first"] = first  # left out where it is 0, as in the keys of older versions
        identity = {**_asked("generated images", self.identity), **asked}
        return self._cache.blob(identity, lambda: {"images": self._load().generate(**asked)})["images"]


@dataclass(frozen=True)
class KeptMeasurements:
    """See ``tasks.roles.MeasurementStore``.

    Attributes:
        identity: What the measurements depend on besides the items; ``what`` is their kind.
        note: Told each concept whose images need not be drawn.
    """

    cache: Cache
    identity: Identity
    note: Callable[[str], object]

    def find(self, items: Sequence[bytes]) -> dict[bytes, bytes]:
        """What is stored, by item; what is missing is left out."""
        return self.cache.find(self.identity, items)

    def keep(self, values: Mapping[bytes, bytes]) -> None:
        """Store by item."""
        self.cache.keep(self.identity, values)

    def noted(self, concept: str) -> object:
        """Told each concept whose images need not be drawn."""
        return self.note(concept)


def pixel_hashes(images: UInt8[Tensor, "n 3 h w"]) -> list[bytes]:
    """SHA-256 of the shape and pixels of each image."""
    return [array_sha256(image) for image in images.cpu().contiguous().numpy()]


def _asked(what: str, identity: Identity) -> dict[str, Any]:
    return {"what": what, **identity}


def _over_limit(
    ask: Callable[[Sequence[str]], Bool[np.ndarray, " k"]], identity: Identity, cache: Cache, texts: Sequence[str]
) -> Bool[np.ndarray, " n"]:
    def make(places: list[int]) -> list[bytes]:
        return [b"\1" if cut else b"\0" for cut in ask([texts[place] for place in places]).tolist()]

    def read(found: Sequence[bytes]) -> Bool[np.ndarray, " n"]:
        return np.array([one == b"\1" for one in found], dtype=bool)

    return cache.answers(_asked("texts over the limit", identity), list(map(text_sha256, texts)), make, read)


def _rows_as_bytes(rows: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(rows, dtype="<f4")]


def _rows_from_bytes(rows: Sequence[bytes]) -> Float[np.ndarray, "n d"]:
    return np.stack([np.frombuffer(row, dtype="<f4") for row in rows]).astype(np.float32)
