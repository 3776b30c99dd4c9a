"""CLEAR's record of one unit, from which the way to its label can be drawn later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from baselines.clear.evidence import Sight
from baselines.drawing import PROMPT

_DIGITS = 4


def trace_record(
    top: Sequence[int],
    sights: Mapping[str, Sight],
    parts: Sequence[str],
    weights: Mapping[str, float],
    evidence_weight: float,
    images_per_concept: int,
    drawn: bool,
) -> dict[str, Any]:
    """Everything but the tested candidates, as JSON-serialisable values.

    Args:
        top: The unit's top images.
        sights: ``as_given`` and each probe → the top images there.
        parts: Parts of the captions that were candidates.
        weights: Weights of ``baselines.clear.evidence.TERMS``.
        evidence_weight: Weight of the evidence in the choice.
        images_per_concept: Images drawn of each shortlisted concept.
        drawn: Whether any were drawn.
    """
    return {
        "top_images": list(top),
        "seen": [
            {
                "context": name,
                "captions": list(sight.captions),
                "activations": [rounded(float(value)) for value in sight.activations],
            }
            for name, sight in sights.items()
        ],
        "parts": list(parts),
        "synthesis": {"template": PROMPT, "count": images_per_concept},
        "drawn": drawn,
        "weights": dict(weights),
        "evidence_weight": evidence_weight,
    }


def rounded(value: float) -> float:
    """To four decimals, as a record stores terms and activations."""
    return round(value, _DIGITS)
