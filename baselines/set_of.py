"""Sets of labels: any method on resampled probing sets, and the fewest labels that reach a nominal level.

After the bootstrap explanation of Yan et al. (arXiv 2512.18092): a set for the label that another probing set would
give. ``benchmark.studies.label_sets`` measures how often it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Int

from baselines.base import Label, Method, UnitLabels
from baselines.checks import check_labels
from baselines.evidence import EVIDENCE_SIZE, check_units, dead_units, order_among_ties, top_images
from baselines.wrapper import Wrapper
from metrics.label_sets import frequencies, smallest_set
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.observation import Observation, Toolbox

COSTLY = frozenset({"captioner", "describer", "generator", "summariser"})
"""Roles whose every use takes time or money; what reads the pass over the images alone can be resampled cheaply."""

Purpose = Literal["draw", "redraw"]
"""Draws make the sets, redraws test them."""


def resampled_images(
    images: int, number: int, seed: int, *, replacement: bool = True, purpose: Purpose = "draw"
) -> Int[np.ndarray, " drawn"]:
    """The images of one resampled probing set, in their order.

    They depend on nothing but the number of images and the run seed: all units, methods and conditions share them.

    Args:
        images: Number of images of the whole set.
        number: Which draw, from 0.
        replacement: As many as there are, with replacement; otherwise half of them, each once.
    """
    random = generator(seed, "set_of", purpose, number)
    if replacement:
        return np.sort(random.integers(images, size=images))
    return np.sort(random.permutation(images)[: images // 2])


def labels_of_draws(
    method: Method,
    observation: Observation,
    units: Sequence[int],
    tools: Toolbox,
    draws: Iterable[int],
    *,
    replacement: bool = True,
    purpose: Purpose = "draw",
    reseed: bool = False,
) -> list[list[str | None]]:
    """A method's labels on resampled probing sets.

    Args:
        draws: Numbers of the draws.
        replacement: See ``resampled_images``.
        reseed: Give every draw a seed of its own too, for methods that draw at random.

    Returns:
        One list per draw: the label of each unit, None where it has none.
    """
    found = []
    for number in draws:
        chosen = resampled_images(
            len(observation.image_ids), number, tools.seed, replacement=replacement, purpose=purpose
        )
        drawn = observation.of(chosen.tolist())
        if reseed:
            drawn = replace(drawn, repeat=number)
        labels = check_labels(method.name, method.label(drawn, units, tools), units, len(chosen))
        found.append([one.ranked[0].text if one.ranked else None for one in labels])
    return found


class SetOf(Wrapper):
    """Names a unit by the smallest set of labels that resampled probing sets give with a nominal probability.

    A label's score is its share of the draws; texts that differ in case alone are one.

    Args:
        inner: Labels each resampled probing set.
        resamples: Number of draws.
        level: Share of the draws that the set must reach, in (0, 1].
        replacement: Draw as many images as there are, with replacement; otherwise half of them, each once.
        reseed: Give every draw a seed of its own too; by default a method that draws at random keeps the cell's.
        costly: Allow methods that caption or generate images, or ask a language model, for every draw.
    """

    wrapper: ClassVar[str] = "set_of"
    about: ClassVar[str] = "Label sets: the smallest set of the labels that resampled probing sets give, by {}."
    own_version: ClassVar[str] = "1"
    own_citation: ClassVar[tuple[str, ...]] = ("bootstrapexplanation",)

    def __init__(
        self,
        inner: Method,
        resamples: int = 100,
        level: float = 0.9,
        replacement: bool = True,
        reseed: bool = False,
        costly: bool = False,
    ) -> None:
        super().__init__(inner)
        if resamples < 1:
            raise UserError(f"The option resamples of {self.name} must be at least 1, not {resamples}.")
        if not 0 < level <= 1:
            raise UserError(f"The option level of {self.name} must lie above 0 and be at most 1, not {level}.")
        if (asked := sorted(self.asks & COSTLY)) and not costly:
            raise UserError(
                f"{self.name} would repeat {inner.name}, which uses the {asked[0]}, for {resamples} resampled probing "
                f'sets: choose a method that only reads activations, or allow it by --set "{self.name}.costly=true".'
            )
        self.labellings, self.level, self.replacement, self.reseed = resamples, level, replacement, reseed

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units.

        Returns:
            The set of each unit, most frequent label first; none for a dead unit. ``extra`` holds ``labels`` (its
            size), ``level``, ``resamples``, ``reached`` (share of the draws that the set covers) and ``unnamed`` (share
            that gave no label).

        Raises:
            UserError: A unit number out of range, or what the inner method raises.
        """
        check_units(units, observation.activations.shape[1])
        dead, ties = dead_units(observation.activations), order_among_ties(observation.activations)
        alive = [unit for unit in units if not dead[unit]]
        drawn = labels_of_draws(
            self.inner,
            observation,
            alive,
            tools,
            range(self.labellings if alive else 0),
            replacement=self.replacement,
            reseed=self.reseed,
        )
        labels = {unit: UnitLabels(unit, (), extra={"dead": True}) for unit in units}
        for place, unit in enumerate(alive):
            said = [draw[place] for draw in drawn]
            found = frequencies(said)
            kept = found[: smallest_set(found, len(said), self.level)]
            ranked = tuple(Label(one.text, one.count / len(said)) for one in kept)
            evidence = tuple(top_images(observation.activations[:, unit], EVIDENCE_SIZE, among_ties=ties))
            extra = {
                "labels": len(kept),
                "level": self.level,
                "resamples": len(said),
                "reached": sum(label.score for label in ranked),
                "unnamed": said.count(None) / len(said),
            }
            labels[unit] = UnitLabels(unit, ranked, evidence, extra)
        return [labels[unit] for unit in units]
