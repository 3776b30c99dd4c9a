"""Facts about tasks, profile, methods and perturbations that readers of the results need, kept in the run folder.

Boards, pages and reports are made from the store only, perhaps years later and elsewhere, when a name may refer to
something else.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from baselines import registry
from baselines.base import Method
from benchmark.core.display import Display
from benchmark.core.work import Work
from leaderboard.store.run_folder import RunFolder
from tasks.observe import CLEAN
from tasks.perturbations.registry import PERTURBATIONS
from tasks.perturbations.suites import load_suite
from tasks.probing.base import Facts, ProbingSet
from tasks.profiles.resolve import ROLES
from tasks.profiles.schema import Profile
from tasks.schema import Task
from tasks.view import View

DENSE: Final = 0.5
"""A latent that is not 0 on more than this share of the clean images counts as dense."""


def about_task(task: Task, view: View) -> dict[str, Any]:
    """The task's own description, and what a complete result of it covers.

    Args:
        view: How its network crops and resizes an image.

    Returns:
        The task's fields; ``suites``: name → list of (perturbation, severity) at the task's own severities; and
        ``view``: how images are prepared before they are perturbed, as text.
    """
    own = {suite: load_suite(suite).conditions(None, task.severities) for suite in task.suites}
    suites = {name: [list(condition) for condition in conditions] for name, conditions in own.items()}
    return {**task.model_dump(mode="json"), "suites": suites, "view": str(view)}


def about_profile(profile: Profile) -> dict[str, Any]:
    """Name, note and description, what it needs by licence, and what is in half precision.

    Returns:
        ``licences``: a list of (part, source, licence) for each model and data set; ``half_on_cuda``: the roles whose
        weights are float16 on a CUDA device.
    """
    parts = [list(part) for part in _licensed((), profile.model_dump(mode="json"))]
    facts = {"name": profile.name, "note": profile.note, "description": profile.description}
    half = [role for role in ROLES if getattr(getattr(profile, role), "half_on_cuda", False)]
    return {**facts, "licences": parts, "half_on_cuda": half}


def record_images(folder: RunFolder, sets: Mapping[str, ProbingSet], display: Display) -> None:
    """Write into ``run.json`` which images were left out, and say how many.

    Args:
        sets: Task → its images.
        display: Told of each set once.
    """
    for facts in {one.digest: one.facts for one in sets.values()}.values():
        if facts.skipped or facts.ignored:
            display.warning(
                f"Left out: {len(facts.skipped)} of {facts.available} images, which cannot be used (listed with the "
                f"reasons in run.json under facts.images), and {facts.ignored} files that are no images."
            )
    folder.record("images", {name: _about_images(one.facts) for name, one in sets.items()})


def record_latents(folder: RunFolder, works: Sequence[Work], display: Display) -> None:
    """Write into ``run.json`` how many latents of each dictionary are dead or dense on the clean images, and say it."""
    found = {}
    for work in works:
        marker = folder.marker(work.observation_key(CLEAN), "evidence")
        facts = {} if marker is None else marker.extra
        if work.task.readout != "dictionary" or "layer_dense" not in facts:
            continue
        latents, dead, dense = (facts[name] for name in ("layer_units", "layer_dead", "layer_dense"))
        found[work.task.name] = {"latents": latents, "dead": dead, "dense": dense}
        display.message(
            f"{work.task.name}: of {latents} latents {dead} are dead on the {work.images} clean images and get no "
            f"label, and {dense} are dense: not 0 on more than {DENSE:.0%} of them."
        )
    if found:
        folder.record("latents", found)


def _about_images(facts: Facts) -> dict[str, Any]:
    # From the identifier on: what stands before it is a path of this machine.
    skipped = {name: why[max(0, why.find(name)) :] for name, why in facts.skipped}
    return {"available": facts.available, "ignored": facts.ignored, "skipped": skipped}


def about_methods(methods: Mapping[str, Method]) -> dict[str, dict[str, Any]]:
    """What each method states about itself with the options of the run; see ``baselines.base.Method``.

    Returns:
        Name → ``summary``, ``citation``, ``trivial``, ``uses_perturbations``, ``tuned_on``, ``trace``, and
        ``annotation``: whether it reads what the probing images show.
    """
    return {name: _about_method(method) for name, method in methods.items()}


def _about_method(method: Method) -> dict[str, Any]:
    first_line = next(iter((inspect.getdoc(type(method)) or "").splitlines()), "")
    return {
        "summary": str(getattr(method, "summary", first_line)),
        "citation": [str(key) for key in getattr(method, "citation", ())],
        "trivial": bool(getattr(method, "trivial", False)),
        "uses_perturbations": [str(name) for name in getattr(method, "uses_perturbations", ())],
        "tuned_on": [str(name) for name in getattr(method, "tuned_on", ())],
        "trace": str(getattr(method, "trace", "")),
        "annotation": bool(registry.ANNOTATION & registry.used_parts(method)),
    }


def about_perturbations(names: Collection[str], corruptions: str) -> dict[str, dict[str, str]]:
    """Family and description of each perturbation.

    Args:
        corruptions: Which implementation the run uses.
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
