"""A closed loop of proposed concepts, generated images and measured activations, after LINE.

After the abstract of LINE (Zaigrajew et al., arXiv 2604.08039), whose code, prompts and settings are not public: what
is done here in each step is CLEAR's own choice, and results are not those of LINE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal, get_args

import numpy as np
from jaxtyping import Float

from baselines.base import Label, Split, UnitLabels
from baselines.costs import NOTHING, Amount, Cost
from baselines.dnd.candidates import candidate_concepts
from baselines.dnd.naming import simplified_captions, summaries
from baselines.dnd.study import Roles, address
from baselines.drawing import PROMPT, Draw, Drawn, Request, Steps, drive
from baselines.evidence import EVIDENCE_SIZE, check_units, dead_units, order_among_ties, top_images
from baselines.semantic_lens import Csp
from metrics.cosy import cosy_auc
from tasks.common.errors import UserError, unknown_name
from tasks.common.seeding import generator, integer_seed
from tasks.language.naming import is_label, tidy
from tasks.observation import Observation, Toolbox

Start = Literal["csp", "captions", "none"]
"""Where the first concepts come from: the nearest by CSP, summaries of the top images' captions, or the proposer."""

STARTS: Final = 3
"""Maximum number of concepts that the start gives."""

BEST, LATEST = 5, 3
"""The history that the proposer sees: so many of the best concepts, and of the latest ones."""

PATIENCE: Final = 4
"""The loop ends after so many proposals in succession without a gain."""

FINALISTS: Final = 3
"""Concepts of which images are drawn again."""

CONTROLS: Final = 50
"""Concepts of which a control image is drawn."""

TRIED: Final = 7.3
"""Concepts tried of a unit, of which the proposer gives ``PROPOSED``: measured on the miniature, as the shares below
(ResNet-50, 32 hidden and 32 planted units, clean and fog, the vocabulary's proposer). A language model may differ."""

PROPOSED: Final = 4.3

TRIED_SHARE, FINAL_SHARE = 0.47, 0.67
"""Distinct concepts of a cell, relative to the sum over its units: those tried, and those drawn again."""

CONDITIONS_SHARE: Final = 0.8
"""Share of a cell's images that an earlier cell of the same repeat already drew."""


class Line:
    """Names a unit by the best of the concepts that a proposer tries in a loop; after LINE.

    Each round draws images of one new concept and measures its score: the unit's mean activation on them relative to
    its largest on the probing images, or, where that is not positive, in standard deviations above its mean there. The
    start gives the concepts of the first rounds, the proposer the others: it sees the five best and the three latest
    concepts with their scores. A proposal that is empty, no concept of one to five words or a repetition counts as a
    round, and nothing is drawn. The loop ends after ``rounds`` rounds, or after four proposals without a gain.

    The best of many noisy scores is too high. So images of the three best concepts are drawn again, with other seeds,
    and the label is the concept whose new images have the highest CoSy AUC against control images: one of each of 50
    concepts of the concept set, generated too, since the generator's style alone may excite a unit. Ties go to the
    higher mean activation.

    Drawn images are not perturbed: under a perturbed condition only the start and the normalisation differ. Their seeds
    are those of Describe-and-Dissect, by concept and repeat, so that units, conditions and methods share them.

    Args:
        start: ``csp``, ``captions``, or ``none``: the proposer begins without evidence (the unit is a black box).
        rounds: Maximum number of concepts tried, including those of the start.
        images_per_concept: Images drawn of a concept, in each of the two draws.
        batch_size: Images per batch (runtime only).
        unit_block: Units whose loops advance together (runtime only).
    """

    name: ClassVar[str] = "line"
    summary: ClassVar[str] = (
        "After LINE (settings of this project): a proposer names concepts in a closed loop, guided by the unit's "
        "activation on images drawn of each, and a second draw decides among the best."
    )
    citation: ClassVar[tuple[str, ...]] = ("line",)
    trace: ClassVar[str] = "candidates"
    version: ClassVar[str] = "1"
    split: ClassVar[Split] = "units"
    needs: ClassVar[frozenset[str]] = frozenset({"clip", "concepts", "generator", "proposer"})

    def __init__(
        self,
        start: Start = "csp",
        rounds: int = 10,
        images_per_concept: int = 10,
        batch_size: int = 64,
        unit_block: int = 64,
    ) -> None:
        if start not in get_args(Start):
            raise unknown_name("start of line", start, get_args(Start))
        if min(rounds, images_per_concept, batch_size, unit_block) < 1:
            raise UserError("The counts of line must be at least 1.")
        self.start: Start = start
        self.rounds = rounds
        self.images_per_concept = images_per_concept
        self.batch_size = batch_size
        self.unit_block = unit_block

    @property
    def asks(self) -> list[str]:
        """The parts needed with these options."""
        return [*sorted(self.needs), *(("captioner", "summariser") if self.start == "captions" else ())]

    def cost(self, units: int, images: int) -> Cost:
        """Model calls of one cell; see ``baselines.costs``."""
        captions = self.start == "captions"
        shown = units * min(EVIDENCE_SIZE, images) if captions else 0
        finalists = min(FINALISTS, self.rounds)
        drawn = Amount((self.rounds + finalists) * self.images_per_concept)
        proposed = Amount(self.rounds)
        if self.start == "csp" and self.rounds >= TRIED:  # other starts were not measured
            likely = (TRIED * TRIED_SHARE + finalists * FINAL_SHARE) * self.images_per_concept
            drawn, proposed = Amount(drawn.most, likely), Amount(self.rounds, PROPOSED)
        return Cost(
            captioned=Amount.of(shown),
            generated=drawn * units + Amount.of(CONTROLS) if units else NOTHING,
            simplified=Amount.of(shown),
            summarised=Amount.of(units * STARTS if captions else 0),
            summary_captions=min(EVIDENCE_SIZE, images),
            proposed=proposed * units,
            proposal_concepts=BEST + LATEST,
            shared=CONDITIONS_SHARE,
        )

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units, each for itself.

        Returns:
            The concepts of the second draw, best first, with their AUC; none for a dead unit, or if none was proposed.

        Raises:
            UserError: A unit number out of range, or a missing role.
        """
        return drive(self.steps(observation, units, tools), tools, self.batch_size)

    def steps(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> Steps:
        """``label``, which waits wherever images must be drawn; see ``baselines.drawing``."""
        roles = Roles.of(tools, self.name, [part for part in self.asks if part != "concepts"])
        if not tools.concepts:
            raise UserError("The method line needs a concept set (concepts), which the profile does not have.")
        check_units(units, observation.activations.shape[1])
        dead = dead_units(observation.activations)
        labels = {unit: UnitLabels(unit, (), (), {"dead": True}) for unit in units if dead[unit]}
        alive = [unit for unit in dict.fromkeys(units) if unit not in labels]
        if alive:
            asked = self._controls(observation, tools)
            drawn = yield Draw(asked)
            controls = np.concatenate([drawn[request].activations for request in asked])
            for begin in range(0, len(alive), self.unit_block):
                loops = self._loops(observation, alive[begin : begin + self.unit_block], roles)
                found = yield from self._run(loops, controls, observation, tools)
                labels.update((of_unit.unit, of_unit) for of_unit in found)
        return [labels[unit] for unit in units]

    def _controls(self, observation: Observation, tools: Toolbox) -> tuple[Request, ...]:
        """The first image of some of the concepts, the same for all units."""
        order = generator(tools.seed, "line", "control", observation.repeat).permutation(len(tools.concepts))
        chosen = (tools.concepts[number] for number in order[:CONTROLS])
        return tuple(self._request(concept, observation, tools, "first", 1) for concept in chosen)

    def _request(
        self, concept: str, observation: Observation, tools: Toolbox, draw: Literal["first", "second"], count: int
    ) -> Request:
        # The first draw has Describe-and-Dissect's seed address: methods test a concept on the same images.
        what = ("dnd", "generate") if draw == "first" else ("line", "second draw")
        seed = integer_seed(tools.seed, *what, concept, observation.repeat)
        return Request(concept, count, seed, None, observation.layer)

    def _loops(self, observation: Observation, units: Sequence[int], roles: Roles) -> list[Loop]:
        layer = observation.activations
        ties = order_among_ties(layer)
        loops = []
        for unit in units:
            column = layer[:, unit].double().cpu().numpy()
            top = tuple(top_images(column, EVIDENCE_SIZE, among_ties=ties))
            loops.append(Loop(unit, address(observation, unit), top, column))
        if self.start == "csp":
            for loop, found in zip(loops, Csp().label(observation, units, roles.tools), strict=True):
                loop.replies = [label.text for label in found.ranked[:STARTS]]
        elif self.start == "captions":
            for loop in loops:
                loop.replies = self._summaries(observation, loop, roles)
        return loops

    def _summaries(self, observation: Observation, loop: Loop, roles: Roles) -> list[str]:
        captions = roles.captioner.caption(observation.images(loop.top))
        short = simplified_captions(captions, observation, loop.unit, roles, 1)
        replies = summaries(short, observation, loop.unit, roles, STARTS, 1)
        return candidate_concepts(map(concept_in, replies))[:STARTS]

    def _run(
        self,
        loops: Sequence[Loop],
        controls: Float[np.ndarray, "controls units"],
        observation: Observation,
        tools: Toolbox,
    ) -> Steps:
        """Advance all loops, one round of each at a time, and choose by a second draw."""
        while left := [loop for loop in loops if not loop.stopped]:
            for loop in left:
                self._next(loop, tools)
            asked = {loop.unit: [self._first(concept, observation, tools) for concept in loop.fresh] for loop in left}
            together = tuple(request for of_unit in asked.values() for request in of_unit)
            measured = (yield Draw(together)) if together else {}
            for loop in left:
                self._judge(loop, asked[loop.unit], measured)
        again = {
            loop.unit: [
                self._request(concept, observation, tools, "second", self.images_per_concept)
                for concept in loop.best(FINALISTS)
            ]
            for loop in loops
        }
        together = tuple(request for of_unit in again.values() for request in of_unit)
        measured = (yield Draw(together)) if together else {}
        return [self._chosen(loop, again[loop.unit], measured, controls[:, loop.unit]) for loop in loops]

    def _first(self, concept: str, observation: Observation, tools: Toolbox) -> Request:
        return self._request(concept, observation, tools, "first", self.images_per_concept)

    def _next(self, loop: Loop, tools: Toolbox) -> None:
        """Set the concepts of the next round: those of the start, or a proposal."""
        if not loop.replies:
            seed = integer_seed(tools.seed, "line", "propose", *loop.address, loop.rounds)
            assert tools.proposer is not None  # noqa: S101 - checked at the start
            loop.replies = [tools.proposer.propose(loop.history(), seed)]
            loop.proposals += 1
            concepts = [concept_in(loop.replies[0])]
        else:
            concepts = loop.replies = loop.replies[: self.rounds]
        loop.rounds += len(concepts)
        loop.fresh = [concept for concept in dict.fromkeys(concepts) if concept and not loop.tried(concept)]

    def _judge(self, loop: Loop, requests: Sequence[Request], measured: Drawn) -> None:
        before = max(loop.scores.values(), default=-np.inf)
        tested = []
        for request in requests:
            activations = measured[request].activations[:, loop.unit]
            loop.scores[request.concept] = loop.score(activations)
            tested.append(_tested(request, activations, loop.scores[request.concept]))
        gained = max(loop.scores.values(), default=-np.inf) > before
        loop.stale = 0 if gained else loop.stale + 1
        if loop.rounds >= self.rounds:
            loop.stopped = "last round"
        elif loop.stale == PATIENCE:
            loop.stopped = "no gain"
        loop.record(tested, next(iter(loop.best(1)), None))
        loop.replies = []

    def _chosen(
        self, loop: Loop, requests: Sequence[Request], measured: Drawn, control: Float[np.ndarray, " controls"]
    ) -> UnitLabels:
        tested = []
        for request in requests:
            activations = measured[request].activations[:, loop.unit]
            tested.append(_tested(request, activations, float(cosy_auc(control[None], activations[None])[0])))
        tested.sort(key=lambda one: (-one["score"], -one["mean_activation"]))  # stable: then the first draw decides
        ranked = tuple(Label(one["concept"], one["score"]) for one in tested)
        chosen = ranked[0].text if ranked else None
        loop.fresh = [one["concept"] for one in tested]
        loop.record(tested, chosen)
        loop.records[-1]["stopped"] = loop.stopped
        trace = {
            "mode": f"start={self.start}",
            "scoring": "mean activation, at last by AUC",
            "crop_px": 1,
            "top_images": list(loop.top),
            **dict.fromkeys(("described", "captions", "simplified", "replies", "tested"), ()),
            "candidates": list(loop.scores),
            "synthesis": {"template": PROMPT, "count": self.images_per_concept, "synth_px": None},
            "rounds": loop.records,
            "chosen": chosen,
        }
        return UnitLabels(loop.unit, ranked, loop.top, {"proposals": loop.proposals, "trace": trace})


@dataclass
class Loop:
    """One unit's state.

    Attributes:
        address: Seed address of its random draws.
        top: Its top images, most activating first.
        probing: Its activations on the probing images, float64.
        replies: What the start or the proposer said in this round.
        fresh: The concepts of which images are drawn in this round.
        scores: Concept → score, in the order in which they were drawn.
        stale: Rounds since the last gain.
        stopped: Why the loop ended; empty while it goes on.
    """

    unit: int
    address: tuple[str | int, ...]
    top: tuple[int, ...]
    probing: Float[np.ndarray, " images"]
    replies: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    rounds: int = 0
    proposals: int = 0
    stale: int = 0
    stopped: str = ""
    records: list[dict[str, Any]] = field(default_factory=list)

    def tried(self, concept: str) -> bool:
        """Whether images were drawn of it, in any case of its letters."""
        return concept.casefold() in map(str.casefold, self.scores)

    def best(self, count: int) -> list[str]:
        """The concepts of highest score, of equal ones the earlier."""
        return sorted(self.scores, key=lambda concept: -self.scores[concept])[:count]

    def history(self) -> list[tuple[str, float]]:
        """What the proposer sees: the best concepts, and the latest ones that are not among them."""
        best = self.best(BEST)
        latest = [concept for concept in list(self.scores)[-LATEST:] if concept not in best]
        return [(concept, round(self.scores[concept], 2)) for concept in (*best, *latest)]

    def score(self, activations: Float[np.ndarray, " images"]) -> float:
        """The score of a concept by the unit's activations on its images."""
        mean, largest = float(activations.mean(dtype=np.float64)), float(self.probing.max())
        return mean / largest if largest > 0 else (mean - float(self.probing.mean())) / float(self.probing.std())

    def record(self, tested: Sequence[dict[str, Any]], best: str | None) -> None:
        """Write the round down for the trace."""
        said = {"round": len(self.records) + 1, "replies": self.replies, "candidates": self.fresh}
        self.records.append({**said, "tested": list(tested), "best": best})


def concept_in(reply: str) -> str:
    """The concept that a reply of a model is, in lower case; empty if it is not one of one to five words."""
    concept = " ".join(tidy(reply).lower().split())
    return concept if is_label(concept) else ""


def _tested(request: Request, activations: Float[np.ndarray, " images"], score: float) -> dict[str, Any]:
    mean = float(activations.mean(dtype=np.float64))
    return {"concept": request.concept, "seed": request.seed, "mean_activation": mean, "score": score}
