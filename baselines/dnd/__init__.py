"""Describe-and-Dissect: captions of what excites a unit, candidate concepts, synthetic images that test them.

Bai, Iyer, Oikarinen, Kulkarni, Weng: "Interpreting Neurons in Deep Vision Networks with Language Models", TMLR 2025.
Importing this package is light; the method itself is in ``baselines.dnd.method`` and ``baselines.dnd.refined``.
"""

from __future__ import annotations

from baselines.dnd.scoring import select_concepts

__all__ = ["select_concepts"]
