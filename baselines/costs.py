"""What a method asks of the models, stated before it runs. Imports nothing heavy.

A method may have ``def cost(self, units: int, images: int) -> Cost``: what labelling so many units of a layer costs in
one cell with so many probing images, besides the one pass over these images that all methods share. A method that asks
nothing more returns ``Cost()``. Without the hook, or where it fails, the plan shows the method's cost as
unknown and says why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

Number: TypeAlias = float | None


@dataclass(frozen=True)
class Amount:
    """How many of something; None where nobody knows, and what is made of unknown amounts is unknown.

    Attributes:
        most: At most so many.
        expected: So many are likely.
    """

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
        """What is expected; where that is unknown, the most."""
        return self.most if self.expected is None else self.expected


NOTHING = Amount.of(0)
UNKNOWN = Amount()


@dataclass(frozen=True)
class Cost:
    """What one cell asks, the probing images themselves left out.

    Attributes:
        activated: Further images that the target network reads, e.g. crops; without the generated ones.
        embedded: Further images that CLIP embeds; without the generated ones.
        captioned: Images that are captioned.
        generated: Images that are generated; the target network reads and CLIP embeds each once.
        simplified: Captions that the summariser shortens.
        summarised: Summaries that the summariser makes.
        summary_captions: Captions in one summary, at most.
        described: Times that a vision-language model is shown pictures.
        shared: Share of ``generated`` that a cell of the same task, method and repeat under another condition is
            expected to have had generated before, in [0, 1).
    """

    activated: Amount = NOTHING
    embedded: Amount = NOTHING
    captioned: Amount = NOTHING
    generated: Amount = NOTHING
    simplified: Amount = NOTHING
    summarised: Amount = NOTHING
    summary_captions: int = 0
    described: Amount = NOTHING
    shared: float = 0.0

    def repeated(self) -> Cost:
        """The same for a cell that shares what other cells had generated; the bounds stay."""
        expected = self.generated.expected
        left = None if expected is None else expected * (1 - self.shared)
        return replace(self, generated=Amount(self.generated.most, left))


UNSTATED = Cost(
    activated=UNKNOWN,
    embedded=UNKNOWN,
    captioned=UNKNOWN,
    generated=UNKNOWN,
    simplified=UNKNOWN,
    summarised=UNKNOWN,
    described=UNKNOWN,
)
"""The cost of a method that does not state it."""


def _sum(first: Number, second: Number) -> Number:
    return None if first is None or second is None else first + second
