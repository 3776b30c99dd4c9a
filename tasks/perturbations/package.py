"""A private, repaired copy of the corruptions module of the pip package ``imagecorruptions`` 1.1.2.

The copy is loaded from the package's file under another name, so that an ``imagecorruptions`` that the user's own code
imports is neither replaced nor changed. What is repaired, and why:

* ``pkg_resources`` is gone from setuptools and ``scipy.ndimage.interpolation`` goes in SciPy 2: both are stood in for
  while the file runs, and only then.
* ``gaussian(multichannel=...)`` is gone from scikit-image, ``np.float_`` from NumPy 2.
* Every draw went to NumPy's global generator (scikit-image's own one for impulse_noise). The copy sees a NumPy whose
  ``random`` is a generator of the calling thread, so that no global state is read or changed and threads do not mix.
* Its motion blur (also of the snow) and its zoom (also of the snow) are those of ``rewritten``.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tasks.errors import UserError
from tasks.perturbations.rewritten import clipped_zoom, motion_blur

_INSTALL = "pip install 'imagecorruptions>=1.1.2,<2' scikit-image opencv-python-headless"
_lock = threading.Lock()
_loaded: ModuleType | None = None
_drawing = threading.local()


class _NumpyProxy:
    """NumPy as the corruptions see it: ``random`` is what ``drawing`` set for this thread."""

    float_ = np.float64

    @property
    def random(self) -> np.random.RandomState:
        if not hasattr(_drawing, "state"):
            raise RuntimeError("A corruption was called outside `drawing`: it would have used the global generator.")
        return _drawing.state

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@contextmanager
def drawing(seed: int) -> Iterator[np.random.RandomState]:
    """Let the corruptions of this thread draw from a generator of their own.

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
    global _loaded
    with _lock:
        if _loaded is None:
            try:
                _loaded = _repair(_load(folder() / "corruptions.py"))
            except ImportError as error:
                raise UserError(f"The ImageNet-C corruptions cannot be loaded ({error}): {_INSTALL}") from error
        return _loaded


def folder() -> Path:
    """Where the package lies; the frost textures are in its folder ``frost``.

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
    """Put stand-ins for two vanished modules in place, and put back what was there."""
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
    vars(module).update(
        np=_NumpyProxy(),
        gaussian=_with_channel_axis(module.gaussian),
        _motion_blur=motion_blur,
        clipped_zoom=clipped_zoom,
    )
    return module


def _with_channel_axis(gaussian: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def repaired(image: np.ndarray, *args: Any, multichannel: bool = False, **options: Any) -> np.ndarray:
        return gaussian(image, *args, channel_axis=-1 if multichannel else None, **options)

    return repaired
