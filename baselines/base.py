"""The interface of a labelling method: it maps one observation to ranked labels for units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from tasks.observation import Observation, Toolbox

Mode = Literal["fixed", "code"]
Split = Literal["units", "never"]


@dataclass(frozen=True)
class Label:
    """One candidate label of a unit.

    Attributes:
        text: The label; never empty (an unnamed unit gets no Label at all).
        score: The method's own score; higher is better, comparable only within one method. NaN if the method has none.
    """

    text: str
    score: float


@dataclass(frozen=True)
class UnitLabels:
    """All labels of one unit under one condition, best first.

    Attributes:
        ranked: Best first; empty means that the method could not name the unit (missing, not zero).
        evidence: Indices of the probing images that the label is based on, most activating first.
        extra: JSON-serialisable facts: a detector flag, scores by category, a Describe-and-Dissect trace; ``labels``:
            how many of ``ranked`` the method gives the unit, if more than the first.
    """

    unit: int
    ranked: tuple[Label, ...]
    evidence: tuple[int, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """A labelling method; keep the constructor free of heavy work.

    ``asks``, if it is there, replaces ``needs`` in an object whose options change what it uses.

    A class may also state facts, which tables, pages and reports show; a run writes them to its ``run.json``:

    * ``summary``: what it does, in one sentence; defaults to the first line of its docstring.
    * ``citation``: a tuple of keys of ``report/references.bib`` or of full references as text.
    * ``trivial``: True for a trivial baseline, which ignores the unit, so that every other method must beat it.
    * ``uses_perturbations``: names of the perturbations that it uses itself. They are not held out when it is tested on
      them, and tables say so. A property if it depends on options.
    * ``tuned_on``: names of the perturbations on which its options were chosen, which are not held out either.
    * ``split``: ``units`` if labelling some of a cell's units costs about that share of the cell, so that several
      workers may share it; ``never`` (the default) if the work is done for all units at once.
    * ``top_images``: the number of a unit's top images (see ``baselines.evidence.top_images``) whose maps it reads: a
      run then keeps no others. By default all are kept for a method that needs ``maps``, and none for others. Reading
      more is correct, but slow: they are computed again.
    * ``trace``: the format of the ``extra["trace"]`` that it records for ``benchmark trace``: ``candidates`` (as
      Describe-and-Dissect) or ``contexts`` (as CLEAR).

    Attributes:
        version: Raised whenever the same input may give a different label.
        needs: Names from ``baselines.registry.NEEDS`` that must be present, e.g. ``{"captioner", "maps"}``.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    needs: ClassVar[frozenset[str]]

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units, in the given order; a unit's result must not depend on the others."""
        ...
