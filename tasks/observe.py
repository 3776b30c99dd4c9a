"""One pass over the probing images under one condition, for all layers and methods at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from tasks.activations import Pooling
from tasks.maps import MemoryMaps
from tasks.models.target import TargetModel
from tasks.observation import Observation, Segmentation
from tasks.perturbations.settings import Settings, needs_foreground
from tasks.roles import ImageTextEncoder
from tasks.seeding import integer_seed


@dataclass(frozen=True)
class Condition:
    """A perturbation at a severity; ``clean`` has severity 0."""

    name: str
    severity: int

    def __str__(self) -> str:
        return self.name if self.severity == 0 else f"{self.name} {self.severity}"


CLEAN = Condition("clean", 0)
_PERTURBED_AT_ONCE = 256


@dataclass(frozen=True)
class Probe:
    """The images of a run.

    Attributes:
        ids: One identifier an image.
        images: uint8 [n, 3, h, w], unperturbed.
        foreground: Masks for foreground and background blur, where a condition needs them.
        segmentation: Concept annotation, if the probing set has one.
    """

    ids: tuple[str, ...]
    images: UInt8[Tensor, "n 3 h w"]
    foreground: Bool[Tensor, "n h w"] | None
    segmentation: Segmentation | None

    def usable(self, condition: Condition) -> Probe:
        """The images that a condition can be made of: all, or those with a foreground and a background."""
        if not needs_foreground(condition.name) or self.foreground is None:
            return self
        share = self.foreground.flatten(1).float().mean(1)
        kept = torch.nonzero((share > 0) & (share < 1)).flatten()
        return self if len(kept) == len(self.ids) else self._chosen(kept)

    def _chosen(self, kept: Int[Tensor, " k"]) -> Probe:
        indices = kept.tolist()
        whole = self.segmentation
        return Probe(
            ids=tuple(self.ids[index] for index in indices),
            images=self.images[kept],
            foreground=None if self.foreground is None else self.foreground[kept],
            segmentation=whole and replace(whole, pixels=lambda index: whole.pixels(indices[index])),
        )


def image_seeds(seed: int, ids: Sequence[str], condition: Condition, repeat: int = 0) -> list[int]:
    """One seed an image; it depends on nothing but the run's seed, the image, the condition and the repeat."""
    return [integer_seed(seed, "perturb", name, condition.name, condition.severity, repeat) for name in ids]


def perturbed(
    probe: Probe, condition: Condition, seed: int, settings: Settings, device: torch.device
) -> UInt8[Tensor, "n 3 h w"]:
    """The images under a condition, on the CPU.

    Args:
        probe: Images that the condition can be made of; see ``Probe.usable``.
        condition: The condition.
        seed: The run's seed.
        settings: The run's choices.
        device: Where they are perturbed.
    """
    if condition == CLEAN:
        return probe.images
    seeds = image_seeds(seed, probe.ids, condition)
    masks = probe.foreground if needs_foreground(condition.name) else None
    parts = []
    for start in range(0, len(probe.ids), _PERTURBED_AT_ONCE):
        part = slice(start, start + _PERTURBED_AT_ONCE)
        own = None if masks is None else masks[part].to(device)
        images = probe.images[part].to(device)
        parts.append(settings.apply(images, condition.name, condition.severity, seeds[part], own).cpu())
    return torch.cat(parts)


def observe(
    target: TargetModel,
    layers: Mapping[str, Pooling],
    probe: Probe,
    condition: Condition,
    images: UInt8[Tensor, "n 3 h w"],
    clip: ImageTextEncoder,
    *,
    maps: Sequence[str] = (),
    batch: int = 128,
    advance: Callable[[int], None] = lambda count: None,
) -> dict[str, Observation]:
    """Read the layers and the CLIP embeddings of the images of one condition.

    Args:
        target: The network.
        layers: Dotted layer name → pooling.
        probe: What the images are.
        condition: What was done to them.
        images: The images after it, in the order of ``probe.ids``.
        clip: The image-text encoder.
        maps: The layers whose un-pooled maps some method needs.
        batch: Images read between two calls of ``advance``; a runtime setting.
        advance: Told how many images are done.

    Returns:
        Layer name → observation with repeat 0.
    """
    readings, embeddings = [], []
    for part in images.split(batch):
        readings.append(target.read(part, layers, maps))
        embeddings.append(clip.encode_images(part))
        advance(len(part))
    joined = torch.cat(embeddings)
    observations = {}
    for layer in layers:
        stored = [reading[layer].maps for reading in readings]
        present = [part for part in stored if part is not None]
        observations[layer] = Observation(
            layer=layer,
            kind=readings[0][layer].kind,
            condition=condition.name,
            severity=condition.severity,
            repeat=0,
            image_ids=probe.ids,
            activations=torch.cat([reading[layer].pooled for reading in readings]),
            maps=MemoryMaps(torch.cat(present)) if present else None,
            clip_embeddings=joined,
            images=lambda indices: images[torch.as_tensor(np.asarray(indices, dtype=np.int64))],
            segmentation=probe.segmentation,
        )
    return observations


def repeated(observation: Observation, repeat: int) -> Observation:
    """The same clean images once more: only the methods' own draws differ."""
    return replace(observation, repeat=repeat)
