"""Counts the use of models during a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tasks.models.target import TargetModel
from tasks.profiles.build import Roles
from tasks.roles import Captioner, ImageGenerator, ImageTextEncoder


class CountedRoles(Roles):
    """The roles of a profile, counting the images that each receives; texts are not counted.

    Attributes:
        tally: ``target``, ``clip``, ``captioned`` and ``generated`` images so far. Cached results are not counted,
            except for generated images.
    """

    tally: Counter[str]

    def __init__(self, *args: Any, **named: Any) -> None:
        self.tally = Counter()
        super().__init__(*args, **named)

    def target(self, name: str) -> TargetModel:
        """See ``Roles.target``."""
        built = name in self._targets
        found = super().target(name)
        if not built:
            found.on_read = lambda count: self.tally.update(target=count)
        return found

    @cached_property
    def plain_clip(self) -> ImageTextEncoder:
        """See ``Roles.plain_clip``; cached results are not computed, so the model behind the cache is counted."""
        return _CountedEncoder(super().plain_clip, self.tally)

    @cached_property
    def plain_captioner(self) -> Captioner | None:
        """See ``Roles.plain_captioner``."""
        plain = super().plain_captioner
        return None if plain is None else _CountedCaptioner(plain, self.tally)

    @cached_property
    def generator(self) -> ImageGenerator | None:
        """See ``Roles.generator``."""
        whole = super().generator
        return None if whole is None else _CountedGenerator(whole, self.tally)


@dataclass(frozen=True)
class _CountedEncoder:
    encoder: ImageTextEncoder
    tally: Counter[str]

    def encode_images(self, images: UInt8[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        answer = self.encoder.encode_images(images)
        self.tally.update(clip=len(images))
        return answer

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        return self.encoder.encode_text(texts)

    def over_limit(self, texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        return self.encoder.over_limit(texts)


@dataclass(frozen=True)
class _CountedCaptioner:
    captioner: Captioner
    tally: Counter[str]

    def caption(self, images: UInt8[Tensor, "n 3 h w"]) -> list[str]:
        answer = self.captioner.caption(images)
        self.tally.update(captioned=len(images))
        return answer


@dataclass(frozen=True)
class _CountedGenerator:
    drawer: ImageGenerator
    tally: Counter[str]

    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}", first: int = 0
    ) -> UInt8[Tensor, "count 3 h w"]:
        answer = self.drawer.generate(concept, count, seed, template, first)
        self.tally.update(generated=count)
        return answer
