"""What the wrappers share: methods that let another method, which stays as it is, label a unit several times."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from baselines.base import Method, UnitLabels
from baselines.costs import Cost
from tasks.observation import Observation, Toolbox


class Wrapper(ABC):
    """A method around another one, named ``WRAPPER(METHOD)``; needs and facts follow from the inner method.

    Args:
        inner: The method inside.
    """

    wrapper: ClassVar[str]
    """Its name without the method inside."""
    about: ClassVar[str]
    """Its summary, with ``{}`` for the name of the inner method."""
    own_version: ClassVar[str]
    own_citation: ClassVar[tuple[str, ...]] = ()
    labellings: int
    """How often the inner method labels a unit."""

    def __init__(self, inner: Method) -> None:
        self.inner = inner
        self.name = f"{self.wrapper}({inner.name})"
        self.version = f"{self.own_version}+{inner.version}"
        self.needs = frozenset(inner.needs)
        self.asks = frozenset(getattr(inner, "asks", None) or inner.needs)
        self.summary = self.about.format(inner.name)
        self.citation = (*self.own_citation, *getattr(inner, "citation", ()))
        self.trivial = bool(getattr(inner, "trivial", False))
        self.uses_perturbations = tuple(getattr(inner, "uses_perturbations", ()))
        self.tuned_on = tuple(getattr(inner, "tuned_on", ()))
        self.split = getattr(inner, "split", "never")

    @property
    def cost(self) -> Callable[[int, int], Cost]:
        """The inner method's cost, once per labelling; without one if the inner method does not state it."""
        inner: Any = self.inner
        stated = inner.cost
        return lambda units, images: stated(units, images) * self.labellings

    def seconds(self, cell: float, unit: float) -> tuple[float, float]:
        """Seconds per cell and per unit, from those of the inner method."""
        return cell * self.labellings, unit * self.labellings

    @abstractmethod
    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """See ``baselines.base.Method``."""
