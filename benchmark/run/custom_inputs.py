"""The user's own in place of a task's: network, layer, images, concepts. All else of the task stays as it is.

A task with a part exchanged is another task, and its name says so: no board can take it for the one it came from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from baselines import registry
from benchmark.run.display import Display
from benchmark.run.options import RunOptions
from benchmark.run.preflight import check_own_files
from leaderboard.store.identity import identity_hash
from tasks.activations.capture import layer_kind, list_layers, resolve_layer
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.common.image_files import find_images
from tasks.models.target import TargetModel
from tasks.perturbations.settings import needs_foreground
from tasks.perturbations.suites import load_suite, perturbations_of
from tasks.probing.held_out import kept
from tasks.probing.schema import FolderSource
from tasks.profiles.build import Roles
from tasks.profiles.own import layers_of, own_target, with_own_model
from tasks.profiles.schema import Profile, load_profile
from tasks.profiles.sources import RetrievalSource, Target
from tasks.schema import Pooling, Task, Units

OWN_IMAGES, OWN_CONCEPTS = "own_images", "own_concepts"
"""Under these names a profile offers the user's images and concepts."""

_LONGEST_NAME = 60
_NOT_STATED = "not stated: the user's own"


def chosen(options: RunOptions) -> tuple[Profile, list[Task]]:
    """The profile and the tasks of a run, with the user's own in them.

    Args:
        options: What was asked.

    Raises:
        UserError: An unknown name, a mistake in a file, a file that is missing or cannot be read, or two tasks that
            become the same one.
    """
    check_own_files(options)
    profile = load_profile(options.profile)
    tasks = [load_task(name) for name in options.tasks]
    if options.model is not None:
        target = own_target(options.model, options.weights, options.strip_prefix or "")
        for place, task in enumerate(tasks):
            profile, own = with_own_model(profile, task, options.model, target, options.layer, options.pooling)
            tasks[place] = _described(own, target, task, options)
    elif options.layer is not None or options.pooling is not None:
        tasks = [_with_layer(task, options) for task in tasks]
    profile, tasks = _with_data(profile, tasks, options)
    names = [task.name for task in tasks]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise UserError(f"Several of the tasks come to the same, {double}: name one of them, or leave --layer out.")
    return profile.model_copy(update={"note": _note(profile, options)}), tasks


def with_images(profile: Profile, folder: Path) -> Profile:
    """The profile that offers a folder's images as ``OWN_IMAGES`` too.

    A generator that retrieves the photographs held out of the probing folder gets those of this folder.
    """
    drawn = profile.generator if isinstance(profile.generator, RetrievalSource) else None
    shared = drawn is not None and drawn.held_out
    own = FolderSource(loader="folder", path=folder.resolve(), licence=_NOT_STATED, hold_out=shared)
    update: dict[str, Any] = {"probing_sets": {**profile.probing_sets, OWN_IMAGES: own}}
    if drawn is not None and shared:
        update["generator"] = drawn.model_copy(update={"path": folder.resolve(), "licence": _NOT_STATED})
    return profile.model_copy(update=update)


def counted(task: Task, options: RunOptions, roles: Roles) -> Task:
    """The task with the number of images that the user's folder has, where that is fewer than it asks for.

    Raises:
        UserError: Too many images cannot be used.
    """
    if options.image_folder is None or options.images is not None:
        return task
    files, _ = find_images(options.image_folder)
    source = roles.profile.probing_set(task.probing_set)
    if isinstance(source, FolderSource) and source.hold_out:
        files = kept(files)
    if len(files) > task.images:
        return task
    return task.model_copy(
        update={"images": len(roles.probing_set(task.probing_set, None, roles.view(task.model)).ids)}
    )


def labelled(task: Task, options: RunOptions, unit_count: int) -> Task:
    """The task labelling all units of a layer of the user's choice, where it has fewer than the task labels."""
    chosen_layer = options.model is not None or options.layer is not None
    if chosen_layer and task.units.label != "all" and task.units.label > unit_count:
        return task.model_copy(update={"units": Units(label="all")})
    return task


def shown_units(task: Task, options: RunOptions, roles: Roles) -> frozenset[int]:
    """The outputs of a classifier whose class the probing images show, where the task asks for it and it is known."""
    if not task.units.shown:
        return frozenset()
    probing = roles.probing_set(task.probing_set, options.images or task.images, roles.view(task.model))
    if probing.classes is None or probing.class_names is None:
        return frozenset()
    # Other classes, such as folders of the user's, have other numbers.
    alike = len(probing.class_names) == task.units.total
    return frozenset(int(number) for number in probing.classes) if alike else frozenset()


def fitted(options: RunOptions, tasks: Sequence[Task], roles: Roles, display: Display) -> RunOptions:
    """The options, fitted to images that nobody has annotated; a line says what is done otherwise than usual.

    Args:
        options: What was asked.
        tasks: The tasks of the run.
        roles: For their images.
        display: Told what changes.

    Returns:
        The options: with masks by the segmenter, where masks are needed and a probing set has none; without the default
        methods that need annotation, where a probing set has none.

    Raises:
        UserError: A method that was asked for needs annotation, which a probing set does not have.
    """
    sets = {
        task.probing_set: roles.probing_set(task.probing_set, options.images or task.images, roles.view(task.model))
        for task in tasks
    }
    for name, probing in sets.items():
        if options.masks == "probing_set" and needs_masks(options, tasks) and probing.load_foreground([]) is None:
            display.message(f"The images of {name} have no foreground masks: the segmenter makes them.")
            options = options.model_copy(update={"masks": "segmenter"})
        needing = [method for method in options.method_names() if "segmentation" in registry.entry(method).needs]
        if probing.segmentation is not None or not needing:
            continue
        without = f"{needing[0]} needs images with concept annotation, which those of {name} do not have"
        left = tuple(method for method in options.method_names() if method not in needing)
        if options.methods is not None:
            raise UserError(f"{without}: leave it out of --methods ({','.join(left) or 'for example clip_dissect'}).")
        display.warning(f"{without}: it is left out.")
        options = options.model_copy(update={"methods": left})
    return options


def needs_masks(options: RunOptions, tasks: Sequence[Task]) -> bool:
    """Whether a condition of the run changes the foreground or the background alone."""
    suites = {suite for task in tasks for suite in options.suites or task.suites}
    return any(needs_foreground(name) for name in perturbations_of(load_suite(suite) for suite in sorted(suites)))


def check_layer(target: TargetModel, layer: str, pooling: Pooling) -> None:
    """Refuse a layer that cannot be read or pooled so; told by two passes over a grey image.

    Raises:
        UserError: No such layer (with the nearest names), or one that cannot be read or pooled so.
    """
    resolve_layer(target.network, layer)
    side = target.preprocessing.side
    grey = torch.full((1, 3, side, side), 127, dtype=torch.uint8)
    readable = list_layers(target.network, target.preprocessing(grey).to(target.device))
    if layer not in readable:
        raise UserError(
            f"The layer {layer!r} cannot be read: a pass over an image does not reach it, or it gives no [n, units], "
            "[n, tokens, units] or [n, units, h, w]. --list-layers shows the layers that can be."
        )
    target.read(grey, {layer: pooling})


def weights_sha256(network: nn.Module) -> str:
    """SHA-256 over the names and values of a network's weights: all that can be told of one that a function made."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        if not isinstance(tensor, Tensor):  # a module may keep what it likes beside its weights
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def layers(
    task_names: Sequence[str], profile: str, model: str | None, weights: Path | None, strip_prefix: str | None
) -> list[dict[str, Any]]:
    """The layers of a network, in the order of its modules.

    Args:
        task_names: Whose network, unless there is a ``model``.
        profile: Where those tasks' networks come from.
        model: As in ``RunOptions``, like the next two.
        weights: Its weights.
        strip_prefix: Cut from the front of their names.

    Returns:
        ``name``; ``kind``: ``spatial``, ``tokens`` or ``vector``; ``units``; ``shape`` of the output for one image.

    Raises:
        UserError: No network is named, or several; or it cannot be built.
    """
    if model is not None:
        entry = own_target(model, weights, strip_prefix or "")
    else:
        names = {load_task(name).model for name in task_names}
        if len(names) != 1:
            raise UserError("--list-layers shows one network: name one --task, or a --model.")
        entry = load_profile(profile).target(names.pop())
    return [_layer(name, shape) for name, shape in layers_of(entry).items()]


def _layer(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    kind = layer_kind(torch.empty(1, *shape, device="meta"))
    return {"name": name, "kind": kind, "units": shape[-1] if kind == "tokens" else shape[0], "shape": list(shape)}


def _described(own: Task, target: Target, task: Task, options: RunOptions) -> Task:
    """The task of a network of the user's without what was said of the network before, and with a name that fits."""
    pooled = f"_{own.pooling}" if own.pooling != task.pooling else ""
    return own.model_copy(
        update={
            "library": target.loader,
            "name": _name(f"{own.model}_{own.layer}{pooled}"),
            "licences": {"network": f"{options.model}, {_NOT_STATED if options.weights else 'see its source'}"},
            "citation": f"Not stated for {options.model}.",
        }
    )


def _with_layer(task: Task, options: RunOptions) -> Task:
    layer, pooling = options.layer or task.layer, options.pooling or task.pooling
    if (layer, pooling) == (task.layer, task.pooling):
        return task
    elsewhere = f"_at_{layer}" if layer != task.layer else ""
    pooled = f"_{pooling}" if pooling != task.pooling else ""
    update: dict[str, Any] = {"name": _name(task.name + elsewhere + pooled), "layer": layer, "pooling": pooling}
    if layer != task.layer:
        update |= {
            "description": f"{layer} of the network of {task.name}, in place of {task.layer}.",
            "units": Units(label=task.units.label),
            "truth": "best_concept" if task.truth == "best_concept" else None,
        }
    return task.model_copy(update=update)


def _with_data(profile: Profile, tasks: Sequence[Task], options: RunOptions) -> tuple[Profile, list[Task]]:
    """Profile and tasks with the user's images and concepts."""
    update: dict[str, Any] = {}
    suffix = ""
    if options.image_folder is not None:
        profile = with_images(profile, options.image_folder)
        update["probing_set"] = OWN_IMAGES
        suffix += f"_{OWN_IMAGES}"
    if options.concepts is not None:
        sets = {**profile.concept_sets, OWN_CONCEPTS: options.concepts.resolve()}
        profile = profile.model_copy(update={"concept_sets": sets})
        update["concept_set"] = OWN_CONCEPTS
        suffix += f"_{OWN_CONCEPTS}"
    return profile, [task.model_copy(update=update | {"name": _name(task.name + suffix)}) for task in tasks]


def _note(profile: Profile, options: RunOptions) -> str:
    """The profile's sentence, with what of the run is not the profile's."""
    given = {"network": options.model, "images": options.image_folder, "concepts": options.concepts}
    own = [part for part, value in given.items() if value is not None]
    return f"{profile.note} The user's own in this run: {', '.join(own)}." if own else profile.note


def _name(text: str) -> str:
    """A task's name from any text; another one for another text."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9].rstrip('_')}_{identity_hash(text)[:8]}"
