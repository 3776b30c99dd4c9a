"""CLEAR: context-adaptive Describe-and-Dissect, in batches over all requested units."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar, TypeAlias, get_args

import numpy as np
from jaxtyping import Float, Int

from baselines.base import Label, Split, UnitLabels
from baselines.clear.case import Case, Layer
from baselines.clear.choice import (
    Aggregate,
    activation_term,
    caption_term,
    distinctness,
    excitation,
    image_term,
    robust,
    specificity,
)
from baselines.clear.cost import clear_cost
from baselines.clear.dependence import dependence, loss, part_dependence
from baselines.clear.evidence import Control, Sight, control_images, look, look_around
from baselines.clear.record import tested_record, trace_record
from baselines.clear.words import collocations, join_parts, parts_of, propose_parts
from baselines.contexts import SEEN, Viewer, parse_contexts
from baselines.costs import Cost
from baselines.dnd.adaptive import Drawing
from baselines.dnd.candidates import candidate_concepts
from baselines.dnd.crops import CROP_SIZE
from baselines.dnd.describe import DescribedImage, Pictures, describe_units
from baselines.dnd.naming import simplified_captions, summaries
from baselines.dnd.study import Roles
from baselines.drawing import Draw, Drawn, Request, Steps, Synthetic, drive
from baselines.evidence import check_units, order_among_ties, top_images
from tasks.common.errors import UserError, unknown_name
from tasks.common.seeding import integer_seed
from tasks.observation import Observation, Toolbox
from tasks.perturbations.settings import needs_foreground

DECIMALS = 6
"""Decimals of a score: the last bits of a float32 depend on the batch, and must not decide between two candidates."""

SCREENED, KEPT, FINALISTS = 2, 4, 4
"""An adaptive choice draws so many images of every candidate, so many of the best quarter and of pairs, and all images
of so many candidates, among which it is made."""

TOLD = 10
"""Candidates listed in the result; a unit may have fifty."""

Measured: TypeAlias = list[dict[str, Synthetic]]
"""For each context, the measurements of each concept's synthetic images."""


@dataclass(frozen=True)
class Scores:
    """Candidates' scores on the images drawn of each.

    Attributes:
        costs: Total penalty.
        totals: Final scores.
        images: Number of images of each.
    """

    terms: Float[np.ndarray, "contexts terms concepts"]
    distinct: Float[np.ndarray, " concepts"]
    specific: Float[np.ndarray, " concepts"]
    costs: Float[np.ndarray, " concepts"]
    totals: Float[np.ndarray, " concepts"]
    images: Int[np.ndarray, " concepts"]


class Clear:
    """Names a unit by the concept that holds in several contexts of the same images, tested on synthetic images.

    1. *Evidence.* The unit's top images and attention crops, as in Describe-and-Dissect (Bai et al., TMLR 2025), in
       every context: as given, and perturbed once more. Control images, a random sample of the same probing images, are
       rendered in the same contexts: what their captions say is said of any image, because of the fog for example.
    2. *Candidates.* Summaries of the captions of each context; the parts of these captions, word by word, and of those
       of the control images that excite the unit most; and the best parts in pairs. One caption in ten that contains
       the right word is enough, although no summary would keep it.
    3. *Score* of a candidate in each context: weighted mean of three probabilities in [0, 1],

       - activation: mean rank of its synthetic images by the unit's activation among those of all candidates,
       - images: its synthetic images are more similar to the unit's described images than to control images,
       - captions: the unit's captions contain it, those of control images do not.

       The candidate's score is the mean over the contexts minus ``spread`` times their standard deviation, or the
       worst context's score, minus ``distinct`` × (1 − distinctness), plus ``specific`` × (specificity − 1), minus
       ``brevity`` for each part after the first; see ``baselines.clear.choice``. Ties keep the order of the candidates.

    Synthetic images are also rendered in a context if it changes the image as a whole. Contexts that change the
    foreground or the background leave them unchanged: a generated image of "red" has no foreground of its own to blur.

    ``extra`` holds ``contexts``; ``dependence`` of the unit and of the label's parts on foreground, background and
    context (see ``baselines.clear.dependence``); ``tested``, the best candidates with their terms; and ``trace``,
    whatever else a visualisation of the procedure needs.

    Randomness is as in Describe-and-Dissect; control images are drawn once per run, random contexts by the image's
    identifier, so a unit's label does not depend on the other requested units. Distinctness and specificity are
    computed over the complete layer for the same reason.

    Args:
        contexts: The contexts besides the images as given, comma-separated, e.g. ``gaussian_blur:3``; empty
            (``--set clear.contexts=``) for none.
        probes: Contexts that only measure what the unit depends on: nothing is proposed or scored in them. A network
            that classifies a blurred beach as a beach does not lose it under blur; grey removes that part of the image.
        aggregate: ``spread`` or ``worst``.
        spread: Penalty per standard deviation over the contexts.
        activation_weight: Weight of the activation term, at least 0; the weights are relative to each other.
        image_weight: Weight of the image term, likewise.
        caption_weight: Weight of the caption term, likewise.
        distinct: Penalty for a label shared with units that behave differently.
        specific: Penalty for a label that excites other units as much.
        brevity: Penalty for each part of a concept after the first.
        parts: Maximum number of caption parts among the candidates; 0 leaves summaries only.
        joined: Number of best parts of which all pairs are tried.
        control: Number of control images.
        top_images: This and the remaining options are those of ``DescribeAndDissect``.
        candidates: Summaries per context.
        draw: ``full``: all images of every candidate. ``adaptive``: successive halving, see ``FINALISTS``.
    """

    name: ClassVar[str] = "clear"
    summary: ClassVar[str] = (
        "CLEAR's own method: Describe-and-Dissect in several contexts of the same images, where every part of the "
        "captions is a candidate and drawn images decide."
    )
    citation: ClassVar[tuple[str, ...]] = ("dnd",)
    trace: ClassVar[str] = "contexts"
    version: ClassVar[str] = "2"
    split: ClassVar[Split] = "units"
    needs: ClassVar[frozenset[str]] = frozenset({"captioner", "summariser", "generator", "clip"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "no_contexts": {"contexts": ""},
        "worst_case": {"aggregate": "worst"},
        "plain_mean": {"spread": 0.0},
        "no_distinctness": {"distinct": 0.0},
        "no_specificity": {"specific": 0.0},
        "no_captions": {"caption_weight": 0.0},
        "no_images": {"image_weight": 0.0},
        "no_activation": {"activation_weight": 0.0},
        "no_brevity": {"brevity": 0.0},
        "no_parts": {"parts": 0},
        "no_pairs": {"joined": 0},
        "no_crops": {"crops": False},
    }

    def __init__(
        self,
        contexts: str | None = "foreground_blur:3,background_blur:3,gaussian_blur:3",
        probes: str | None = "foreground_grey:5,background_grey:5",
        aggregate: Aggregate = "spread",
        spread: float = 0.25,
        activation_weight: float = 1.0,
        image_weight: float = 0.1,
        caption_weight: float = 0.5,
        distinct: float = 0.05,
        specific: float = 0.05,
        brevity: float = 0.03,
        parts: int = 32,
        joined: int = 4,
        control: int = 100,
        top_images: int = 10,
        crops: bool = True,
        candidates: int = 5,
        images_per_concept: int = 10,
        simplify: bool = True,
        crop_px: int = CROP_SIZE,
        batch_size: int = 64,
        unit_block: int = 64,
        draw: Drawing = "full",
    ) -> None:
        if draw not in get_args(Drawing):
            raise unknown_name("clear draw", draw, get_args(Drawing))
        if aggregate not in get_args(Aggregate):
            raise unknown_name("clear aggregate", aggregate, get_args(Aggregate))
        counts = {"control": control, "top_images": top_images, "candidates": candidates}
        counts |= {"images_per_concept": images_per_concept, "crop_px": crop_px}
        counts |= {"batch_size": batch_size, "unit_block": unit_block}
        weights = {"activation_weight": activation_weight, "image_weight": image_weight}
        weights |= {"caption_weight": caption_weight}
        costs = {"spread": spread, "distinct": distinct, "specific": specific, "brevity": brevity}
        _check_least(1, counts)
        _check_least(0, weights | costs | {"parts": parts, "joined": joined})
        if sum(weights.values()) == 0:
            raise UserError(f"clear: one of {', '.join(weights)} must be above 0.")
        self.contexts = parse_contexts(contexts)
        self.probes = parse_contexts(probes)[1:]
        self.aggregate: Aggregate = aggregate
        self.spread = spread
        self.weights = np.array([*weights.values()]) / sum(weights.values())
        self.distinct = distinct
        self.specific = specific
        self.brevity = brevity
        self.parts = parts
        self.joined = joined
        self.control = control
        self.top_images = top_images
        self.crops = crops
        self.candidates = candidates
        self.images_per_concept = images_per_concept
        self.simplify = simplify
        self.crop_px = crop_px
        self.batch_size = batch_size
        self.unit_block = unit_block
        self.draw: Drawing = draw

    tuned_on = ("gaussian_noise", "frost", "fog", "contrast")  # weights and costs, see docs/clear.md

    @property
    def uses_perturbations(self) -> tuple[str, ...]:
        """The perturbations used as contexts, which are not held out when the method is tested on them."""
        return tuple(dict.fromkeys(context.name for context in self.contexts if context != SEEN))

    def cost(self, units: int, images: int) -> Cost:
        """Model calls of one cell; see ``baselines.costs``."""
        return clear_cost(self, units, images)

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units, in the given order; dead units and units without candidates get no label.

        Args:
            observation: The layer under one condition.
            tools: Must provide a captioner, a summariser, a generator and CLIP; a segmenter for contexts that change
                one part of the image.

        Raises:
            UserError: A unit number out of range, a missing role, or a spatial layer without maps.
        """
        return drive(self.steps(observation, units, tools), tools, self.batch_size)

    def steps(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> Steps:
        """``label``, which waits wherever images must be drawn; see ``baselines.drawing``."""
        roles = Roles.of(tools, self.name)
        check_units(units, observation.activations.shape[1])
        layer = Layer.of(observation)
        labels = {unit: UnitLabels(unit, (), (), {"dead": True}) for unit in units if not layer.alive[unit]}
        alive = [unit for unit in dict.fromkeys(units) if unit not in labels]
        indices = control_images(len(observation.image_ids), self.control, tools.seed)
        view = Viewer(observation, tools)
        controls = [look_around(view, c, indices, roles, self.batch_size) for c in self.contexts if alive]
        for start in range(0, len(alive), self.unit_block):
            cases = self._cases(view, alive[start : start + self.unit_block], controls, roles)
            drawn = yield from self._test(cases, controls, layer, observation, tools)
            labels.update((case.unit, self._choose(case, controls, layer, drawn[case.unit], tools)) for case in cases)
        return [labels[unit] for unit in units]

    # ---- evidence and candidates ----

    def _cases(self, view: Viewer, units: Sequence[int], controls: Sequence[Control], roles: Roles) -> list[Case]:
        """Steps 1 and 2 for one block of units, except for the pairs of parts."""
        observation = view.observation
        layer = observation.activations
        ties = order_among_ties(layer)
        tops = {unit: top_images(layer[:, unit], self.top_images, among_ties=ties) for unit in units}
        pictures = Pictures(observation, (i for top in tops.values() for i in top), self.crop_px, self.batch_size)
        described: dict[int, list[DescribedImage]] = describe_units(
            observation,
            tops,
            pictures,
            roles.tools,
            mode="fixed",
            crops=self.crops,
            batch_size=self.batch_size,
            keep=self.top_images,
        )
        seen_in = [control.observation for control in controls]
        seen_in += [view(probe) for probe in self.probes]
        sights = [look(seen, described, roles, self.crop_px, self.batch_size) for seen in seen_in]
        together = collocations(caption for control in controls for caption in control.captions)
        indices = controls[0].indices
        cases = []
        for unit in units:
            own = tuple(sight[unit] for sight in sights[: len(controls)])
            probes = tuple(sight[unit] for sight in sights[len(controls) :])
            activations = observation.activations[list(indices), unit].float().cpu().numpy()
            said = [text for sight in own for text in sight.captions]
            parts = propose_parts(said, controls[0].captions, activations, together)[: self.parts]
            pairs = zip(own, controls, strict=True)
            replies = tuple(tuple(self._summaries(unit, sight, control, roles)) for sight, control in pairs)
            proposed: dict[str, tuple[str, ...]] = {}
            for control, said_there in zip(controls, replies, strict=True):
                for concept in candidate_concepts(said_there):
                    proposed[concept] = (*proposed.get(concept, ()), str(control.context))
            for part in parts:
                proposed[part] = (*proposed.get(part, ()), "part")
            seen = (tuple(tops[unit]), tuple(described[unit]), own, probes)
            cases.append(Case(unit, *seen, replies, parts, together, proposed))
        return cases

    def _test(
        self, cases: Sequence[Case], controls: Sequence[Control], layer: Layer, observation: Observation, tools: Toolbox
    ) -> Generator[Draw, Drawn, dict[int, Measured]]:
        """Draw and measure all concepts of all units in full batches, and add pairs of the best parts."""
        found: dict[int, Measured] = {case.unit: [{} for _ in self.contexts] for case in cases}

        def measure(count: int, concepts: Callable[[Case], Sequence[str]]) -> Generator[Draw, Drawn, None]:
            wanted = {case.unit: concepts(case) for case in cases}
            asked = dict.fromkeys(concept for own in wanted.values() for concept in own)
            requests = {concept: self._request(concept, observation, tools, count) for concept in asked}
            for place, context in enumerate(self.contexts):
                rendered = SEEN if needs_foreground(context.name) else context
                measured = (yield Draw(tuple(requests.values()), rendered)) if requests else {}
                for unit, own in wanted.items():
                    found[unit][place].update((concept, measured[requests[concept]]) for concept in own)

        def best(case: Case, most: int) -> list[str]:
            concepts = list(found[case.unit][0])
            totals = self._scores(case, concepts, controls, layer, found[case.unit]).totals
            return [concepts[i] for i in sorted(range(len(concepts)), key=lambda i: (-totals[i], i))[:most]]

        def pairs(case: Case) -> list[str]:
            joined = self._pairs(case, controls, found[case.unit]) if self.joined >= 2 else []
            return [concept for concept in joined if case.proposed.setdefault(concept, ("joined",)) == ("joined",)]

        whole = self.images_per_concept
        if self.draw == "full":
            yield from measure(whole, lambda case: list(case.proposed))
            yield from measure(whole, pairs)
            return found
        yield from measure(min(SCREENED, whole), lambda case: list(case.proposed))
        yield from measure(min(KEPT, whole), lambda case: best(case, max(len(case.proposed) // 4, FINALISTS)))
        yield from measure(min(KEPT, whole), pairs)
        yield from measure(whole, lambda case: best(case, FINALISTS))
        return found

    def _summaries(self, unit: int, sight: Sight, control: Control, roles: Roles) -> list[str]:
        """What most captions of one context have in common, but those of control images in this context do not."""
        uses = roles.summariser.uses_background
        own = replace(roles, background=control.base_rates if uses else None)
        captions: Sequence[str] = sight.captions
        if self.simplify:
            captions = simplified_captions(captions, control.observation, unit, own, 1)
        return summaries(captions, control.observation, unit, own, self.candidates, 1)

    def _pairs(self, case: Case, controls: Sequence[Control], drawn: Measured) -> list[str]:
        """Pairs of the best parts, in the order in which captions contain them."""
        parts = list(case.parts)
        if len(parts) < 2:
            return []
        scores = np.round(self._robust(self._terms(case, parts, controls, drawn)), DECIMALS)
        best = [parts[i] for i in sorted(range(len(parts)), key=lambda i: (-scores[i], i))[: self.joined]]
        captions = [text for sight in case.sights for text in sight.captions]
        captions += [text for control in controls for text in control.captions]
        said = [parts_of(text, case.together) for text in captions]
        return [join_parts(one, other, said) for one, other in combinations(best, 2)]

    # ---- synthetic images ----

    def _request(self, concept: str, observation: Observation, tools: Toolbox, count: int) -> Request:
        # Describe-and-Dissect's seed address: both methods test a concept on the same images, generated once.
        seed = integer_seed(tools.seed, "dnd", "generate", concept, observation.repeat)
        return Request(concept, count, seed, None, observation.layer)

    # ---- choice ----

    def _terms(
        self, case: Case, concepts: Sequence[str], controls: Sequence[Control], drawn: Measured
    ) -> Float[np.ndarray, "contexts terms concepts"]:
        """Activation, image and caption term of each concept in each context."""
        terms = []
        for control, sight, measured in zip(controls, case.sights, drawn, strict=True):
            images = [measured[concept] for concept in concepts]
            activations = [one.activations[:, case.unit] for one in images]
            embeddings = [one.embeddings for one in images]
            terms.append(
                (
                    activation_term(activations),
                    image_term(sight.embeddings, control.embeddings, embeddings),
                    caption_term(sight.captions, control.captions, concepts),
                )
            )
        return np.array(terms)

    def _robust(self, terms: Float[np.ndarray, "contexts terms concepts"]) -> Float[np.ndarray, " concepts"]:
        return robust(np.einsum("t,ktc->kc", self.weights, terms), self.aggregate, self.spread)

    def _scores(
        self, case: Case, concepts: Sequence[str], controls: Sequence[Control], layer: Layer, drawn: Measured
    ) -> Scores:
        """Score candidates on the images drawn of each so far."""
        terms = self._terms(case, concepts, controls, drawn)
        excited = excitation(np.stack([drawn[0][concept].activations.mean(axis=0) for concept in concepts]))
        distinct = distinctness(excited, layer.correlation(case.unit), case.unit, layer.alive)
        specific = specificity(excited, case.unit, layer.alive)
        longer = np.array([max(len(parts_of(concept, case.together)) - 1, 0) for concept in concepts])
        costs = self.distinct * (1 - distinct) + self.specific * (1 - specific) + self.brevity * longer
        totals = np.round(self._robust(terms) - costs, DECIMALS)
        images = np.array([len(drawn[0][concept].activations) for concept in concepts])
        return Scores(terms, distinct, specific, costs, totals, images)

    def _choose(
        self, case: Case, controls: Sequence[Control], layer: Layer, drawn: Measured, tools: Toolbox
    ) -> UnitLabels:
        """Step 3: score every candidate in every context, and rank them."""
        contexts = [str(context) for context in self.contexts]
        told = {"contexts": contexts, "trace": self._trace(case, drawn)}
        concepts = list(case.proposed)
        if not concepts:
            return UnitLabels(case.unit, (), case.top, told | {"candidates": 0, "tested": []})
        found = self._scores(case, concepts, controls, layer, drawn)
        order = sorted(range(len(concepts)), key=lambda i: (-found.images[i], -found.totals[i], i))
        tested = [
            tested_record(
                case,
                concepts[i],
                self._request(concepts[i], controls[0].observation, tools, int(found.images[i])).seed,
                float(found.totals[i]),
                {name: found.terms[k, :, i] for k, name in enumerate(contexts)},
                {"distinctness": found.distinct[i], "specificity": found.specific[i], "cost": found.costs[i]},
                None if self.draw == "full" else int(found.images[i]),
            )
            for i in order[:TOLD]
        ]
        dependence_found = self._dependence(case, concepts[order[0]], layer)
        told |= {"dependence": dependence_found, "candidates": len(concepts), "tested": tested}
        ranked = tuple(Label(concepts[i], float(found.totals[i])) for i in order[:TOLD])
        return UnitLabels(case.unit, ranked, case.top, told)

    def _trace(self, case: Case, drawn: Measured) -> dict[str, Any]:
        images = sum(len(one.activations) for one in drawn[0].values())
        return trace_record(
            case,
            self.contexts,
            self.probes,
            crop_px=self.crop_px,
            images_per_concept=self.images_per_concept,
            images=None if self.draw == "full" else images,
            weights=self.weights,
            aggregate=self.aggregate,
            spread=self.spread,
        )

    def _dependence(self, case: Case, label: str, layer: Layer) -> dict[str, Any]:
        """What the unit and its label lose in the contexts."""
        seen, *others = case.sights
        rest = float(layer.median[case.unit])
        sights = dict(zip(map(str, (*self.contexts[1:], *self.probes)), (*others, *case.probes), strict=True))
        losses = {name: loss(seen.activations, other.activations, rest) for name, other in sights.items()}
        captions = {name: other.captions for name, other in sights.items()}
        parts = part_dependence(parts_of(label, case.together), seen.captions, captions)
        told = {name: round(value, 4) for name, value in losses.items()}
        return {**dependence(losses), "losses": told, "parts": parts}


def _check_least(least: int, values: Mapping[str, float]) -> None:
    for name, value in values.items():
        if not value >= least:
            raise UserError(f"clear: {name} is {value:g}, but must be at least {least}.")
