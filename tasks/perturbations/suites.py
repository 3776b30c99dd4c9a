"""Suites: named lists of perturbations and severities, read from files; imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt

from tasks.common.errors import UserError, unknown_name
from tasks.common.validation import parse
from tasks.common.yamlfile import read_yaml
from tasks.perturbations.registry import PERTURBATIONS, perturbation

_FOLDER = Path(__file__).parents[1] / "suites"
Severity = Annotated[StrictInt, Field(ge=1, le=5)]


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _with_severities(value: object) -> object:
    """A list of names means names without severities of their own."""
    return dict.fromkeys(value) if isinstance(value, list) else value


Severities = Annotated[tuple[Severity, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


class Suite(BaseModel):
    """A suite file.

    Attributes:
        name: The name used on the command line; also the name of its file.
        description: One line for ``list suites``.
        perturbations: Names, or name → the severities of this perturbation.
        severities: Severities of perturbations without their own; if absent, those of the task or the command line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", max_length=60)]
    description: str = ""
    perturbations: Annotated[dict[str, Severities | None], BeforeValidator(_with_severities), Field(min_length=1)]
    severities: Severities | None = None
    source: str = ""

    def conditions(self, asked: tuple[int, ...] | None, usual: tuple[int, ...]) -> list[tuple[str, int]]:
        """Perturbation and severity of each condition, in the suite's order.

        Args:
            asked: The command line's severities, which take precedence.
            usual: The task's severities, used last.
        """
        return [
            (name, severity)
            for name, own in self.perturbations.items()
            for severity in asked or own or self.severities or usual
        ]


def suite_names() -> tuple[str, ...]:
    """CLEAR's own suites; in addition, each perturbation is a suite of its own."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_suite(name_or_path: str) -> Suite:
    """A suite by its name, by the name of its only perturbation, or from a file.

    Raises:
        UserError: Unknown name, or a mistake in the file.
    """
    if name_or_path in suite_names():
        return _read(_FOLDER / f"{name_or_path}.yaml")
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        return _read(Path(name_or_path))
    if name_or_path not in PERTURBATIONS:
        raise unknown_name("suite", name_or_path, [*suite_names(), *PERTURBATIONS])
    entry = PERTURBATIONS[name_or_path]
    return Suite(name=entry.name, description=entry.description, perturbations={entry.name: None}, source=entry.source)


def _read(path: Path) -> Suite:
    suite = parse(Suite, read_yaml(path), str(path))
    for name in suite.perturbations:
        try:
            perturbation(name)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    return suite


def perturbations_of(suites: Iterable[Suite]) -> list[str]:
    """The perturbations of some suites, without duplicates."""
    return list(dict.fromkeys(name for suite in suites for name in suite.perturbations))
