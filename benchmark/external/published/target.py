"""A published number, and the exception for what is missing to compute ours."""

from __future__ import annotations

from dataclasses import dataclass


class Missing(Exception):
    """What a row of the ledger lacks, in one sentence."""


@dataclass(frozen=True)
class Target:
    """A published number with its protocol.

    Attributes:
        id: Unique; the letters name the publication.
        method: The labelling method, or the measure.
        tolerance: Largest difference that counts as reproduced: the rounding of the published number, or the spread
            of its random draws.
        needs: What computing it takes.
        source: Where it was published: ``owner/repository:path``, or a paper.
        status: How the number was taken from there.
    """

    id: str
    network: str
    layer: str
    method: str
    quantity: str
    published: float
    tolerance: float
    needs: str
    source: str
    status: str

    @property
    def second_hand(self) -> bool:
        """Whether somebody else quotes the number; such rows are shown and never counted."""
        return self.status.startswith("second hand")

    @property
    def path(self) -> str:
        """Path of the source within its repository."""
        return self.source.partition(":")[2]
