"""What a labelling method is: it maps one observation to ranked labels for units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from tasks.observation import Observation, Toolbox

Mode = Literal["fixed", "code"]


@dataclass(frozen=True)
class Label:
    """One candidate label of a unit.

    Attributes:
        text: The label; never empty (a unit without a name gets no Label at all).
        score: The method's own score; higher is better within one method. NaN where the method has none.
    """

    text: str
    score: float


@dataclass(frozen=True)
class UnitLabels:
    """All labels of one unit under one condition, best first.

    Attributes:
        unit: Unit number, from 0.
        ranked: Best first; empty means that the method could not name the unit (missing, not zero).
        evidence: Indices of the probing images that the label rests on, strongest first.
        extra: JSON-able facts: a detector flag, scores by category, a Describe-and-Dissect trace.
    """

    unit: int
    ranked: tuple[Label, ...]
    evidence: tuple[int, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """A labelling method; keep the constructor free of heavy work.

    A class may also state facts, which tables, pages and reports show; a run writes them into its ``run.json``:

    * ``summary``: what it does, in a sentence; else the first line of its docstring.
    * ``citation``: a tuple of keys of ``report/references.bib`` or of whole references in words.
    * ``trivial``: True if it looks at no unit, so that every other method must beat it (a floor).
    * ``uses_perturbations``: names of the perturbations that it uses itself. On them it is not tested on held-out
      images, and tables say so. A property where options decide.
    * ``trace``: the form of the ``extra["trace"]`` that it writes down for ``benchmark trace``: ``candidates`` (as
      Describe-and-Dissect) or ``contexts`` (as CLEAR).

    Attributes:
        name: Registered name.
        version: Raised whenever the same input may give another label.
        needs: Names out of ``baselines.registry.NEEDS`` that must be present, e.g. ``{"captioner", "maps"}``.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    needs: ClassVar[frozenset[str]]

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units, in the order asked; what a unit gets must not depend on the other units asked."""
        ...
