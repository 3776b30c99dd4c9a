"""The perturbations by name, CLEAR's own and those of installed plugins; imports nothing heavy.

A perturbation of your own is a function and an entry::

    def darker(images, share, context):  # uint8 [n, 3, h, w] in and out
        return (images.float() * (1 - share)).to(torch.uint8)

    DARKER = Perturbation("darker", "digital", "Darker (share that is taken away)", (0.1, 0.2, 0.3, 0.4, 0.5), darker)

``register(DARKER)`` adds it to this process; an installed package adds it to every command by the entry point
``darker = "my_package:DARKER"`` in the group ``clear.perturbations``.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any, Literal, get_args

from tasks.common.errors import UserError, unknown_name
from tasks.common.plugins import plugins

ENTRY_POINT_GROUP = "clear.perturbations"
SEVERITIES = (1, 2, 3, 4, 5)
"""The severities of every perturbation; severity 0 is the identity."""

Family = Literal["noise", "blur", "weather", "digital", "mask"]
Need = Literal["foreground", "background", "imagecorruptions"]
Strength = float | tuple[float, ...]
Transform = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Perturbation:
    """One image transform at five severities.

    Attributes:
        name: The name used on the command line and in the results.
        family: Its group; brightness counts as weather, as in the order of the ImageNet-C list.
        description: One line for ``list``, with the meaning of the parameters.
        parameters: One entry for each severity 1 to 5; lengths are pixels at 224 px.
        transform: ``transform(images, parameters, context)``: uint8 [n, 3, h, w] → the same, each image independently,
            with the ``Context`` of ``tasks.perturbations.context``; or ``"module:function"``, imported on first use.
        random: Whether the result depends on the seed.
        needs: A foreground mask, the background of another image, or the package whose images are used.
        pixels_at_once: Pixels of a batch that are best processed together; by default about one 224-px image, which
            fits the CPU cache. Many small steps need more.
        version: Raised whenever the same seed may give a different image.
        source: Origin of definition and parameters.
        package: The entry for what the package imagecorruptions has under this name, if it differs.
    """

    name: str
    family: Family
    description: str
    parameters: tuple[Strength, Strength, Strength, Strength, Strength]
    transform: str | Transform
    random: bool = False
    needs: tuple[Need, ...] = ()
    pixels_at_once: int | None = None
    version: str = "1"
    source: str = ""
    package: Perturbation | None = None

    @property
    def needs_foreground(self) -> bool:
        """Whether every image needs a foreground mask."""
        return "foreground" in self.needs

    @property
    def needs_background(self) -> bool:
        """Whether every image needs the background of another image of the probing set."""
        return "background" in self.needs

    def form(self, corruptions: str) -> Perturbation:
        """The variant that a run with these ``corruptions`` uses under this name."""
        return self.package if self.package and corruptions in ("package", "reference") else self

    def facts(self) -> dict[str, Any]:
        """What its images depend on besides seed and settings."""
        return {"version": self.version, "parameters": self.parameters}

    def load(self) -> Transform:
        """The function, imported if needed."""
        if not isinstance(self.transform, str):
            return self.transform
        module, _, function = self.transform.partition(":")
        return getattr(importlib.import_module(module), function)


_registered: dict[str, Perturbation] = {}


def register(entry: Perturbation) -> Perturbation:
    """Add a perturbation to this process.

    Raises:
        UserError: Its name is taken or invalid, or a part of it is missing.
    """
    _check(entry)
    if entry.name in PERTURBATIONS:
        raise UserError(f"A perturbation named {entry.name!r} exists already; give yours another name.")
    _registered[entry.name] = entry
    return entry


def _check(entry: object) -> None:
    if not isinstance(entry, Perturbation):
        raise UserError(f"{entry!r} is not a tasks.perturbations.Perturbation.")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]{0,59}", entry.name):
        raise UserError(
            f"{entry.name!r} is not a valid name for a perturbation: use small letters, digits and underscores."
        )
    if entry.family not in get_args(Family):
        raise UserError(f"{entry.name}: unknown family {entry.family!r}; choose from {', '.join(get_args(Family))}.")
    if not set(entry.needs) <= set(get_args(Need)):
        raise UserError(f"{entry.name}: unknown needs {entry.needs!r}; choose from {', '.join(get_args(Need))}.")
    if len(entry.parameters) != len(SEVERITIES):
        raise UserError(f"{entry.name} has {len(entry.parameters)} parameters: give one for each severity 1 to 5.")


class _Perturbations(Mapping[str, Perturbation]):
    """All perturbations. Plugins are imported only when a name is not found, or all are listed."""

    def __getitem__(self, name: str) -> Perturbation:
        found = _own().get(name) or _registered.get(name) or _plugins().get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter({**_own(), **_plugins(), **_registered})

    def __len__(self) -> int:
        return len({**_own(), **_plugins(), **_registered})


PERTURBATIONS: Mapping[str, Perturbation] = _Perturbations()
"""Every perturbation by name, in the order of the tables."""


def perturbation(name: str) -> Perturbation:
    """The perturbation of that name.

    Raises:
        UserError: Unknown name; the message lists close matches.
    """
    if name not in PERTURBATIONS:
        raise unknown_name("perturbation", name, PERTURBATIONS)
    return PERTURBATIONS[name]


@lru_cache(maxsize=1)
def _own() -> Mapping[str, Perturbation]:
    from tasks.perturbations.definitions import DEFINITIONS

    return {entry.name: entry for entry in DEFINITIONS}


@lru_cache(maxsize=1)
def _plugins() -> Mapping[str, Perturbation]:
    """Perturbations of installed packages; a broken one is a warning that names it."""
    return plugins("perturbation", ENTRY_POINT_GROUP, _own(), _read)


def _read(point: metadata.EntryPoint) -> tuple[str, Perturbation]:
    entry = point.load()
    _check(entry)
    return entry.name, entry
