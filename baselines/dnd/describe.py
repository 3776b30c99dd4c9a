"""What Describe-and-Dissect describes of a unit: its top images, their attention crops, and the best of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from baselines.base import Mode
from baselines.dnd.crops import Box, attention_boxes, crop_image, resize_image
from baselines.evidence import top_images
from tasks.common.errors import UserError
from tasks.observation import Observation, Toolbox

Place = tuple[int, Box | None]
"""The index of a probing image, and the box cropped from it (None: the image itself)."""


@dataclass(frozen=True)
class DescribedImage:
    """One described image or crop of a unit.

    Attributes:
        place: Its image and box.
        activation: The unit's pooled activation on it.
    """

    place: Place
    activation: float


class Pictures:
    """The originals and crops of one block of units, read once and cropped on demand.

    Args:
        observation: Source of the images.
        indices: The probing images that will be needed.
        crop_px: Edge of a crop in pixels.
        batch_size: How many images to read at once.
    """

    def __init__(self, observation: Observation, indices: Iterable[int], crop_px: int, batch_size: int) -> None:
        self.crop_px = crop_px
        self._images: dict[int, UInt8[Tensor, "3 h w"]] = {}
        self._whole: tuple[int, UInt8[np.ndarray, "size size 3"]] | None = None
        wanted = sorted(set(indices))
        for start in range(0, len(wanted), batch_size):
            block = wanted[start : start + batch_size]
            self._images.update(zip(block, observation.images(block).cpu(), strict=True))

    def pixels(self, place: Place) -> UInt8[Tensor, "3 h w"]:
        """The pixels of one image: originals at their own size, crops at ``crop_px``."""
        index, box = place
        image = self._images[index]
        if box is None:
            return image
        # The crops of one image are requested consecutively, so caching the last image's resized form is enough.
        if self._whole is None or self._whole[0] != index:
            whole = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
            self._whole = (index, resize_image(whole, self.crop_px))
        return torch.from_numpy(crop_image(self._whole[1], box, self.crop_px)).permute(2, 0, 1)

    def apply(self, role: Callable[[Tensor], Any], places: Iterable[Place], batch_size: int) -> dict[Place, Any]:
        """Apply a role to every distinct image, in batches of equal size, and collect one result per image.

        Args:
            role: Takes uint8 [k, 3, h, w] and returns k results: a list, or a tensor whose first axis has length k.
            places: The images and crops; duplicates are processed once.
        """
        originals: list[Place] = []
        crops: list[Place] = []
        for place in dict.fromkeys(places):
            (originals if place[1] is None else crops).append(place)
        results: dict[Place, Any] = {}
        for group in (originals, crops):
            for start in range(0, len(group), batch_size):
                batch = group[start : start + batch_size]
                results.update(zip(batch, role(torch.stack([self.pixels(p) for p in batch])), strict=True))
        return results


def crop_places(observation: Observation, unit: int, indices: Sequence[int], mode: Mode, crop_px: int) -> list[Place]:
    """The attention crops of one unit's top images; none for layers without spatial maps.

    Vector layers have no maps. For token layers the release reshapes one neuron-independent vector into an image, which
    says nothing about the unit, so they get no crops either.

    Args:
        mode: How a map becomes a heat map, see ``baselines.dnd.crops.heat_map``.
        crop_px: Edge of the resized image that boxes refer to.

    Raises:
        UserError: A spatial layer without maps.
    """
    if observation.kind != "spatial":
        return []
    if observation.maps is None:
        raise UserError(
            f"Describe-and-Dissect needs the activation maps of the spatial layer {observation.layer!r} for its "
            "attention crops; observe the layer with maps, or use the variant without crops."
        )
    maps = observation.maps.read(indices, [unit])[:, 0].float().numpy()
    return [(i, box) for i, one in zip(indices, maps, strict=True) for box in attention_boxes(one, mode, crop_px)]


def activations_of(
    pictures: Pictures, places_of: Mapping[int, Sequence[Place]], tools: Toolbox, batch_size: int
) -> dict[tuple[int, Place], float]:
    """Activations of crops; each crop is processed once however many units share it.

    Args:
        places_of: Unit → its crops.
        tools: Provides ``activate``.

    Returns:
        (unit, crop) → the unit's activation.
    """
    askers: dict[Place, list[int]] = {}
    for unit, places in places_of.items():
        for place in places:
            askers.setdefault(place, []).append(unit)
    columns = sorted(places_of)

    def activate(images: Tensor) -> Tensor:
        # Only the block's own columns are kept: a layer may have thousands of units.
        return tools.activate(images)[:, columns].float().cpu()

    rows = pictures.apply(activate, askers, batch_size)
    position = {unit: i for i, unit in enumerate(columns)}
    return {(unit, p): float(rows[p][position[unit]]) for p, units in askers.items() for unit in units}


def describe_units(
    observation: Observation,
    tops: Mapping[int, Sequence[int]],
    pictures: Pictures,
    tools: Toolbox,
    *,
    mode: Mode,
    crops: bool,
    batch_size: int,
    keep: int = 10,
) -> dict[int, list[DescribedImage]]:
    """For each unit the images to describe: its most activating originals and crops.

    The release pools the crops of all requested units and then keeps those of the unit itself; using only the unit's
    own gives the same result and does not depend on the other requested units. Originals keep the activation recorded
    in the observation.

    Args:
        tops: Unit → its top images, most activating first.
        pictures: Provides the pixels of all those images.
        tools: Provides ``activate``.
        mode: See ``baselines.dnd.crops.heat_map``.
        crops: Whether to make crops at all.
        keep: Maximum number of described images per unit.

    Returns:
        Unit → at most ``keep`` images and crops, most activating first; on ties originals come before crops.
    """
    cut: dict[int, list[Place]] = {}
    for unit, indices in tops.items():
        cut[unit] = crop_places(observation, unit, indices, mode, pictures.crop_px) if crops else []
    activated = activations_of(pictures, cut, tools, batch_size)
    described: dict[int, list[DescribedImage]] = {}
    for unit, indices in tops.items():
        column = observation.activations[list(indices), unit].float().cpu().tolist()
        pool = [DescribedImage((i, None), a) for i, a in zip(indices, column, strict=True)]
        pool += [DescribedImage(place, activated[unit, place]) for place in cut[unit]]
        best = top_images(np.array([picture.activation for picture in pool]), keep, split=True)
        described[unit] = [pool[i] for i in best]
    return described
