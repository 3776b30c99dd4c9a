"""Target networks by torchvision, timm, or a user's function, with their weights and preprocessing."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torchvision.models import WeightsEnum

from tasks.common.errors import UserError, unknown_name
from tasks.models.checkpoints import read_checkpoint
from tasks.models.planted import plant
from tasks.models.preprocessing import Preprocessing
from tasks.models.weights import check_file
from tasks.probing.imagenet_classes import IMAGENET_CLASSES
from tasks.profiles.factories import returned
from tasks.profiles.fetch import fetching, torchvision_file
from tasks.profiles.sources import Input, Target

log = logging.getLogger(__name__)


def build_network(entry: Target, name: str = "the network") -> tuple[nn.Module, Preprocessing]:
    """Build a target network, load its weights and determine its preprocessing.

    Args:
        entry: A profile's entry; paths are absolute.
        name: Its name in messages.

    Raises:
        UserError: An unknown architecture or tag, a missing, wrong or unsafe file, weights that do not fit or cannot be
            downloaded, or a factory that returns no network.
    """
    build = {"torchvision": _torchvision, "timm": _timm, "factory": _factory}[entry.loader]
    network = build(entry, name)
    if entry.planted:
        network = plant(network, entry.planted.weights, entry.planted.sha256, entry.sha256)
    steps = preparation(entry, name)
    return network.eval(), steps


def preparation(entry: Target, name: str = "the network") -> Preprocessing:
    """A network's preprocessing: the profile's, else its library's; nothing is loaded for it.

    Args:
        name: Its name in messages.

    Raises:
        UserError: An unknown architecture or tag, or a preprocessing other than resizing and centre crop.
    """
    if entry.input is not None:
        return given_preparation(entry.input)
    steps = None
    if entry.loader == "timm":
        steps = _timm_preparation(entry)
    elif entry.loader == "torchvision" and entry.pretrained is not None:
        steps = torchvision_preprocessing(torchvision_tag(entry.architecture, entry.pretrained))
    if steps is None:
        raise UserError(f"The profile does not say how images of {name} are prepared; give its input.")
    return steps


def given_preparation(given: Input) -> Preprocessing:
    """The preprocessing that a profile states."""
    return Preprocessing(given.resize, given.crop, given.mean, given.std, given.interpolation)


def output_count(entry: Target) -> int | None:
    """The number of a network's outputs as far as the profile or its library says it; nothing is loaded for it.

    Returns:
        None for a factory.

    Raises:
        UserError: An unknown architecture or tag.
    """
    if entry.classes is not None or entry.loader == "factory":
        return entry.classes
    if entry.loader == "torchvision":
        if entry.pretrained is None:
            return IMAGENET_CLASSES  # the default of all its builders
        return len(torchvision_tag(entry.architecture, entry.pretrained).meta["categories"])
    import timm

    config = timm_tag(entry.architecture, entry.pretrained) if entry.pretrained else None
    config = config or timm.get_pretrained_cfg(entry.architecture)
    return config.num_classes if config else None


def torchvision_tag(architecture: str, tag: str) -> WeightsEnum:
    """The published weights with that tag.

    Raises:
        UserError: An unknown architecture or tag; the message lists close matches.
    """
    _check_architecture(architecture)
    known = torchvision.models.get_model_weights(architecture)
    if tag not in known.__members__:
        raise unknown_name(f"weights of torchvision's {architecture}", tag, known.__members__)
    return known[tag]


def torchvision_preprocessing(weights: WeightsEnum) -> Preprocessing | None:
    """The preprocessing of published weights; None if it is not a resizing and centre crop."""
    steps: Any = weights.transforms()
    if not hasattr(steps, "crop_size"):
        return None
    interpolation = "bicubic" if "bicubic" in str(steps.interpolation).lower() else "bilinear"
    return Preprocessing(steps.resize_size[0], steps.crop_size[0], tuple(steps.mean), tuple(steps.std), interpolation)


def published_torchvision(architecture: str, tag: str, path: Path, **options: Any) -> nn.Module:
    """A network of torchvision with its published weights from a local file, read without running code from it.

    torchvision adapts older files to its newer networks and sets their options; only the reading is done here.

    Args:
        architecture: Name in torchvision.
        options: Arguments of torchvision's builder.

    Raises:
        UserError: The file cannot be read or does not fit.
    """
    weights = _ReadWeights(torchvision_tag(architecture, tag), read_checkpoint(path))
    try:
        return torchvision.models.get_model(architecture, weights=weights, **options)
    except RuntimeError as error:
        raise UserError(f"{path} does not fit {architecture} with the weights {tag}; {_last_line(error)}") from error


class _ReadWeights:
    """Stands in for published weights whose tensors were already read.

    An enumeration with members cannot be subclassed, so this names the weights' class as its own: builders of
    torchvision check it with ``isinstance``, compare it with the members, and read ``meta`` and the tensors.
    """

    def __init__(self, weights: WeightsEnum, state: dict[str, Tensor]) -> None:
        self._weights = weights
        self._state = state

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride] - it is never set
        return type(self._weights)

    def __eq__(self, other: object) -> bool:
        return other is self._weights

    def __hash__(self) -> int:
        return hash(self._weights)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._weights, name)

    def get_state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        """The tensors."""
        return self._state


def _torchvision(entry: Target, name: str) -> nn.Module:
    _check_architecture(entry.architecture)
    if entry.pretrained is None:
        options = {} if entry.classes is None else {"num_classes": entry.classes}
        network = torchvision.models.get_model(entry.architecture, weights=None, **options)
        if getattr(network, "transform_input", None) is False:
            log.warning(
                "%s is built without transform_input, with which torchvision's published weights are used: if %s holds "
                "these, name their tag as pretrained in a profile.",
                entry.architecture,
                entry.weights,
            )
        return _with_weights(network, entry)
    tag = torchvision_tag(entry.architecture, entry.pretrained)
    outputs = len(tag.meta["categories"])
    _check_classes(entry, outputs)
    path = entry.weights or torchvision_file(tag, f"the weights of {name}")
    check_file(path, entry.sha256)
    return published_torchvision(entry.architecture, entry.pretrained, path)


def _timm(entry: Target, name: str) -> nn.Module:
    import timm

    if not timm.is_model(entry.architecture):
        raise unknown_name("architecture of timm", entry.architecture, timm.list_models())
    if entry.pretrained is None:
        options: dict[str, Any] = {} if entry.classes is None else {"num_classes": entry.classes}
        options |= entry.options or {}
        try:
            network = timm.create_model(entry.architecture, pretrained=False, **options)
        except TypeError as error:
            raise UserError(
                f"timm's {entry.architecture} does not take the options {entry.options} ({_last_line(error)})."
            ) from error
        network = _with_weights(network, entry)
    else:
        config = timm_tag(entry.architecture, entry.pretrained)
        _check_classes(entry, config.num_classes)
        overlay: dict[str, Any] = {}
        if entry.weights is not None:
            overlay["state_dict"] = read_checkpoint(entry.weights, entry.sha256)
        elif entry.revision:
            overlay["hf_hub_id"] = f"{config.hf_hub_id}@{entry.revision}"
        tagged = f"{entry.architecture}.{entry.pretrained}"
        with fetching(f"the weights of {name} (timm {tagged})", "weights: FILE"):
            network = timm.create_model(tagged, pretrained=True, pretrained_cfg_overlay=overlay)
    return network


def _timm_preparation(entry: Target) -> Preprocessing:
    import timm
    from timm.data.config import resolve_data_config

    if entry.pretrained is not None:
        config = timm_tag(entry.architecture, entry.pretrained)
    else:
        config = timm.get_pretrained_cfg(entry.architecture)
    return timm_preprocessing(resolve_data_config({"in_chans": 3}, pretrained_cfg=config.to_dict() if config else None))


def timm_tag(architecture: str, tag: str) -> Any:
    """The description in timm of the published weights with that tag.

    Raises:
        UserError: An unknown architecture or tag; the message lists close matches.
    """
    import timm

    if not timm.is_model(architecture):
        raise unknown_name("architecture of timm", architecture, timm.list_models())
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag not in tags:
        raise unknown_name(f"weights of timm's {architecture}", tag, tags)
    return timm.get_pretrained_cfg(f"{architecture}.{tag}")


def timm_preprocessing(config: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing of timm's data configuration.

    Raises:
        UserError: The preprocessing is not a resizing and centre crop.
    """
    channels, height, width = config["input_size"]
    squeezed = config["crop_mode"] == "squash" and config["crop_pct"] == 1
    known = config["interpolation"] in ("bilinear", "bicubic") and (config["crop_mode"] == "center" or squeezed)
    if channels != 3 or height != width or not known:
        raise UserError(f"timm prepares images of this network in a way that CLEAR does not ({dict(config)}).")
    resize = height if squeezed else math.floor(height / config["crop_pct"])
    crop = None if squeezed else height
    return Preprocessing(resize, crop, tuple(config["mean"]), tuple(config["std"]), config["interpolation"])


def _factory(entry: Target, name: str) -> nn.Module:
    network = returned(entry.architecture, {})
    if not isinstance(network, nn.Module):
        raise UserError(f"{entry.architecture} gives a {type(network).__name__}; it must give a torch.nn.Module.")
    if any(isinstance(part, torch.jit.ScriptModule) for part in network.modules()):
        raise UserError(
            f"{entry.architecture} gives a scripted network, whose layers cannot be read; leave it unscripted."
        )
    if any(map(is_lazy, (*network.parameters(), *network.buffers()))):
        raise UserError(
            f"{entry.architecture} gives a network with lazy layers; have it pass an image through it first."
        )
    # As of the other loaders: half precision would not fit the images.
    return _with_weights(network.float(), entry)


def _with_weights(network: nn.Module, entry: Target) -> nn.Module:
    if entry.weights is None:  # a factory brings its own; the schema requires weights for the others
        return network
    state = read_checkpoint(entry.weights, entry.sha256, entry.strip_prefix)
    if entry.match == "order":
        state = _in_order(network, state, entry)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        size = f" with {entry.classes} classes" if entry.classes else ""
        raise UserError(
            f"{entry.weights} does not fit {entry.architecture}{size} ({_last_line(error)})"
            f"{_prefix_hint(network, state)}; name other weights or another architecture."
        ) from error
    return network


def _in_order(network: nn.Module, state: Mapping[str, Tensor], entry: Target) -> dict[str, Tensor]:
    """The tensors under the network's names, one after another."""
    own = network.state_dict()
    if len(own) != len(state):
        raise UserError(
            f"{entry.weights} holds {len(state)} tensors, but {entry.architecture} has {len(own)}; name other weights."
        )
    for (name, place), (other, tensor) in zip(own.items(), state.items(), strict=True):
        if place.shape != tensor.shape:
            raise UserError(
                f"{entry.weights} is not {entry.architecture} in its order: {other!r} has the shape "
                f"{tuple(tensor.shape)}, where {name!r} has {tuple(place.shape)}; name other weights."
            )
    return dict(zip(own, state.values(), strict=True))


def _prefix_hint(network: nn.Module, state: Mapping[str, Tensor]) -> str:
    """A hint if all names differ by the same prefix."""
    wanted = next(iter(network.state_dict()), "")
    longer = next((name for name in state if name.endswith("." + wanted)), None)
    prefix = longer[: -len(wanted)] if longer and wanted else ""
    return f"; strip_prefix: {prefix} (--strip-prefix {prefix}) may help" if prefix else ""


def _check_architecture(architecture: str) -> None:
    if architecture not in torchvision.models.list_models():
        raise unknown_name("architecture", architecture, torchvision.models.list_models())


def _check_classes(entry: Target, outputs: int) -> None:
    if entry.classes is not None and entry.classes != outputs:
        raise UserError(
            f"The weights {entry.pretrained} of {entry.architecture} have {outputs} outputs, not {entry.classes}: "
            "leave classes out, or name a file of your own weights without pretrained."
        )


def _last_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[-1].strip()
    return line if len(line) <= 160 else line[:159] + "…"
