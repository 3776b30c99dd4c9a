"""The images that a method has drawn of its candidate concepts: each drawn once, and measured once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from baselines.base import UnitLabels
from tasks.cache.keys import canonical, text_sha256
from tasks.observation import Toolbox
from tasks.roles import ImageGenerator, ImageTextEncoder, MeasurementStore

PROMPT = "One realistic image of {concept}"
CAPACITY = 2000


@dataclass(frozen=True)
class Request:
    """The first ``count`` synthetic images of a concept: what determines their measurements, given the models.

    Image i depends on everything here but ``count``, so that a larger request continues a smaller one.

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


@dataclass(frozen=True)
class Draw:
    """What a method must have drawn before it can go on.

    Attributes:
        requests: What is drawn; duplicates are drawn once.
        captions: Whether the images are captioned instead of measured.
    """

    requests: tuple[Request, ...]
    captions: bool = False


Drawn: TypeAlias = Mapping[Request, Any]
"""The answer to a ``Draw``: a ``Synthetic`` per distinct request, or the images' captions."""

Steps: TypeAlias = Generator[Draw, Drawn, list[UnitLabels]]
"""A method's ``steps(observation, units, tools)``: yields what it must have drawn, and returns the labels."""


def drive(steps: Steps, tools: Toolbox, batch_size: int) -> list[UnitLabels]:
    """Run a method's steps in this process; whatever they ask is drawn at once."""
    try:
        asked = next(steps)
        while True:
            asked = steps.send(answer(asked, tools, batch_size))
    except StopIteration as end:
        return end.value


def answer(asked: Draw, tools: Toolbox, batch_size: int) -> Drawn:
    """Draw, and measure or caption, what a method asks, as far as the toolbox's bank does not have it.

    Args:
        tools: Provides ``generator``, and ``activate`` and ``clip`` or ``captioner``.
    """
    bank = bank_of(tools)
    look = bank.captions if asked.captions else bank.measure
    return look(asked.requests, tools, batch_size)


class ConceptBank:
    """Generates the concepts of one toolbox and caches their measurements, so that conditions and methods share them.

    Pixels are not kept: the same request generates the same images again (``draw``). Beyond ``capacity`` the least
    recently used concept is dropped; results never depend on what is cached.

    Args:
        capacity: Maximum number of cached concepts (2,048 units × 10 images take 80 kB per concept).
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._measured: OrderedDict[Request, _Rows] = OrderedDict()
        self._captions: OrderedDict[Request, _Rows] = OrderedDict()

    def measure(self, requests: Iterable[Request], tools: Toolbox, batch_size: int) -> dict[Request, Synthetic]:
        """Activations and embeddings of the synthetic images of every distinct request.

        Args:
            tools: The bank's toolbox; provides ``generator``, ``activate`` and ``clip``.
        """

        def look(images: Tensor) -> _Rows:
            embedded = _clip(tools).encode_images(images).float().cpu()
            return tools.activate(images).float().cpu().numpy(), embedded.numpy()

        store = None if tools.kept is None else _Store(tools.kept)
        found = self._remembered(self._measured, requests, tools, batch_size, look, True, store)
        return {request: Synthetic(*rows) for request, rows in found.items()}

    def captions(self, requests: Iterable[Request], tools: Toolbox, batch_size: int) -> dict[Request, tuple[str, ...]]:
        """Captions of the synthetic images of every distinct request, at the size they were generated.

        Args:
            tools: The bank's toolbox; provides ``generator`` and ``captioner``.
        """

        def look(images: Tensor) -> _Rows:
            if tools.captioner is None:
                raise ValueError("The toolbox has no captioner.")
            return (np.array(tools.captioner.caption(images), dtype=object),)

        found = self._remembered(self._captions, requests, tools, batch_size, look, False)
        return {request: tuple(rows[0]) for request, rows in found.items()}

    def _remembered(
        self,
        memory: OrderedDict[Request, _Rows],
        requests: Iterable[Request],
        tools: Toolbox,
        batch_size: int,
        look: Callable[[Tensor], _Rows],
        reduced: bool,
        store: _Store | None = None,
    ) -> dict[Request, _Rows]:
        asked = dict.fromkeys(requests)
        most: dict[Request, int] = {}
        for request in asked:
            concept = replace(request, count=0)
            most[concept] = max(most.get(concept, 0), request.count)
        held: dict[Request, _Rows] = {}
        for concept in most:
            if concept in memory:
                memory.move_to_end(concept)
                held[concept] = memory[concept]
        if store is not None:
            wanted = {
                concept: range(len(held[concept][0]) if concept in held else 0, most[concept]) for concept in most
            }
            for concept, new in store.find(wanted).items():
                held[concept] = memory[concept] = _joined(held.get(concept), new)
        have = {concept: len(rows[0]) for concept, rows in held.items()}
        drawn = (
            (concept, draw(replace(concept, count=count), _generator(tools), reduced, have.get(concept, 0)))
            for concept, count in most.items()
            if have.get(concept, 0) < count
        )
        for group in _batches(drawn, batch_size):
            # Concepts share a forward pass; results are split again by the number of images of each.
            results = look(torch.cat([images for _, images in group]))
            start = 0
            for concept, images in group:
                new = tuple(rows[start : start + len(images)] for rows in results)
                held[concept] = memory[concept] = _joined(held.get(concept), new)
                start += len(images)
            if store is not None:
                store.keep({concept: (have.get(concept, 0), held[concept]) for concept, _ in group})
        while len(memory) > self.capacity:
            memory.popitem(last=False)
        return {request: tuple(rows[: request.count] for rows in held[replace(request, count=0)]) for request in asked}


_Rows: TypeAlias = tuple[np.ndarray, ...]
"""What was found of a concept's first images: arrays whose first axis is the images."""


def _joined(before: _Rows | None, new: _Rows) -> _Rows:
    # A copy in either case: a view would keep the whole batch.
    if before is None:
        return tuple(rows.copy() for rows in new)
    return tuple(np.concatenate(both) for both in zip(before, new, strict=True))


@dataclass(frozen=True)
class _Store:
    """Measurements of single images that outlive the process, as bytes: how many activations, these, the embedding."""

    kept: MeasurementStore

    def find(self, wanted: Mapping[Request, range]) -> dict[Request, _Rows]:
        """The measurements of each concept's images, up to the first that is missing."""
        items = {concept: [_item(concept, number) for number in numbers] for concept, numbers in wanted.items()}
        stored = self.kept.find([item for own in items.values() for item in own])
        found: dict[Request, _Rows] = {}
        for concept, own in items.items():
            rows = [np.frombuffer(stored[item], np.float32) for item in takewhile(stored.__contains__, own)]
            if rows:
                units = int(rows[0][:1].view(np.int32)[0])
                found[concept] = (
                    np.stack([row[1 : 1 + units] for row in rows]),
                    np.stack([r[1 + units :] for r in rows]),
                )
                self.kept.noted(concept.concept)
        return found

    def keep(self, measured: Mapping[Request, tuple[int, _Rows]]) -> None:
        """Store the measurements of each concept's images from a number on."""
        values: dict[bytes, bytes] = {}
        for concept, (first, (activations, embeddings)) in measured.items():
            head = np.int32(activations.shape[1]).tobytes()
            for number in range(first, len(activations)):
                body = activations[number].tobytes() + embeddings[number].tobytes()
                values[_item(concept, number)] = head + body
        self.kept.keep(values)


def _item(concept: Request, number: int) -> bytes:
    return text_sha256(canonical([concept.concept, concept.seed, concept.synth_px, PROMPT, number]))


def bank_of(tools: Toolbox) -> ConceptBank:
    """The bank of one toolbox, which determines all models; it lives as long as the toolbox does."""
    return tools.remembered(ConceptBank, ConceptBank)


def draw(
    request: Request, generator: ImageGenerator, reduced: bool = True, first: int = 0
) -> UInt8[Tensor, "images 3 h w"]:
    """Generate the images of one request.

    Args:
        reduced: Whether to reduce the images to ``synth_px``, as the target model sees them.
        first: Images before this number are left out.
    """
    images = generator.generate(request.concept, request.count - first, request.seed, PROMPT, first).cpu()
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
