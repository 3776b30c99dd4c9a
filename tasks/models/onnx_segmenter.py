"""U²-Net as the foreground segmenter, in ONNX by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from tasks.common.images import resize_to
from tasks.models.onnx_session import open_session
from tasks.models.segmenter import MEAN, STD


class U2NetSegmenter:
    """A U²-Net, which detects salient objects (Qin et al., Pattern Recognition 106, 2020).

    Preprocessed as in its authors' test code: resized to ``side`` × ``side``, divided by the image's maximum,
    ImageNet's mean and deviation; its first output stretched to [0, 1], resized to the image's size and thresholded at
    one half. Minimum and maximum are per image, so every mask marks something. Resizing is anti-aliased bilinear. One
    image at a time and on the CPU, so that a mask depends on its image alone.

    Args:
        path: The ONNX file; its first output is the finest map, in [0, 1].
        side: Side of the network's input in pixels (320 as published).

    Raises:
        UserError: onnxruntime is not installed, or the file cannot be read.
    """

    def __init__(self, path: Path, side: int) -> None:
        self._session = open_session(path, "segmenter")
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self._side = side
        self._mean = torch.tensor(MEAN).view(1, 3, 1, 1)
        self._std = torch.tensor(STD).view(1, 3, 1, 1)

    def foreground(self, images: UInt8[Tensor, "n 3 h w"]) -> Bool[Tensor, "n h w"]:
        """True where the saliency is above half of its maximum in the image."""
        images = images.cpu()
        if not len(images):
            return torch.zeros((0, *images.shape[-2:]), dtype=torch.bool)
        return torch.cat([self._one(image) for image in images.split(1)])

    def _one(self, image: UInt8[Tensor, "1 3 h w"]) -> Bool[Tensor, "1 h w"]:
        small = resize_to(image, (self._side, self._side)).float()
        pixels = (small / small.max().clamp(min=1) - self._mean) / self._std
        (shown,) = self._session.run([self._output], {self._input: pixels.numpy()})
        saliency = torch.from_numpy(np.asarray(shown, np.float32))
        least, most = saliency.min(), saliency.max()
        stretched = (saliency - least) / (most - least).clamp(min=1e-12)
        full = torch.nn.functional.interpolate(
            stretched, size=image.shape[-2:], mode="bilinear", antialias=True, align_corners=False
        )
        return full[:, 0] > 0.5
