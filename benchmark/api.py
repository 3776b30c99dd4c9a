"""CLEAR from Python: the commands as functions, for notebooks and scripts.

``import benchmark`` offers ``run``, ``label`` and ``load``; nothing heavy is imported before one is called. Mistakes
are exceptions (``tasks.common.errors.UserError``) with the sentence that the command line would print.
"""

from __future__ import annotations

import copy
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmark.results import Run
from leaderboard.store.errors import StoreError
from tasks.common.errors import UserError

if TYPE_CHECKING:
    from torch import nn

_MEMORY = "clear_in_memory"
"""The module under whose name a network in memory is found, as a user's factory is."""


def run(
    task: str | os.PathLike[str] | Sequence[str],
    *,
    methods: Sequence[str] | None = None,
    suites: Sequence[str] | None = None,
    units: int | str | Sequence[int] | None = None,
    images: int | str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    **options: Any,
) -> Run:
    """Run a benchmark, or continue it: what is done is not done again.

    Args:
        task: Name of a task, or a YAML file; several in a list.
        methods: By default the published ones and the trivial baselines.
        suites: Suites or perturbations; by default the task's.
        units: Their number, ``"all"``, or their indices.
        images: Number of probing images, or a folder of your own.
        out: Run folder; by default ``runs/TASK``.
        quiet: Only warnings, no progress.
        **options: Every other option of ``python -m benchmark run``, as fields of
            ``benchmark.core.options.RunOptions``: ``severities``, ``seed``, ``profile``, ``method_options``,
            ``analyses``, …

    Raises:
        UserError: A mistake in the options, or something that the run needs is missing.
    """
    from benchmark.core.options import RunOptions
    from tasks.common.validation import parse

    given: dict[str, Any] = {
        "tasks": [str(task)] if isinstance(task, str | os.PathLike) else list(task),
        "methods": methods,
        "suites": suites,
        "out": out,
        **(
            {"unit_ids": tuple(units)}
            if isinstance(units, Sequence) and not isinstance(units, str)
            else {"units": units}
        ),
        **({"images": images} if images is None or isinstance(images, int) else {"image_folder": images}),
    }
    chosen = parse(RunOptions, given | options, "the options")
    from benchmark.core.preflight import check

    tasks = check(chosen)
    from benchmark import runner
    from benchmark.core.display import Display

    try:
        result = runner.run(chosen, Display("quiet" if quiet else "auto"), tasks)
    except StoreError as error:
        raise UserError(str(error)) from error
    if result.failed:
        raise UserError(
            f"{len(result.failed)} cells failed: {'; '.join(result.failed[:3])}. Run it again to try them again; "
            f"benchmark.load({str(result.folder)!r}) shows the rest."
        )
    return Run(result.folder)


def label(
    model: nn.Module,
    *,
    layer: str,
    images: str | os.PathLike[str] | Iterable[Any],
    methods: Sequence[str] | None = None,
    suites: Sequence[str] = ("gaussian_blur",),
    task: str = "resnet50_layer4",
    name: str = "network",
    **options: Any,
) -> Run:
    """Label the units of a network in memory on your own images, clean and perturbed.

    The run is known by the network's weights and printed structure, and by the images' content: the same call continues
    it. Code that neither shows, such as another ``forward`` over equal parts, needs another ``name``.

    Args:
        model: Any module that maps float images [n, 3, 224, 224] to anything; a copy is used, in evaluation mode.
            Images are resized to 256 px, cropped to 224 and normalised with ImageNet's mean and deviation; a profile
            of your own says otherwise.
        layer: Dotted name of the layer whose units are labelled; several, with commas, make a task each.
        images: A folder, or images: PIL images, uint8 arrays or tensors [3, h, w] or [h, w, 3], or pairs that begin
            with one, as a torchvision data set gives them.
        methods: As for ``run``.
        suites: Perturbations under which the units are labelled again.
        task: What provides perturbations, number of units and everything else.
        name: Of the network in results: letters, digits and underscores.
        **options: As for ``run``.

    Raises:
        UserError: As for ``run``, or an image that is none.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise UserError(f"name={name!r}: use letters, digits and underscores.")
    # Weights do not tell a ReLU from a GELU; addresses of objects differ between sessions.
    structure = re.sub(r" at 0x[0-9a-f]+", "", repr(model))
    name += f"_{hashlib.sha256(structure.encode()).hexdigest()[:8]}"
    module = sys.modules.setdefault(_MEMORY, ModuleType(_MEMORY))
    setattr(module, name, lambda: copy.deepcopy(model).eval())
    given = options | {"model": f"{_MEMORY}:{name}", "layer": layer, "methods": methods, "suites": suites}
    if isinstance(images, str | os.PathLike):
        return run(task, images=images, **given)
    with tempfile.TemporaryDirectory(prefix="clear-images-") as folder:
        for number, image in enumerate(images):
            _picture(image, number).save(Path(folder) / f"{number:06}.png")
        return run(task, images=folder, **given)


def _picture(image: Any, number: int) -> Image.Image:
    if isinstance(image, tuple | list) and image:
        image = image[0]
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or 3 not in (pixels.shape[0], pixels.shape[2]):
        raise UserError(
            f"Image {number} is {pixels.dtype} {list(pixels.shape)}; give PIL images or uint8 [3, h, w] or [h, w, 3], "
            "not normalised ones."
        )
    return Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels.transpose(1, 2, 0)))
