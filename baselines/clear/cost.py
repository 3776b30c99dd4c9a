"""Model calls of CLEAR for one cell; the bounds follow from its options.

Expected values were measured on the miniature (32 units of each of three layers, 33 conditions), whose concept set is
small: a larger one shares fewer concepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baselines.costs import NOTHING, Amount, Cost

if TYPE_CHECKING:
    from baselines.clear.method import Clear

PICTURES_SHARE: Final = 0.54
"""Distinct top images of a cell, relative to the sum over its units."""

UNITS_SHARE: Final = 0.47
"""Distinct concepts of a cell, relative to the sum over its units."""

CONDITIONS_SHARE: Final = 0.97
"""Share of a cell's concepts that an earlier cell of the same repeat already drew."""


def clear_cost(method: Clear, units: int, images: int) -> Cost:
    """The cost of one cell.

    Args:
        units: Number of labelled units.
        images: Number of probing images.
    """
    shown = units * min(method.top_images, images)
    own = Amount(shown, shown * PICTURES_SHARE)
    probed = Amount(len(method.probes) * shown, len(method.probes) * shown * PICTURES_SHARE)
    drawn = units * method.shortlist * method.images_per_concept
    return Cost(
        activated=probed,
        captioned=own + probed + Amount.of(min(method.control, images) if units else 0),
        generated=Amount(drawn, drawn * UNITS_SHARE) if method.shortlist > 1 else NOTHING,
        shared=CONDITIONS_SHARE,
    )
