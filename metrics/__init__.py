"""Similarity, stability, accuracy, faithfulness and statistics: pure functions on arrays and labels."""

from __future__ import annotations

from metrics.cosy import cosy_auc, cosy_mad

__all__ = ["cosy_auc", "cosy_mad"]
