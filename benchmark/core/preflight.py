"""Checks that find mistakes before anything heavy is loaded."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from baselines import registry
from benchmark.core.options import RunOptions
from tasks.catalogue import load_task, profile_path
from tasks.common.errors import UserError
from tasks.common.image_files import find_images
from tasks.packages import install_command
from tasks.perturbations.suites import load_suite
from tasks.schema import Task

_PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "open_clip": "open_clip_torch",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
_HOUSE = frozenset({"baselines", "benchmark", "leaderboard", "metrics", "report", "tasks"})


def check(options: RunOptions) -> tuple[Task, ...]:
    """Refuse a run that cannot work.

    Returns:
        The tasks, loaded.

    Raises:
        UserError: An unknown task, suite, method or profile (with the nearest names); a unit that the layer does not
            have; an option of a method that is not run; a tracker that is not installed; two tasks with the same name.
    """
    tasks = tuple(load_task(name) for name in options.tasks)
    double = first_double([task.name for task in tasks])
    if double is not None:
        raise UserError(f"Two of the tasks are named {double}; give each task file its own name.")
    for suite in options.suites or ():
        load_suite(suite)
    for method in options.methods or ():
        registry.entry(method)
    _check_method_options(options)
    profile_path(options.profile)
    if options.track is not None and importlib.util.find_spec(options.track) is None:
        raise UserError(f"--track needs the package {options.track}: {install_command(options.track)}.")
    _check_own_files(options)
    for task in () if options.chosen_layer else tasks:
        if task.units.total is not None:
            check_units(task, options, task.units.total, f"task {task.name}")
    return tasks


def first_double(names: Sequence[str]) -> str | None:
    """The first name that occurs twice."""
    return next((name for name in names if names.count(name) > 1), None)


def check_units(task: Task, options: RunOptions, total: int, whose: str) -> None:
    """Refuse units that a layer does not have.

    Args:
        task: Gives the default number of units.
        total: Number of units of the layer.
        whose: The layer, as messages call it.

    Raises:
        UserError: More units than there are, or an index beyond the last.
    """
    beyond = [unit for unit in options.unit_ids or () if unit >= total]
    if beyond:
        raise UserError(f"Unit {beyond[0]} does not exist: {whose} has units 0 to {total - 1}.")
    count, first = options.units or task.units.label, task.units.first
    if not options.unit_ids and count != "all" and count > total - first:
        after = f" from unit {first} on" if first else ""
        raise UserError(f"--units {count} is more than the {total - first} units of {whose}{after}.")


def _check_own_files(options: RunOptions) -> None:
    if options.weights is not None and not options.weights.is_file():
        raise UserError(f"There is no weights file {options.weights}.")
    if options.concepts is not None:
        from benchmark.core.label_concepts import read_concepts  # torch, for the labels of a run

        read_concepts(options.concepts)
    if options.image_folder is not None:
        _check_images(options.image_folder, options.images)


def _check_images(folder: Path, count: int | None) -> None:
    if not folder.is_dir():
        raise UserError(f"--images {folder} is neither a number nor a folder.")
    files, _ = find_images(folder)
    if len(files) < max(2, count or 0):
        needed = "a run needs at least 2" if count is None else f"--image-count asks for {count}"
        raise UserError(f"The folder {folder} contains {len(files)} images, but {needed}.")


def _check_method_options(options: RunOptions) -> None:
    chosen = options.method_names()
    for method in options.method_options:
        registry.entry(method)
        if method not in chosen:
            around = [name for name in chosen if registry.innermost(name) == method]
            hint = f' For the one inside {around[0]}, use --set "{around[0]}.…".' if around else ""
            raise UserError(f"--set {method}.… has no effect: the method {method} is not among --methods.{hint}")


def missing_package(error: ModuleNotFoundError) -> str | None:
    """The sentence for a package that is not installed; None if the missing module is CLEAR's own, which is a bug."""
    module = (error.name or "").partition(".")[0]
    if not module or module in _HOUSE:
        return None
    package = _PACKAGES.get(module, module.replace("_", "-"))
    return f"This needs the package {package}, which is not installed: {install_command(package)}"
