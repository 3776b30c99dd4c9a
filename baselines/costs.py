"""The model calls of a method, stated before it runs. Imports nothing heavy.

A method may define ``def cost(self, units: int, images: int) -> Cost``: what labelling that many units of a layer costs
in one cell with that many probing images, besides the one pass over these images that all methods share. A method with
no further cost returns ``Cost()``. Without the hook, or if it fails, the plan shows the method's cost as unknown and
says why.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeAlias

Number: TypeAlias = float | None


@dataclass(frozen=True)
class Amount:
    """A count; None if unknown, and anything computed from unknown amounts is unknown."""

    most: Number = None
    expected: Number = None

    @classmethod
    def of(cls, number: float) -> Amount:
        """A number that is known exactly."""
        return cls(number, number)

    def __add__(self, other: Amount) -> Amount:
        return Amount(_sum(self.most, other.most), _sum(self.expected, other.expected))

    def __mul__(self, times: float) -> Amount:
        return Amount(*(None if number is None else number * times for number in (self.most, self.expected)))

    @property
    def likely(self) -> Number:
        """The expected value; if unknown, the upper bound."""
        return self.most if self.expected is None else self.expected


NOTHING = Amount.of(0)
UNKNOWN = Amount()


@dataclass(frozen=True)
class Cost:
    """The cost of one cell, excluding the pass over the probing images.

    Attributes:
        activated: Further images that the target network processes, e.g. crops; excluding generated ones.
        embedded: Further images that CLIP embeds; excluding generated ones.
        generated: Images generated; the target network and CLIP each process them once.
        simplified: Captions shortened by the summariser.
        summarised: Summaries made by the summariser.
        summary_captions: Maximum number of captions in one summary.
        described: Requests to the vision-language model.
        proposed: Concepts asked of the proposer.
        proposal_concepts: Maximum number of tried concepts that it is shown.
        shared: Expected share of ``generated`` that a cell of the same task, method and repeat under another condition
            has already generated, in [0, 1).
    """

    activated: Amount = NOTHING
    embedded: Amount = NOTHING
    captioned: Amount = NOTHING
    generated: Amount = NOTHING
    simplified: Amount = NOTHING
    summarised: Amount = NOTHING
    summary_captions: int = 0
    described: Amount = NOTHING
    proposed: Amount = NOTHING
    proposal_concepts: int = 0
    shared: float = 0.0

    def repeated(self) -> Cost:
        """The same for a cell that reuses what other cells generated; the bounds stay."""
        expected = self.generated.expected
        left = None if expected is None else expected * (1 - self.shared)
        return replace(self, generated=Amount(self.generated.most, left))

    def __mul__(self, times: int) -> Cost:
        """That many labellings, none of which uses what another one has made."""
        amounts = {one.name: value for one in fields(self) if isinstance(value := getattr(self, one.name), Amount)}
        return replace(self, **{name: amount * times for name, amount in amounts.items()})


UNSTATED = Cost(
    activated=UNKNOWN,
    embedded=UNKNOWN,
    captioned=UNKNOWN,
    generated=UNKNOWN,
    simplified=UNKNOWN,
    summarised=UNKNOWN,
    described=UNKNOWN,
    proposed=UNKNOWN,
)
"""The cost of a method that does not state it."""


def pass_alone(method: object, units: int, images: int) -> Cost:
    """The ``cost`` of a method that reads what the pass over the images gave, and calls no model itself."""
    del method, units, images
    return Cost()


def _sum(first: Number, second: Number) -> Number:
    return None if first is None or second is None else first + second
