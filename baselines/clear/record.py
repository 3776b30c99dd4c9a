"""CLEAR's record of one unit, from which the way to its label can be visualised later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from baselines.clear.case import Case
from baselines.clear.choice import Aggregate
from baselines.contexts import Context
from baselines.drawing import PROMPT

TERMS = ("activation", "images", "captions")
"""The three terms of a score."""

_DIGITS = 4


def trace_record(
    case: Case,
    contexts: Sequence[Context],
    probes: Sequence[Context],
    *,
    crop_px: int,
    images_per_concept: int,
    images: int | None,
    weights: Float[np.ndarray, " terms"],
    aggregate: Aggregate,
    spread: float,
) -> dict[str, Any]:
    """Everything but the tested candidates, as JSON-serialisable values.

    Args:
        case: The unit with its evidence and candidates.
        contexts: Contexts in which candidates are proposed and scored.
        probes: Contexts that only measure what the unit depends on.
        crop_px: Edge of the resized image that boxes refer to.
        images_per_concept: Synthetic images per concept.
        images: Number of the unit's synthetic images if the choice was adaptive, and some concepts have fewer.
        weights: Weights of ``TERMS``; their sum is 1.
        aggregate: See ``baselines.clear.choice.robust``.
    """
    sights = zip((*contexts, *probes), (*case.sights, *case.probes), strict=True)
    seen = [
        {
            "context": str(context),
            "captions": list(sight.captions),
            "activations": [round(float(value), _DIGITS) for value in sight.activations],
        }
        for context, sight in sights
    ]
    described = [
        {"image": picture.place[0], "box": list(picture.place[1]) if picture.place[1] else None}
        for picture in case.described
    ]
    return {
        "crop_px": crop_px,
        "top_images": list(case.top),
        "described": described,
        "seen": seen,
        "replies": {str(context): list(said) for context, said in zip(contexts, case.replies, strict=True)},
        "parts": list(case.parts),
        "joined": [concept for concept, by in case.proposed.items() if "joined" in by],
        "synthesis": {
            "template": PROMPT,
            "count": images_per_concept,
            **({} if images is None else {"draw": "adaptive", "images": images}),
        },
        "weights": dict(zip(TERMS, (round(float(weight), _DIGITS) for weight in weights), strict=True)),
        "aggregate": aggregate,
        "spread": spread,
    }


def tested_record(
    case: Case,
    concept: str,
    seed: int,
    score: float,
    terms: Mapping[str, Float[np.ndarray, " terms"]],
    costs: Mapping[str, float],
    images: int | None,
) -> dict[str, Any]:
    """One candidate with its terms.

    Args:
        seed: Seed of its synthetic images.
        score: Final score, by which candidates are ranked.
        terms: Context → ``TERMS``, each in [0, 1].
        costs: ``distinctness`` and ``specificity``, in [0, 1], and ``cost``, the total penalty subtracted from the
            score.
        images: Number of its synthetic images, if they are not the same for all.
    """
    return {
        "concept": concept,
        "seed": seed,
        "proposed": list(case.proposed[concept]),
        "score": score,
        "contexts": {name: dict(zip(TERMS, map(_rounded, values), strict=True)) for name, values in terms.items()},
        **{name: _rounded(value) for name, value in costs.items()},
        **({} if images is None else {"images": images}),
    }


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)
