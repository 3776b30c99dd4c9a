"""Network Dissection as a labelling method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, get_args

from jaxtyping import Float, Int
from torch import Tensor

from baselines.base import Label, Mode, UnitLabels
from baselines.costs import pass_alone
from baselines.evidence import EVIDENCE_SIZE, check_units, dead_units
from baselines.network_dissection.overlap import count_overlap, intersection_over_union, primary_categories
from baselines.network_dissection.thresholds import survey
from tasks.activations.maps import Maps, MemoryMaps
from tasks.common.errors import UserError, unknown_name
from tasks.observation import Observation, Segmentation, Toolbox

_RANKED = 5


class NetworkDissection:
    """Names a unit by the concept whose segmentation overlaps the unit's most active regions best.

    A unit's result depends on its own maps only, never on the other units requested. Deterministic. The maps are read
    twice, in parts.

    ``mode="code"`` uses the threshold that NetDissect-Lite reads: element 994 of 1,000 evenly spaced quantiles,
    interpolated, i.e. the quantile 994/999; ``fixed`` uses the exact one (see ``survey``). Neither mode reproduces the
    sampling noise of the release's quantile sketch, its category tally left over from earlier images, or its empty
    label for a unit that overlaps no concept; the detector threshold is the same in both.

    Args:
        quantile: Share of all positions of all images above a unit's threshold, in (0, 1).
        detector: A unit is a detector if its best IoU exceeds this.
        mode: ``fixed`` or ``code``.
    """

    name: ClassVar[str] = "network_dissection"
    summary: ClassVar[str] = (
        "Network Dissection: the annotated concept whose pixels overlap most with the places where the unit is "
        "strongly active."
    )
    citation: ClassVar[tuple[str, ...]] = ("netdissect",)
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

    cost = pass_alone

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units with their best concepts by IoU.

        Returns:
            Up to five concepts per unit with their IoU as score; none for a dead unit or an empty mask. ``extra`` holds
            ``detector``, ``image_level``, ``threshold`` and ``categories``: category → best ``label`` and ``iou``.

        Raises:
            UserError: No segmentation or maps, too few positions for the quantile, or a unit number out of range.
        """
        del tools
        segmentation = observation.segmentation
        if segmentation is None:
            raise UserError("Network Dissection needs a probing set with concept segmentation (segmentation).")
        check_units(units, observation.activations.shape[1])
        if not units:
            return []
        maps, image_level = _maps(observation, units)
        seen = survey(maps, units, self.quantile, self.mode)
        alive = seen.finite & ~dead_units(observation.activations)[list(units)].cpu()
        columns = alive.nonzero().squeeze(1).tolist()
        overlap = count_overlap(maps, [units[column] for column in columns], seen.thresholds[alive], segmentation)
        scores = dict(zip(columns, intersection_over_union(overlap, primary_categories(segmentation)), strict=True))
        results = []
        for column, unit in enumerate(units):
            if column not in scores:
                results.append(UnitLabels(unit=unit, ranked=(), extra={"dead": True, "image_level": image_level}))
                continue
            threshold = seen.thresholds[column]
            results.append(
                UnitLabels(
                    unit=unit,
                    ranked=_ranked(scores[column], segmentation.labels),
                    evidence=_evidence(seen.strongest[column], seen.peaks[column], float(threshold)),
                    extra={
                        **self._facts(scores[column], segmentation),
                        "image_level": image_level,
                        "threshold": float(threshold),
                    },
                )
            )
        return results

    def _facts(self, iou: Float[Tensor, " concepts"], segmentation: Segmentation) -> dict[str, Any]:
        values = iou.tolist()
        categories = {}
        for category, numbers in segmentation.categories.items():
            best = max(numbers, key=lambda number: (values[number], -number), default=None)
            if best is not None and values[best] > 0:
                categories[category] = {"label": segmentation.labels[best], "iou": values[best]}
        return {"categories": categories, "detector": max(values) > self.detector}


def _maps(observation: Observation, units: Sequence[int]) -> tuple[Maps, bool]:
    """The maps of some units of the layer, and whether each is one value spread over the whole image."""
    if observation.maps is not None:
        return observation.maps, False
    if observation.kind == "spatial":
        raise UserError(f"Network Dissection needs the maps of layer {observation.layer}, which were not collected.")
    whole = observation.activations
    return MemoryMaps(whole[:, list(units)].detach().cpu()[:, :, None, None], units, whole.shape[1]), True


def _evidence(strongest: Int[Tensor, " some"], peaks: Float[Tensor, " some"], threshold: float) -> tuple[int, ...]:
    """The images above the threshold, without those that tie with an image beyond the last one."""
    beyond = max([threshold, *peaks[EVIDENCE_SIZE:].tolist()])
    return tuple(strongest[:EVIDENCE_SIZE][peaks[:EVIDENCE_SIZE] > beyond].tolist())


def _ranked(iou: Float[Tensor, " concepts"], labels: tuple[str, ...]) -> tuple[Label, ...]:
    order = iou.sort(descending=True, stable=True).indices[:_RANKED].tolist()
    return tuple(Label(labels[number], float(iou[number])) for number in order if iou[number] > 0)
