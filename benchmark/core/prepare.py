"""From the options to the work of a run.

First the user's own network, layer, images and concepts replace a task's; then network and images determine methods,
units, number of images and masks, as far as the options leave them open.

A task with an exchanged part is a different task with a different name: no board can confuse it with the original.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from baselines import registry
from baselines.base import Method
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.preflight import first_double
from benchmark.core.work import Work, plan_work
from leaderboard.store.identity import identity_hash
from tasks.activations.capture import list_layers, resolve_layer
from tasks.common.errors import UserError
from tasks.common.image_files import find_images
from tasks.donors import no_classes
from tasks.models.target import TargetModel
from tasks.observe import classes_of
from tasks.perturbations.settings import needs_background, needs_foreground
from tasks.perturbations.suites import load_suite, perturbations_of
from tasks.probing.held_out import kept
from tasks.probing.schema import FolderSource
from tasks.profiles.build import Roles, no_segmenter
from tasks.profiles.locate import Resource
from tasks.profiles.own import own_target, with_other_networks, with_own_model, with_readout
from tasks.profiles.resolve import ROLES, resolve
from tasks.profiles.schema import Profile, load_profile
from tasks.profiles.sources import RetrievalSource, Target
from tasks.schema import Pooling, Task, Units

OWN_IMAGES, OWN_CONCEPTS = "own_images", "own_concepts"
"""Names under which a profile provides the user's images and concepts."""

_LONGEST_NAME = 60
_NOT_STATED = "not stated: the user's own"


@dataclass(frozen=True)
class Prepared:
    """The work of a run, which its options partly leave to the network and the images.

    Attributes:
        works: One per task.
        methods: By name; without those for which the images lack the required annotation.
        masks: Source of the foreground masks.
    """

    works: tuple[Work, ...]
    methods: Mapping[str, Method]
    masks: Literal["probing_set", "segmenter"]

    def identity(self, options: RunOptions) -> dict[str, Any]:
        """The identity of the options, with the settings in effect instead of the requested ones."""
        return options.identity() | {"methods": sorted(self.methods), "masks": self.masks}


def prepare(
    options: RunOptions,
    profile: Profile,
    tasks: Sequence[Task],
    methods: Mapping[str, Method],
    roles: Roles,
    display: Display,
    images: int | None = None,
) -> Prepared:
    """Determine what the options leave to the network and the images.

    Args:
        profile: From ``apply_overrides``, as are the tasks.
        tasks: With the user's own parts.
        methods: From ``load_methods``.
        display: Reports each deviation from the defaults.
        images: Number of images to open for this; None for all of the run.

    Raises:
        UserError: A layer that cannot be read, units that it does not have, images that cannot be used, or a requested
            method that needs annotation that a probing set does not have.
    """
    units = {task.name: count_units(task, options, roles) for task in tasks}
    with display.stage("images", None, "images") as stage:
        tasks = [with_image_count(with_all_units(task, options, units[task.name]), options, roles) for task in tasks]
        names, masks = adapt_options(options, tasks, methods, roles, display, images)
        planned = [
            plan_work(task, profile, options, units[task.name], shown_units(task, options, roles)) for task in tasks
        ]
        works = tuple(replace(work, methods=names) for work in planned)
        stage.advance(sum(work.images for work in works))
    return Prepared(works, {name: methods[name] for name in names}, masks)


def apply_overrides(options: RunOptions, tasks: Sequence[Task]) -> tuple[Profile, list[Task]]:
    """The profile and the tasks of a run, with the user's own parts.

    Args:
        tasks: The tasks of the options, from ``benchmark.core.preflight.check``.

    Raises:
        UserError: A mistake in the profile's file, an unknown network, a file that cannot be read, or two tasks that
            become identical.
    """
    profile, tasks = load_profile(options.profile), list(tasks)
    # Several layers make several tasks, which share each pass.
    layers = [None] if options.layer is None else [name.strip() for name in options.layer.split(",")]
    asked = [(task, layer) for task in tasks for layer in layers]
    if options.model is not None:
        target, tasks = own_target(options.model, options.weights, options.strip_prefix or ""), []
        for task, layer in asked:
            profile, own = with_own_model(profile, task, options.model, target, layer, options.pooling)
            tasks.append(_described(own, target, task, options))
    elif options.layer is not None or options.pooling is not None:
        tasks = [_with_layer(task, layer or task.layer, options.pooling or task.pooling) for task, layer in asked]
    for place, task in enumerate(tasks):
        if options.dictionary is not None:
            profile, tasks[place] = with_readout(profile, task, "dictionary", options.dictionary)
        elif options.directions is not None:
            profile, tasks[place] = with_readout(profile, task, "directions", options.directions)
    if options.against is not None:
        profile = with_other_networks(profile, {task.model for task in tasks}, options.against)
    profile, tasks = _with_data(profile, tasks, options)
    double = first_double([task.name for task in tasks])
    if double is not None:
        raise UserError(f"Several of the tasks become the same, {double}: name one of them, or omit --layer.")
    return profile.model_copy(update={"note": _note(profile, options)}), tasks


def with_images(profile: Profile, folder: Path) -> Profile:
    """The profile with a folder's images as ``OWN_IMAGES``.

    A generator that retrieves the photographs held out of the probing folder gets those of this folder.
    """
    drawn = profile.generator if isinstance(profile.generator, RetrievalSource) else None
    shared = drawn is not None and drawn.held_out
    own = FolderSource(loader="folder", path=folder.resolve(), licence=_NOT_STATED, hold_out=shared)
    update: dict[str, Any] = {"probing_sets": {**profile.probing_sets, OWN_IMAGES: own}}
    if drawn is not None and shared:
        update["generator"] = drawn.model_copy(update={"path": folder.resolve(), "licence": _NOT_STATED})
    return profile.model_copy(update=update)


def with_concepts(profile: Profile, path: Path) -> Profile:
    """The profile with a file's concepts as ``OWN_CONCEPTS``."""
    return profile.model_copy(update={"concept_sets": {**profile.concept_sets, OWN_CONCEPTS: path.resolve()}})


def with_image_count(task: Task, options: RunOptions, roles: Roles) -> Task:
    """The task with the number of images that the user's folder has, if that is fewer than it requests.

    Raises:
        UserError: Too many images are unusable.
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


def with_all_units(task: Task, options: RunOptions, unit_count: int) -> Task:
    """The task; with a user-chosen layer that has fewer units than the task labels, all are labelled."""
    if options.chosen_layer and task.units.label != "all" and task.units.label > unit_count:
        return task.model_copy(update={"units": Units(label="all")})
    return task


def shown_units(task: Task, options: RunOptions, roles: Roles) -> frozenset[int]:
    """The outputs of a classifier whose class the probing images show, if known and requested by the task."""
    if not task.units.shown:
        return frozenset()
    probing = roles.probing_set(task.probing_set, options.images or task.images, roles.view(task.model))
    if probing.classes is None or probing.class_names is None:
        return frozenset()
    # Other classes, such as a user's folders, have other indices.
    alike = len(probing.class_names) == task.units.total
    return frozenset(int(number) for number in probing.classes) if alike else frozenset()


def adapt_options(
    options: RunOptions,
    tasks: Sequence[Task],
    loaded: Mapping[str, Method],
    roles: Roles,
    display: Display,
    images: int | None = None,
) -> tuple[tuple[str, ...], Literal["probing_set", "segmenter"]]:
    """Options adapted to unannotated images; reports each change.

    Args:
        loaded: The methods, from ``load_methods``.
        images: Number of images to open for this; None for all of the run.

    Returns:
        The methods, without default ones that need annotation that a probing set does not have; and the source of
        masks, which is the segmenter if masks are needed and a probing set has none.

    Raises:
        UserError: A requested method needs annotation, or a perturbation classes, which a probing set does not have.
    """
    methods, masks = tuple(loaded), options.masks
    sets = {
        task.probing_set: roles.probing_set(
            task.probing_set, images or options.images or task.images, roles.view(task.model)
        )
        for task in tasks
    }
    for name, probing in sets.items():
        if masks == "probing_set" and needs_masks(options, tasks) and probing.load_foreground([]) is None:
            display.message(f"The images of {name} have no foreground masks: the segmenter provides them.")
            masks = "segmenter"
        swapped = next(filter(needs_background, _perturbations(options, tasks)), None)
        if swapped is not None and classes_of(probing) is None:
            raise no_classes(swapped)
        lacking = {
            *(() if probing.segmentation is not None else ("segmentation",)),
            *(() if probing.concepts else ("presence",)),
        }
        needing = [method for method in methods if lacking & registry.used_parts(loaded[method])]
        if not needing:
            continue
        without = f"{needing[0]} needs images with concept annotation, which those of {name} do not have"
        methods = tuple(method for method in methods if method not in needing)
        if options.methods is not None:
            raise UserError(f"{without}: remove it from --methods ({','.join(methods) or 'for example clip_dissect'}).")
        display.warning(f"{without}: it is skipped.")
    if masks == "segmenter" and needs_masks(options, tasks) and roles.profile.segmenter is None:
        raise no_segmenter(roles.profile)
    return methods, masks


def needs_masks(options: RunOptions, tasks: Sequence[Task]) -> bool:
    """Whether a condition of the run perturbs only the foreground or only the background."""
    return any(map(needs_foreground, _perturbations(options, tasks)))


def _perturbations(options: RunOptions, tasks: Sequence[Task]) -> list[str]:
    suites = {suite for task in tasks for suite in options.suites or task.suites}
    return perturbations_of(load_suite(suite) for suite in sorted(suites))


def needed_parts(
    options: RunOptions, profile: Profile, tasks: Sequence[Task], methods: Mapping[str, Method], masked: bool
) -> list[Resource]:
    """The parts of the profile that a run uses, and where each is; loads and downloads nothing.

    Args:
        methods: By name; empty if bottlenecks are trained.
        masked: Whether a condition or a study needs foreground masks.

    Raises:
        UserError: An unknown name, architecture or weights tag.
    """
    bottlenecks = [task.bottleneck for task in tasks if task.bottleneck is not None]
    roles = {"clip", "sentence_encoder"} | asked_roles(methods)
    if options.masks == "segmenter" and masked:
        roles.add("segmenter")
    if options.faithfulness != "none" and not bottlenecks:
        roles |= {"generator", "simulator"}
    sets = [section.training_set for section in bottlenecks] + [task.probing_set for task in tasks]
    return resolve(
        profile,
        targets=dict.fromkeys(task.model for task in tasks),
        probing_sets=dict.fromkeys(sets),
        concept_sets=dict.fromkeys(task.concept_set for task in tasks),
        roles=roles,
    )


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` prefers CUDA.

    Raises:
        UserError: The device is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda"):
        count = torch.cuda.device_count()
        number = int(name.partition(":")[2] or 0)
        if number >= count:
            raise UserError(f"--device {name}: this machine has {count} CUDA devices; choose cpu or auto.")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps is not available on this machine; choose cpu or auto.")
    return torch.device(name)


def asked_roles(methods: Mapping[str, Method]) -> set[str]:
    """The roles that methods use with their options."""
    parts = {part for method in methods.values() for part in registry.used_parts(method)}
    # A language model that proposes is the profile's summariser.
    return (parts | {"summariser"} if "proposer" in parts else parts) & set(ROLES)


def load_methods(options: RunOptions, profile: Profile) -> dict[str, Method]:
    """The methods of a run by name, with the profile's options and those of ``--set``.

    Raises:
        UserError: An option that a method does not have, or a role that it needs and the profile does not provide.
    """
    methods = {
        name: registry.load(
            name,
            **{**profile.method_options.get(registry.innermost(name), {}), **options.method_options.get(name, {})},
        )
        for name in options.method_names()
    }
    for name, method in methods.items():
        for role in absent_roles(method, profile):
            raise UserError(
                f"The method {name} needs a {role}, which the profile {profile.name} does not provide; "
                "omit the method, or choose another profile."
            )
    return methods


def absent_roles(method: Method, profile: Profile) -> list[str]:
    """The roles that a method asks, with its options, and that the profile does not fill."""
    asked = asked_roles({method.name: method}) | registry.used_parts(method) & {"proposer"}
    return [role for role in sorted(asked) if getattr(profile, role) is None]


def count_units(task: Task, options: RunOptions, roles: Roles) -> int:
    """Number of units of a task's layer; refuses a user-chosen layer that cannot be read."""
    file = roles.profile.target(task.model).readout
    offered = file.kind if file is not None and file.layer == task.layer else "channels"
    if offered != task.readout:
        raise UserError(
            f"The task {task.name} labels the {task.readout} of {task.layer}, but {task.model} of the profile "
            f"{roles.profile.name} offers its {offered}: correct readout in the task, or choose another profile."
        )
    if options.chosen_layer or options.pooling is not None:
        check_layer(roles.target(task.model), task.layer, task.pooling)
    return roles.unit_count(task.model, task.layer)


def check_layer(target: TargetModel, layer: str, pooling: Pooling) -> None:
    """Refuse a layer that cannot be read or pooled in this way, checked by two passes over a grey image.

    Raises:
        UserError: No such layer (with the nearest names), or one that cannot be read or pooled in this way.
    """
    resolve_layer(target.network, layer)
    side = target.preprocessing.side
    grey = torch.full((1, 3, side, side), 127, dtype=torch.uint8)
    readable = list_layers(target.network, target.preprocessing(grey).to(target.device))
    if layer not in readable:
        raise UserError(
            f"The layer {layer!r} cannot be read: no forward pass reaches it, or its output is not [n, units], "
            "[n, tokens, units] or [n, units, h, w]. --list-layers lists the layers that can be read."
        )
    target.read(grey, {layer: pooling})


def _described(own: Task, target: Target, task: Task, options: RunOptions) -> Task:
    """The task with the user's network, without the description of the original network, and with a matching name."""
    pooled = f"_{own.pooling}" if own.pooling != task.pooling else ""
    return own.model_copy(
        update={
            "library": target.loader,
            "name": _name(f"{own.model}_{own.layer}{pooled}"),
            "licences": {"network": f"{options.model}, {_NOT_STATED if options.weights else 'see its source'}"},
            "citation": f"Not stated for {options.model}.",
        }
    )


def _with_layer(task: Task, layer: str, pooling: Pooling) -> Task:
    if (layer, pooling) == (task.layer, task.pooling):
        return task
    elsewhere = f"_at_{layer}" if layer != task.layer else ""
    pooled = f"_{pooling}" if pooling != task.pooling else ""
    update: dict[str, Any] = {"name": _name(task.name + elsewhere + pooled), "layer": layer, "pooling": pooling}
    if layer != task.layer:
        update |= {
            "description": f"{layer} of the network of {task.name}, in place of {task.layer}.",
            "readout": "channels",
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
        profile = with_concepts(profile, options.concepts)
        update["concept_set"] = OWN_CONCEPTS
        suffix += f"_{OWN_CONCEPTS}"
    return profile, [task.model_copy(update=update | {"name": _name(task.name + suffix)}) for task in tasks]


def _note(profile: Profile, options: RunOptions) -> str:
    """The profile's note, with what in the run is not the profile's."""
    given = {
        "network": options.model,
        "dictionary": options.dictionary,
        "directions": options.directions,
        "images": options.image_folder,
        "concepts": options.concepts,
    }
    own = [part for part, value in given.items() if value is not None]
    if not own:
        return profile.note
    unfit = options.image_folder is not None and profile.knows_only_scenes
    warning = " Its models know only rendered scenes: their words for other images mean nothing." if unfit else ""
    return f"{profile.note} The user's own in this run: {', '.join(own)}.{warning}"


def _name(text: str) -> str:
    """A task's name from any text; unique per text."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[: _LONGEST_NAME - 9].rstrip('_')}_{identity_hash(text)[:8]}"
