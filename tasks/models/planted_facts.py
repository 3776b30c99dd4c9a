"""The description of a target's planted units, from the header of their weights file, read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError, safe_open

from tasks.common.errors import UserError

Op = Literal["single", "and", "or"]
METADATA = "planted"
"""Header key of the description, so that one hash covers both it and the weights."""

Share = Annotated[float, Field(ge=0, le=1)]


class PlantedUnit(BaseModel):
    """One planted unit and how well it detects its concepts, on scenes used neither to fit nor to select it.

    An image shows ``single`` if it shows the concept, ``or`` if it shows at least one of the two, and ``and`` if one
    object of the image has both (a background counts for every object): a red car next to a blue fish is not a red
    fish.

    Attributes:
        op: ``single``, ``and`` or ``or``.
        concepts: One concept for ``single``, else two.
        share: Share of images that show it.
        auroc: AUROC of the mean activation, for images that show it against all others.
        strict_auroc: The same for the hardest images. ``and``: the smaller of two, against images with one of the
            concepts and against images with both on different objects. ``or``: the smaller of two, each for images with
            one of the concepts alone against images with neither. A part: against images with its owner but without it.
        iou: Intersection over union, over all images, of the bilinearly enlarged map where its probability is above one
            half and the pixels that show it. A map of 2 × 2 cells cannot follow an outline, so this is low.
        cell_iou: The same on the map's own cells; a cell shows the concept if a pixel in it does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: Op
    concepts: tuple[str, ...]
    share: Share
    auroc: Share
    strict_auroc: Share
    iou: Share
    cell_iou: Share

    @model_validator(mode="after")
    def _concepts_fit(self) -> PlantedUnit:
        if len(set(self.concepts)) != (1 if self.op == "single" else 2):
            raise ValueError(f"a unit {self.op!r} cannot have the concepts {', '.join(self.concepts) or 'none'}")
        return self

    @property
    def text(self) -> str:
        """The truth as a phrase: ``red``, ``red and striped``, ``red or striped``."""
        return f" {self.op} ".join(self.concepts)


class Planted(BaseModel):
    """All planted units of one network.

    Attributes:
        target_sha256: Hash of the weights of the network that they were fitted to.
        first: Number of the first planted unit, which equals the number of the layer's own channels.
        detectors: The concepts that the weights detect, in order.
        units: The planted units, in order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_sha256: str
    first: Annotated[int, Field(ge=1)]
    detectors: tuple[str, ...]
    units: Annotated[tuple[PlantedUnit, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _all_detected(self) -> Planted:
        unknown = {name for unit in self.units for name in unit.concepts} - set(self.detectors)
        if unknown:
            raise ValueError(f"nothing detects {', '.join(sorted(unknown))}")
        return self


def read_planted(path: Path) -> Planted:
    """Read the description in a weights file of planted units.

    Raises:
        UserError: The file is missing, is not a safetensors file, or describes no planted units.
    """
    try:
        with safe_open(path, framework="numpy") as stored:
            text = (stored.metadata() or {}).get(METADATA)
    except (OSError, SafetensorError) as error:
        raise UserError(f"The planted units {path} cannot be read ({error}); restore the file.") from error
    if text is None:
        raise UserError(f"{path} does not say what its units are; name a file that 'train planted' wrote.")
    try:
        return Planted.model_validate_json(text)
    except ValueError as error:
        raise UserError(f"{path} does not describe planted units as this version reads them; restore it.") from error
