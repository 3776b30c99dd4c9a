"""Model calls of Describe-and-Dissect for one cell of a spatial layer; the bounds follow from its options.

Expected values were measured on the miniature (ResNet-50 and ResNet-18, 48 units per layer, 168 cells, the counting
summariser). Another summariser names more or fewer distinct concepts; other layers have no crops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from baselines.costs import NOTHING, Amount, Cost
from baselines.dnd.crops import MAX_CROPS

if TYPE_CHECKING:
    from baselines.dnd.method import DescribeAndDissect
    from baselines.dnd.refined import RefinedDescribeAndDissect

PICTURES_SHARE: Final = 0.7
"""Distinct images that a cell captions, relative to the sum over its units."""

CROPS_AN_IMAGE: Final = 0.9
CROPS_DESCRIBED: Final = 0.27
"""Share of a unit's described images that are crops."""

NAMES_MORE: Final = 0.14
"""Distinct concepts of a unit: 1 from its first summary, and this many more from each further one."""

UNITS_SHARE: Final = 0.68
"""Distinct concepts of a cell, relative to the sum over its units."""

WORDS_SHARE: Final = 0.41
"""The same if CLIP's nearest words are summarised, which are few (48 units, 3 conditions)."""

CAPTIONS_EACH: Final = 0.96
CAPTIONS_SHARE: Final = 0.73
"""If captions are candidates: share of distinct ones per unit, and of a cell's relative to the sum over its units."""

ADAPTIVE_SHARE: Final = 0.63
"""Share of the images that an adaptive choice draws, where units and conditions share them (32 units of ResNet-50, 20
cells); a unit on its own needs 0.43."""

CONDITIONS_SHARE: Final = 0.8
"""Share of a cell's concepts that an earlier cell of the same repeat already named."""

CAPTIONS_CONDITIONS_SHARE: Final = 0.5
"""The same if captions are candidates: a caption rarely recurs under fog."""


def dnd_cost(method: DescribeAndDissect, units: int, images: int) -> Cost:
    """The cost of one cell.

    Args:
        units: Number of labelled units.
        images: Number of probing images.
    """
    shown = units * min(method.top_images, images)
    captions = method.describe == "captions"
    replies = Amount.of(units * method.candidates)
    summaries = replies if method.summarise and method.describe != "vision" else NOTHING
    return Cost(
        activated=Amount(shown * MAX_CROPS, shown * CROPS_AN_IMAGE) if method.crops else NOTHING,
        embedded=Amount(shown, shown * CROPS_DESCRIBED) if method.crops else NOTHING,
        captioned=Amount(shown, shown * PICTURES_SHARE) if captions else NOTHING,
        generated=_generated(method, units) if method.draws else NOTHING,
        simplified=Amount.of(shown) if method.simplify else NOTHING,
        summarised=summaries,
        summary_captions=min(method.top_images, images),
        described=replies if method.describe == "vision" else NOTHING,
        shared=_shared(method),
    )


def refined_cost(method: RefinedDescribeAndDissect, units: int, images: int) -> Cost:
    """The cost of one cell; how many units need another round is not known in advance.

    Args:
        units: Number of labelled units.
        images: Number of probing images.
    """
    first = dnd_cost(method, units, images)
    again = units * (method.max_rounds - 1)
    if not again:
        return first
    # All images of a concept are generated again to caption one of them.
    captioned = again * method.synthetic_captions * method.images_per_concept
    drawn = 2 * again * method.candidates * method.images_per_concept
    return Cost(
        activated=first.activated,
        embedded=first.embedded,
        captioned=first.captioned + Amount(captioned),
        generated=first.generated + Amount(drawn + captioned),
        simplified=first.simplified + (Amount(again * method.synthetic_captions) if method.simplify else NOTHING),
        summarised=first.summarised + Amount(again * method.candidates),
        summary_captions=first.summary_captions + method.synthetic_captions,
        described=first.described,
    )


def _generated(method: DescribeAndDissect, units: int) -> Amount:
    # A concept that ends in "design" or "graphics" is also tested as "... background".
    most = 2 * units * method.candidates * method.images_per_concept
    if method.describe == "vision":
        return Amount(most)
    named, share = 1 + NAMES_MORE * (method.candidates - 1), UNITS_SHARE
    if not method.summarise:
        named, share = CAPTIONS_EACH * method.candidates, CAPTIONS_SHARE
    elif method.describe == "words":
        share = WORDS_SHARE
    named *= units * (share if method.mode == "fixed" else 1.0)
    drawn = method.images_per_concept * (ADAPTIVE_SHARE if method.draw == "adaptive" else 1.0)
    return Amount(most, named * drawn)


def _shared(method: DescribeAndDissect) -> float:
    # In code mode units do not share images, and how many recur was not measured.
    if method.mode != "fixed":
        return 0.0
    return CONDITIONS_SHARE if method.summarise else CAPTIONS_CONDITIONS_SHARE
