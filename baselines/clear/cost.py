"""Model calls of CLEAR for one cell of a spatial layer; the bounds follow from its options.

Expected values were measured on the miniature (24 units of a ResNet-18, 4 conditions, the counting summariser), whose
captions contain few words: nearly all of them are parts of every unit. Richer captions have more distinct parts.
"""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, Final

from baselines.contexts import SEEN
from baselines.costs import NOTHING, Amount, Cost
from baselines.dnd.cost import CROPS_AN_IMAGE, PICTURES_SHARE
from baselines.dnd.crops import MAX_CROPS
from baselines.drawing import CAPACITY
from tasks.perturbations.settings import needs_foreground

if TYPE_CHECKING:
    from baselines.clear.method import Clear

NEW_SUMMARIES: Final = 0.8
"""Distinct concepts that the summaries of a unit add to the parts of a cell's units."""

SUMMARIES: Final = 1.2
SUMMARIES_MORE: Final = 0.13
"""The same without parts: the number for the first context, and the number added by each further one."""

NEW_PAIRS: Final = 0.8
"""Distinct pairs of parts, as a share of all pairs that a cell's units try."""

CONDITIONS_SHARE: Final = 0.9
"""Share of a cell's concepts that an earlier cell of the same repeat already tested (48 units, 18 conditions)."""


def clear_cost(method: Clear, units: int, images: int) -> Cost:
    """The cost of one cell.

    Args:
        units: Number of labelled units.
        images: Number of probing images.
    """
    contexts, sights = len(method.contexts), len(method.contexts) + len(method.probes)
    shown = units * min(method.top_images, images)
    control = contexts * min(method.control, images) if units else 0
    seen = Amount(sights * shown, sights * shown * PICTURES_SHARE)
    crops = Amount(shown * MAX_CROPS, shown * CROPS_AN_IMAGE) if method.crops else NOTHING
    return Cost(
        activated=crops + seen,
        embedded=seen + Amount.of(control),
        captioned=seen + Amount.of(control),
        generated=_generated(method, units),
        simplified=Amount.of(contexts * shown) if method.simplify else NOTHING,
        summarised=Amount.of(contexts * units * method.candidates),
        summary_captions=min(method.top_images, images),
        shared=CONDITIONS_SHARE,
    )


def _generated(method: Clear, units: int) -> Amount:
    """Images of all concepts, generated once, and again in every context that changes the image as a whole."""
    if not units:
        return NOTHING
    contexts = len(method.contexts)
    pairs = comb(method.joined, 2) if method.parts >= 2 else 0
    # A concept that ends in "design" or "graphics" is also tested as "... background".
    a_unit = 2 * contexts * method.candidates + method.parts + pairs
    whole = sum(context != SEEN and not needs_foreground(context.name) for context in method.contexts)
    # Concepts that exceed the bank's capacity are generated again in every context, before and after joining parts.
    times = 1 + whole if min(units, method.unit_block) * a_unit <= CAPACITY else 2 * contexts
    summaries = NEW_SUMMARIES if method.parts else SUMMARIES + SUMMARIES_MORE * (contexts - 1)
    likely = method.parts + units * (summaries + NEW_PAIRS * pairs)
    likely = min(likely, units * a_unit) * (1 + whole)
    most = units * a_unit * times * method.images_per_concept
    # How many images units share whose finalists differ is not known: the bound stays.
    return Amount(most, likely * method.images_per_concept if method.draw == "full" else None)
