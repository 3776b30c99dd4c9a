"""What units should be called, where it is known without looking at images: class names, and planted concepts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metrics.compound import Op, compound_match
from metrics.text import exact_match, normalise
from tasks.common.errors import UserError
from tasks.profiles.networks import output_count

if TYPE_CHECKING:
    from tasks.profiles.build import Roles
    from tasks.schema import Task


@dataclass(frozen=True)
class Reference:
    """What one unit should be called.

    Attributes:
        text: What cosines compare a label with: all names of a class, as its line in the list has them.
        names: Each is a right answer word for word.
        concepts: One, or two for planted AND and OR units.
        op: How the concepts belong together.
        synonyms: Concept → other names for it.
        rivals: Concept → concepts that a right label must not name.
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
        """Whether the label equals one of the names, or all of them, but for case, space and punctuation."""
        return any(exact_match(label, name) for name in (self.text, *self.names))

    def matches(self, label: str) -> bool:
        """Whether the label names the concept; see ``metrics.compound``."""
        return compound_match(label, self.op, self.concepts, self.synonyms, self.rivals)


@dataclass(frozen=True)
class References:
    """What the units of a layer should be called.

    Attributes:
        of_unit: Unit → its reference.
        source: The file, or the profile that knows them.
        sha256: Of the file's bytes, or of the profile's texts, one a line: scores of two lists do not compare.
    """

    of_unit: Mapping[int, Reference]
    source: str
    sha256: str


def class_references(lines: Sequence[str], source: str, sha256: str) -> References:
    """References of the units of a classifier's output.

    Args:
        lines: One a class in the order of the units, all its names with commas between them.
        source: Where they come from.
        sha256: Of their source.

    Raises:
        ValueError: A single string stands where the list belongs.
        UserError: A line holds no word: leaving it out would shift all that follow.
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
    """Read a list of classes, such as ``imagenet_labels.txt``; line ends after the last one do not matter.

    Raises:
        UserError: The file cannot be read, is empty, or has a line without a name.
    """
    try:
        data = path.read_bytes()
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
    """The truth that a profile knows by itself; None where there is none, or where finding it takes the images."""
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
