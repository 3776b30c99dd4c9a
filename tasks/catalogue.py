"""Finding tasks and profiles by name; imports nothing heavy, and pydantic only to load a task."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import UserError, unknown_name
from tasks.yamlfile import read_yaml

if TYPE_CHECKING:
    from tasks.schema import Task

DEFINITIONS = Path(__file__).parent / "definitions"
PROFILES = Path(__file__).parent / "profiles"


def task_names() -> tuple[str, ...]:
    """The tasks that CLEAR brings, sorted."""
    return tuple(sorted(path.stem for path in DEFINITIONS.glob("*.yaml")))


def load_task(name_or_path: str) -> Task:
    """A task by its name, or from a YAML file of the user's.

    Args:
        name_or_path: ``resnet50_layer4``, or a path such as ``my/task.yaml``.

    Raises:
        UserError: No such task (with the nearest names), or a mistake in the file (field and allowed values).
    """
    if is_file(name_or_path):
        path = Path(name_or_path).expanduser()
        task = _validated(_beside(read_yaml(path), path.parent), str(path))
        if task.name in task_names() and not _same_file(path, DEFINITIONS / f"{task.name}.yaml"):
            raise UserError(
                f"In {path}: the name {task.name} belongs to a task of CLEAR's own; give yours another name, so that "
                "results stay apart."
            )
        return task
    if name_or_path not in task_names():
        raise unknown_name("task", name_or_path, task_names())
    return _validated(task_literal(name_or_path), f"{name_or_path}.yaml")


def task_literal(name: str) -> dict[str, Any]:
    """The YAML of one of CLEAR's own tasks as it stands: quicker than ``load_task`` where only a list is wanted."""
    return read_yaml(DEFINITIONS / f"{name}.yaml")


def profile_names() -> tuple[str, ...]:
    """The profiles that CLEAR brings, sorted."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.yaml")))


def profile_path(name_or_path: str) -> Path:
    """Where a profile's YAML file lies.

    Args:
        name_or_path: ``miniature``, or a path such as ``my/profile.yaml``.

    Raises:
        UserError: No such profile (with the nearest names), or no such file.
    """
    if is_file(name_or_path):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise UserError(f"There is no profile file {path}.")
        return path
    if name_or_path not in profile_names():
        raise unknown_name("profile", name_or_path, profile_names())
    return PROFILES / f"{name_or_path}.yaml"


def profile_description(name: str) -> str:
    """The ``description`` of one of CLEAR's own profiles; empty where it has none."""
    return str(read_yaml(profile_path(name)).get("description", ""))


def is_file(name_or_path: str) -> bool:
    """Whether text on the command line is meant as a file rather than as a name."""
    return name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path or os.sep in name_or_path


def _beside(literal: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The literal with suite files found from the task file's folder instead of from where the command is given."""
    suites = literal.get("suites")
    if not isinstance(suites, list):
        return literal
    found = [str(folder / suite) if isinstance(suite, str) and is_file(suite) else suite for suite in suites]
    return {**literal, "suites": found}


def _validated(literal: dict[str, Any], where: str) -> Task:
    from tasks.schema import Task
    from tasks.validation import parse

    return parse(Task, literal, where)


def _same_file(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()
