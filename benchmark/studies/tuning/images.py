"""Probing sets of which a share is perturbed on purpose: are labels better, or more stable?

A perturbed image replaces its original. The number of images, their content, and the cost of a pass are then the same
at every share, so that only the share differs; in addition to its original, an image would count twice, and the most
activating images of a unit would come in pairs.

An image is perturbed on purpose after the condition under test is applied: whoever augments a probing set has the
photographs of a foggy day, and perturbs those. If the added images came from clean ones instead, ever less of the set
would change under a condition as the share grows, and labels would be stable for that reason alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
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


def mixed(plain: Observation, changed: Observation, rows: Int[np.ndarray, " images"]) -> Observation:
    """The observation ``plain`` with some of its images replaced by those of another observation.

    Args:
        changed: Of the same layer; it may hold the replacing images alone, in any order.
        rows: The number in ``changed`` of what replaces each image; -1 keeps it.
    """
    places = torch.from_numpy(rows)
    replaces, numbers = places >= 0, places.clamp(min=0)

    def chosen(own: Tensor, other: Tensor) -> Tensor:
        return torch.where(replaces[:, None], other[numbers].to_dense(), own.to_dense())

    def images(indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        return _replaced(plain.images(indices), places[list(indices)], changed.images)

    maps = None
    if plain.maps is not None and changed.maps is not None:
        maps = _MixedMaps(plain.maps, changed.maps, places)
    return replace(
        plain,
        activations=chosen(plain.activations, changed.activations),
        maps=maps,
        clip_embeddings=chosen(plain.clip_embeddings, changed.clip_embeddings),
        images=images,
    )


class _MixedMaps:
    def __init__(self, plain: Maps, changed: Maps, places: Int[Tensor, " images"]) -> None:
        self._plain = plain
        self._changed = changed
        self._places = places

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self._plain.shape

    def read(self, images: Sequence[int], units: Sequence[int]) -> Float[Tensor, "images units h w"]:
        own = self._plain.read(images, units)
        return _replaced(own, self._places[list(images)], lambda rows: self._changed.read(rows, units))

    def blocks(self, units: Sequence[int] | None = None) -> Iterator[tuple[range, Float[Tensor, "images units h w"]]]:
        known = range(self.shape[1]) if units is None else units
        for part, plain in self._plain.blocks(units):
            places = self._places[part.start : part.stop]
            yield part, _replaced(plain, places, lambda rows: self._changed.read(rows, known))


def _replaced(own: Tensor, places: Int[Tensor, " k"], read: Callable[[Sequence[int]], Tensor]) -> Tensor:
    """Some rows, those with a place replaced by what is read there."""
    replaces = places >= 0
    if not replaces.any():
        return own
    found = own.clone()
    found[replaces] = read(places[replaces].tolist())
    return found
