"""A small observation for the tests of the methods: everything optional but the activations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.activations.maps import MemoryMaps
from tasks.observation import ConceptPresence, LayerKind, Observation, Segmentation, Toolbox


def observation(
    activations: Tensor,
    *,
    maps: Tensor | None = None,
    kind: LayerKind = "vector",
    clip_embeddings: Tensor | None = None,
    segmentation: Segmentation | None = None,
    presence: ConceptPresence | None = None,
    condition: str = "clean",
    severity: int = 0,
    repeat: int = 0,
) -> Observation:
    count = len(activations)
    return Observation(
        layer="layer4",
        kind=kind,
        condition=condition,
        severity=severity,
        repeat=repeat,
        image_ids=tuple(f"image-{index}" for index in range(count)),
        activations=activations,
        maps=None if maps is None else MemoryMaps(maps),
        clip_embeddings=torch.ones(count, 4) / 2 if clip_embeddings is None else clip_embeddings,
        images=lambda indices: torch.zeros(len(indices), 3, 8, 8, dtype=torch.uint8),
        segmentation=segmentation,
        presence=presence,
    )


def toolbox(**tools) -> Toolbox:
    return Toolbox(**{"seed": 0, "activate": lambda images: torch.zeros(len(images), 1), **tools})


class TableEncoder:
    """A CLIP stand-in that looks the text embeddings up and counts how often it is asked."""

    def __init__(self, rows: dict[str, Tensor]) -> None:
        self.rows = rows
        self.calls = 0

    def encode_images(self, images: Tensor) -> Tensor:
        raise AssertionError("CLIP-Dissect takes the observation's image embeddings")

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.calls += 1
        return torch.stack([self.rows[text] for text in texts])
