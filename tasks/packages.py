"""Files provided by an installed package, such as weights, and the command that installs a missing package.

A profile refers to such a file as ``package:NAME/FILE``: the distribution as pip knows it, and the file as the package
lists it. Nothing of the package is imported.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "clear-benchmark"
PREFIX = "package:"


def package_file(place: Path) -> Path:
    """The path of a package's file; other paths, and those of missing packages, are returned unchanged."""
    name = package_of(place)
    if name is None:
        return place
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return place
    return Path(str(found.locate_file(Path(*place.parts[1:]))))


def package_of(place: Path) -> str | None:
    """The distribution that a path names; None for a path of the file system."""
    return place.parts[0].removeprefix(PREFIX) if place.parts and place.parts[0].startswith(PREFIX) else None


def install_command(package: str) -> str:
    """The pip command for a distribution: one of CLEAR's own extras if one includes it."""
    extra = _extra_of(package)
    return f'pip install "{DISTRIBUTION}[{extra}]"' if extra else f"pip install {package}"


def _extra_of(package: str) -> str | None:
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return None
    for requirement in requirements:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", requirement)
        if name and extra and _normal(name.group()) == _normal(package):
            return extra.group(1)
    return None


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
