"""What is settled before a run begins: device, roles, methods, units, and which tasks share a pass."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from baselines import registry
from baselines.base import Method
from benchmark.run.custom_inputs import check_layer
from benchmark.run.language_check import check_key
from benchmark.run.options import RunOptions
from benchmark.run.work import Work
from tasks.common.errors import UserError
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile
from tasks.schema import Task


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` takes CUDA where there is one.

    Raises:
        UserError: If the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        number = int(name.partition(":")[2] or 0)
        if number >= count:
            raise UserError(f"--device {name}: this machine shows {count} CUDA devices; choose cpu or auto.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps is not there on this machine; choose cpu or auto.")
    return torch.device(name)


def check_roles(options: RunOptions, profile: Profile) -> None:
    """Refuse, before anything is loaded, methods whose roles the profile cannot fill."""
    strangers = set(options.method_options) - set(options.method_names())
    if strangers:
        raise UserError(
            f"--set names {sorted(strangers)[0]}, which is not among --methods {','.join(options.method_names())}."
        )
    for name, method in load_methods(options, profile).items():
        for role in asked_roles(name, method):
            if role in ("captioner", "summariser", "describer", "generator") and getattr(profile, role) is None:
                raise UserError(
                    f"The method {name} needs a {role}, which the profile {profile.name} does not have; "
                    "leave the method out, or choose another profile."
                )
    check_key(options.method_names(), profile)


def asked_roles(name: str, method: Method) -> Collection[str]:
    """The roles that a method asks: by its options these may be fewer than it declares, or others."""
    return getattr(method, "asks", registry.entry(name).needs)


def load_methods(options: RunOptions, profile: Profile) -> dict[str, Method]:
    """The methods of a run by name, with the profile's options and those of ``--set``."""
    return {
        name: registry.load(name, **{**profile.method_options.get(name, {}), **options.method_options.get(name, {})})
        for name in options.method_names()
    }


def count_units(task: Task, options: RunOptions, roles: Roles) -> int:
    """How many units a task's layer has; refuses a layer of the user's choice that cannot be read."""
    if options.model is not None or options.layer is not None or options.pooling is not None:
        check_layer(roles.target(task.model), task.layer, task.pooling)
    return roles.unit_count(task.model, task.layer)


def pass_groups(works: Sequence[Work]) -> list[list[Work]]:
    """Tasks that share network and images run in one pass; one layer pooled in two ways needs two."""
    groups: list[list[Work]] = []
    for work in works:
        source = (work.task.model, work.task.probing_set, work.images)
        for group in groups:
            first = group[0]
            layers = {other.task.layer: other.task.pooling for other in group}
            alike = source == (first.task.model, first.task.probing_set, first.images)
            if alike and layers.get(work.task.layer, work.task.pooling) == work.task.pooling:
                group.append(work)
                break
        else:
            groups.append([work])
    return groups
