"""Network Dissection (Bau et al., CVPR 2017, arXiv 1704.05796): the annotated concept that a unit overlaps most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from baselines.base import Label, Mode, UnitLabels
from baselines.evidence import EVIDENCE_SIZE, check_units, dead_units, top_images
from tasks.errors import UserError, unknown_name
from tasks.observation import Observation, Segmentation, Toolbox

_RANKED = 5
_ELEMENTS_AT_ONCE = 2**24


class Overlap(NamedTuple):
    """Pixel counts over a probing set, all float64 and exact.

    Attributes:
        intersection: |M_k ∩ L_c| [units, concepts].
        activation: Mask area over the images where it counts for a category [units, categories].
        label: |L_c| over all images [concepts].
        mask: |M_k| over all images [units].
    """

    intersection: Float[Tensor, "units concepts"]
    activation: Float[Tensor, "units categories"]
    label: Float[Tensor, " concepts"]
    mask: Float[Tensor, " units"]


class NetworkDissection:
    """Names a unit by the concept whose segmentation overlaps the unit's most active regions best.

    A unit's result depends on its own maps only, never on the other units asked. Deterministic.

    ``mode="code"`` takes the threshold that NetDissect-Lite reads out: element 994 of 1,000 evenly spaced quantiles,
    interpolated, i.e. the quantile 994/999; ``fixed`` takes the exact one (see ``thresholds``). Neither mode reproduces
    the sampling noise of the release's quantile sketch, its category tally left over from earlier images, or its empty
    label for a unit that meets no concept; the detector threshold is the same in both.

    Args:
        quantile: Share of all positions of all images above a unit's threshold, in (0, 1).
        detector: A unit is a detector when its best IoU is larger than this.
        mode: ``fixed`` or ``code``.
    """

    name: ClassVar[str] = "network_dissection"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[str]] = frozenset({"segmentation", "maps"})

    def __init__(self, quantile: float = 0.005, detector: float = 0.04, mode: Mode = "fixed") -> None:
        if not 0 < quantile < 1:
            raise UserError(f"The option quantile of network_dissection must lie between 0 and 1, not {quantile}.")
        if mode not in get_args(Mode):
            raise unknown_name("mode", mode, get_args(Mode))
        self.quantile = quantile
        self.detector = detector
        self.mode: Mode = mode

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units with their best concepts by IoU.

        Args:
            observation: ``segmentation`` and ``maps`` are read; a layer without positions (``kind="vector"``) spreads
                its activation over the whole image, so its IoU is image-level retrieval, not localisation.
            units: Unit numbers, from 0.
            tools: Not used.

        Returns:
            Up to five concepts a unit with their IoU as score; none for a dead unit or an empty mask. ``extra`` holds
            ``detector``, ``image_level``, ``threshold`` and ``categories``: category → best ``label`` and ``iou``.

        Raises:
            UserError: Without segmentation or maps, with too few positions for the quantile, or a unit out of range.
        """
        del tools
        if observation.segmentation is None:
            raise UserError("Network Dissection needs a probing set with concept segmentation (segmentation).")
        count = observation.activations.shape[1]
        check_units(units, count)
        if not units:
            return []
        segmentation = observation.segmentation
        maps, image_level = _maps(observation, units)
        dead = dead_units(observation.activations)[list(units)] | ~_finite(maps)
        maps = torch.where(dead[None, :, None, None], torch.zeros_like(maps), maps)
        limits = thresholds(maps, self.quantile, self.mode)
        overlap = count_overlap(maps, limits, segmentation)
        scores = intersection_over_union(overlap, _primary_categories(segmentation))
        peaks = maps.amax(dim=(2, 3))
        results = []
        for column, unit in enumerate(units):
            if dead[column]:
                results.append(UnitLabels(unit=unit, ranked=(), extra={"dead": True, "image_level": image_level}))
                continue
            above = int((peaks[:, column] > limits[column]).sum())
            results.append(
                UnitLabels(
                    unit=unit,
                    ranked=_ranked(scores[column], segmentation.labels),
                    evidence=tuple(top_images(peaks[:, column], min(EVIDENCE_SIZE, above))),
                    extra={
                        **self._facts(scores[column], segmentation),
                        "image_level": image_level,
                        "threshold": float(limits[column]),
                    },
                )
            )
        return results

    def _facts(self, iou: Float[Tensor, " concepts"], segmentation: Segmentation) -> dict[str, Any]:
        categories = {}
        for category, numbers in segmentation.categories.items():
            best = max(numbers, key=lambda number: (float(iou[number]), -number), default=None)
            if best is not None and iou[best] > 0:
                categories[category] = {"label": segmentation.labels[best], "iou": float(iou[best])}
        return {"categories": categories, "detector": bool(iou.max() > self.detector)}


def thresholds(
    maps: Float[Tensor, "images units h w"], quantile: float, mode: Mode = "fixed"
) -> Float[Tensor, " units"]:
    """T_k with P(a > T_k) = quantile over all positions of all images, from the complete maps.

    ``fixed``: the (⌊quantile·n⌋ + 1)-th largest of a unit's n values (the inverse of the empirical distribution
    function), so that exactly ⌊quantile·n⌋ values lie above, fewer where values tie. ``code``: the quantile
    int(1000·(1 − quantile) − 1)/999 with linear interpolation, NetDissect-Lite's read-out (994/999 for 0.005).

    Raises:
        UserError: When ⌊quantile·n⌋ is 0, so that no position could be above.
    """
    images, units, height, width = maps.shape
    n = images * height * width
    above = math.floor(quantile * n + 1e-9)
    if above < 1:
        raise UserError(
            f"Network Dissection needs at least {math.ceil(1 / quantile)} positions for the quantile {quantile:g}, but "
            f"{images} images of {height}x{width} positions have {n}: use more images or a larger quantile."
        )
    values = maps.float().permute(1, 0, 2, 3).reshape(units, n)
    parts = []
    for some in values.split(max(1, _ELEMENTS_AT_ONCE // n)):
        if mode == "fixed":
            parts.append(some.topk(above + 1, dim=1).values[:, -1])
        else:
            position = int(1000 * (1 - quantile) - 1 + 1e-9) / 999
            parts.append(torch.from_numpy(np.quantile(some.cpu().numpy(), position, axis=1)).to(some))
    return torch.cat(parts)


def count_overlap(
    maps: Float[Tensor, "images units h w"], limits: Float[Tensor, " units"], segmentation: Segmentation
) -> Overlap:
    """Binarise each unit's up-sampled maps and count the pixels shared with each concept.

    Maps are up-sampled bilinearly (pixel centres aligned, corners not) to the size of the annotation. An image's mask
    area counts for category g only if some pixel inside the mask, or an image-level label, has the primary category g.
    Labels of the whole image count as all its pixels.

    Args:
        maps: Un-pooled maps; finite.
        limits: Threshold of each unit.
        segmentation: Annotation of the same images.
    """
    images, units = maps.shape[:2]
    concepts, categories = len(segmentation.labels), len(segmentation.categories)
    primary = _primary_categories(segmentation)
    device = maps.device
    intersection = torch.zeros(units, concepts, dtype=torch.float64, device=device)
    activation = torch.zeros(units, categories, dtype=torch.float64, device=device)
    label = torch.zeros(concepts, dtype=torch.float64, device=device)
    mask_area = torch.zeros(units, dtype=torch.float64, device=device)
    # A bilinear map never exceeds the map's own maximum, so all other pairs have empty masks.
    fires = maps.amax(dim=(2, 3)) > limits
    for image in range(images):
        numbers, regions = _regions(segmentation, primary, image)
        groups = torch.from_numpy(primary[numbers]).to(device)
        present = torch.from_numpy(numbers).to(device)
        regions = torch.from_numpy(regions).to(device, torch.float32)
        label[present] += regions.sum(dim=1, dtype=torch.float64)
        active = fires[image].nonzero().squeeze(1)
        for some in active.split(max(1, _ELEMENTS_AT_ONCE // regions.shape[1])) if len(active) else ():
            masks = _masks(maps[image, some], limits[some], segmentation.size)
            area = masks.sum(dim=1, dtype=torch.float64)
            # Counts below 2²⁴ are exact in float32.
            shared = (masks @ regions.T).double()
            mask_area[some] += area
            intersection[some[:, None], present[None, :]] += shared
            met = torch.zeros(len(some), categories, dtype=torch.float64, device=device)
            met.index_add_(1, groups, shared)
            activation[some] += area[:, None] * (met > 0)
    return Overlap(intersection, activation, label, mask_area)


def intersection_over_union(overlap: Overlap, primary: Int[np.ndarray, " concepts"]) -> Float[Tensor, "units concepts"]:
    """IoU[k, c] = |M_k ∩ L_c| / (act[k, g(c)] + |L_c| − |M_k ∩ L_c| + 1e-10), in [0, 1]; 0 for number 0, "nothing"."""
    groups = torch.from_numpy(np.maximum(primary, 0)).to(overlap.label.device)
    union = overlap.activation[:, groups] + overlap.label - overlap.intersection + 1e-10
    scores = overlap.intersection / union
    scores[:, torch.from_numpy(primary < 0).to(scores.device)] = 0.0
    return scores


def broden_name(name: str) -> str:
    """A Broden label as words: "red-c" → "red color", "street-s" → "street", others unchanged."""
    if name.endswith("-c"):
        return f"{name[:-2]} color"
    return name.removesuffix("-s")


def _maps(observation: Observation, units: Sequence[int]) -> tuple[Float[Tensor, "images units h w"], bool]:
    chosen = list(units)
    if observation.maps is not None:
        return torch.cat([block.float() for _, block in observation.maps.blocks(chosen)]), False
    if observation.kind == "spatial":
        raise UserError(f"Network Dissection needs the maps of layer {observation.layer}, which were not collected.")
    return observation.activations[:, chosen].detach().float()[:, :, None, None], True


def _finite(maps: Float[Tensor, "images units h w"]) -> Bool[Tensor, " units"]:
    return maps.isfinite().all(dim=3).all(dim=2).all(dim=0)


def _masks(
    maps: Float[Tensor, "units h w"], limits: Float[Tensor, " units"], size: tuple[int, int]
) -> Float[Tensor, "units pixels"]:
    large = torch.nn.functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    return (large > limits[:, None, None]).flatten(1).float()


def _primary_categories(segmentation: Segmentation) -> Int[np.ndarray, " concepts"]:
    """The number of each concept's primary category, in the order of ``categories``; −1 for none."""
    primary = np.full(len(segmentation.labels), -1, dtype=np.int64)
    for index, (category, numbers) in enumerate(segmentation.categories.items()):
        for number in numbers:
            if not 0 < number < len(primary):
                raise UserError(f"Category {category!r} of the segmentation lists concept {number}, which has no name.")
            if primary[number] >= 0:
                raise UserError(
                    f"Concept {segmentation.labels[number]!r} of the segmentation has two primary categories."
                )
            primary[number] = index
    return primary


def _regions(
    segmentation: Segmentation, primary: Int[np.ndarray, " concepts"], image: int
) -> tuple[Int[np.ndarray, " k"], Bool[np.ndarray, "k pixels"]]:
    """The concepts of one image that have a primary category, and their pixels."""
    height, width = segmentation.size
    found: dict[int, np.ndarray] = {}
    for category, value in segmentation.pixels(image).items():
        if isinstance(value, np.ndarray) and value.ndim == 2:
            if value.shape != (height, width):
                raise UserError(
                    f"The {category} annotation of image {image} is {value.shape}, not {(height, width)} as declared."
                )
            flat = value.reshape(-1)
            present: Mapping[int, Any] = {
                int(number): flat == number for number in np.bincount(flat).nonzero()[0] if number != 0
            }
        else:
            present = {int(number): np.ones(height * width, dtype=bool) for number in value if number != 0}
        for number, region in present.items():
            # A concept annotated in two channels is one region: its pixels count once.
            found[number] = found[number] | region if number in found else region
    for number in found:
        if number >= len(primary) or primary[number] < 0:
            raise UserError(f"Concept {number} in the annotation of image {image} has no name or no primary category.")
    numbers = np.array(sorted(found), dtype=np.int64)
    regions = [found[number] for number in numbers.tolist()]
    return numbers, np.stack(regions) if regions else np.zeros((0, height * width), dtype=bool)


def _ranked(iou: Float[Tensor, " concepts"], labels: tuple[str, ...]) -> tuple[Label, ...]:
    order = iou.sort(descending=True, stable=True).indices[:_RANKED].tolist()
    return tuple(Label(labels[number], float(iou[number])) for number in order if iou[number] > 0)
