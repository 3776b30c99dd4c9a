"""One pass over the probing images under one condition, for all layers and methods at once.

Images are processed in blocks: read or decoded, perturbed, passed through the target and CLIP. The CLIP embeddings and
the pooled activations of the complete layers stay in memory, 4 bytes per unit and image: CLIP-Dissect compares all
units on all images. Of the latents of a dictionary only values other than 0 are kept, 8 bytes each. Images and maps are
kept on disk, see ``tasks.activations.spool``.

Pooled activations stay float32. In float16 some tie: of the 2,048 units of the miniature's ``layer4``, over 500 images,
15 would have different top-ten images, and 125 a different order (in bfloat16 150 and 805).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tasks.activations.capture import Pooling
from tasks.activations.maps import Shape, StoredMaps, TopMaps
from tasks.activations.sparse import SparseColumns, sparse_rows
from tasks.activations.spool import Spool, blocks
from tasks.common.seeding import integer_seed
from tasks.donors import Donors, annotated
from tasks.models.target import LayerReading, MapsOf, TargetModel, units_of
from tasks.observation import ConceptPresence, LayerKind, Observation, Segmentation
from tasks.perturbations.draws import Draws
from tasks.perturbations.registry import PERTURBATIONS
from tasks.perturbations.settings import Settings, needs_background, needs_foreground
from tasks.perturbations.swap import CHANGES, are_changed
from tasks.probing.base import ProbingSet
from tasks.roles import ImageTextEncoder, Segmenter

Images = Callable[[Sequence[int]], UInt8[Tensor, "k 3 h w"]]
"""Returns some of the images of a condition, by index."""

Masks = Callable[[Sequence[int]], Bool[Tensor, "k h w"]]
"""Returns the foreground masks of some of the images, by index."""


@dataclass(frozen=True)
class Condition:
    """A perturbation at a severity; ``clean`` has severity 0."""

    name: str
    severity: int

    def __str__(self) -> str:
        return self.name if self.severity == 0 else f"{self.name} {self.severity}"


CLEAN = Condition("clean", 0)
IMAGES_AT_ONCE = 128
"""Images per block: 19 MB at 224 px."""


@dataclass(frozen=True)
class Probe:
    """The images of a run.

    Attributes:
        load: Returns the unperturbed images.
        masks: Returns their foreground masks, if a condition needs them.
        class_of: Returns the number of an image's class or, where the set has no classes, of its first annotated scene
            (0: none); None where it has neither.
        divided: Which images have a foreground and a background; None without masks.
        segmentation: Concept annotation, if the probing set has one.
        presence: Which concepts the images show, if that is known.
    """

    ids: tuple[str, ...]
    load: Images
    masks: Masks | None = None
    divided: Bool[np.ndarray, " n"] | None = None
    segmentation: Segmentation | None = None
    presence: ConceptPresence | None = None
    class_of: Callable[[int], int] | None = None

    def only(self, kept: Sequence[int]) -> Probe:
        """Some of the images, by their numbers, all of them with a foreground and a background."""
        whole, masks, class_of = self.segmentation, self.masks, self.class_of
        return Probe(
            ids=tuple(self.ids[index] for index in kept),
            load=lambda indices: self.load([kept[index] for index in indices]),
            masks=masks and (lambda indices: masks([kept[index] for index in indices])),
            divided=np.ones(len(kept), np.bool_),
            segmentation=whole and replace(whole, pixels=lambda index: whole.pixels(kept[index])),
            presence=self.presence and self.presence.of(kept),
            class_of=class_of and (lambda index: class_of(kept[index])),
        )


def probe_of(probing: ProbingSet, *, masked: bool, segmenter: Segmenter | None = None) -> Probe:
    """The images of a probing set.

    Args:
        masked: Whether some condition needs foreground masks; all of them are then read or computed here, block by
            block.
        segmenter: Source of the masks; None for the probing set's own, if it has any.
    """
    shown = ConceptPresence(probing.concepts, probing.presence) if probing.concepts else None
    whole = Probe(
        probing.ids, probing.load, segmentation=probing.segmentation, presence=shown, class_of=classes_of(probing)
    )
    masks = _masks(probing, segmenter) if masked else None
    if masks is None:
        return whole
    divided = np.zeros(len(probing.ids), np.bool_)
    for part in blocks(len(probing.ids), IMAGES_AT_ONCE):
        flat = masks(part).flatten(1)
        divided[part.start : part.stop] = (flat.any(1) & ~flat.all(1)).numpy()
    return replace(whole, masks=masks, divided=divided)


def classes_of(probing: ProbingSet) -> Callable[[int], int] | None:
    """Returns the class of an image, see ``Probe``; None where the set has neither classes nor scenes."""
    classes, whole = getattr(probing, "classes", None), probing.segmentation
    if classes is not None:
        return lambda index: int(classes[index])
    if whole is None or "scene" not in whole.categories:
        return None
    return lambda index: next((int(scene) for scene in np.ravel(whole.pixels(index).get("scene", [])) if scene), 0)


def _masks(probing: ProbingSet, segmenter: Segmenter | None) -> Masks | None:
    if segmenter is None:
        # A set with masks also returns them for an empty selection.
        return None if probing.load_foreground([]) is None else cast(Masks, probing.load_foreground)

    def made(indices: Sequence[int]) -> Bool[np.ndarray, "k h w"]:
        return segmenter.foreground(probing.load(indices)).cpu().numpy()

    kept = Spool(len(probing.ids), tuple(probing.load([0]).shape[2:]), np.bool_, made)
    return lambda indices: torch.from_numpy(kept.read(indices))


def image_seeds(seed: int, ids: Sequence[str], condition: Condition, repeat: int = 0) -> list[int]:
    """One seed per image; it depends only on the run's seed, the image, the condition and the repeat."""
    return [integer_seed(seed, "perturb", name, condition.name, condition.severity, repeat) for name in ids]


def perturbed(probe: Probe, condition: Condition, seed: int, settings: Settings, device: torch.device) -> Images:
    """The images under a condition, on the CPU; each is perturbed on first access, and kept on disk.

    Args:
        probe: The images; all of them have masks where the condition needs them.
    """
    if condition == CLEAN:
        return probe.load
    seeds = image_seeds(seed, probe.ids, condition)
    masks = probe.masks if needs_foreground(condition.name) else None
    donors = Donors(probe, condition.name, seed) if needs_background(condition.name) else None

    def made(indices: Sequence[int]) -> UInt8[np.ndarray, "k 3 h w"]:
        own = None if masks is None else masks(indices).to(device)
        images, own_seeds = probe.load(indices).to(device), [seeds[index] for index in indices]
        behind = None if donors is None else donors.backgrounds(indices).to(device)
        return settings.apply(images, condition.name, condition.severity, own_seeds, own, behind).cpu().numpy()

    kept = Spool(len(probe.ids), tuple(probe.load([0]).shape[1:]), np.uint8, made)
    return lambda indices: torch.from_numpy(kept.read(indices))


def as_shown(probe: Probe, condition: Condition, seed: int) -> Probe:
    """The probe with the annotation that its images have under a condition; only the background swap changes it.

    Args:
        probe: As for ``perturbed``.
    """
    if condition.name not in CHANGES:
        return probe
    (share,) = np.ravel(PERTURBATIONS[condition.name].parameters[condition.severity - 1])
    changes = are_changed(share, Draws(image_seeds(seed, probe.ids, condition), torch.device("cpu")))
    donors = Donors(probe, condition.name, seed) if needs_background(condition.name) else None
    return annotated(probe, condition.name, np.array(changes), donors)


def observe(
    target: TargetModel,
    layers: Mapping[str, Pooling],
    probe: Probe,
    condition: Condition,
    images: Images,
    clip: ImageTextEncoder,
    *,
    maps: MapsOf = (),
    mapped: int | None = None,
    batch: int = IMAGES_AT_ONCE,
    advance: Callable[[int], None] = lambda count: None,
    ahead: bool | None = None,
) -> dict[str, Observation]:
    """Compute the activations and the CLIP embeddings of the images of one condition.

    Args:
        layers: Dotted layer name → pooling.
        images: The images under the condition, see ``perturbed``.
        maps: The layers whose un-pooled maps some method needs; a mapping also selects their units.
        mapped: Number of a unit's top images whose maps are kept; None keeps all. Others are computed again when they
            are read.
        batch: Images read between two calls of ``advance``; a runtime setting.
        advance: Called with the number of finished images.
        ahead: Whether a thread makes the next images while the models see these; None where the target is on a GPU,
            which would otherwise wait.

    Returns:
        Layer name → observation with repeat 0.
    """
    count = len(probe.ids)

    def kept(layer: str, shape: Shape) -> StoredMaps | TopMaps:
        units = units_of(maps, layer)
        if mapped is None:
            return StoredMaps(shape, units)
        return TopMaps(shape, units, mapped, late_maps(target, layer, units, shape, images, batch))

    def sparse(layer: str) -> bool:
        readout = target.readout_of(layer)
        return readout is not None and readout.sparse

    taken = {layer: _Taken(count, partial(kept, layer), sparse(layer)) for layer in layers}
    # With no units a reading tells the size of a map, and costs nothing.
    asked = dict.fromkeys(maps, ()) if mapped == 0 else maps
    embeddings = torch.empty(0)
    ahead = target.device.type != "cpu" if ahead is None else ahead
    with contextlib.closing(_in_parts(images, list(blocks(count, batch)), ahead)) as parts:
        for part, pixels in parts:
            for layer, reading in target.read(pixels, layers, asked).items():
                taken[layer].add(part.start, reading)
            embedded = clip.encode_images(pixels)
            if not len(embeddings):
                embeddings = torch.empty(count, *embedded.shape[1:], dtype=embedded.dtype)
            embeddings[part.start : part.stop] = embedded
            advance(len(part))
    return {
        layer: Observation(
            layer=layer,
            kind=found.kind,
            condition=condition.name,
            severity=condition.severity,
            repeat=0,
            image_ids=probe.ids,
            activations=found.activations(),
            maps=found.maps,
            clip_embeddings=embeddings,
            images=images,
            segmentation=probe.segmentation,
            presence=probe.presence,
        )
        for layer, found in taken.items()
    }


def _in_parts(
    images: Images, parts: Sequence[range], ahead: bool
) -> Generator[tuple[range, UInt8[Tensor, "k 3 h w"]], None, None]:
    """The images of each part, in order; with ``ahead``, a thread makes those of the next while the caller has these.

    What is raised while a part is made is raised when its turn comes. The thread ends with the generator.
    """
    if not ahead:
        for part in parts:
            yield part, images(part)
        return
    thread = ThreadPoolExecutor(1, "read-ahead")
    try:
        following = [thread.submit(images, part) for part in parts[:1]]
        for number, part in enumerate(parts, start=1):
            pixels = following.pop().result()
            following += [thread.submit(images, part) for part in parts[number : number + 1]]
            yield part, pixels
    finally:
        thread.shutdown(cancel_futures=True)


def late_maps(
    target: TargetModel,
    layer: str,
    units: Sequence[int] | None,
    shape: Shape,
    images: Images,
    batch: int = IMAGES_AT_ONCE,
) -> StoredMaps:
    """Maps that a pass did not keep, computed when they are read.

    Images are passed through the target in the batches of ``observe``: other batches would change the last bits.

    Args:
        layer: A layer that has maps.
        units: The units that can be read; None for all.
        shape: Shape of the complete layer's maps.
        images: The images under the condition, see ``perturbed``.
        batch: The batch size that ``observe`` was given.
    """

    def made(image: int) -> tuple[int, Float[Tensor, "k units h w"]]:
        start = image - image % batch
        return start, _maps_of(target, layer, units, images, range(start, min(start + batch, shape[0])))

    return StoredMaps(shape, units, made)


def late_top_maps(
    target: TargetModel,
    layer: str,
    units: Sequence[int],
    shape: Shape,
    images: Images,
    mapped: int,
    pooled: Float[Tensor, "images all_units"],
) -> TopMaps:
    """What ``observe`` keeps with ``mapped``, given the pooled activations; the other arguments are ``late_maps``'s."""
    top = TopMaps(shape, units, mapped, late_maps(target, layer, units, shape, images))
    own = pooled[:, list(units)]
    for part in blocks(len(pooled), IMAGES_AT_ONCE):
        top.add_of(part.start, own[part.start : part.stop], _maps_of(target, layer, units, images, part))
    return top


def _maps_of(
    target: TargetModel, layer: str, units: Sequence[int] | None, images: Images, part: range
) -> Float[Tensor, "k units h w"]:
    found = target.read(images(part), {layer: "mean"}, [layer] if units is None else {layer: units})[layer].maps
    if found is None:
        raise ValueError(f"the layer {layer!r} has no maps")
    return found


class _Taken:
    """One layer's activations and maps collected so far.

    Args:
        count: Number of images.
        make: Returns what collects the maps, given their shape; called if the layer has any.
        sparse: Whether only values other than 0 are kept.
    """

    def __init__(self, count: int, make: Callable[[Shape], StoredMaps | TopMaps], sparse: bool = False) -> None:
        self._make, self._sparse, self._parts = make, sparse, []
        self.kind: LayerKind = "vector"
        self._count, self.pooled = count, torch.empty(0 if sparse else count, 0)
        self.maps: StoredMaps | TopMaps | None = None

    def add(self, start: int, reading: LayerReading) -> None:
        """Add the reading of the images from index ``start`` on."""
        if start == 0:
            self.kind = reading.kind
            self.pooled = torch.empty(0 if self._sparse else self._count, reading.pooled.shape[1])
            if reading.maps is not None:
                height, width = reading.maps.shape[2:]
                self.maps = self._make((self._count, reading.pooled.shape[1], height, width))
        if self._sparse:
            self._parts.append(sparse_rows(reading.pooled))
        else:
            self.pooled[start : start + len(reading.pooled)] = reading.pooled
        if reading.maps is None:
            return
        if isinstance(self.maps, TopMaps):
            self.maps.add(start, reading.pooled, reading.maps)
        elif self.maps is not None:
            self.maps.write(start, reading.maps)

    def activations(self) -> Float[Tensor, "images units"]:
        """Those of all images."""
        return cast(Tensor, SparseColumns.stacked(self._parts)) if self._parts else self.pooled


def repeated(observation: Observation, repeat: int) -> Observation:
    """The same clean images for another repeat: only the methods' own random draws differ."""
    return replace(observation, repeat=repeat)
