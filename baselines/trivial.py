"""Trivial baselines that ignore the unit; every table includes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from baselines.base import Label, UnitLabels
from baselines.costs import pass_alone
from baselines.evidence import check_units, dead_units
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.observation import Observation, Toolbox


class RandomLabel:
    """Draws a concept uniformly, independently for each unit, condition, severity and repeat."""

    name: ClassVar[str] = "random_label"
    summary: ClassVar[str] = "Trivial baseline: a concept drawn at random, anew for each unit and condition."
    trivial: ClassVar[bool] = True
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[str]] = frozenset({"concepts"})

    cost = pass_alone

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """One random concept per unit, without score or evidence; none for a dead unit.

        Raises:
            UserError: No concepts, or a unit number out of range.
        """
        if not tools.concepts:
            raise UserError("The method random_label needs a concept set (concepts), which the profile does not have.")
        labels = []
        for unit, dead in _requested(observation, units):
            address = (observation.layer, unit, observation.condition, observation.severity, observation.repeat)
            draw = int(generator(tools.seed, self.name, *address).integers(len(tools.concepts)))
            labels.append(_one(unit, tools.concepts[draw], dead))
        return labels


class ConstantLabel:
    """Labels every unit "depiction".

    In the published comparison on ImageNet class units this single word has a higher mean text cosine with the class
    names than Describe-and-Dissect, MILAN and CLIP-Dissect: any table without it is flattering.
    """

    name: ClassVar[str] = "constant_label"
    summary: ClassVar[str] = "Trivial baseline: the same word for every unit."
    trivial: ClassVar[bool] = True
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[str]] = frozenset()
    text: ClassVar[str] = "depiction"

    cost = pass_alone

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """The same word for each unit, without score or evidence; none for a dead unit.

        Raises:
            UserError: A unit number out of range.
        """
        del tools
        return [_one(unit, self.text, dead) for unit, dead in _requested(observation, units)]


def _requested(observation: Observation, units: Sequence[int]) -> list[tuple[int, bool]]:
    check_units(units, observation.activations.shape[1])
    dead = dead_units(observation.activations)
    return [(unit, bool(dead[unit])) for unit in units]


def _one(unit: int, text: str, dead: bool) -> UnitLabels:
    if dead:
        return UnitLabels(unit=unit, ranked=(), extra={"dead": True})
    return UnitLabels(unit=unit, ranked=(Label(text, float("nan")),))
