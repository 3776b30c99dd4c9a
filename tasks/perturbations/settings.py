"""The options of a run that apply to all its perturbations. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tasks.perturbations.context import FORMER
from tasks.perturbations.registry import PERTURBATIONS

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8
    from torch import Tensor


def _today(name: Any) -> Any:
    return FORMER.get(name, name) if isinstance(name, str) else name


Corruptions = Annotated[Literal["published", "package", "repaired", "reference"], BeforeValidator(_today)]
Lengths = Literal["scaled", "raw"]
Feather = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


@dataclass(frozen=True)
class Settings:
    """The options of a run that apply to all its perturbations.

    Attributes:
        corruptions: A ``mode`` of ``tasks.perturbations.perturb``: ``published``, ``package`` or ``repaired``; or
            ``reference``: the package imagecorruptions for its 19 corruptions, and CLEAR's engine for all others.
        lengths: ``scaled`` with the shorter side, or ``raw`` pixels; the reference engine supports only raw pixels.
        feather: Width in pixels of the soft mask edge.
    """

    corruptions: Corruptions = "published"
    lengths: Lengths = "scaled"
    feather: Feather = 0.0

    def apply(
        self,
        images: UInt8[Tensor, "n 3 h w"],
        name: str,
        severity: int,
        seeds: Sequence[int],
        foreground: Bool[Tensor, "n h w"] | None,
        background: UInt8[Tensor, "n 3 h w"] | None = None,
    ) -> UInt8[Tensor, "n 3 h w"]:
        """Perturb images; see ``tasks.perturbations.perturb``."""
        from tasks.perturbations import perturb, reference

        if self.corruptions == "reference" and name in reference.names():
            return reference.perturb(images, name, severity, seeds)
        mode = "published" if self.corruptions == "reference" else self.corruptions
        own = {"mode": mode, "lengths": self.lengths, "feather": self.feather}
        return perturb(images, name, severity, seeds, foreground, background, **own)


def needs_foreground(name: str) -> bool:
    """Whether images under a condition of that name depend on foreground masks; ``clean`` does not."""
    return name in PERTURBATIONS and PERTURBATIONS[name].needs_foreground


def needs_background(name: str) -> bool:
    """Whether images under a condition of that name depend on the backgrounds of other images."""
    return name in PERTURBATIONS and PERTURBATIONS[name].needs_background
