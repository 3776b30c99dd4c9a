"""CLIP-Dissect as a labelling method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from baselines.base import Label, Mode, UnitLabels
from baselines.clip_dissect.scores import SimilarityName, similarity
from baselines.clip_dissect.wpmi import TOP_K, CosineFactors, largest_in_columns
from baselines.costs import pass_alone
from baselines.evidence import EVIDENCE_SIZE, check_units, dead_units, order_among_ties, tied_images, top_images
from tasks.activations.sparse import SparseColumns
from tasks.common.errors import UserError, unknown_name
from tasks.common.seeding import generator, integer_seed
from tasks.observation import Observation, Toolbox
from tasks.roles import ImageTextEncoder

_RANKED = 5
_UNITS_AT_ONCE = 64
_LATENTS = 4096
"""Maximum number of latents of a dictionary in the prior: each takes a column of all images."""


class ClipDissect:
    """Names a unit by the concept whose CLIP similarity to the images matches the unit's activations best.

    Deterministic, except that the *scores* (never the labels) of ``rank_reorder`` contain a seeded random scale.

    Args:
        similarity: One of the five similarity functions; ``soft_wpmi`` is the authors' choice.
        mode: ``fixed`` (float64; dead units excluded from the prior) or ``code`` (float32; constant units included in
            it).
        top_k: Number of images used by ``wpmi`` and ``soft_wpmi``; None for the published 28 and 100.
    """

    name: ClassVar[str] = "clip_dissect"
    summary: ClassVar[str] = (
        "CLIP-Dissect: of a fixed list of concepts, the one whose CLIP similarities to the probing images follow the "
        "unit's activations best."
    )
    citation: ClassVar[tuple[str, ...]] = ("clipdissect",)
    version: ClassVar[str] = "2"
    needs: ClassVar[frozenset[str]] = frozenset({"clip", "concepts"})

    def __init__(
        self, similarity: SimilarityName = "soft_wpmi", mode: Mode = "fixed", top_k: int | None = None
    ) -> None:
        if similarity not in get_args(SimilarityName):
            raise unknown_name("similarity", similarity, get_args(SimilarityName))
        if mode not in get_args(Mode):
            raise unknown_name("mode", mode, get_args(Mode))
        if top_k is not None and similarity not in TOP_K:
            raise UserError(f"The similarity {similarity} has no top_k; only wpmi and soft_wpmi have one.")
        if top_k is not None and top_k < 1:
            raise UserError(f"The option top_k of clip_dissect must be at least 1, not {top_k}.")
        self.similarity: SimilarityName = similarity
        self.mode: Mode = mode
        self.top_k = top_k
        self._text: tuple[ImageTextEncoder, tuple[str, ...], Tensor] | None = None

    cost = pass_alone

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Score the complete layer, whose prior all units share, and report the requested units.

        Of a dictionary with more than 4,096 living latents, the prior is that of 4,096, drawn by the run's seed.

        Returns:
            The five best concepts of each unit; none for a dead or constant unit. ``extra`` holds ``tied`` where images
            outside the top_k share the activation of the last one inside: how many do.

        Raises:
            UserError: No CLIP or concepts, fewer images than ``top_k``, or a unit number out of range.
        """
        layer = observation.activations.detach()
        check_units(units, layer.shape[1])
        dead = dead_units(layer)
        if bool(dead.all()):
            return [_unlabelled(unit) for unit in units]
        activations, held, prior = layer, torch.arange(len(dead)), ~dead
        if isinstance(layer, SparseColumns):
            prior = _drawn(dead, tools.seed)
            held = torch.cat([prior.nonzero()[:, 0], torch.tensor(list(units), dtype=torch.int64)]).unique()
            activations = layer[:, held]
        scores = self._score_layer(observation, activations, prior[held], tools)
        labels, split, ties = {}, self.mode == "code", order_among_ties(layer)
        for some in torch.tensor([unit for unit in units if not dead[unit]], dtype=torch.int64).split(_UNITS_AT_ONCE):
            columns = torch.searchsorted(held, some)
            # A NaN score is no label, but would sort as the largest value.
            rows = scores[columns].nan_to_num(nan=-torch.inf, neginf=-torch.inf, posinf=torch.inf)
            best = largest_in_columns(rows.T, _RANKED)
            counted = self._tied(activations[:, columns])
            for row, unit in enumerate(some.tolist()):
                labels[unit] = UnitLabels(
                    unit=unit,
                    ranked=_ranked(best[row], rows[row], tools.concepts),
                    evidence=tuple(top_images(layer[:, unit], EVIDENCE_SIZE, among_ties=ties, split=split)),
                    extra={"similarity": self.similarity, "mode": self.mode, **counted[row]},
                )
        return [labels.get(unit, _unlabelled(unit)) for unit in units]

    def _tied(self, activations: Float[Tensor, "images units"]) -> list[dict[str, int]]:
        if self.similarity not in TOP_K:
            return [{}] * activations.shape[1]
        tied = tied_images(activations, self.top_k or TOP_K[self.similarity])
        return [{"tied": count} if count else {} for count in tied.tolist()]

    def _score_layer(
        self, observation: Observation, activations: Tensor, prior: Bool[Tensor, " units"], tools: Toolbox
    ) -> Float[Tensor, "units concepts"]:
        finite = activations.isfinite().all(dim=0)
        parameters: dict[str, Any] = {}
        if self.similarity in TOP_K:
            parameters["prior_units"] = prior if self.mode == "fixed" else finite
            if self.top_k is not None:
                parameters["top_k"] = self.top_k
            first = {image: place for place, image in enumerate(dict.fromkeys(observation.image_ids))}
            if len(first) < len(observation.image_ids):
                parameters["copies"] = torch.tensor(
                    [first[image] for image in observation.image_ids], device=activations.device
                )
        if self.similarity == "rank_reorder":
            address = (self.name, observation.layer, observation.condition, observation.severity, observation.repeat)
            parameters["seed"] = integer_seed(tools.seed, *address)
        # Columns keep their position, so that draws by unit number do not shift when another unit is unusable.
        usable = activations if bool(finite.all()) else activations.where(finite, 0)
        cosines = self._cosines(observation, tools, usable.device)
        return similarity(self.similarity, cosines, usable, mode=self.mode, **parameters)

    def _cosines(self, observation: Observation, tools: Toolbox, device: torch.device) -> CosineFactors:
        if tools.clip is None or not tools.concepts:
            missing = "a CLIP model (clip)" if tools.clip is None else "a concept set (concepts)"
            raise UserError(f"CLIP-Dissect needs {missing}, which the profile does not have.")
        # The text features are the same under every condition; encoding 20,000 words each time would dominate the cost.
        if self._text is None or self._text[0] is not tools.clip or self._text[1] != tools.concepts:
            self._text = (tools.clip, tools.concepts, tools.clip.encode_text(tools.concepts).detach())
        dtype = torch.float64 if self.mode == "fixed" else torch.float32
        embeddings = (observation.clip_embeddings.detach(), self._text[2])
        return CosineFactors(*(torch.nn.functional.normalize(one.to(device, dtype), dim=1) for one in embeddings))


def _ranked(
    best: Int[Tensor, " k"], scores: Float[Tensor, " concepts"], concepts: tuple[str, ...]
) -> tuple[Label, ...]:
    values = zip(best.tolist(), scores[best].tolist(), strict=True)
    return tuple(Label(concepts[index], score) for index, score in values if math.isfinite(score))


def _drawn(dead: Bool[Tensor, " units"], seed: int) -> Bool[Tensor, " units"]:
    """The latents of the prior: all living ones, or as many of them as fit."""
    living = np.flatnonzero(~dead.numpy())
    if len(living) > _LATENTS:
        living = generator(seed, "clip_dissect", "prior").permutation(living)[:_LATENTS]
    found = torch.zeros_like(dead)
    found[torch.from_numpy(living)] = True
    return found


def _unlabelled(unit: int) -> UnitLabels:
    return UnitLabels(unit=unit, ranked=(), extra={"dead": True})
