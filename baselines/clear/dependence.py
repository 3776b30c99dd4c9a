"""How far a unit, and each part of its label, depends on the context of what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from baselines.clear.words import holds
from tasks.perturbations.settings import needs_foreground


def loss(seen: Float[np.ndarray, " pictures"], changed: Float[np.ndarray, " pictures"], rest: float) -> float:
    """Share of a unit's excess activation that its pictures lose in a context.

    Args:
        seen: Activations on the unit's pictures as given.
        changed: On the same pictures in the context.
        rest: The unit's median activation on the probing images, from which the excess counts.

    Returns:
        Σ max(seen − changed, 0) / Σ max(seen − rest, 0) over the pictures, at most 1; 0 where nothing exceeds ``rest``.
    """
    excess = np.maximum(seen - rest, 0).sum()
    return float(min(np.maximum(seen - changed, 0).sum() / excess, 1.0)) if excess > 0 else 0.0


def dependence(losses: Mapping[str, float]) -> dict[str, float | None]:
    """The unit's dependence on the foreground, on the background, and on the context at all.

    Args:
        losses: Context → what the unit loses by it, in [0, 1]; see ``loss``.

    Returns:
        ``foreground`` and ``background``: the largest loss by a change of that part alone, None where no context
        changes it; ``context``: the mean loss over all of them, None without any. All in [0, 1].
    """

    def largest(part: str) -> float | None:
        found = [value for name, value in losses.items() if _part(name) == part]
        return max(found) if found else None

    mean = float(np.mean(list(losses.values()))) if losses else None
    return {"foreground": largest("foreground"), "background": largest("background"), "context": mean}


def part_dependence(
    parts: Sequence[str], seen: Sequence[str], changed: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """For each part of a label, the share of its captions that no longer hold it once one part of the image is changed.

    Args:
        parts: The parts of the label.
        seen: Captions of the unit's pictures as given.
        changed: Context → captions of the same pictures in it.

    Returns:
        For each part its text and, for ``foreground`` and ``background``, the largest such share, in [0, 1]; None where
        no context changes that part of the image, or no caption holds the part to begin with.
    """
    before = holds(seen, parts)
    lost: list[dict[str, Any]] = [{"part": part, "foreground": None, "background": None} for part in parts]
    for name, captions in changed.items():
        where = _part(name)
        if where is None:
            continue
        gone = before * (1 - holds(captions, parts))
        for place, said in enumerate(before.sum(axis=1)):
            if said > 0:
                share = float(gone[place].sum() / said)
                lost[place][where] = max(share, lost[place][where] or 0.0)
    return lost


def _part(name: str) -> str | None:
    """The part of the image that a context changes alone; its perturbation's name says which."""
    name = name.partition(":")[0]
    if not needs_foreground(name):
        return None
    return next((part for part in ("foreground", "background") if name.startswith(part)), None)
