"""Labels that several units share: what a label says about which unit it belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from metrics.statistics import Interval


class Collisions(NamedTuple):
    """How far the labels of units tell them apart.

    Attributes:
        units: Number of units.
        sharing: Units whose label another unit has too.
        largest: Units that have the most frequent label.
        lost: H(unit) − I(unit; label), in [0, ``bits``]: bits that are missing to tell units apart by their labels.
        bits: H(unit), the bits that tell one of these units from the others.
    """

    units: int
    distinct: int
    sharing: int
    largest: int
    lost: Interval
    bits: float


def collisions(labels: Sequence[Hashable], confidence: float = 0.95) -> Collisions:
    """Information that is lost because units share labels.

    With units drawn uniformly, H(unit) − I(unit; label) = H(unit | label) = mean over units of log₂ of the number of
    units with the same label: 0 if all labels differ, log₂ n if they are all equal. It grows with the number of units,
    so that only methods on the same units can be compared.

    The interval is the delete-one jackknife's, with normal quantiles: a bootstrap sample repeats units, which would
    count as units that share a label. The jackknife's variance is too large rather than too small (Efron & Stein,
    Annals of Statistics 9, 1981).

    Args:
        labels: One per unit.
        confidence: In (0, 1).

    Example:
        >>> found = collisions(["dog", "dog", "cat", "sky"])
        >>> found.distinct, found.sharing, found.lost.estimate, found.bits
        (3, 2, 0.5, 2.0)
    """
    n, counts = len(labels), Counter(labels)
    if not n:
        return Collisions(0, 0, 0, 0, Interval(np.nan, np.nan, np.nan, 0, "no value"), np.nan)
    sizes = np.array(list(counts.values()), np.float64)
    total, bits = (sizes * np.log2(sizes)).sum(), float(np.log2(n))
    sharing, largest = int(sizes[sizes > 1].sum()), int(sizes.max())
    estimate = float(total / n)
    if n < 3:
        lost = Interval(estimate, np.nan, np.nan, n, "fewer than three values")
    else:
        # The statistic without one unit, for each of the units of a label.
        fewer = sizes - 1
        without = (total - sizes * np.log2(sizes) + fewer * np.log2(np.maximum(fewer, 1))) / (n - 1)
        centre = (sizes @ without) / n
        error = np.sqrt((n - 1) / n * (sizes @ np.square(without - centre)))
        reach = float(stats.norm.ppf((1 + confidence) / 2) * error)
        lost = Interval(estimate, max(0.0, estimate - reach), min(bits, estimate + reach), n, "")
    return Collisions(n, len(counts), sharing, largest, lost, bits)
