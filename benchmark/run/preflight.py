"""What can be known to be wrong before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from baselines import registry
from benchmark.run.label_concepts import read_concepts
from benchmark.run.options import RunOptions
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

    Args:
        options: What was asked.

    Returns:
        The tasks, loaded.

    Raises:
        UserError: An unknown task, suite, method or profile (with the nearest names); a unit that the layer does not
            have; an option for a method that does not run; two tasks of one name.
    """
    tasks = tuple(load_task(name) for name in options.tasks)
    names = [task.name for task in tasks]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UserError(f"Two of the tasks are named {double}; give each task file its own name.")
    for suite in options.suites or ():
        load_suite(suite)
    for method in options.methods or ():
        registry.entry(method)
    _check_method_options(options)
    profile_path(options.profile)
    check_own_files(options)
    for task in tasks:
        _check_units(options, task)
    return tasks


def check_own_files(options: RunOptions) -> None:
    """Refuse files and folders of the user's that are missing or hold nothing.

    Raises:
        UserError: One sentence for the first of them.
    """
    if options.weights is not None and not options.weights.is_file():
        raise UserError(f"There is no weights file {options.weights}.")
    if options.concepts is not None:
        read_concepts(options.concepts)
    if options.image_folder is not None:
        _check_images(options.image_folder, options.images)


def _check_images(folder: Path, count: int | None) -> None:
    if not folder.is_dir():
        raise UserError(f"--images {folder} is neither a number nor a folder.")
    files, _ = find_images(folder)
    if len(files) < max(2, count or 0):
        needed = "a run needs at least 2" if count is None else f"--image-count asks for {count}"
        raise UserError(f"The folder {folder} holds {len(files)} images, but {needed}.")


def _check_method_options(options: RunOptions) -> None:
    chosen = options.method_names()
    for method in options.method_options:
        registry.entry(method)
        if method not in chosen:
            raise UserError(f"--set {method}.… has no effect: the method {method} is not among --methods.")


def _check_units(options: RunOptions, task: Task) -> None:
    total = task.units.total
    if total is None or options.model is not None or options.layer is not None:
        return
    labelled = total - task.units.first
    if isinstance(options.units, int) and options.units > labelled:
        raise UserError(f"--units {options.units} is more than the {labelled} units of task {task.name}.")
    beyond: Sequence[int] = [unit for unit in options.unit_ids or () if unit >= total]
    if beyond:
        raise UserError(f"Unit {beyond[0]} does not exist: task {task.name} has units 0 to {total - 1}.")


def missing_package(error: ModuleNotFoundError) -> str | None:
    """The sentence for a package that is not installed; ``None`` if the missing module is CLEAR's own, a fault of ours.

    Args:
        error: What the import raised.
    """
    module = (error.name or "").partition(".")[0]
    if not module or module in _HOUSE:
        return None
    package = _PACKAGES.get(module, module.replace("_", "-"))
    return f"This needs the package {package}, which is not installed: {install_command(package)}"
