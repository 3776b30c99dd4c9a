"""Intervals, tests, corrections and power with the unit as the statistical unit, on scipy and statsmodels.

Which function answers which question:

========================================================  =====================================================
How sure is a mean over units, or a share?                ``bootstrap_interval``, ``wilson_interval``
By how much do two methods differ?                        ``paired_interval``
How sure is any statistic of weighted sums?               ``bootstrap_weights`` with ``percentile_interval``, or
                                                          ``basic_interval`` if noise biases it to one side
Do labels change more than by the method's own noise?     ``noise_floor_test``, from single values
Do two methods (or conditions treated alike) differ?      ``paired_permutation`` (means), ``paired_wilcoxon``
Do shares of right or changed labels differ?              ``mcnemar_test``
Which of several methods differ significantly?            ``compare_methods``, ``tied_ranks``, ``tied_groups``
Do methods lose differently as severity grows?            ``mixed_model``
Which of a family of tests are jointly significant?       ``holm``, ``correct``
What can n units show?                                    ``smallest_difference``, ``units_needed``
========================================================  =====================================================

If a result does not exist, its numbers are NaN and ``reason`` says why; ``reason`` is empty for an ordinary result.

Example:
    >>> perturbed, clean = np.linspace(0.2, 0.8, 12), np.linspace(0.4, 0.9, 12)
    >>> test = paired_permutation(perturbed, clean)
    >>> round(test.difference, 2), test.p_value < 0.001, test.n
    (-0.15, True, 12)
    >>> round(paired_interval(perturbed, clean).estimate, 2)
    -0.15
"""

from __future__ import annotations

from metrics.statistics.comparison import Comparison, compare_methods, critical_difference, tied_groups, tied_ranks
from metrics.statistics.families import Corrected, correct, holm
from metrics.statistics.floor import noise_floor_test
from metrics.statistics.intervals import (
    Interval,
    basic_interval,
    bootstrap_interval,
    bootstrap_weights,
    expanded_confidence,
    paired_interval,
    percentile_interval,
    wilson_interval,
)
from metrics.statistics.mixed import MixedModel, mixed_model
from metrics.statistics.paired import cohens_h, mcnemar_test, paired_permutation, paired_wilcoxon, rank_biserial
from metrics.statistics.power import MEAN_EFFICIENCY, WILCOXON_EFFICIENCY, Power, smallest_difference, units_needed
from metrics.statistics.result import HypothesisTest

__all__ = [
    "MEAN_EFFICIENCY",
    "WILCOXON_EFFICIENCY",
    "Comparison",
    "Corrected",
    "HypothesisTest",
    "Interval",
    "MixedModel",
    "Power",
    "basic_interval",
    "bootstrap_interval",
    "bootstrap_weights",
    "cohens_h",
    "compare_methods",
    "correct",
    "critical_difference",
    "expanded_confidence",
    "holm",
    "mcnemar_test",
    "mixed_model",
    "noise_floor_test",
    "paired_interval",
    "paired_permutation",
    "paired_wilcoxon",
    "percentile_interval",
    "rank_biserial",
    "smallest_difference",
    "tied_groups",
    "tied_ranks",
    "units_needed",
    "wilson_interval",
]
