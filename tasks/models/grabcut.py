"""OpenCV's GrabCut as a foreground segmenter for scenes with one object in the middle; not for photographs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional

from tasks.common.errors import UserError
from tasks.common.images import resize_to, to_array

SIDE = 112
"""Longer side in pixels at which GrabCut works; smaller images keep their size."""

CENTRE = 0.9
"""Share of height and width that the initial rectangle covers; everything outside is taken as background."""

ITERATIONS = 5

MIN_SIDE = 32
_SEED = 0


class GrabCutSegmenter:
    """GrabCut from the centre of the image (Rother, Kolmogorov and Blake, SIGGRAPH 2004).

    It has no training: in each image it fits two colour mixtures, one to the border and one to the central rectangle,
    and cuts between them. The rectangle covers the central 90 % of height and width: foreground beyond it is lost, but
    few objects of photographs or scenes reach there; a narrower border shows too little of the background.

    Measured on the first 60 scenes of the miniature's test split, against their exact masks: mean IoU 0.79 (median
    0.87, one scene in ten below 0.46; precision 0.84, recall 0.90); the trained segmenter reaches 0.89 on them. The
    rectangle was selected on simpler scenes, among 80, 85, 90 and 95 %.
    """

    @torch.inference_mode()
    def foreground(self, images: UInt8[Tensor, "n 3 h w"]) -> Bool[Tensor, "n h w"]:
        """True where a pixel belongs to the foreground, on the CPU.

        An image in which GrabCut finds no foreground, or takes the whole rectangle for it, has an all-False mask, which
        the caller treats as no mask.

        Args:
            images: At least 32 px per side.

        Raises:
            UserError: The images are smaller.
        """
        height, width = images.shape[-2:]
        if min(height, width) < MIN_SIDE:
            raise UserError(f"GrabCut needs images of at least {MIN_SIDE} px per side, not {height} × {width} px.")
        scale = min(1.0, SIDE / max(height, width))
        small = resize_to(images.cpu(), (max(1, round(height * scale)), max(1, round(width * scale))))
        # As many threads as torch may use; OpenCV releases the GIL while it cuts.
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            masks = list(threads.map(_cut, to_array(small)))
        stacked = torch.from_numpy(np.array(masks, dtype=np.float32).reshape(-1, 1, *small.shape[-2:]))
        if not len(images):
            return torch.zeros(0, height, width, dtype=torch.bool)
        full = functional.interpolate(stacked, size=(height, width), mode="bilinear", align_corners=False)
        return full[:, 0] > 0.5


def _cut(image: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    height, width = image.shape[:2]
    top, left = round(height * (1 - CENTRE) / 2), round(width * (1 - CENTRE) / 2)
    centre = (slice(top, height - top), slice(left, width - left))
    classes = np.zeros((height, width), np.uint8)
    rectangle = (left, top, width - 2 * left, height - 2 * top)
    cv2.setRNGSeed(_SEED)
    cv2.grabCut(image, classes, rectangle, np.zeros((1, 65)), np.zeros((1, 65)), ITERATIONS, mode=cv2.GC_INIT_WITH_RECT)
    found = (classes == cv2.GC_FGD) | (classes == cv2.GC_PR_FGD)
    return found & (not found[centre].all())
