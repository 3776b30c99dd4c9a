"""What CLEAR asks of the models for a cell of a spatial layer; bounds follow from its options.

What is expected was measured on the miniature (24 units of a ResNet-18, 4 conditions, the counting summariser), whose
captions hold few words: nearly all of them are parts of every unit. Richer captions have more different parts.
"""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, Final

from baselines.clear.contexts import SEEN
from baselines.costs import NOTHING, Amount, Cost
from baselines.dnd.cost import CROPS_AN_IMAGE, PICTURES_SHARE
from baselines.dnd.crops import MAX_CROPS
from baselines.dnd.synthesis import CAPACITY
from tasks.perturbations.settings import needs_foreground

if TYPE_CHECKING:
    from baselines.clear.method import Clear

NEW_SUMMARIES: Final = 0.8
"""Different concepts that the summaries of a unit add to the parts of a cell's units."""

SUMMARIES: Final = 1.2
SUMMARIES_MORE: Final = 0.13
"""The same where there are no parts: of the first context, and so many more of each further one."""

NEW_PAIRS: Final = 0.8
"""Different pairs of parts, over all pairs that a cell's units try."""

CONDITIONS_SHARE: Final = 0.9
"""Share of a cell's concepts that an earlier cell of the same repeat tested (48 units, 18 conditions)."""


def clear_cost(method: Clear, units: int, images: int) -> Cost:
    """The cost of one cell.

    Args:
        method: With its options.
        units: How many are labelled.
        images: Probing images.
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
    """Images of all concepts, drawn once, and once more in every context that changes an image as a whole."""
    if not units:
        return NOTHING
    contexts = len(method.contexts)
    pairs = comb(method.joined, 2) if method.parts >= 2 else 0
    # A concept that ends in "design" or "graphics" is also tested as "... background".
    a_unit = 2 * contexts * method.candidates + method.parts + pairs
    whole = sum(context != SEEN and not needs_foreground(context.name) for context in method.contexts)
    # Concepts that the bank cannot remember are drawn anew in every context, before and after parts are joined.
    times = 1 + whole if min(units, method.unit_block) * a_unit <= CAPACITY else 2 * contexts
    summaries = NEW_SUMMARIES if method.parts else SUMMARIES + SUMMARIES_MORE * (contexts - 1)
    likely = method.parts + units * (summaries + NEW_PAIRS * pairs)
    likely = min(likely, units * a_unit) * (1 + whole)
    return Amount(units * a_unit * times * method.images_per_concept, likely * method.images_per_concept)
