"""Probing sets of which a share is perturbed on purpose: are labels better, or more stable?

A perturbed image replaces its original. The number of images, their content, and the cost of a pass are then the same
at every share, so that only the share differs; in addition to its original, an image would count twice, and the most
activating images of a unit would come in pairs.

An image is perturbed on purpose after the condition under test is applied: whoever augments a probing set has the
photographs of a foggy day, and perturbs those. If the added images came from clean ones instead, ever less of the set
would change under a condition as the share grows, and labels would be stable for that reason alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tasks.activations.maps import Maps
from tasks.activations.spool import Spool
from tasks.common.seeding import generator, integer_seed
from tasks.observation import Observation
from tasks.observe import Images, Probe
from tasks.perturbations.settings import Settings, needs_foreground


@dataclass(frozen=True)
class Suite:
    """Perturbations applied to images on purpose.

    Attributes:
        names: Perturbations; each image gets one of them, drawn by its identifier.
        severity: Severity of all of them.
    """

    names: tuple[str, ...]
    severity: int


def with_suite(
    probe: Probe, images: Images, suite: Suite, seed: int, settings: Settings, device: torch.device
) -> Images:
    """Each image perturbed with one of the suite's perturbations, always the same one; kept on disk.

    Args:
        probe: Ids and masks of the unperturbed images.
        images: The images, perhaps under a condition.
    """
    seeds = [integer_seed(seed, "augment", name) for name in probe.ids]
    drawn = np.array([generator(seed, "augment", "which", name).integers(len(suite.names)) for name in probe.ids])

    def made(indices: Sequence[int]) -> UInt8[np.ndarray, "k 3 h w"]:
        before = images(indices)
        after = np.empty(tuple(before.shape), np.uint8)
        for number, name in enumerate(suite.names):
            places = np.flatnonzero(drawn[list(indices)] == number)
            if not len(places):
                continue
            rows = [indices[place] for place in places.tolist()]
            masks = probe.masks(rows).to(device) if probe.masks and needs_foreground(name) else None
            own, own_seeds = before[torch.from_numpy(places)].to(device), [seeds[row] for row in rows]
            after[places] = settings.apply(own, name, suite.severity, own_seeds, masks).cpu().numpy()
        return after

    kept = Spool(len(probe.ids), tuple(probe.load([0]).shape[1:]), np.uint8, made)
    return lambda indices: torch.from_numpy(kept.read(indices))


def replaced(ids: Sequence[str], share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Which images are perturbed at a share; a smaller share gives a subset.

    Raises:
        ValueError: A share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share must be between 0 and 1, not {share}")
    order = sorted(range(len(ids)), key=lambda index: integer_seed(seed, "augment", "order", ids[index]))
    chosen = np.zeros(len(ids), np.bool_)
    chosen[order[: round(share * len(ids))]] = True
    return chosen


def mixed(plain: Observation, changed: Observation, chosen: Bool[np.ndarray, " images"]) -> Observation:
    """Combines two observations of the same images: the chosen images from ``changed``, the others from ``plain``."""
    rows = torch.from_numpy(chosen)

    def images(indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        own = rows[list(indices)][:, None, None, None]
        return torch.where(own, changed.images(indices), plain.images(indices))

    maps = None
    if plain.maps is not None and changed.maps is not None:
        maps = _MixedMaps(plain.maps, changed.maps, rows)
    return replace(
        plain,
        activations=torch.where(rows[:, None], changed.activations, plain.activations),
        maps=maps,
        clip_embeddings=torch.where(rows[:, None], changed.clip_embeddings, plain.clip_embeddings),
        images=images,
    )


class _MixedMaps:
    def __init__(self, plain: Maps, changed: Maps, chosen: Bool[Tensor, " images"]) -> None:
        self._plain = plain
        self._changed = changed
        self._chosen = chosen[:, None, None, None]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self._plain.shape

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        chosen = self._chosen[list(images)]
        return torch.where(chosen, self._changed.read(images, units), self._plain.read(images, units))

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        pairs = zip(self._plain.blocks(units), self._changed.blocks(units), strict=True)
        for (part, plain), (_, changed) in pairs:
            yield part, torch.where(self._chosen[part.start : part.stop], changed, plain)
