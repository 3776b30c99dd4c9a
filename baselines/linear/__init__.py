"""Linear Explanations (Oikarinen & Weng, ICML 2024, arXiv 2405.06855): a unit as a sparse weighted sum of concepts."""

from __future__ import annotations

from baselines.linear.explanation import Explanation, Prepared, explain
from baselines.linear.method import LinearExplanation
from baselines.linear.probability import calibrate, probability

__all__ = ["Explanation", "LinearExplanation", "Prepared", "calibrate", "explain", "probability"]
