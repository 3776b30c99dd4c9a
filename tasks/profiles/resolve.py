"""What a profile needs, role by role, and whether it is on this machine; opens no socket and loads nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from tasks.common.errors import UserError
from tasks.language.config import OpenAISource, TransformersSource
from tasks.probing.missing import missing
from tasks.profiles.locate import Resource, locate_conse, locate_file, locate_segmenter, locate_source, locate_target
from tasks.profiles.schema import MiniatureSource, Profile
from tasks.profiles.sources import ConseSource, FactorySource, RetrievalSource

ROLES = ("clip", "simulator", "sentence_encoder", "captioner", "summariser", "describer", "generator", "segmenter")
"""The roles of which a profile has one each; targets, probing sets and concept sets have names."""


def resolve(
    profile: Profile,
    targets: Collection[str] | None = None,
    probing_sets: Collection[str] | None = None,
    concept_sets: Collection[str] | None = None,
    roles: Collection[str] = ROLES,
) -> list[Resource]:
    """The locations of everything that a profile names, or that a run needs of it.

    Args:
        profile: From ``load_profile``, with absolute paths.
        targets: Only these; None means all.
        probing_sets: Only these; None means all.
        concept_sets: Only these; None means all.
        roles: Only these of ``ROLES``.

    Raises:
        UserError: An unknown name, architecture or tag.
    """
    found: list[Resource] = []
    for name in profile.targets if targets is None else targets:
        found += _target(profile, name)
    for name in profile.probing_sets if probing_sets is None else probing_sets:
        found.append(_probing(profile, name))
    for name in profile.concept_sets if concept_sets is None else concept_sets:
        path = profile.concept_set(name)
        how = f"put a text file with one concept per line at {path}; docs/profiles.md names published ones"
        found.append(locate_file(f"concept set {name}", "text file", path, get=how))
    return found + [resource for role in ROLES if role in roles for resource in _role(profile, role)]


def absent(resources: Sequence[Resource]) -> list[Resource]:
    """The resources that are not on this machine, or not as the profile expects them."""
    return [resource for resource in resources if resource.state in ("missing", "hash differs")]


def require(resources: Sequence[Resource]) -> None:
    """Stop a run with missing files before anything is loaded.

    Raises:
        UserError: Lists all of them, and how to get each.
    """
    lacking = absent(resources)
    if len(lacking) == 1:
        part = lacking[0]
        raise UserError(
            f"{_named(part)} is not on this machine. "
            f"To get it: {part.get}. Or name a local copy in a profile of your own (path, or weights of a target)."
        )
    if lacking:
        raise UserError(
            f"{len(lacking)} parts of the profile are not on this machine: {'; '.join(map(_named, lacking))}. "
            "'python -m benchmark doctor --profile PROFILE' says how to get each."
        )


def _named(resource: Resource) -> str:
    wrong = ", another file than the profile expects" if resource.state == "hash differs" else ""
    return f"{resource.role} ({resource.source}{wrong})"


def _target(profile: Profile, name: str) -> Iterator[Resource]:
    entry = profile.target(name)
    yield locate_target(name, entry)
    if entry.planted is not None:
        yield locate_file(f"planted units of {name}", "weights file", entry.planted.weights, entry.licence)
    if entry.readout is not None:
        yield locate_file(f"{entry.readout.kind} of {name}", "weights file", entry.readout.weights, entry.licence)


def _probing(profile: Profile, name: str) -> Resource:
    source, role = profile.probing_set(name), f"probing set {name}"
    if isinstance(source, MiniatureSource):
        return _own(role, "rendered scenes", source.licence)
    files = missing(source)
    found = locate_file(role, source.loader, source.path, source.licence)
    if not files:
        return found
    first = files[0]
    how = " ".join(part.how for part in files)
    return Resource(role, source.loader, "missing", first.path, first.size, source.licence, how)


def _role(profile: Profile, role: str) -> Iterator[Resource]:
    entry = getattr(profile, role)
    if entry is None:
        return
    if isinstance(entry, FactorySource):
        how = "the function brings its weights"
        yield Resource(role, f"function {entry.factory}", "present", None, None, entry.licence, how)
    elif role == "segmenter":
        yield locate_segmenter(entry)
    elif isinstance(entry, ConseSource):
        yield locate_conse(role, entry)
    elif isinstance(entry, RetrievalSource):
        how = f"put photographs into {entry.path}, or give their folder by --images"
        yield locate_file(role, "retrieval from a folder", entry.path, entry.licence, how)
    elif isinstance(entry, str):
        yield _own(role, entry, None)
    elif isinstance(entry, OpenAISource):
        source = f"openai {entry.model} at {entry.base_url}"
        yield Resource(
            role, source, "server", None, None, entry.licence, "set its key variable, or name your own server"
        )
    elif isinstance(entry, TransformersSource):
        yield locate_source(role, entry, "transformers")
    else:
        yield locate_source(role, entry, entry.loader)


def _own(role: str, source: str, licence: str | None) -> Resource:
    return Resource(role, source, "present", None, None, licence, "comes with CLEAR or its packages")
