"""CLEAR's own method: what the probing images say of every concept shortlists, and a few drawn images choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from baselines.base import Label, Split, UnitLabels
from baselines.clear.choice import activation_term, combined, standardised
from baselines.clear.cost import clear_cost
from baselines.clear.dependence import dependence, loss, part_dependence
from baselines.clear.evidence import TERMS, Sight, Texts, captions_of, control_images, look, medians
from baselines.clear.record import rounded, trace_record
from baselines.clear.words import parts_of
from baselines.contexts import SEEN, Viewer, parse_contexts
from baselines.costs import Cost
from baselines.dnd.study import Roles
from baselines.drawing import Draw, Drawn, Request, Steps, drive
from baselines.evidence import check_units, dead_units, top_images
from tasks.common.errors import UserError
from tasks.common.seeding import integer_seed
from tasks.observation import Observation, Toolbox

DECIMALS = 6
"""Decimals of a score: the last bits of a float depend on the machine, and must not decide between two candidates."""


@dataclass(frozen=True)
class _Case:
    """One unit while its label is being computed.

    Attributes:
        parts: The parts of its captions, most frequent first.
        shortlist: Concepts of which images are drawn, best first.
        terms: ``TERMS`` → value of each of them.
        evidence: Of each of them.
        candidates: Number of concepts considered.
    """

    top: tuple[int, ...]
    sights: dict[str, Sight]
    parts: tuple[str, ...]
    shortlist: tuple[str, ...]
    terms: dict[str, Float[np.ndarray, " shortlist"]]
    evidence: Float[np.ndarray, " shortlist"]
    candidates: int


class Clear:
    """Names a unit by the concept that the probing images and a few drawn images agree on.

    1. *Candidates*: the concept set, and the parts of the captions of the unit's top images, word by word.
    2. *Evidence* for each, from images that are there: how the unit's activations follow CLIP's similarity to the
       concept, whether the concept is what sets the top images apart from similar ones, and whether captions name it
       more often than those of control images (``baselines.clear.evidence.Texts.terms``). Each is standardised over the
       candidates; the evidence is their weighted sum. What one misses under noise or fog, another may still see.
    3. *Choice* among the ``shortlist`` candidates of most evidence: mean rank of a concept's drawn images by the unit's
       activation, in (0, 1), plus ``evidence_weight`` × the evidence, standardised over the shortlist, minus
       ``brevity`` for each part of the concept after the first. Ties keep the order of the evidence.

    Drawn images are not perturbed, and are the first of those that Describe-and-Dissect (Bai et al., TMLR 2025) draws.

    ``extra`` holds ``dependence`` of the unit and of the label's parts on foreground and background (see
    ``baselines.clear.dependence``); ``tested``, the shortlist with its terms; and ``trace``, whatever else a
    visualisation of the procedure needs. Control images are drawn once per run, so a unit's label does not depend on
    the other requested units.

    Args:
        shortlist: Number of concepts of which images are drawn; 1 draws none.
        images_per_concept: Images drawn of each.
        evidence_weight: Weight of the evidence in the choice.
        follows: Weight of this term of the evidence, at least 0; 0 leaves it out.
        contrast: Likewise.
        captions: Likewise.
        brevity: Penalty for each part of a concept after the first.
        top_images: Number of captioned top images.
        control: Number of control images.
        probes: Contexts that measure what the unit depends on, comma-separated; nothing is chosen by them. A network
            that classifies a blurred beach as a beach does not lose it under blur; grey removes that part of the image.
        batch_size: Images per batch (runtime only).
        unit_block: Units whose images are drawn together (runtime only).
    """

    name: ClassVar[str] = "clear"
    summary: ClassVar[str] = (
        "CLEAR's own method: similarities, contrast and captions shortlist concepts, and a few drawn images choose."
    )
    citation: ClassVar[tuple[str, ...]] = ("dnd", "csp")
    trace: ClassVar[str] = "contexts"
    version: ClassVar[str] = "3"
    split: ClassVar[Split] = "units"
    needs: ClassVar[frozenset[str]] = frozenset({"captioner", "clip", "concepts", "generator"})
    tuned_on = ("gaussian_noise", "frost", "fog", "contrast")  # see docs/clear.md

    def __init__(
        self,
        shortlist: int = 8,
        images_per_concept: int = 4,
        evidence_weight: float = 0.1,
        follows: float = 1.0,
        contrast: float = 1.0,
        captions: float = 1.0,
        brevity: float = 0.03,
        top_images: int = 10,
        control: int = 100,
        probes: str | None = "foreground_grey:5,background_grey:5",
        batch_size: int = 64,
        unit_block: int = 64,
    ) -> None:
        counts = {"shortlist": shortlist, "images_per_concept": images_per_concept, "top_images": top_images}
        counts |= {"control": control, "batch_size": batch_size, "unit_block": unit_block}
        self.weights: dict[str, float] = dict(zip(TERMS, (follows, contrast, captions), strict=True))
        _check_least(1, counts)
        _check_least(0, {**self.weights, "evidence_weight": evidence_weight, "brevity": brevity})
        if sum(self.weights.values()) == 0:
            raise UserError(f"clear: one of {', '.join(TERMS)} must be above 0.")
        self.shortlist = shortlist
        self.images_per_concept = images_per_concept
        self.evidence_weight = evidence_weight
        self.brevity = brevity
        self.top_images = top_images
        self.control = control
        self.probes = parse_contexts(probes)[1:]
        self.batch_size = batch_size
        self.unit_block = unit_block

    def cost(self, units: int, images: int) -> Cost:
        """Model calls of one cell; see ``baselines.costs``."""
        return clear_cost(self, units, images)

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units, in the given order; dead units get no label.

        Raises:
            UserError: A unit number out of range, or a missing role.
        """
        return drive(self.steps(observation, units, tools), tools, self.batch_size)

    def steps(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> Steps:
        """``label``, which waits wherever images must be drawn; see ``baselines.drawing``."""
        roles = Roles.of(tools, self.name, ("captioner", "clip", "generator"))
        if not tools.concepts:
            raise UserError("Method 'clear' needs a concept set (concepts), which the profile does not have.")
        layer = observation.activations
        check_units(units, layer.shape[1])
        dead = dead_units(layer)
        labels = {unit: UnitLabels(unit, (), (), {"dead": True}) for unit in units if dead[unit]}
        alive = [unit for unit in dict.fromkeys(units) if unit not in labels]
        if not alive:
            return [labels[unit] for unit in units]
        control = control_images(len(observation.image_ids), self.control, tools.seed)
        said = captions_of(observation, control, roles, self.batch_size)
        texts = Texts(observation, roles, [*said.values()])
        view = Viewer(observation, tools)
        for start in range(0, len(alive), self.unit_block):
            block = alive[start : start + self.unit_block]
            tops = {unit: tuple(top_images(layer[:, unit], self.top_images, among_ties=texts.ties)) for unit in block}
            cases = self._cases(view, tops, texts, roles)
            asked = dict.fromkeys(concept for case in cases.values() for concept in case.shortlist)
            requests = {concept: self._request(concept, observation, tools) for concept in asked}
            drawn = (yield Draw(tuple(requests.values()))) if self.shortlist > 1 else {}
            rest = medians(layer, block)
            for unit, case in cases.items():
                labels[unit] = self._choose(unit, case, requests, drawn, texts, rest[unit])
        return [labels[unit] for unit in units]

    def _cases(self, view: Viewer, tops: Mapping[int, tuple[int, ...]], texts: Texts, roles: Roles) -> dict[int, _Case]:
        """Steps 1 and 2 for one block of units."""
        observation, size = view.observation, self.batch_size
        captions = captions_of(observation, [i for top in tops.values() for i in top], roles, size)
        probed = {str(probe): look(view(probe), tops, roles, size) for probe in self.probes}
        own = {unit: [captions[i] for i in top] for unit, top in tops.items()}
        parts = {unit: _parts(said, texts) for unit, said in own.items()}
        texts.prepare([part for some in parts.values() for part in some])
        cases = {}
        for unit, top in tops.items():
            known = texts.known(unit, own[unit])
            concepts = list(dict.fromkeys((*texts.concepts, *parts[unit])))
            more, base = concepts[len(texts.concepts) :], texts.terms(known)
            if more:
                base = {name: np.concatenate([base[name], new]) for name, new in texts.terms(known, more).items()}
            evidence = combined(base, self.weights)
            best = np.argsort(-np.round(evidence, DECIMALS), kind="stable")[: self.shortlist]
            seen = Sight(tuple(own[unit]), observation.activations[list(top), unit].double().cpu().numpy())
            cases[unit] = _Case(
                top,
                {str(SEEN): seen, **{name: sights[unit] for name, sights in probed.items()}},
                parts[unit],
                tuple(concepts[i] for i in best),
                {name: values[best] for name, values in base.items()},
                evidence[best],
                len(concepts),
            )
        return cases

    def _request(self, concept: str, observation: Observation, tools: Toolbox) -> Request:
        # Describe-and-Dissect's seed address: both methods test a concept on the same images, generated once.
        seed = integer_seed(tools.seed, "dnd", "generate", concept, observation.repeat)
        return Request(concept, self.images_per_concept, seed, None, observation.layer)

    def _choose(
        self, unit: int, case: _Case, requests: Mapping[str, Request], drawn: Drawn, texts: Texts, rest: float
    ) -> UnitLabels:
        """Step 3."""
        concepts = case.shortlist
        ranks = np.full(len(concepts), 0.5)
        if drawn:
            ranks = activation_term([drawn[requests[concept]].activations[:, unit] for concept in concepts])
        costs = self.brevity * np.array([max(len(parts_of(one, texts.together)) - 1, 0) for one in concepts])
        totals = np.round(ranks + self.evidence_weight * standardised(case.evidence) - costs, DECIMALS)
        order = np.argsort(-totals, kind="stable")
        tested = [
            {
                "concept": concepts[i],
                "seed": requests[concepts[i]].seed,
                "score": float(totals[i]),
                "activation": rounded(float(ranks[i])),
                "evidence": rounded(float(case.evidence[i])),
                "terms": {name: rounded(float(values[i])) for name, values in case.terms.items()},
            }
            for i in order
        ]
        trace = trace_record(
            case.top,
            case.sights,
            case.parts,
            self.weights,
            self.evidence_weight,
            self.images_per_concept,
            bool(drawn),
        )
        told = {"dependence": _depends(concepts[order[0]], case.sights, texts, rest)}
        told |= {"candidates": case.candidates, "tested": tested, "trace": trace}
        ranked = tuple(Label(concepts[i], float(totals[i])) for i in order)
        return UnitLabels(unit, ranked, case.top, told)


def _parts(captions: Sequence[str], texts: Texts) -> tuple[str, ...]:
    said = Counter(part for text in captions for part in parts_of(text, texts.together))
    return tuple(part for part, _ in said.most_common())


def _depends(label: str, sights: Mapping[str, Sight], texts: Texts, rest: float) -> dict[str, Any]:
    """What the unit and its label lose in the probes."""
    seen = sights[str(SEEN)]
    others = {name: sight for name, sight in sights.items() if sight is not seen}
    losses = {name: loss(seen.activations, other.activations, rest) for name, other in others.items()}
    captions = {name: other.captions for name, other in others.items()}
    parts = part_dependence(parts_of(label, texts.together), seen.captions, captions)
    told = {name: rounded(value) for name, value in losses.items()}
    return {**dependence(losses), "losses": told, "parts": parts}


def _check_least(least: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not value >= least:
            raise UserError(f"clear: {name} is {value:g}, but must be at least {least}.")
