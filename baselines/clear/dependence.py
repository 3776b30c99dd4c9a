"""How much a unit, and each part of its label, depends on the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from baselines.clear.words import Mentions
from tasks.perturbations.settings import needs_foreground


def loss(seen: Float[np.ndarray, " pictures"], changed: Float[np.ndarray, " pictures"], rest: float) -> float:
    """Share of a unit's excess activation on its described images that is lost in a context.

    Args:
        seen: Activations on the unit's top images as given.
        changed: Activations on the same images in the context.
        rest: The unit's median activation on the probing images, above which activation counts as excess.

    Returns:
        Σ max(seen − changed, 0) / Σ max(seen − rest, 0) over the images, at most 1; 0 if nothing exceeds ``rest``.
    """
    excess = np.maximum(seen - rest, 0).sum()
    return float(min(np.maximum(seen - changed, 0).sum() / excess, 1.0)) if excess > 0 else 0.0


def dependence(losses: Mapping[str, float]) -> dict[str, float | None]:
    """The unit's dependence on the foreground, on the background, and on the context overall.

    Args:
        losses: Context → the unit's loss in it, in [0, 1]; see ``loss``.

    Returns:
        ``foreground`` and ``background``: the largest loss when only that part changes, None if no context changes it;
        ``context``: the mean loss over all contexts, None without any. All in [0, 1].
    """

    def largest(part: str) -> float | None:
        found = [value for name, value in losses.items() if _part(name) == part]
        return max(found) if found else None

    mean = float(np.mean(list(losses.values()))) if losses else None
    return {"foreground": largest("foreground"), "background": largest("background"), "context": mean}


def part_dependence(
    parts: Sequence[str], seen: Sequence[str], changed: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """For each part of a label, the share of its captions that lose it when one part of the image is changed.

    Args:
        seen: Captions of the unit's top images as given.
        changed: Context → captions of the same images in it.

    Returns:
        For each part its text and, for ``foreground`` and ``background``, the largest such share, in [0, 1]; None if no
        context changes that part of the image, or no caption contains the part in the first place.
    """
    mentions = Mentions(parts)
    before = mentions.of(seen)
    lost: list[dict[str, Any]] = [{"part": part, "foreground": None, "background": None} for part in parts]
    for name, captions in changed.items():
        where = _part(name)
        if where is None:
            continue
        gone = before * (1 - mentions.of(captions))
        for place, said in enumerate(before.sum(axis=1)):
            if said > 0:
                share = float(gone[place].sum() / said)
                lost[place][where] = max(share, lost[place][where] or 0.0)
    return lost


def _part(name: str) -> str | None:
    """The only part of the image that a context changes, given by its perturbation's name; None otherwise."""
    name = name.partition(":")[0]
    if not needs_foreground(name):
        return None
    return next((part for part in ("foreground", "background") if name.startswith(part)), None)
