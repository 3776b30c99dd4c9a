"""Describe-and-Dissect with a bounded loop: if the synthetic images fail to activate the unit, it tries again.

The loop follows the description in the CLEAR seed study; the published Describe-and-Dissect is a single pass.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float

from baselines.base import Label, Mode, UnitLabels
from baselines.costs import Cost
from baselines.dnd.candidates import candidate_concepts
from baselines.dnd.cost import refined_cost
from baselines.dnd.crops import CROP_SIZE
from baselines.dnd.method import DescribeAndDissect
from baselines.dnd.study import Roles, Study
from baselines.drawing import Draw, Drawn, Request, Steps, Synthetic
from baselines.evidence import dead_units
from tasks.common.errors import UserError
from tasks.observation import Observation, Toolbox


@dataclass(frozen=True)
class Probing:
    """The layer's behaviour on the probing images, against which synthetic images are judged.

    Attributes:
        sorted_activations: Each unit's activations, ascending.
        mean: Mean activation of each unit.
        spread: Standard deviation of each unit; 1 for dead units.
        alive: True for units that are not dead.
    """

    sorted_activations: Float[np.ndarray, "images units"]
    mean: Float[np.ndarray, " units"]
    spread: Float[np.ndarray, " units"]
    alive: Bool[np.ndarray, " units"]

    @classmethod
    def of(cls, observation: Observation) -> Probing:
        """Summarise an observation's activations."""
        values = observation.activations.float().cpu().numpy()
        alive = ~np.asarray(dead_units(observation.activations).cpu())
        quiet = np.where(alive, values, 0.0)
        return cls(np.sort(quiet, axis=0), quiet.mean(axis=0), np.where(alive, quiet.std(axis=0), 1.0), alive)

    def auc(self, unit: int, synthetic: Float[np.ndarray, " synthetic"]) -> float:
        """Probability that a synthetic image activates the unit more than a probing image, ties half, in [0, 1]."""
        column = self.sorted_activations[:, unit]
        below = np.searchsorted(column, synthetic, side="left")
        not_above = np.searchsorted(column, synthetic, side="right")
        return float(np.mean(below + not_above) / (2 * len(column)))

    def standardised(self, synthetic: Float[np.ndarray, "synthetic units"]) -> Float[np.ndarray, " units"]:
        """Each unit's mean activation on synthetic images, in standard deviations above its probing mean."""
        return (synthetic.mean(axis=0) - self.mean) / self.spread

    def specificity(self, unit: int, synthetic: Float[np.ndarray, "synthetic units"]) -> float:
        """Share of the layer's other live units that the images excite less than this one, ties half, in [0, 1]."""
        excited = self.standardised(synthetic)
        others = self.alive.copy()
        others[unit] = False
        if not others.any():
            return 1.0
        rest = excited[others]
        return float(np.mean(rest < excited[unit]) + np.mean(rest == excited[unit]) / 2)


def consistency(concept: str, rounds: Sequence[Sequence[str]]) -> float:
    """How consistently a concept recurs: the mean over rounds of its best word overlap with a round's proposals.

    Args:
        rounds: The concepts that each round proposed.

    Returns:
        Mean Jaccard similarity of word sets, in [0, 1]; a round that proposed nothing counts 0.
    """
    words = set(concept.split())
    best = [max((_jaccard(words, set(other.split())) for other in proposed), default=0.0) for proposed in rounds]
    return float(np.mean(best)) if best else 0.0


@dataclass
class Search:
    """One unit's state over the rounds."""

    study: Study
    requests: dict[str, Request] = field(default_factory=dict)
    rounds: list[list[str]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    ranked: list[dict[str, Any]] = field(default_factory=list)
    stopped: str | None = None


class RefinedDescribeAndDissect(DescribeAndDissect):
    """Describe-and-Dissect that runs another round while its synthetic images fail to activate the unit.

    Round 1 is Describe-and-Dissect up to its candidates. Each round tests every candidate found so far on its synthetic
    images and scores it with

        score = activation × specificity × consistency, each in [0, 1]:

    - activation: ROC AUC of the unit's activations, synthetic against probing images;
    - specificity: the share of the layer's other live units that the images excite less than this unit, by mean
      activation in standard deviations above each unit's probing mean (does the concept activate *this* unit?);
    - consistency: mean over the rounds of the best word overlap (Jaccard) with that round's proposals.

    Ties go to the concept that excites the unit more. The images of the round's best candidate *fail* if their mean
    activation is below the unit's ``pass_quantile`` of probing activations. Then the ``synthetic_captions`` synthetic
    images that activate the unit most, whichever concept they were generated for, are captioned, added to the captions
    of the described images (of which there are twice as many, so that real images dominate the evidence) and summarised
    into refined candidates. The search stops when the best candidate's images pass, when a round proposes nothing new
    or does not change the best candidate, or after ``max_rounds``.

    Args:
        mode: As in ``DescribeAndDissect``.
        max_rounds: Maximum number of rounds, including the first.
        pass_quantile: Quantile of the probing activations that the mean synthetic activation must reach, in [0, 1]. A
            unit for a concept in one of five images, which ranks all of those first, passes its concept at 0.8.
        synthetic_captions: Synthetic images captioned for the next round.
        top_images: This and the remaining options are those of ``DescribeAndDissect``.
        candidates: Summaries per round.
    """

    name: ClassVar[str] = "dnd_refined"
    summary: ClassVar[str] = (
        "Describe-and-Dissect with a bounded loop that puts its own label to the test and tries again; a variant of "
        "this project."
    )
    version: ClassVar[str] = "2"

    def __init__(
        self,
        mode: Mode = "fixed",
        max_rounds: int = 3,
        pass_quantile: float = 0.8,
        synthetic_captions: int = 5,
        top_images: int = 10,
        crops: bool = True,
        candidates: int = 5,
        images_per_concept: int = 10,
        synth_px: int | Literal["mode"] | None = "mode",
        simplify: bool = True,
        crop_px: int = CROP_SIZE,
        batch_size: int = 64,
        unit_block: int = 64,
    ) -> None:
        super().__init__(
            mode=mode,
            top_images=top_images,
            crops=crops,
            candidates=candidates,
            images_per_concept=images_per_concept,
            synth_px=synth_px,
            simplify=simplify,
            crop_px=crop_px,
            batch_size=batch_size,
            unit_block=unit_block,
        )
        if max_rounds < 1 or synthetic_captions < 1 or not 0 <= pass_quantile <= 1:
            raise UserError(
                "dnd_refined needs max_rounds and synthetic_captions of at least 1 and a pass_quantile from 0 to 1; "
                f"got {max_rounds}, {synthetic_captions} and {pass_quantile}."
            )
        self.max_rounds = max_rounds
        self.pass_quantile = pass_quantile
        self.synthetic_captions = synthetic_captions

    def cost(self, units: int, images: int) -> Cost:
        """Model calls of one cell; see ``baselines.costs``."""
        return refined_cost(self, units, images)

    def _choose(self, observation: Observation, studies: Sequence[Study], tools: Toolbox, roles: Roles) -> Steps:
        probing = Probing.of(observation)
        searches = [Search(study, rounds=[list(study.candidates)]) for study in studies]
        measured: dict[Request, Synthetic] = {}
        for turn in range(1, self.max_rounds + 1):
            active = [search for search in searches if search.stopped is None]
            if turn > 1:
                yield from self._propose(observation, active, measured, tools, roles, turn)
            fresh = [self._new_requests(search, observation, tools) for search in active]
            measured.update((yield Draw(tuple(request for of_unit in fresh for request in of_unit))))
            for search, new in zip(active, fresh, strict=True):
                self._judge(search, probing, measured, turn, anything_new=bool(new))
        found: list[UnitLabels] = []
        for search in searches:
            ranked = tuple(Label(tested["concept"], tested["score"]) for tested in search.ranked)
            trace = self._trace(search.study, search.ranked, ranked)
            trace.update(scoring="activation × specificity × consistency", rounds=search.records)
            found.append(UnitLabels(search.study.unit, ranked, search.study.top, {"trace": trace}))
        return found

    def _new_requests(self, search: Search, observation: Observation, tools: Toolbox) -> list[Request]:
        """Requests for the last round's concepts that no earlier round tested."""
        new = [concept for concept in search.rounds[-1] if concept not in search.requests]
        for concept in new:
            search.requests[concept] = self._request(concept, observation, search.study.unit, tools)
        return [search.requests[concept] for concept in new]

    def _propose(
        self,
        observation: Observation,
        searches: Sequence[Search],
        measured: Mapping[Request, Synthetic],
        tools: Toolbox,
        roles: Roles,
        turn: int,
    ) -> Generator[Draw, Drawn, None]:
        """Add a round of candidates from the described captions and those of the best synthetic images."""
        best = [self._best_synthetic(search, measured) for search in searches]
        captions = yield Draw(tuple(request for of_unit in best for request, _ in of_unit), captions=True)
        for search, images in zip(searches, best, strict=True):
            unit = search.study.unit
            said = [captions[request][number] for request, number in images]
            texts = [*search.study.simplified, *self._simplified(said, observation, unit, roles, turn)]
            replies = self._replies(texts, observation, unit, roles, turn)
            search.rounds.append(candidate_concepts(replies, self.mode))
            shown = [{"concept": r.concept, "number": i, "seed": r.seed, "caption": captions[r][i]} for r, i in images]
            search.records.append({"round": turn, "synthetic": shown, "replies": replies})

    def _best_synthetic(self, search: Search, measured: Mapping[Request, Synthetic]) -> list[tuple[Request, int]]:
        """The synthetic images that activate the unit most, over all concepts tested so far."""
        unit = search.study.unit
        images = [
            (float(activation), request, number)
            for request in search.requests.values()
            for number, activation in enumerate(measured[request].activations[:, unit])
        ]
        # A stable sort by activation alone: on ties images keep the order of the concepts.
        images.sort(key=lambda image: -image[0])
        return [(request, number) for _, request, number in images[: self.synthetic_captions]]

    def _judge(
        self, search: Search, probing: Probing, measured: Mapping[Request, Synthetic], turn: int, anything_new: bool
    ) -> None:
        """Rank all candidates so far, record the round, and decide whether the search continues."""
        unit = search.study.unit
        before = search.ranked[0]["concept"] if search.ranked else None
        tested = [_assess(unit, request, measured[request], probing, search) for request in search.requests.values()]
        search.ranked = sorted(tested, key=lambda t: (-t["score"], -t["excitation"]))
        threshold = float(np.quantile(probing.sorted_activations[:, unit], self.pass_quantile))
        passed = bool(search.ranked) and search.ranked[0]["mean_activation"] >= threshold
        if not search.ranked:
            search.stopped = "nothing named"
        elif passed:
            search.stopped = "passed"
        elif turn > 1 and not anything_new:
            search.stopped = "nothing new"
        elif turn > 1 and search.ranked[0]["concept"] == before:
            search.stopped = "no improvement"
        elif turn == self.max_rounds:
            search.stopped = "last round"
        if turn == 1:
            search.records.append({"round": 1, "synthetic": [], "replies": list(search.study.replies)})
        search.records[-1].update(
            candidates=search.rounds[-1],
            tested=search.ranked,
            threshold=threshold,
            best=search.ranked[0]["concept"] if search.ranked else None,
            passed=passed,
            stopped=search.stopped,
        )


def _assess(unit: int, request: Request, images: Synthetic, probing: Probing, search: Search) -> dict[str, Any]:
    """The JSON-serialisable scores of one concept for one unit."""
    activation = probing.auc(unit, images.activations[:, unit])
    specificity = probing.specificity(unit, images.activations)
    again = consistency(request.concept, search.rounds)
    return {
        "concept": request.concept,
        "seed": request.seed,
        "mean_activation": float(images.activations[:, unit].mean()),
        "excitation": float(probing.standardised(images.activations)[unit]),
        "activation": activation,
        "specificity": specificity,
        "consistency": again,
        "score": activation * specificity * again,
    }


def _jaccard(first: set[str], second: set[str]) -> float:
    union = first | second
    return len(first & second) / len(union) if union else 0.0
