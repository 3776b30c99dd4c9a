"""What installed packages add by entry points; a broken plugin never affects the others.

Plugins are imported only if a name is not one of CLEAR's own, or if everything is listed. Imports nothing heavy.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Container, Mapping
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from tasks.common.errors import UserError

Content = TypeVar("Content")


def plugins(
    kind: str, group: str, own: Container[str], read: Callable[[metadata.EntryPoint], tuple[str, Content]]
) -> dict[str, Content]:
    """What other packages add to one group of entry points, by name as written.

    A plugin that is broken or uses a taken name is skipped with a warning that names it and its package. If two plugins
    have the same name, the first by package name wins.

    Args:
        kind: Kind of plugin, e.g. ``"method"``.
        group: The group of entry points, e.g. ``"clear.methods"``.
        own: CLEAR's own names, which plugins cannot override.
        read: Imports an entry point; returns its own name and the content. May raise anything.
    """
    found: dict[str, Content] = {}
    packages: dict[str, str] = {}
    points = metadata.entry_points(group=group)
    for point in sorted(points, key=lambda point: (point.name, package_of(point), point.value)):
        package = package_of(point)
        try:
            check_name(point.name, own, packages)
            name, content = read(point)
            if name != point.name:
                raise UserError(f"it calls itself {name!r}")
        # A plugin may raise anything at import, and a script may even exit; the others must still work.
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            if not isinstance(error, UserError):
                reason = f"{type(error).__name__}: {reason}"
            warnings.warn(
                f"The {kind} {point.name!r} of {package} ({point.value}) is left out: {reason}.", stacklevel=2
            )
        else:
            found[name], packages[name] = content, package
    return found


def plugin_file(point: metadata.EntryPoint) -> Path:
    """The file that an entry point refers to.

    ``"package"`` means the file ``NAME.yaml`` in the package's folder, ``"module:attribute"`` a path in a variable;
    relative paths are resolved against the module's folder.

    Raises:
        UserError: The module has no folder.
        Exception: Whatever its import raises.
    """
    module = importlib.import_module(point.module)
    if module.__file__ is None:
        raise UserError(f"the package {point.module} has no __init__.py")
    return Path(module.__file__).parent / (point.load() if point.attr else f"{point.name}.yaml")


def package_of(point: metadata.EntryPoint) -> str:
    """The distribution that provides an entry point."""
    return (point.dist is not None and point.dist.name) or "an unknown package"


def check_name(name: str, own: Container[str], packages: Mapping[str, str]) -> None:
    """Check the name of something that CLEAR does not bring.

    Args:
        own: CLEAR's own names.
        packages: Name → package of what others bring.

    Raises:
        UserError: The name is taken, or is no valid one.
    """
    if name in own:
        raise UserError("the name is taken by CLEAR's own")
    if name in packages:
        raise UserError(f"the name is taken by {packages[name]}")
    # Names are used in comma-separated lists, in METHOD.OPTION=VALUE and in file names.
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,59}", name):
        raise UserError("use small letters, digits, underscores and hyphens for the name")
