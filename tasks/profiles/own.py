"""A user's own network instead of a task's: from timm, torchvision, or a function that builds it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from tasks.activations.capture import list_layers
from tasks.common.errors import UserError, unknown_name
from tasks.models.checkpoints import read_checkpoint
from tasks.models.dictionaries import Kind, settings_of
from tasks.models.weights import file_sha256
from tasks.profiles.networks import build_network, torchvision_preprocessing
from tasks.profiles.schema import Profile
from tasks.profiles.sources import FACTORY, Input, ReadoutFile, Target
from tasks.schema import Pooling, Task, Units

IMAGENET = Input(resize=256, crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""The default preprocessing of a factory's network; a user's profile can override it."""


def own_target(model: str, weights: Path | None = None, strip_prefix: str = "") -> Target:
    """The profile entry of a user's network.

    Without ``weights``, published ones are used: torchvision's first (V1), timm's default, or those of a tag written
    after a dot (``torchvision:resnet50.IMAGENET1K_V2``). With ``weights`` and a tag the file is the published one; with
    ``weights`` alone it is any state dict of that architecture, which determines the number of outputs.

    Args:
        model: ``timm:NAME``, ``torchvision:NAME`` or ``package.module:factory``. A factory is called without arguments;
            only name one that you trust, because importing it runs its code.
        weights: ``.safetensors``, or a PyTorch file, which is read without running code from it.
        strip_prefix: Removed from the front of the names in that file, e.g. ``module.``.

    Raises:
        UserError: Invalid format, an unknown name or tag, or a file that is missing or cannot be read.
    """
    if weights is not None and not weights.is_file():
        raise UserError(f"There is no weights file {weights}.")
    found: dict[str, object] = {"licence": None}
    if weights is not None:
        found |= {"weights": weights.resolve(), "sha256": file_sha256(weights), "strip_prefix": strip_prefix}
    library, _, name = model.partition(":")
    if library in ("timm", "torchvision"):
        entry = {"timm": _timm, "torchvision": _torchvision}[library]
        return Target.model_validate(found | entry(name, weights, strip_prefix))
    if not re.fullmatch(FACTORY, model):
        raise UserError(f"--model {model!r} is none of timm:NAME, torchvision:NAME and package.module:factory.")
    return Target.model_validate(found | {"loader": "factory", "architecture": model, "input": IMAGENET})


def with_own_model(
    profile: Profile, task: Task, model: str, target: Target, layer: str | None = None, pooling: Pooling | None = None
) -> tuple[Profile, Task]:
    """A profile that contains the network, and the task that uses it; the task's name says so, to keep results apart.

    Args:
        profile: Provides all other roles.
        task: Provides images, perturbations and the number of units to label.
        model: As on the command line; identifies the network in results.
        target: From ``own_target``.
        layer: Dotted name; None means the task's.
        pooling: None means the task's.
    """
    name = re.sub(r"[^a-z0-9_.]+", "_", model.lower()).strip("_.")
    chosen = layer or task.layer
    titled = re.sub(r"[^a-z0-9]+", "_", f"{name}_{chosen}".lower()).strip("_")
    own = task.model_copy(
        update={
            "name": titled[:60],
            "description": f"{chosen} of {model}, in place of the network of {task.name}.",
            "model": name,
            "weights": target.pretrained or (target.sha256 or "of the factory")[:16],
            "layer": chosen,
            "pooling": pooling or task.pooling,
            "readout": "channels",
            "units": Units(label=task.units.label),
            # Only the images' annotation can be the truth of a network that nobody has described.
            "truth": "best_concept" if task.truth == "best_concept" else None,
        }
    )
    return profile.model_copy(update={"targets": {**profile.targets, name: target}}), own


def other_name(model: str) -> str:
    """Name under which a profile provides the network that a model is compared with."""
    return f"{model}.against"


def with_other_networks(profile: Profile, models: Collection[str], given: str) -> Profile:
    """A profile that also contains the network with which each of the models is compared.

    Args:
        given: A file of weights for the model's own architecture, a model of the profile, or as ``own_target`` takes
            it, with ``=FILE`` for its weights.

    Raises:
        UserError: None of these, or as ``own_target``.
    """
    path, (name, _, file) = Path(given).expanduser(), given.partition("=")
    others = {}
    for model in models:
        if path.is_file():
            weights = {"weights": path.resolve(), "sha256": file_sha256(path), "size": None, "planted": None}
            others[other_name(model)] = profile.target(model).model_copy(update=weights)
        elif ":" in name:
            others[other_name(model)] = own_target(name, Path(file).expanduser() if file else None)
        elif given in profile.targets:
            others[other_name(model)] = profile.target(given)
        else:
            raise UserError(
                f"--against {given!r} is no file of weights, no model of the profile {profile.name} "
                f"({', '.join(profile.targets)}), and none of timm:NAME, torchvision:NAME and package.module:factory."
            )
    return profile.model_copy(update={"targets": {**profile.targets, **others}})


def with_readout(profile: Profile, task: Task, kind: Kind, file: Path) -> tuple[Profile, Task]:
    """A profile whose network has the file's latents or directions as units of the task's layer, and their task.

    Args:
        file: Its content identifies them, and its name is part of the names of network and task.

    Raises:
        UserError: The file is missing, or a configuration beside it cannot be used.
    """
    if not file.is_file():
        raise UserError(f"There is no file {file} for --{kind}.")
    readout = ReadoutFile(
        kind=kind,
        layer=task.layer,
        weights=file.resolve(),
        sha256=file_sha256(file),
        settings=dict(settings_of(file)) if kind == "dictionary" else {},
    )
    name = re.sub(r"[^a-z0-9_.]+", "_", f"{task.model}_{task.layer}_{file.stem}".lower()).strip("_.")
    own = task.model_copy(
        update={
            "name": re.sub(r"[^a-z0-9]+", "_", f"{task.name}_{file.stem}".lower()).strip("_")[:60],
            "description": f"{file.stem} ({kind}) on {task.layer} of the network of {task.name}.",
            "model": name,
            "readout": kind,
            "units": Units(label=task.units.label),
            "truth": "best_concept" if task.truth == "best_concept" else None,
            "licences": {**task.licences, kind: "not stated: the user's own"},
        }
    )
    entry = profile.target(task.model).model_copy(update={"readout": readout})
    return profile.model_copy(update={"targets": {**profile.targets, name: entry}}), own


def layers_of(target: Target) -> dict[str, tuple[int, ...]]:
    """Every layer that CLEAR can read, with the shape of its output for one image; from one pass over a grey image.

    Raises:
        UserError: The network cannot be built; see ``build_network``.
    """
    network, steps = build_network(target)
    return list_layers(network, steps(torch.full((1, 3, steps.side, steps.side), 127, dtype=torch.uint8)))


def _torchvision(name: str, weights: Path | None, strip_prefix: str) -> dict[str, object]:
    import torchvision

    architecture, _, tag = name.partition(".")
    if architecture not in torchvision.models.list_models():
        raise unknown_name("architecture", architecture, torchvision.models.list_models())
    published = torchvision.models.get_model_weights(architecture)
    first = next(iter(published), None)
    found: dict[str, object] = {"loader": "torchvision", "architecture": architecture}
    if tag or weights is None:
        if first is None:
            raise UserError(f"torchvision publishes no weights of {architecture}; give --weights FILE.")
        return found | {"pretrained": tag or first.name}
    usual = torchvision_preprocessing(first) if first is not None else None
    prepared = Input.model_validate(asdict(usual)) if usual else IMAGENET
    state = read_checkpoint(weights, strip_prefix=strip_prefix)
    classes = _outputs(lambda: torchvision.models.get_model(architecture, weights=None), state)
    return found | {"input": prepared, "classes": classes}


def _timm(name: str, weights: Path | None, strip_prefix: str) -> dict[str, object]:
    import timm

    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise unknown_name("architecture of timm", architecture, timm.list_models())
    found: dict[str, object] = {"loader": "timm", "architecture": architecture}
    if tag or weights is None:
        config = timm.get_pretrained_cfg(architecture)
        usual = config.tag if config is not None else ""
        if not tag and not usual:
            raise UserError(f"timm publishes no weights of {architecture}; give --weights FILE.")
        return found | {"pretrained": tag or usual}
    state = read_checkpoint(weights, strip_prefix=strip_prefix)
    return found | {"classes": _outputs(lambda: timm.create_model(architecture, pretrained=False), state)}


def _outputs(build: Callable[[], nn.Module], state: Mapping[str, Tensor]) -> int | None:
    """The number of outputs of the weights if they differ from the architecture only in that; None for its default."""
    with torch.device("meta"):
        usual = build().state_dict()
    other = {
        len(state[name])
        for name, tensor in usual.items()
        if name in state and state[name].shape != tensor.shape and state[name].shape[1:] == tensor.shape[1:]
    }
    return other.pop() if len(other) == 1 else None
