"""The choices of a run that hold for all its perturbations. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tasks.perturbations.registry import PERTURBATIONS

if TYPE_CHECKING:
    from jaxtyping import Bool, UInt8
    from torch import Tensor

Corruptions = Literal["fixed", "code", "reference"]
Lengths = Literal["scaled", "raw"]


@dataclass(frozen=True)
class Settings:
    """The choices of a run that hold for all its perturbations.

    Attributes:
        corruptions: ``fixed``: CLEAR's engine; ``code``: the same with the faults of the released code;
            ``reference``: the package imagecorruptions for its 19 corruptions, and CLEAR's engine for all others.
        lengths: ``scaled`` with the shorter side, or ``raw`` pixels; the reference engine knows raw pixels only.
        feather: Pixels over which a change of one part of the image sets in.
    """

    corruptions: Corruptions = "fixed"
    lengths: Lengths = "scaled"
    feather: float = 0.0

    def apply(
        self,
        images: UInt8[Tensor, "n 3 h w"],
        name: str,
        severity: int,
        seeds: Sequence[int],
        foreground: Bool[Tensor, "n h w"] | None,
    ) -> UInt8[Tensor, "n 3 h w"]:
        """Perturb images; see ``tasks.perturbations.perturb``."""
        from tasks.perturbations import perturb, reference

        if self.corruptions == "reference" and name in reference.names():
            return reference.perturb(images, name, severity, seeds)
        mode = "code" if self.corruptions == "code" else "fixed"
        return perturb(images, name, severity, seeds, foreground, mode=mode, lengths=self.lengths, feather=self.feather)


def needs_foreground(name: str) -> bool:
    """Whether images under a condition of that name depend on foreground masks; ``clean`` does not."""
    return name in PERTURBATIONS and PERTURBATIONS[name].needs_foreground
