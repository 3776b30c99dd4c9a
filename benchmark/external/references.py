"""Reference names of units that are known without images: class names, and planted concepts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metrics.compound import Op, compound_match
from metrics.text import exact_match, normalise
from tasks.common.errors import UserError
from tasks.common.files import read_bounded
from tasks.profiles.networks import output_count

if TYPE_CHECKING:
    from tasks.profiles.build import Roles
    from tasks.schema import Task


@dataclass(frozen=True)
class Reference:
    """Reference name of one unit.

    Attributes:
        text: Text for cosines with a label: all names of a class, as in its line of the list.
        names: Each is a correct answer verbatim.
        concepts: One, or two for planted AND and OR units.
        synonyms: Concept → other names for it.
        rivals: Concept → concepts that a correct label must not name.
    """

    text: str
    names: tuple[str, ...]
    concepts: tuple[str, ...]
    op: Op
    synonyms: Mapping[str, Sequence[str]]
    rivals: Mapping[str, Sequence[str]]

    @property
    def truth(self) -> str:
        """The concepts as a phrase: "red", "red and striped", "red or striped"."""
        return f" {self.op} ".join(self.concepts)

    def exact(self, label: str) -> bool:
        """Whether the label equals one of the names, or all of them, ignoring case, space and punctuation."""
        return any(exact_match(label, name) for name in (self.text, *self.names))

    def matches(self, label: str) -> bool:
        """Whether the label names the concept; see ``metrics.compound``."""
        return compound_match(label, self.op, self.concepts, self.synonyms, self.rivals)


@dataclass(frozen=True)
class References:
    """Reference names of the units of a layer.

    Attributes:
        of_unit: Unit → its reference.
        source: The file, or the profile that provides them.
        sha256: Of the file's bytes, or of the profile's texts, one per line: scores with different lists are not
            comparable.
    """

    of_unit: Mapping[int, Reference]
    source: str
    sha256: str


def class_references(lines: Sequence[str], source: str, sha256: str) -> References:
    """References of the units of a classifier's output.

    Args:
        lines: One per class in the order of the units, with all its names separated by commas.
        source: File that they come from.
        sha256: Hash of their source.

    Raises:
        ValueError: A single string is given instead of a list.
        UserError: A line has no word: skipping it would shift all following lines.
    """
    if isinstance(lines, str):
        raise ValueError("the references must be a list of lines, not one string")
    found = {}
    for unit, line in enumerate(lines):
        names = tuple(name.strip() for name in line.split(",") if normalise(name))
        if not names:
            raise UserError(f"{source}, line {unit + 1}: no class name. Each line must name the class of one unit.")
        found[unit] = Reference(line.strip(), names, names[:1], "single", {names[0]: names[1:]}, {})
    return References(found, source, sha256)


def read_references(path: Path) -> References:
    """Read a list of classes, such as ``imagenet_labels.txt``; trailing line ends are ignored.

    Raises:
        UserError: The file cannot be read, is empty, or has a line without a name.
    """
    try:
        data = read_bounded(path, 100_000_000)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror or error}.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    if not text.strip():
        raise UserError(f"{path} is empty.")
    return class_references(lines, str(path), hashlib.sha256(data).hexdigest())


def profile_references(task: Task, roles: Roles) -> References | None:
    """The truth that a profile provides; None if there is none, or if determining it needs the images."""
    if task.truth == "planted":
        found = {
            unit: _reference(planted.text, planted.op, planted.concepts, roles)
            for unit, planted in roles.planted(task.model).items()
        }
    elif task.truth == "class_names":
        classes = roles.class_names(task.units.total or output_count(roles.profile.target(task.model))) or ()
        named = [[name.strip() for name in one.split(",")] for one in classes]
        found = {unit: _reference(name, "single", (name,), roles, others) for unit, (name, *others) in enumerate(named)}
    else:
        found = {}
    if not found:
        return None
    digest = hashlib.sha256("\n".join(reference.text for reference in found.values()).encode()).hexdigest()
    return References(found, f"profile {roles.profile.name}", digest)


def _reference(text: str, op: Op, concepts: tuple[str, ...], roles: Roles, others: Sequence[str] = ()) -> Reference:
    synonyms = {concept: (*others, *roles.synonyms().get(concept, ())) for concept in concepts}
    rivals = {concept: roles.rivals(concept) for concept in concepts}
    names = (text, *synonyms[text]) if op == "single" else (text,)
    return Reference(", ".join(names), names, concepts, op, synonyms, rivals)
