"""What installed packages add by entry points; one that is broken never stands in the way of the others.

Plugins are imported where a name is not found among CLEAR's own, or where everything is listed. Imports nothing heavy.
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

    Whatever is broken, or takes a name, is left out with a warning that names it and its package. Of two plugins with
    one name the first by package stays.

    Args:
        kind: What is added, e.g. ``"method"``.
        group: The group of entry points, e.g. ``"clear.methods"``.
        own: CLEAR's own names, which stay CLEAR's.
        read: Imports what an entry point names; gives the name that it has itself, and the content. May raise anything.
    """
    found: dict[str, Content] = {}
    packages: dict[str, str] = {}
    points = metadata.entry_points(group=group)
    for point in sorted(points, key=lambda point: (point.name, package_of(point), point.value)):
        package = package_of(point)
        try:
            _check_name(point.name, own, packages)
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
    """The file that an entry point names.

    ``"package"`` stands for the file ``NAME.yaml`` in the package's folder, ``"module:attribute"`` for a path in a
    variable; a relative one counts from the module's folder.

    Raises:
        UserError: The module has no folder.
        Exception: Whatever its import raises.
    """
    module = importlib.import_module(point.module)
    if module.__file__ is None:
        raise UserError(f"the package {point.module} has no __init__.py")
    return Path(module.__file__).parent / (point.load() if point.attr else f"{point.name}.yaml")


def package_of(point: metadata.EntryPoint) -> str:
    """The distribution that brings an entry point."""
    return (point.dist is not None and point.dist.name) or "an unknown package"


def _check_name(name: str, own: Container[str], packages: Mapping[str, str]) -> None:
    if name in own:
        raise UserError("the name is taken by CLEAR's own")
    if name in packages:
        raise UserError(f"the name is taken by {packages[name]}")
    # Names stand in comma-separated lists, in METHOD.OPTION=VALUE and in file names.
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,59}", name):
        raise UserError("use small letters, digits, underscores and hyphens for the name")
