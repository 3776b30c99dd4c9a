"""What can be known to be wrong before anything heavy is loaded."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence

from baselines import registry
from benchmark.options import RunOptions
from tasks.catalogue import load_task, profile_path
from tasks.errors import UserError
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
_DISTRIBUTION = "clear-benchmark"
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
    for task in tasks:
        _check_units(options, task)
    return tasks


def _check_method_options(options: RunOptions) -> None:
    chosen = options.method_names()
    for method in options.method_options:
        registry.entry(method)
        if method not in chosen:
            raise UserError(f"--set {method}.… has no effect: the method {method} is not among --methods.")


def _check_units(options: RunOptions, task: Task) -> None:
    total = task.units.total
    if total is None:
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
    extra = _extra_of(package)
    if extra is None:
        return f"This needs the package {package}, which is not installed: pip install {package}"
    return f'This needs the package {package}, which is not installed: pip install "{_DISTRIBUTION}[{extra}]"'


def _extra_of(package: str) -> str | None:
    try:
        requirements = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for requirement in requirements:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", requirement)
        if name and extra and _normal(name.group()) == _normal(package):
            return extra.group(1)
    return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
