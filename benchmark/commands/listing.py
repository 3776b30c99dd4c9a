"""Output of ``list``, ``show`` and ``--list-layers``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leaderboard.store.escape import terminal
from tasks.common.errors import UserError


def tasks() -> list[dict[str, Any]]:
    """Name, description, model, layer and number of units of each built-in task."""
    from tasks.catalogue import task_literal, task_names

    literals = [task_literal(name) for name in task_names()]
    return [
        {
            "name": literal["name"],
            "description": " ".join(literal["description"].split()),
            "model": literal["model"],
            "layer": literal["layer"],
            "units": literal["units"]["total"],
        }
        for literal in literals
    ]


def methods() -> list[dict[str, Any]]:
    """Name, description, version and needs of each method, plugins included, and of the wrappers around any of them."""
    from baselines import registry

    return [
        {"name": e.name, "description": e.summary, "version": e.version, "needs": list(e.needs), "package": e.package}
        for e in (*registry.entries(), *registry.wrappers())
    ]


def suites() -> list[dict[str, Any]]:
    """The suites, then each perturbation, which is a suite of its own; plugins included."""
    from tasks.perturbations.registry import PERTURBATIONS
    from tasks.perturbations.suites import load_suite, suite_names

    rows: list[dict[str, Any]] = []
    for name in suite_names():
        suite = load_suite(name)
        listed = ", ".join(suite.perturbations)
        rows.append(
            {
                "name": name,
                "description": f"{suite.description} {listed}.",
                "perturbations": list(suite.perturbations),
                "severities": list(suite.severities or ()),
                "source": suite.source,
            }
        )
    for name, entry in PERTURBATIONS.items():
        rows.append(
            {
                "name": name,
                "description": f"{entry.family}: {entry.description}" + "".join(f"; needs {n}" for n in entry.needs),
                "perturbations": [name],
                "family": entry.family,
                "parameters": list(entry.parameters),
                **({"package_parameters": list(entry.package.parameters)} if entry.package else {}),
                "needs": list(entry.needs),
                "random": entry.random,
                "source": entry.source,
            }
        )
    return rows


def profiles() -> list[dict[str, Any]]:
    """Name and description of each built-in profile."""
    from tasks.catalogue import profile_description, profile_names

    return [{"name": name, "description": " ".join(profile_description(name).split())} for name in profile_names()]


def task(name: str) -> dict[str, Any]:
    """Everything about one task, with the perturbations that its suites contain.

    Raises:
        UserError: No such task, or a mistake in its file.
    """
    from tasks.catalogue import load_task
    from tasks.perturbations.suites import load_suite, perturbations_of

    found = load_task(name)
    perturbations = perturbations_of(load_suite(suite) for suite in found.suites)
    return {**found.model_dump(mode="json"), "perturbations": perturbations}


def layers(
    task_names: Sequence[str], profile: str, model: str | None, weights: Path | None, strip_prefix: str | None
) -> list[dict[str, Any]]:
    """The layers of a network, in the order of its modules.

    Args:
        task_names: Tasks whose network is listed, unless ``model`` is given.
        profile: Provides those tasks' networks.
        model: As in ``RunOptions``, like ``weights`` and ``strip_prefix``.

    Returns:
        ``name``; ``kind``: ``spatial``, ``tokens`` or ``vector``; ``units``; ``shape`` of the output for one image.

    Raises:
        UserError: No network or several are named, or it cannot be built.
    """
    from tasks.catalogue import load_task
    from tasks.profiles.own import layers_of, own_target
    from tasks.profiles.schema import load_profile

    if model is not None:
        entry = own_target(model, weights, strip_prefix or "")
    else:
        names = {load_task(name).model for name in task_names}
        if len(names) != 1:
            raise UserError("--list-layers shows one network: name one --task, or a --model.")
        entry = load_profile(profile).target(names.pop())
    return [_layer(name, shape) for name, shape in layers_of(entry).items()]


def _layer(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    import torch

    from tasks.activations.capture import layer_kind

    kind = layer_kind(torch.empty(1, *shape, device="meta"))
    return {"name": name, "kind": kind, "units": shape[-1 if kind == "tokens" else 0], "shape": list(shape)}


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Names in one column, descriptions wrapped in another."""
    if not rows:
        return "none"
    width = max(len(row["name"]) for row in rows) + 2
    lines: list[str] = []
    for row in rows:
        first, *more = textwrap.wrap(terminal(row["description"]), 100 - width) or [""]
        lines.append(f"{terminal(row['name']):<{width}}{first}".rstrip())
        lines += [" " * width + line for line in more]
    return "\n".join(lines)


def layers_as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Layers with their kind, number of units and output for one image, in columns."""
    head = ("layer", "kind", "units", "output for one image")
    told = [(row["name"], row["kind"], str(row["units"]), _shape(row)) for row in rows]
    widths = [max(len(line[column]) for line in [head, *told]) for column in range(3)]
    return "\n".join(
        f"{terminal(name):<{widths[0]}}  {kind:<{widths[1]}}  {units:>{widths[2]}}  {shape}"
        for name, kind, units, shape in [head, *told]
    )


def _shape(row: Mapping[str, Any]) -> str:
    axes = {"spatial": "units × height × width", "tokens": "tokens × units", "vector": "units"}[row["kind"]]
    return f"{' × '.join(map(str, row['shape']))} ({axes})"


def as_yaml(facts: Mapping[str, Any]) -> str:
    """The facts as YAML, in their order."""
    import yaml

    text = yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True, width=100, default_flow_style=None)
    return "\n".join(terminal(line) for line in text.splitlines())
