"""Describe-and-Dissect's published variant without captions: a vision-language model sees the images themselves."""

from __future__ import annotations

from typing import ClassVar, Literal

from baselines.base import Mode
from baselines.dnd.adaptive import Drawing
from baselines.dnd.crops import CROP_SIZE
from baselines.dnd.method import DescribeAndDissect
from baselines.dnd.scoring import Scoring, Untested


class VisionDescribeAndDissect(DescribeAndDissect):
    """``DescribeAndDissect`` with ``describe="vision"`` (Bai et al., TMLR 2025, with GPT-4o), as a separate method.

    Its own name distinguishes it in tables from the variant with captions, and a run knows before it starts which role
    it needs. Everything after the replies is the same.

    With ``contrast`` the model also sees look-alikes: for each top image the most similar image, in CLIP's space, that
    activates the unit less than its mean, as for the candidates of Contrastive Semantic Projection (Bouanani et al.,
    arXiv 2604.22477). There each group is one sheet of 128 × 128 px, and one reply names three concepts that compete
    with those of all other units; here the images keep their size, and only a unit's own candidates compete.

    Args:
        mode: This and the remaining options are those of ``DescribeAndDissect``.
        top_images: All of a unit's described images are shown at once, in a different order each time. None means 10,
            or 9 with ``contrast``.
        crops: Ignored with ``contrast``, which compares whole images.
        candidates: Number of requests to the model. None means 5, or 3 with ``contrast``.
        contrast: Whether look-alikes are shown. Without any, or if the describer uses none, the unit is described as
            without contrast, and the trace says why (``no_contrast``).
    """

    name: ClassVar[str] = "dnd_vision"
    summary: ClassVar[str] = (
        "Describe-and-Dissect without captions: a vision-language model names what the images and image parts share, "
        "and drawn images decide."
    )
    version: ClassVar[str] = "2"
    needs: ClassVar[frozenset[str]] = frozenset({"describer", "generator", "clip"})

    def __init__(
        self,
        mode: Mode = "fixed",
        scoring: Scoring | Untested = "topk_compare",
        top_images: int | None = None,
        crops: bool = True,
        candidates: int | None = None,
        images_per_concept: int = 10,
        synth_px: int | Literal["mode"] | None = "mode",
        crop_px: int = CROP_SIZE,
        batch_size: int = 64,
        unit_block: int = 64,
        draw: Drawing = "full",
        contrast: bool = False,
    ) -> None:
        super().__init__(
            mode=mode,
            scoring=scoring,
            top_images=(9 if contrast else 10) if top_images is None else top_images,
            crops=crops and not contrast,
            candidates=(3 if contrast else 5) if candidates is None else candidates,
            images_per_concept=images_per_concept,
            synth_px=synth_px,
            crop_px=crop_px,
            batch_size=batch_size,
            unit_block=unit_block,
            describe="vision",
            draw=draw,
        )
        self.contrast = contrast
