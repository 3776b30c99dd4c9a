"""Batches that shrink when the accelerator runs out of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from tasks.common.errors import UserError

Result = TypeVar("Result")

log = logging.getLogger(__name__)


class Batches:
    """The batch size of a model: a runtime setting that is halved when memory runs out.

    Args:
        size: Initial number of images per batch.

    Attributes:
        size: Images per batch; once halved it stays halved, because the next batch needs as much memory.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, work: Callable[[Tensor], Result], images: Tensor) -> Iterator[Result]:
        """Apply ``work`` to all images, batch by batch; after running out of memory to the same images in halves.

        Raises:
            UserError: Memory does not suffice for a single image.
        """
        start = 0
        # Called once even without images: the result then has the right shape and type.
        while start < len(images) or start == 0:
            batch = images[start : start + self.size]
            done = self._tried(work, batch)
            if done is None:
                continue
            yield done[0]
            start += max(1, len(batch))

    def _tried(self, work: Callable[[Tensor], Result], batch: Tensor) -> tuple[Result] | None:
        try:
            return (work(batch),)
        except torch.OutOfMemoryError as error:
            if len(batch) <= 1:
                raise UserError(
                    "The device's memory does not suffice for a single image: choose --device cpu, a smaller model, "
                    f"or end what else runs on the device ({error})."
                ) from error
            self.size = len(batch) // 2
            log.warning("out of memory with %d images at once; continuing with %d", len(batch), self.size)
        # Only here does nothing refer to the failed batch's tensors any more.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None
