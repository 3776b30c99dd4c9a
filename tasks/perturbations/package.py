"""A private, repaired copy of the corruptions module of the pip package ``imagecorruptions`` 1.1.2.

The copy is loaded from the package's file under another name, so that an ``imagecorruptions`` imported by the user's
own code is neither replaced nor changed. What is repaired, and why:

* ``pkg_resources`` is gone from setuptools and ``scipy.ndimage.interpolation`` goes in SciPy 2: both are replaced by
  stand-ins while the file runs, and only then.
* ``gaussian(multichannel=...)`` is gone from scikit-image, ``np.float_`` from NumPy 2.
* Every draw went to NumPy's global generator (scikit-image's own one for impulse_noise). The copy sees a NumPy whose
  ``random`` is a generator of the calling thread, so that no global state is read or changed and threads do not mix.
* Its glass_blur visits each pixel in a Python loop, half a second per image: here whole arrays give the same bits.
* It prints to the terminal at some sizes, and no longer does.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tasks.common.errors import UserError

_INSTALL = "pip install 'imagecorruptions>=1.1.2,<2' scikit-image opencv-python"
_lock = threading.Lock()
_drawing = threading.local()


class _NumpyProxy:
    """NumPy as the corruptions see it: ``random`` is the generator that ``drawing`` set for this thread."""

    float_ = np.float64

    @property
    def random(self) -> np.random.RandomState:
        if not hasattr(_drawing, "state"):
            raise RuntimeError("A corruption was called outside `drawing`: it would have used the global generator.")
        return _drawing.state

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


class _SkimageProxy:
    """scikit-image as the corruptions see it: its noise uses the generator that ``drawing`` set, too."""

    @property
    def util(self) -> Any:
        import skimage.util

        def random_noise(image: np.ndarray, **options: Any) -> np.ndarray:
            own = np.random.default_rng(_drawing.state.randint(2**31))
            return skimage.util.random_noise(image, rng=own, **options)

        return SimpleNamespace(random_noise=random_noise)

    @property
    def color(self) -> Any:
        import skimage.color

        return skimage.color


@contextmanager
def drawing(seed: int) -> Iterator[np.random.RandomState]:
    """Let the corruptions of this thread draw from their own generator.

    Args:
        seed: Any non-negative integer.
    """
    state = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    _drawing.state = state
    try:
        yield state
    finally:
        del _drawing.state


def corruptions() -> ModuleType:
    """The repaired module, loaded on first use; safe to call from several threads.

    Raises:
        UserError: The package, or one that it needs, is not installed.
    """
    # Loading puts stand-ins into sys.modules, which two threads must not do at once.
    with _lock:
        return _corruptions()


@cache
def _corruptions() -> ModuleType:
    try:
        return _repair(_load(folder() / "corruptions.py"))
    except ImportError as error:
        raise UserError(f"The ImageNet-C corruptions cannot be loaded ({error}): {_INSTALL}") from error


def folder() -> Path:
    """The package's folder; the frost textures are in its subfolder ``frost``.

    Raises:
        UserError: The package is not installed.
    """
    spec = importlib.util.find_spec("imagecorruptions")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"The ImageNet-C corruptions need the package imagecorruptions: {_INSTALL}")
    return Path(next(iter(spec.submodule_search_locations)))


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tasks.perturbations._imagecorruptions", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be read")
    module = importlib.util.module_from_spec(spec)
    with _stand_ins(path.parent):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _stand_ins(package: Path) -> Iterator[None]:
    """Install stand-ins for two removed modules, and restore what was there."""
    import scipy.ndimage

    resources = ModuleType("pkg_resources")
    resources.__dict__["resource_filename"] = lambda _package, name: str(package / name)
    interpolation = ModuleType("scipy.ndimage.interpolation")
    interpolation.__dict__["map_coordinates"] = scipy.ndimage.map_coordinates
    before = {stub.__name__: sys.modules.get(stub.__name__) for stub in (resources, interpolation)}
    sys.modules.update({stub.__name__: stub for stub in (resources, interpolation)})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _repair(module: ModuleType) -> ModuleType:
    gaussian = _with_channel_axis(module.gaussian)
    vars(module).update(
        np=_NumpyProxy(), sk=_SkimageProxy(), gaussian=gaussian, glass_blur=_glass_blur(gaussian), print=_silent
    )
    return module


def _silent(*_: object) -> None:
    pass


def _with_channel_axis(gaussian: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def repaired(image: np.ndarray, *args: Any, multichannel: bool = False, **options: Any) -> np.ndarray:
        return gaussian(image, *args, channel_axis=-1 if multichannel else None, **options)

    return repaired


def _glass_blur(gaussian: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The package's glass_blur, bit by bit, offsets drawn in one call that yields the numbers of its loop.

    Its "swap" of two array views is a copy: a visited pixel takes its neighbour's value, which the neighbour keeps.
    """

    def glass_blur(image: Any, severity: int = 1) -> np.ndarray:
        sigma, reach, passes = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
        pixels = np.asarray(image)
        height, width = pixels.shape[:2]
        flat = np.uint8(gaussian(pixels / 255.0, sigma=sigma, multichannel=True) * 255).reshape(-1, 3)
        for _ in range(passes):
            flat = flat[_copied_from(height, width, reach, _drawing.state)]
        out = gaussian(flat.reshape(pixels.shape) / 255.0, sigma=sigma, multichannel=True)
        return np.clip(out, 0, 1) * 255

    return glass_blur


def _copied_from(height: int, width: int, reach: int, random: np.random.RandomState) -> np.ndarray:
    """For each flat pixel, the pixel whose value it holds after one pass of sequential copies."""
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    visited = (rows[:, None] * width + columns).ravel()
    offsets = random.randint(-reach, reach, size=(visited.size, 2))
    neighbour = visited + offsets[:, 1] * width + offsets[:, 0]
    turn = np.full(height * width, visited.size)
    turn[visited] = np.arange(visited.size)
    # A neighbour visited before holds a copy by now, so follow it; any other still has its own value.
    after = np.arange(height * width)
    source = np.arange(height * width)
    source[visited] = neighbour
    follow = visited[turn[neighbour] < turn[visited]]
    after[follow] = source[follow]
    # The chains of earlier visits end where a pixel copied an untouched one; doubling the step finds all ends at once.
    while not np.array_equal(further := after[after], after):
        after = further
    return source[after]
