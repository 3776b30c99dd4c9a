"""Finding tasks and profiles by name; imports nothing heavy, and pydantic only to load a task.

An installed package adds its own by entry points in the groups ``clear.tasks`` and ``clear.profiles``: ``my_task =
"my_package"`` means the file ``my_task.yaml`` in the package's folder, ``my_task = "my_package.module:FILE"`` the path
in that variable.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tasks.common.errors import UserError, unknown_name
from tasks.common.plugins import plugin_file, plugins
from tasks.common.yamlfile import read_yaml

if TYPE_CHECKING:
    from tasks.schema import Task

DEFINITIONS = Path(__file__).parent / "definitions"
PROFILES = Path(__file__).parent / "profiles"

Kind = Literal["task", "profile"]


def task_names() -> tuple[str, ...]:
    """CLEAR's own tasks, then those of installed plugins, both sorted."""
    return (*_own(DEFINITIONS), *_plugins("task", DEFINITIONS))


def load_task(name_or_path: str) -> Task:
    """A task by its name, or from a user's YAML file.

    Args:
        name_or_path: ``resnet50_layer4``, or a path such as ``my/task.yaml``.

    Raises:
        UserError: No such task (with close matches), or a mistake in the file (field and allowed values).
    """
    if is_file(name_or_path):
        path = Path(name_or_path).expanduser()
        task = _read_task(path)
        if task.name in _own(DEFINITIONS) and not _same_file(path, DEFINITIONS / f"{task.name}.yaml"):
            raise UserError(
                f"In {path}: the name {task.name} belongs to a task of CLEAR's own; give yours another name, so that "
                "results stay apart."
            )
        return task
    return _read_task(_path("task", DEFINITIONS, name_or_path))


def task_literal(name: str) -> dict[str, Any]:
    """The YAML of a task by name, unvalidated: faster than ``load_task`` for listings."""
    return read_yaml(_path("task", DEFINITIONS, name))


def profile_names() -> tuple[str, ...]:
    """CLEAR's own profiles, then those of installed plugins, both sorted."""
    return (*_own(PROFILES), *_plugins("profile", PROFILES))


def profile_path(name_or_path: str) -> Path:
    """The path of a profile's YAML file.

    Args:
        name_or_path: ``miniature``, or a path such as ``my/profile.yaml``.

    Raises:
        UserError: No such profile (with close matches), or no such file.
    """
    if is_file(name_or_path):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise UserError(f"There is no profile file {path}.")
        return path
    return _path("profile", PROFILES, name_or_path)


def profile_description(name: str) -> str:
    """The ``description`` of a profile by name; empty if it has none."""
    return str(read_yaml(profile_path(name)).get("description", ""))


def is_file(name_or_path: str) -> bool:
    """Whether command-line text means a file rather than a name."""
    return name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path or os.sep in name_or_path


def _path(kind: Kind, folder: Path, name: str) -> Path:
    """The file of one of CLEAR's own, or else of a plugin's."""
    if name in _own(folder):
        return folder / f"{name}.yaml"
    added = _plugins(kind, folder)
    if name not in added:
        raise unknown_name(kind, name, (*_own(folder), *added))
    return added[name]


def _own(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


@lru_cache
def _plugins(kind: Kind, folder: Path) -> dict[str, Path]:
    return plugins(kind, f"clear.{kind}s", _own(folder), _read_task_plugin if kind == "task" else _read_profile_plugin)


def _read_task_plugin(point: metadata.EntryPoint) -> tuple[str, Path]:
    path = plugin_file(point)
    return _read_task(path).name, path


def _read_profile_plugin(point: metadata.EntryPoint) -> tuple[str, Path]:
    path = plugin_file(point)
    return str(read_yaml(path).get("name", "")), path  # the rest is read and validated when it is used


def _read_task(path: Path) -> Task:
    from tasks.common.validation import parse
    from tasks.schema import Task

    return parse(Task, _beside(read_yaml(path), path.parent), str(path))


def _beside(literal: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The literal with suite files resolved against the task file's folder instead of the working directory."""
    suites = literal.get("suites")
    if not isinstance(suites, list):
        return literal
    found = [str(folder / suite) if isinstance(suite, str) and is_file(suite) else suite for suite in suites]
    return {**literal, "suites": found}


def _same_file(first: Path, second: Path) -> bool:
    return first.resolve() == second.resolve()
