"""Describe-and-Dissect's published variant without captions: a vision-language model sees the images themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from baselines.base import Mode
from baselines.dnd.adaptive import Drawing
from baselines.dnd.crops import CROP_SIZE
from baselines.dnd.method import DescribeAndDissect
from baselines.dnd.scoring import Scoring


class VisionDescribeAndDissect(DescribeAndDissect):
    """``DescribeAndDissect`` with ``describe="vision"`` (Bai et al., TMLR 2025, with GPT-4o), as a separate method.

    Its own name distinguishes it in tables from the variant with captions, and a run knows before it starts which role
    it needs. Everything after the replies is the same.

    Args:
        mode: This and the remaining options are those of ``DescribeAndDissect``.
        top_images: All of a unit's described images are shown at once, in a different order each time.
        candidates: Number of requests to the model.
    """

    name: ClassVar[str] = "dnd_vision"
    summary: ClassVar[str] = (
        "Describe-and-Dissect without captions: a vision-language model names what the images and image parts share, "
        "and drawn images decide."
    )
    version: ClassVar[str] = "2"
    needs: ClassVar[frozenset[str]] = frozenset({"describer", "generator", "clip"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "no_crops": {"crops": False},
        "no_selection": {"scoring": "none"},
    }

    def __init__(
        self,
        mode: Mode = "fixed",
        scoring: Scoring | Literal["none"] = "topk_compare",
        top_images: int = 10,
        crops: bool = True,
        candidates: int = 5,
        images_per_concept: int = 10,
        synth_px: int | Literal["mode"] | None = "mode",
        crop_px: int = CROP_SIZE,
        batch_size: int = 64,
        unit_block: int = 64,
        draw: Drawing = "full",
    ) -> None:
        super().__init__(
            mode=mode,
            scoring=scoring,
            top_images=top_images,
            crops=crops,
            candidates=candidates,
            images_per_concept=images_per_concept,
            synth_px=synth_px,
            crop_px=crop_px,
            batch_size=batch_size,
            unit_block=unit_block,
            describe="vision",
            draw=draw,
        )
