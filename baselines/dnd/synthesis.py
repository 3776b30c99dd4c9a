"""The synthetic images of candidate concepts: generated once, measured once, cached by what determines them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from tasks.observation import Toolbox
from tasks.roles import ImageGenerator, ImageTextEncoder

PROMPT = "One realistic image of {concept}"
CAPACITY = 2000


@dataclass(frozen=True)
class Request:
    """What determines a concept's synthetic images and their measurements, given the models.

    Attributes:
        synth_px: Edge to which the images are reduced before they are measured, or None.
        layer: The layer whose activations are measured.
    """

    concept: str
    count: int
    seed: int
    synth_px: int | None
    layer: str


@dataclass(frozen=True)
class Synthetic:
    """The measurements of one concept's synthetic images.

    Attributes:
        activations: Pooled activations of the complete layer.
        embeddings: Unit-norm CLIP embeddings.
    """

    activations: Float[np.ndarray, "images units"]
    embeddings: Float[np.ndarray, "images d"]


class ConceptBank:
    """Generates the concepts of one toolbox and caches their measurements, so that conditions and methods share them.

    Pixels are not kept: the same request generates the same images again (``draw``). Beyond ``capacity`` the least
    recently used request is dropped; results never depend on what is cached.

    Args:
        capacity: Maximum number of cached requests (2,048 units × 10 images take 80 kB per request).
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._measured: OrderedDict[Request, Synthetic] = OrderedDict()
        self._captions: OrderedDict[Request, tuple[str, ...]] = OrderedDict()

    def measure(self, requests: Iterable[Request], tools: Toolbox, batch_size: int) -> dict[Request, Synthetic]:
        """Activations and embeddings of the synthetic images of every distinct request.

        Args:
            tools: The bank's toolbox; provides ``generator``, ``activate`` and ``clip``.
            batch_size: Images per batch.
        """

        def look(images: Tensor) -> list[tuple[Tensor, Tensor]]:
            embedded = _clip(tools).encode_images(images).float().cpu()
            return list(zip(tools.activate(images).float().cpu(), embedded, strict=True))

        def collect(rows: Sequence[tuple[Tensor, Tensor]]) -> Synthetic:
            return Synthetic(torch.stack([r[0] for r in rows]).numpy(), torch.stack([r[1] for r in rows]).numpy())

        return self._remembered(self._measured, requests, tools, batch_size, look, collect, reduced=True)

    def captions(self, requests: Iterable[Request], tools: Toolbox, batch_size: int) -> dict[Request, tuple[str, ...]]:
        """Captions of the synthetic images of every distinct request, at the size they were generated.

        Args:
            tools: The bank's toolbox; provides ``generator`` and ``captioner``.
            batch_size: Images per batch.
        """

        def look(images: Tensor) -> list[str]:
            if tools.captioner is None:
                raise ValueError("The toolbox has no captioner.")
            return tools.captioner.caption(images)

        return self._remembered(self._captions, requests, tools, batch_size, look, tuple, reduced=False)

    def _remembered(
        self,
        memory: OrderedDict[Request, Any],
        requests: Iterable[Request],
        tools: Toolbox,
        batch_size: int,
        look: Callable[[Tensor], Sequence[Any]],
        collect: Callable[[Sequence[Any]], Any],
        reduced: bool,
    ) -> dict[Request, Any]:
        answers: dict[Request, Any] = {}
        missing: list[Request] = []
        for request in dict.fromkeys(requests):
            if request in memory:
                memory.move_to_end(request)
                answers[request] = memory[request]
            else:
                missing.append(request)
        drawn = ((request, draw(request, _generator(tools), reduced)) for request in missing)
        for group in _batches(drawn, batch_size):
            # Concepts share a forward pass; results are split again by the number of images of each.
            results = look(torch.cat([images for _, images in group]))
            start = 0
            for request, images in group:
                answers[request] = memory[request] = collect(results[start : start + len(images)])
                start += len(images)
        while len(memory) > self.capacity:
            memory.popitem(last=False)
        return answers


def bank_of(tools: Toolbox) -> ConceptBank:
    """The bank of one toolbox, which determines all models; it lives as long as the toolbox does."""
    return tools.remembered(ConceptBank, ConceptBank)


def draw(request: Request, generator: ImageGenerator, reduced: bool = True) -> UInt8[Tensor, "count 3 h w"]:
    """Generate the images of one request.

    Args:
        reduced: Whether to reduce the images to ``synth_px``, as the target model sees them.
    """
    images = generator.generate(request.concept, request.count, request.seed, PROMPT).cpu()
    return reduce_images(images, request.synth_px) if reduced and request.synth_px is not None else images


def reduce_images(images: UInt8[Tensor, "n 3 h w"], edge: int) -> UInt8[Tensor, "n 3 edge edge"]:
    """Resize images to a square of ``edge`` pixels, bicubically with anti-aliasing."""
    small = functional.interpolate(images.float(), size=(edge, edge), mode="bicubic", antialias=True)
    return small.round().clamp(0, 255).to(torch.uint8)


def _batches(drawn: Iterable[tuple[Request, Tensor]], batch_size: int) -> Iterator[list[tuple[Request, Tensor]]]:
    """Group whole requests until a batch is full or the image size changes."""
    group: list[tuple[Request, Tensor]] = []
    for request, images in drawn:
        held = sum(len(other) for _, other in group)
        if group and (held + len(images) > batch_size or images.shape[1:] != group[0][1].shape[1:]):
            yield group
            group = []
        group.append((request, images))
    if group:
        yield group


def _generator(tools: Toolbox) -> ImageGenerator:
    if tools.generator is None:
        raise ValueError("The toolbox has no generator.")
    return tools.generator


def _clip(tools: Toolbox) -> ImageTextEncoder:
    if tools.clip is None:
        raise ValueError("The toolbox has no clip.")
    return tools.clip
