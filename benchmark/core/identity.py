"""What makes two runs the same run: their options, and the current content that names refer to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from baselines import registry
from baselines.evidence import EVIDENCE_SIZE
from benchmark.core.options import RunOptions
from benchmark.core.prepare import Prepared
from benchmark.core.truth import TRUTH_BAR
from benchmark.core.work import Work
from leaderboard.store.identity import identity_hash
from tasks.observe import CLEAN
from tasks.perturbations.engine import VERSION as ENGINE_VERSION
from tasks.perturbations.registry import PERTURBATIONS
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile
from tasks.schema import Task


def run_identity(
    options: RunOptions,
    profile: Profile,
    prepared: Prepared,
    concepts: Mapping[str, tuple[str, ...]],
    roles: Roles,
) -> dict[str, Any]:
    """The options, and the current content that their names refer to."""
    works, methods, pool = prepared.works, prepared.methods, roles.pool_digest()
    chosen = profile.own_options(list(map(registry.innermost, methods)))
    made = [work.task.model for work in works if profile.target(work.task.model).loader == "factory"]
    return {
        **prepared.identity(options),
        "content": {
            "tasks": {work.task.name: _task_facts(work.task, profile) for work in works},
            "profile": identity_hash(profile.identity((), ())),
            "images": {
                w.task.name: roles.probing_set(w.task.probing_set, w.images, roles.view(w.task.model)).digest
                for w in works
            },
            "views": {work.task.name: asdict(roles.view(work.task.model)) for work in works},
            "concepts": {
                name: hashlib.sha256("\n".join(words).encode()).hexdigest() for name, words in concepts.items()
            },
            "conditions": {
                work.task.name: [[c.name, c.severity] for c in work.conditions if c != CLEAN] for work in works
            },
            "perturbations": {"engine": ENGINE_VERSION, **_perturbation_facts(works, options.corruptions)},
            "methods": {name: method.version for name, method in methods.items()},
            **({"profile_options": chosen} if chosen else {}),
            "evidence_images": EVIDENCE_SIZE,
            "truth_bar": TRUTH_BAR,
            **({"pool": pool} if pool is not None else {}),
            **({"networks": {name: weights_sha256(roles.target(name).network) for name in made}} if made else {}),
        },
    }


def _perturbation_facts(works: Sequence[Work], corruptions: str) -> dict[str, Any]:
    names = {condition.name for work in works for condition in work.conditions if condition != CLEAN}
    return {name: PERTURBATIONS[name].form(corruptions).facts() for name in sorted(names)}


def _task_facts(task: Task, profile: Profile) -> dict[str, Any]:
    """The task, and the sources of its network and images: only the parts of the profile in use change the results."""
    # A bottleneck has its own kind of run; without one the field must not change the identity of older runs.
    words = {"description", "citation", "licences", "suites", "severities", "bottleneck"}
    facts = task.model_dump(mode="json", exclude=words)
    return {**facts, "profile": identity_hash(profile.identity((task.model,), (task.probing_set,)))}


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 over the names and values of a network's weights: all that identifies one made by a function."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if not isinstance(tensor, Tensor):  # a module may store anything beside its weights
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
