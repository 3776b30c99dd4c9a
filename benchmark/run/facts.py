"""What readers of the results must know of tasks, profile, methods and perturbations, written into the run folder.

Boards, pages and reports are made from the store alone, perhaps years later and elsewhere: by then a name may stand
for something else.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from baselines.base import Method
from tasks.perturbations.registry import PERTURBATIONS
from tasks.perturbations.suites import load_suite
from tasks.profiles.schema import Profile
from tasks.schema import Task
from tasks.view import View


def about_task(task: Task, view: View) -> dict[str, Any]:
    """The task's own words, and what a complete result of it covers.

    Args:
        task: The task.
        view: What its network sees of an image.

    Returns:
        The task's fields; ``suites``: name → list of (perturbation, severity) at the task's own severities; and
        ``view``: how images are prepared before they are perturbed, in words.
    """
    own = {suite: load_suite(suite).conditions(None, task.severities) for suite in task.suites}
    suites = {name: [list(condition) for condition in conditions] for name, conditions in own.items()}
    return {**task.model_dump(mode="json"), "suites": suites, "view": str(view)}


def about_profile(profile: Profile) -> dict[str, Any]:
    """Name, note, description, and ``licences``: a list of (part, source, licence) for every model and data set."""
    parts = [list(part) for part in _licensed((), profile.model_dump(mode="json"))]
    facts = {"name": profile.name, "note": profile.note, "description": profile.description}
    return {**facts, "licences": parts}


def about_methods(methods: Mapping[str, Method]) -> dict[str, dict[str, Any]]:
    """What each method states of itself with the options of the run; see ``baselines.base.Method``.

    Returns:
        Name → ``summary``, ``citation``, ``trivial``, ``uses_perturbations`` and ``trace``.
    """
    return {name: _about_method(method) for name, method in methods.items()}


def _about_method(method: Method) -> dict[str, Any]:
    first_line = next(iter((inspect.getdoc(type(method)) or "").splitlines()), "")
    return {
        "summary": str(getattr(method, "summary", first_line)),
        "citation": [str(key) for key in getattr(method, "citation", ())],
        "trivial": bool(getattr(method, "trivial", False)),
        "uses_perturbations": [str(name) for name in getattr(method, "uses_perturbations", ())],
        "trace": str(getattr(method, "trace", "")),
    }


def about_perturbations(names: Collection[str], corruptions: str) -> dict[str, dict[str, str]]:
    """Family and description of each perturbation.

    Args:
        names: Those of the run.
        corruptions: Which implementation it asks for.
    """
    found = {name: PERTURBATIONS[name].form(corruptions) for name in sorted(names)}
    return {name: {"family": form.family, "description": form.description} for name, form in found.items()}


def _licensed(path: tuple[str, ...], value: Any) -> Iterator[tuple[str, str, str]]:
    if not isinstance(value, Mapping):
        return
    if "licence" in value:
        source = " ".join(str(value[key]) for key in ("loader", "architecture", "factory", "name") if value.get(key))
        yield " ".join(path), source, str(value["licence"] or "not known")
        return
    for name, part in value.items():
        yield from _licensed((*path, str(name)), part)
