"""Describe-and-Dissect, in batches over all requested units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Float

from baselines.base import Label, Mode, Split, UnitLabels
from baselines.costs import Cost
from baselines.dnd.adaptive import Contest, Drawing, chances, rounds
from baselines.dnd.candidates import candidate_concepts
from baselines.dnd.contrast import Contrast
from baselines.dnd.cost import dnd_cost
from baselines.dnd.crops import CROP_SIZE
from baselines.dnd.describe import Pictures, describe_units
from baselines.dnd.naming import Describe, captions_of, descriptions, simplified_captions, summaries, words_of
from baselines.dnd.scoring import (
    Scoring,
    Untested,
    best_first,
    concept_scores,
    mean_cosines,
    mean_of_best,
    synthetic_ranks,
    topk_squared_mean_rank,
)
from baselines.dnd.study import Roles, Study, address, embedding
from baselines.drawing import PROMPT, Draw, Drawn, Request, Steps, drive
from baselines.evidence import check_units, dead_units, order_among_ties, top_images
from tasks.common.errors import UserError, unknown_name
from tasks.common.seeding import generator, integer_seed
from tasks.observation import Observation, Toolbox


class DescribeAndDissect:
    """Names a unit by captioning what excites it and testing the candidate concepts on synthetic images.

    Steps for each unit: its top images and their attention crops (spatial layers only); the ten of these that activate
    it most are captioned; several summaries of the shuffled captions give candidate concepts; for each, ten images are
    generated and ranked by the unit's activation among all its synthetic images; ranks and the CLIP similarity to the
    captioned images decide. All steps run in batches over all requested units, but a unit's result never depends on the
    others.

    Randomness: shuffles and summaries are seeded by (layer, unit, condition, severity, repeat). In ``fixed`` mode a
    concept's images are seeded by (concept, repeat) alone: every unit and every condition tests the concept "brick
    wall" on the same ten images, generated once, so that a label that changes between conditions changes because of the
    evidence. In ``code`` mode units do not share images: the release has one generator for the run, which cannot be
    order-independent, so images are seeded by (layer, unit, concept, repeat) there.

    Deviations in both modes, which do not affect any measurement: captioned originals keep their own size, and their
    activations, maps and CLIP embeddings are those of the observation instead of a second pass over a copy resized to
    375 px. Token layers get no ``crops`` (see ``baselines.dnd.describe.crop_places``).

    Reference: Bai et al., "Interpreting Neurons in Deep Vision Networks with Language Models", TMLR 2025.

    Args:
        mode: ``fixed`` (recommended) or ``code`` (the release's wrapping heat map, its "background" rule, 32-px
            synthetic images).
        scoring: How candidates are selected; ``topk_compare`` is the published rule. ``none`` takes the first candidate
            of a single summary (the ablation without selection), ``csp`` the candidate that is nearest by Contrastive
            Semantic Projection (see ``baselines.semantic_lens``); these two generate no images.
        top_images: Number of top images, and of images and crops that are captioned.
        crops: Whether attention crops join the pool.
        candidates: Number of summaries.
        images_per_concept: Images generated per concept.
        synth_px: Edge to which synthetic images are reduced before use; None keeps them as generated. ``mode`` means 32
            in ``code`` mode and None in ``fixed``: up-sampling 32-px images for a 224-px target loses detail for no
            gain, and a small target (the miniature's works at 112 px) would see little more than colour.
        simplify: Whether captions are simplified before they are summarised.
        describe: ``captions`` of the captioner (published); ``words``, the concept nearest to each image by CLIP; or
            ``vision``, a vision-language model that sees all described images of the unit at once and names what they
            have in common, without captions. With the last two there is nothing to simplify.
        summarise: False uses the descriptions of the ``candidates`` most activating images as they are, without any
            language model.
        crop_px: Edge of crops (375 as published); smaller is faster if all models work at a small size.
        batch_size: Images per batch (runtime only).
        unit_block: Units whose images are in memory at once (runtime only).
        draw: ``full``: all images of every candidate, as published. ``adaptive``: only until the choice is decided, see
            ``baselines.dnd.adaptive``; a unit with a single candidate needs none, and its label has no score.
    """

    name: ClassVar[str] = "dnd"
    summary: ClassVar[str] = (
        "Describe-and-Dissect: the images and image parts that activate the unit most are captioned, the captions "
        "summarised into candidates, and images drawn of each candidate decide between them."
    )
    citation: ClassVar[tuple[str, ...]] = ("dnd",)
    trace: ClassVar[str] = "candidates"
    version: ClassVar[str] = "2"
    split: ClassVar[Split] = "units"
    needs: ClassVar[frozenset[str]] = frozenset({"captioner", "summariser", "generator", "clip"})
    contrast = False

    def __init__(
        self,
        mode: Mode = "fixed",
        scoring: Scoring | Untested = "topk_compare",
        top_images: int = 10,
        crops: bool = True,
        candidates: int = 5,
        images_per_concept: int = 10,
        synth_px: int | Literal["mode"] | None = "mode",
        simplify: bool = True,
        crop_px: int = CROP_SIZE,
        batch_size: int = 64,
        unit_block: int = 64,
        describe: Describe = "captions",
        summarise: bool = True,
        draw: Drawing = "full",
    ) -> None:
        if mode not in get_args(Mode):
            raise unknown_name("Describe-and-Dissect mode", mode, get_args(Mode))
        scorings = (*get_args(Scoring), *get_args(Untested))
        if scoring not in scorings:
            raise unknown_name("Describe-and-Dissect scoring", scoring, scorings)
        if describe not in get_args(Describe):
            raise unknown_name("Describe-and-Dissect describe", describe, get_args(Describe))
        if describe == "vision" and not summarise:
            raise UserError("Describe-and-Dissect: summarise=false needs captions, and describe=vision makes none.")
        if draw not in get_args(Drawing):
            raise unknown_name("Describe-and-Dissect draw", draw, get_args(Drawing))
        if min(top_images, candidates, images_per_concept, crop_px, batch_size, unit_block) < 1:
            raise UserError("Describe-and-Dissect: every count and size must be at least 1.")
        self.mode: Mode = mode
        self.scoring = scoring
        self.top_images = top_images
        self.crops = crops
        self.candidates = candidates if scoring != "none" else 1
        self.images_per_concept = images_per_concept
        self.synth_px = (32 if mode == "code" else None) if synth_px == "mode" else synth_px
        self.simplify = simplify and summarise and describe == "captions"
        self.describe: Describe = describe
        self.summarise = summarise
        self.draw: Drawing = draw
        self.crop_px = crop_px
        self.batch_size = batch_size
        self.unit_block = unit_block

    def cost(self, units: int, images: int) -> Cost:
        """Model calls of one cell; see ``baselines.costs``."""
        return dnd_cost(self, units, images)

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units, in the given order.

        Dead units and units whose captions name nothing get no label. ``extra["trace"]`` holds everything that a
        visualisation of the procedure needs, as JSON-serialisable values.

        Raises:
            UserError: A unit number out of range, a missing role, or a spatial layer without maps.
        """
        return drive(self.steps(observation, units, tools), tools, self.batch_size)

    def steps(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> Steps:
        """``label``, which waits wherever images must be drawn; see ``baselines.drawing``."""
        roles = Roles.of(tools, self.name, self.asks)
        check_units(units, observation.activations.shape[1])
        dead = dead_units(observation.activations)
        labels = {unit: UnitLabels(unit, (), (), {"dead": True}) for unit in units if dead[unit]}
        alive = [unit for unit in dict.fromkeys(units) if unit not in labels]
        for start in range(0, len(alive), self.unit_block):
            studies = self._study(observation, alive[start : start + self.unit_block], tools, roles)
            found = yield from self._choose(observation, studies, tools, roles)
            labels.update((of_unit.unit, of_unit) for of_unit in found)
        return [labels[unit] for unit in units]

    @property
    def asks(self) -> list[str]:
        """The roles needed with these options, which may differ from the published ones."""
        asked = {"captions": ["captioner"], "words": [], "vision": ["describer"]}[self.describe]
        if self.summarise and self.describe != "vision":
            asked.append("summariser")
        return [*asked, *(["generator"] if self.draws else []), "clip"]

    @property
    def draws(self) -> bool:
        """Whether images are generated to choose among the candidates."""
        return self.scoring not in get_args(Untested)

    def _study(self, observation: Observation, units: Sequence[int], tools: Toolbox, roles: Roles) -> list[Study]:
        """Steps 1 and 2 for one block of units: described images, captions, candidate concepts."""
        layer, split = observation.activations, self.mode == "code"  # the release splits ties
        ties = order_among_ties(layer)
        tops = {unit: top_images(layer[:, unit], self.top_images, among_ties=ties, split=split) for unit in units}
        alike = self._look_alikes(observation, tops, roles)
        shown = (i for images in (*tops.values(), *alike.values()) for i in images)
        pictures = Pictures(observation, shown, self.crop_px, self.batch_size)
        described = describe_units(
            observation,
            tops,
            pictures,
            tools,
            mode=self.mode,
            crops=self.crops,
            batch_size=self.batch_size,
            keep=self.top_images,
        )
        cut = [picture.place for of_unit in described.values() for picture in of_unit if picture.place[1] is not None]
        embedded = pictures.apply(roles.clip.encode_images, cut, self.batch_size)
        embeddings = {
            unit: np.stack([embedding(picture, observation, embedded) for picture in of_unit])
            for unit, of_unit in described.items()
        }
        captions = {unit: ("",) * len(of_unit) for unit, of_unit in described.items()}
        if self.describe == "captions":
            captions = captions_of(described, pictures, roles, self.batch_size)
        elif self.describe == "words":
            captions = words_of(embeddings, roles)
        studies: list[Study] = []
        for unit, of_unit in described.items():
            said = captions[unit]
            simplified = self._simplified(said, observation, unit, roles)
            if self.describe == "vision":
                beside = alike.get(unit, ())
                replies = descriptions(of_unit, pictures, observation, unit, roles, self.candidates, beside)
            else:
                replies = self._replies(simplified, observation, unit, roles)
            studies.append(
                Study(
                    unit,
                    tuple(tops[unit]),
                    tuple(of_unit),
                    embeddings[unit],
                    said,
                    simplified,
                    tuple(replies),
                    tuple(candidate_concepts(replies, self.mode)),
                    alike.get(unit),
                )
            )
        return studies

    def _look_alikes(
        self, observation: Observation, tops: Mapping[int, Sequence[int]], roles: Roles
    ) -> dict[int, tuple[int, ...]]:
        """Unit → the look-alikes of its top images; without any unit if they are not shown."""
        if not (self.contrast and getattr(roles.describer, "uses_contrast", False)):
            return {}
        compared = Contrast(observation)
        return {unit: compared.look_alikes(unit, top) for unit, top in tops.items()}

    def _simplified(
        self, captions: Sequence[str], observation: Observation, unit: int, roles: Roles, turn: int = 1
    ) -> tuple[str, ...]:
        return simplified_captions(captions, observation, unit, roles, turn) if self.simplify else tuple(captions)

    def _replies(
        self, captions: Sequence[str], observation: Observation, unit: int, roles: Roles, turn: int = 1
    ) -> list[str]:
        if not self.summarise:
            return list(captions[: self.candidates])
        return summaries(captions, observation, unit, roles, self.candidates, turn)

    def _request(self, concept: str, observation: Observation, unit: int, tools: Toolbox) -> Request:
        owner = () if self.mode == "fixed" else (observation.layer, unit)
        seed = integer_seed(tools.seed, "dnd", "generate", *owner, concept, observation.repeat)
        return Request(concept, self.images_per_concept, seed, self.synth_px, observation.layer)

    def _choose(self, observation: Observation, studies: Sequence[Study], tools: Toolbox, roles: Roles) -> Steps:
        """Step 3: test the candidates of every unit on synthetic images."""
        if self.scoring == "csp":
            compared = Contrast(observation)
            ranked = [compared.ranked(study.unit, study.candidates, roles.clip) for study in studies]
            return [self._labelled(study, [], labels) for study, labels in zip(studies, ranked, strict=True)]
        if self.scoring == "none":
            return [self._untested(study) for study in studies]
        contests = [
            Contest(
                study, tuple(self._request(concept, observation, study.unit, tools) for concept in study.candidates)
            )
            for study in studies
        ]
        for count in rounds(self.draw, self.images_per_concept):
            # A single candidate is chosen without a test.
            undecided = [one for one in contests if len(one.left) > (1 if self.draw == "adaptive" else 0)]
            if not undecided:
                break
            measured = yield Draw(tuple(request for one in undecided for request in one.asked(count)))
            for contest in undecided:
                draws = generator(tools.seed, "dnd", "decide", *address(observation, contest.study.unit), count)
                self._compare(contest, contest.asked(count), measured, draws)
        return [self._decided(contest) for contest in contests]

    def _compare(
        self, contest: Contest, requests: Sequence[Request], measured: Drawn, draws: np.random.Generator
    ) -> None:
        """Test the candidates that are left, and drop those that can hardly win any more."""
        study, behind = contest.study, len(contest.ranked)
        tested, order = self._test(study, requests, measured, behind)
        if self.draw == "adaptive":
            tested = [{**record, "images": requests[0].count} for record in tested]
        if requests[0].count == self.images_per_concept:
            likely = {order[0]}
        else:
            activations, cosines = self._seen(study, requests, measured)
            found = chances(self.scoring, activations, cosines, self.images_per_concept, behind, draws)
            likely = contest.hopeful(found)
        contest.settle(tested, order, likely)

    def _decided(self, contest: Contest) -> UnitLabels:
        study = contest.study
        if not contest.ranked:
            return self._untested(study)
        tested = [contest.tested[number] for number in range(len(contest.requests))]
        ranked = tuple(Label(tested[number]["concept"], tested[number]["score"]) for number in contest.ranked)
        return self._labelled(study, tested, ranked)

    def _untested(self, study: Study) -> UnitLabels:
        """A unit whose candidates no drawn image tests: the first is its label."""
        return self._labelled(study, [], tuple(Label(concept, float("nan")) for concept in study.candidates))

    def _labelled(self, study: Study, tested: list[dict[str, Any]], ranked: tuple[Label, ...]) -> UnitLabels:
        return UnitLabels(study.unit, ranked, study.top, {"trace": self._trace(study, tested, ranked)})

    def _seen(
        self, study: Study, requests: Sequence[Request], measured: Drawn
    ) -> tuple[Float[np.ndarray, "concepts images"], Float[np.ndarray, "concepts images"]]:
        """The unit's activation on each candidate's images, and their mean cosine with the described images."""
        activations = np.stack([measured[request].activations[:, study.unit] for request in requests])
        synthetic = np.stack([measured[request].embeddings for request in requests])
        return activations, mean_cosines(study.embeddings, synthetic)

    def _test(
        self, study: Study, requests: Sequence[Request], measured: Drawn, behind: int
    ) -> tuple[list[dict[str, Any]], list[int]]:
        """Score one unit's candidates: a JSON-serialisable record of each, and their order, best first."""
        activations, cosines = self._seen(study, requests, measured)
        ranks = synthetic_ranks(activations)
        similarity = mean_of_best(ranks, cosines)
        scores = concept_scores(self.scoring, ranks, similarity, behind)
        squares = topk_squared_mean_rank(ranks)
        tested = [
            {
                "concept": request.concept,
                "ranks": sorted(ranks[i].tolist()),
                "image_ranks": ranks[i].tolist(),
                "topk_sq_mean": float(squares[i]),
                "image_similarity": float(similarity[i]),
                "score": float(scores[i]),
                "seed": request.seed,
            }
            for i, request in enumerate(requests)
        ]
        return tested, best_first(scores)

    def _trace(self, study: Study, tested: list[dict[str, Any]], ranked: Sequence[Label]) -> dict[str, Any]:
        described = [
            {"image": p.place[0], "box": list(p.place[1]) if p.place[1] else None, "activation": p.activation}
            for p in study.pictures
        ]
        return {
            "mode": self.mode,
            "scoring": self.scoring,
            "crop_px": self.crop_px,
            "top_images": list(study.top),
            "described": described,
            "captions": list(study.captions),
            "simplified": list(study.simplified),
            "replies": list(study.replies),
            "candidates": list(study.candidates),
            "synthesis": {
                "template": PROMPT,
                "count": self.images_per_concept,
                "synth_px": self.synth_px,
                **({} if self.draw == "full" else {"draw": self.draw, "images": sum(one["images"] for one in tested)}),
            },
            "tested": tested,
            "chosen": ranked[0].text if ranked else None,
            **({} if self.describe == "captions" else {"describe": self.describe}),
            **(_contrast(study) if self.contrast else {}),
        }


def _contrast(study: Study) -> dict[str, Any]:
    """What is recorded of the contrast: the images, and why there are none."""
    why = {None: "the describer uses none", (): "no image activates the unit less than its mean"}
    return {"look_alikes": list(study.look_alikes or ()), "no_contrast": why.get(study.look_alikes)}
