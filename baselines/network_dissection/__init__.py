"""Network Dissection (Bau et al., CVPR 2017, arXiv 1704.05796): the annotated concept that overlaps a unit most."""

from __future__ import annotations

from baselines.network_dissection.method import NetworkDissection
from baselines.network_dissection.overlap import count_overlap, intersection_over_union, primary_categories
from baselines.network_dissection.thresholds import survey

__all__ = ["NetworkDissection", "count_overlap", "intersection_over_union", "primary_categories", "survey"]
