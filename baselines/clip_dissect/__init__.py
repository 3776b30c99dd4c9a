"""CLIP-Dissect (Oikarinen & Weng, ICLR 2023, arXiv 2204.10965): the concept whose CLIP scores match the unit best."""

from __future__ import annotations

from baselines.clip_dissect.method import ClipDissect
from baselines.clip_dissect.scores import similarity

__all__ = ["ClipDissect", "similarity"]
