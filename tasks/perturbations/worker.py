"""Perturb NumPy images in this process or in several; no torch, so that workers start fast and stay small."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from types import TracebackType

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from tasks.errors import UserError
from tasks.perturbations.checks import check_foreground, check_images, check_request, check_seeds
from tasks.perturbations.frost import Mode
from tasks.perturbations.masks import background_blur, foreground_blur
from tasks.perturbations.reference import corrupt

_CHUNKS_PER_WORKER = 4  # evens out the work without sending too many small messages


def perturb_numpy(
    image: UInt8[np.ndarray, "h w 3"],
    name: str,
    severity: int,
    seed: int,
    foreground: Bool[np.ndarray, "h w"] | None = None,
    mode: Mode = "fixed",
) -> UInt8[np.ndarray, "h w 3"]:
    """Perturb one image; the only way to any perturbation.

    Args:
        image: One image, both sides at least 32 px.
        name: A name of ``tasks.perturbations.PERTURBATIONS``.
        severity: 1 to 5, or 0 for an unchanged copy.
        seed: Any non-negative integer; without effect where the perturbation is not random.
        foreground: True on the foreground; required by foreground_blur and background_blur, else unused.
        mode: ``fixed``, or ``code`` for the released behaviour where it differs (frost).

    Returns:
        A new image.

    Raises:
        UserError: Unknown name, severity outside 0 to 5, wrong image, seed or mask, or missing package.
    """
    entry = check_request(name, severity)
    if not entry.needs_foreground:
        return corrupt(image, name, severity, seed, mode)
    check_images(image.shape, image.dtype, "h w 3")
    if severity == 0:
        return image.copy()
    mask = check_foreground(name, foreground, image.shape[:2])
    blur = foreground_blur if name == "foreground_blur" else background_blur
    return blur(image, mask, severity)


def perturb_batch(
    images: UInt8[np.ndarray, "n h w 3"],
    name: str,
    severity: int,
    seeds: Sequence[int],
    foregrounds: Bool[np.ndarray, "n h w"] | None = None,
    mode: Mode = "fixed",
) -> UInt8[np.ndarray, "n h w 3"]:
    """Perturb images one after the other, each with its own seed; see ``perturb_numpy``."""
    out = np.empty_like(images, order="C")
    for index, (image, seed) in enumerate(zip(images, seeds, strict=True)):
        foreground = None if foregrounds is None else foregrounds[index]
        out[index] = perturb_numpy(image, name, severity, seed, foreground, mode)
    return out


class PerturbationPool:
    """Spreads images over worker processes; the pixels do not depend on how many there are.

    A context manager. Workers are spawned, import no torch, leave Ctrl-C to the parent and end with it, however that
    comes about. Spawning imports the parent's main module again, so keep heavy imports out of it, and guard scripts
    with ``if __name__ == "__main__"``.
    """

    def __init__(self, workers: int) -> None:
        """Start nothing yet: workers start with the first images.

        Args:
            workers: Number of processes; 0 perturbs in this process.

        Raises:
            UserError: A negative number of workers.
        """
        if workers < 0:
            raise UserError(f"{workers} workers make no sense: give 0 (this process) or more.")
        self.workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> PerturbationPool:
        """Open the pool."""
        if self.workers:
            self._executor = ProcessPoolExecutor(self.workers, get_context("spawn"), initializer=_start_worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers; what has not begun is dropped."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None

    def map(
        self,
        images: UInt8[np.ndarray, "n h w 3"],
        name: str,
        severity: int,
        seeds: Sequence[int],
        foregrounds: Bool[np.ndarray, "n h w"] | None = None,
        mode: Mode = "fixed",
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """Perturb images and wait for them.

        Args:
            images: Images of one size, both sides at least 32 px.
            name: A name of ``tasks.perturbations.PERTURBATIONS``.
            severity: 1 to 5, or 0 for an unchanged copy.
            seeds: One non-negative integer an image.
            foregrounds: True on the foreground; required by foreground_blur and background_blur.
            mode: ``fixed``, or ``code`` for the released behaviour where it differs (frost).

        Raises:
            UserError: As ``perturb_numpy``, or a worker died.
        """
        return self.submit(images, name, severity, seeds, foregrounds, mode)()

    def submit(
        self,
        images: UInt8[np.ndarray, "n h w 3"],
        name: str,
        severity: int,
        seeds: Sequence[int],
        foregrounds: Bool[np.ndarray, "n h w"] | None = None,
        mode: Mode = "fixed",
    ) -> Callable[[], UInt8[np.ndarray, "n h w 3"]]:
        """Begin to perturb, so that the caller can work meanwhile; arguments and errors as ``map``.

        Returns:
            A function that waits for the images and returns them; without workers, the one that does the work.
        """
        entry = check_request(name, severity)
        check_images(images.shape, images.dtype, "n h w 3")
        seeds = check_seeds(seeds, len(images))
        if entry.needs_foreground and severity:
            check_foreground(name, foregrounds, images.shape[:3])
        else:
            foregrounds = None
        if self._executor is None:
            if self.workers:
                raise RuntimeError("The pool is not open: use it as `with PerturbationPool(workers) as pool`.")
            return lambda: perturb_batch(images, name, severity, seeds, foregrounds, mode)
        size = max(1, -(-len(images) // (self.workers * _CHUNKS_PER_WORKER)))
        parts = [slice(start, start + size) for start in range(0, len(images), size)]
        try:
            futures = [
                self._executor.submit(
                    perturb_batch,
                    images[part],
                    name,
                    severity,
                    seeds[part],
                    None if foregrounds is None else foregrounds[part],
                    mode,
                )
                for part in parts
            ]
        except BrokenProcessPool as error:
            raise _worker_died() from error
        return lambda: _collect(futures, images)


def _collect(
    futures: Sequence[Future[UInt8[np.ndarray, "k h w 3"]]], images: UInt8[np.ndarray, "n h w 3"]
) -> UInt8[np.ndarray, "n h w 3"]:
    try:
        return np.concatenate([future.result() for future in futures]) if futures else images.copy()
    except BrokenProcessPool as error:
        raise _worker_died() from error


def _worker_died() -> UserError:
    return UserError("A process that perturbs images died, most often for want of memory: run with fewer workers.")


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, use one thread, and end when the parent is gone (also when it was killed)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
