"""The background swap over a probing set: whose background an image gets, and what its annotation shows then.

A donor depends on the run's seed, the variant and the image alone, not on severity or batch. It has a foreground and a
background, and beside its object a strip wide enough to be repeated over it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from tasks.activations.spool import blocks
from tasks.common.errors import UserError
from tasks.common.seeding import integer_seed
from tasks.observation import ConceptPresence, Segmentation
from tasks.perturbations.engine import REFERENCE_SIDE
from tasks.perturbations.swap import BACKGROUND_STAYS, background_of, changed, largest_strip

if TYPE_CHECKING:
    from tasks.observe import Probe

NARROWEST = 8
"""Width in pixels, at 224 px, of the narrowest strip that is repeated over a donor's object."""

_AT_ONCE = 128


def no_classes(name: str) -> UserError:
    """The error for a variant that needs classes, over images that have none."""
    return UserError(
        f"{name} takes backgrounds by class, but the probing images have neither classes nor scenes: "
        f"leave {name} out of the suites, or use images with classes."
    )


class Donors:
    """The images whose backgrounds the others get.

    Args:
        probe: All images of the run, with masks.
        name: ``mixed_same``, ``mixed_rand`` or ``mixed_next``.

    Raises:
        UserError: The images have no classes.
    """

    def __init__(self, probe: Probe, name: str, seed: int) -> None:
        if probe.class_of is None:
            raise no_classes(name)
        self._probe, self._name, self._seed = probe, name, seed
        self._class_of = probe.class_of

    def of(self, index: int) -> int:
        """The number of the image whose background an image gets.

        Raises:
            UserError: There is no image of the class that it needs.
        """
        own, image = self._class_of(index), self._probe.ids[index]
        itself = index in self._by_class.get(own, ())
        classes = [one for one in sorted(self._by_class) if one != own or len(self._by_class[one]) > itself]
        if self._name == "mixed_next":
            # The list of classes is a circle.
            classes = sorted((one for one in classes if one != own), key=lambda one: (one < own, one))[:1]
        elif self._name == "mixed_same":
            classes = [one for one in classes if one == own]
        if not classes:
            raise UserError(
                f"{self._name} finds no background for the image {image}: it needs another image, of "
                f"{'another' if self._name == 'mixed_next' else 'its'} class, whose object leaves a strip of "
                f"{NARROWEST} px; use more images, or leave {self._name} out of the suites."
            )
        drawn = classes[integer_seed(self._seed, "donor class", self._name, image) % len(classes)]
        donors = self._by_class[drawn]
        if drawn != own or not itself:
            return donors[integer_seed(self._seed, "donor", self._name, image) % len(donors)]
        place = integer_seed(self._seed, "donor", self._name, image) % (len(donors) - 1)
        return donors[place + (donors[place] >= index)]

    def backgrounds(self, indices: Sequence[int]) -> UInt8[Tensor, "k 3 h w"]:
        """The donors' images for some of the images, without their objects."""
        assert self._probe.masks is not None  # noqa: S101 as for every change of one part
        chosen = [self.of(index) for index in indices]
        return background_of(self._probe.load(chosen), self._probe.masks(chosen))

    @cached_property
    def _by_class(self) -> dict[int, list[int]]:
        """Class → the images that can be donors, in order of their identifiers."""
        assert self._probe.masks is not None  # noqa: S101 as for every change of one part
        found: dict[int, list[int]] = {}
        for part in blocks(len(self._probe.ids), _AT_ONCE):
            masks = self._probe.masks(part)
            _, width = largest_strip(masks)
            usable = masks.any((1, 2)) & (width * REFERENCE_SIDE >= NARROWEST * min(masks.shape[1:]))
            for index in (part[place] for place in usable.nonzero()[:, 0].tolist()):
                found.setdefault(self._class_of(index), []).append(index)
        return found


def annotated(probe: Probe, name: str, changes: Bool[np.ndarray, " n"], donors: Donors | None) -> Probe:
    """The probe with annotation that follows the pixels of the background swap.

    Under the foreground an image keeps its own annotation, elsewhere it has its donor's, and what is black shows
    nothing. Image-level concepts, such as the scene, go with the background. Without segmentation an image shows its
    class as long as its foreground is there.

    Args:
        probe: With masks.
        name: One of ``CHANGES``.
        changes: Whether an image is changed.
        donors: For the variants that need them.
    """
    whole, shown, masks = probe.segmentation, probe.presence, probe.masks
    assert masks is not None  # noqa: S101 as for every change of one part
    if whole is None:
        if shown is not None and name in BACKGROUND_STAYS:
            shown = replace(shown, shown=shown.shown & ~changes[:, None])
        return replace(probe, presence=shown)

    def layers(index: int) -> tuple[list[str], Int[Tensor, "1 c h w"], Bool[Tensor, "1 h w"]]:
        """The categories that are annotated by pixel, their annotation and the foreground in its size."""
        own = {name: found for name, found in whole.pixels(index).items() if not isinstance(found, list)}
        stacked = np.stack([*own.values()]) if own else np.zeros((0, *whole.size), np.int64)
        mask = masks([index])
        rows, columns = (
            (2 * torch.arange(new) + 1) * old // (2 * new) for new, old in zip(whole.size, mask.shape[1:], strict=True)
        )
        return list(own), torch.from_numpy(stacked.astype(np.int64))[None], mask[:, rows][:, :, columns]

    def pixels(index: int) -> Mapping[str, Int[np.ndarray, "h w"] | list[int]]:
        if not changes[index]:
            return whole.pixels(index)
        names, own, mask = layers(index)
        donor = None if donors is None else donors.of(index)
        behind = index if donor is None else donor
        around = {name: found for name, found in whole.pixels(behind).items() if isinstance(found, list)}
        if donor is None:
            found = changed(name, own, mask, None)
        else:
            others, values, its_mask = layers(donor)
            place = {category: number for number, category in enumerate(others)}
            nothing = torch.zeros_like(own[:, :1])
            beneath = [values[:, place[one]][:, None] if one in place else nothing for one in names]
            found = changed(name, own, mask, background_of(torch.cat(beneath, 1), its_mask) if names else own)
        kept = dict(zip(names, found[0].numpy(), strict=True))
        return {**kept, **({key: [] for key in around} if name == "only_fg" else around)}

    segmentation = replace(whole, pixels=pixels)
    return replace(probe, segmentation=segmentation, presence=shown and _presence(shown, segmentation, changes))


def _presence(shown: ConceptPresence, segmentation: Segmentation, changes: Bool[np.ndarray, " n"]) -> ConceptPresence:
    """Of the changed images, what the annotation still shows; concepts that it does not know stay as they are."""
    numbers = {name: number for number, name in enumerate(segmentation.labels) if number}
    known = [column for column, name in enumerate(shown.concepts) if name in numbers]
    wanted = [numbers[shown.concepts[column]] for column in known]
    after = shown.shown.copy()
    for index in np.flatnonzero(changes).tolist():
        seen = [np.unique(found) for found in segmentation.pixels(index).values()]
        after[index, known] = np.isin(wanted, np.concatenate(seen)) if seen else False
    return replace(shown, shown=after)
