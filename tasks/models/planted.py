"""Planted units: additional channels with known concepts, computed from the network's own features."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet

from tasks.common.errors import UserError
from tasks.models.planted_facts import METADATA, Planted, read_planted
from tasks.models.weights import load_weights

SLOPE: Final = 0.01
HALF: Final = 0.5 + SLOPE * math.log(2)
"""A planted unit's activation at probability one half."""


class PlantedUnits(nn.Module):
    """Linear detectors at each position of a map, and logic on their probabilities.

    With p and q the probabilities of two detectors at a position, r is p (``single``), p·q (``and``) or
    1 − (1 − p)(1 − q) (``or``), as for independent events. The unit's activation is r − 0.01·ln(1 − r): the probability
    with a small slope where it would saturate, because confident positions would otherwise all be 1 in float16 and no
    quantile could separate them. A steeper slope would let the louder concept of an OR take all of the top images.

    Args:
        weights: ``weight`` [detectors, channels] and ``bias`` [detectors]; probability = sigmoid(weight · x + bias).

    Raises:
        ValueError: The weights do not fit the description.
    """

    def __init__(self, planted: Planted, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        count = len(planted.detectors)
        if shapes != {"weight": (count, planted.first), "bias": (count,)}:
            raise ValueError(f"{count} detectors on {planted.first} channels do not have the weights {shapes}")
        self.detect = nn.Conv2d(planted.first, count, kernel_size=1)
        self.detect.load_state_dict({"weight": weights["weight"][:, :, None, None], "bias": weights["bias"]})
        self.own_channels = planted.first
        pairs = [[planted.detectors.index(unit.concepts[end]) for unit in planted.units] for end in (0, -1)]
        self.register_buffer("pairs", torch.tensor(pairs), persistent=False)
        for op in ("and", "or"):
            chosen = torch.tensor([unit.op == op for unit in planted.units]).view(-1, 1, 1)
            self.register_buffer(op, chosen, persistent=False)

    def forward(self, features: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n units h w"]:
        """Activations of at least 0; above ``HALF`` the probability is above one half."""
        logits = self.detect(features)
        pairs = self.get_buffer("pairs")
        first, second = logits[:, pairs[0]], logits[:, pairs[1]]
        # All three are −ln(1 − r).
        one, other = functional.softplus(first), functional.softplus(second)
        certain = (functional.logsigmoid(first) + functional.logsigmoid(second)).clamp(max=-1e-30)
        both = -torch.log(-torch.expm1(certain))
        evidence = torch.where(self.get_buffer("and"), both, torch.where(self.get_buffer("or"), one + other, one))
        return -torch.expm1(-evidence) + SLOPE * evidence


class Superposed(nn.Module):
    """Planted units in superposition: their activations, each written along a direction of fewer channels.

    No channel is a concept, but the activations are sparse, so that a dictionary can find the directions (Elhage et
    al., Toy Models of Superposition, 2022).

    Args:
        directions: [units, channels].
    """

    def __init__(self, planted: PlantedUnits, directions: Float[Tensor, "units channels"]) -> None:
        super().__init__()
        self.planted = planted
        self.register_buffer("directions", directions)

    def forward(self, features: Float[Tensor, "n channels h w"]) -> Float[Tensor, "n channels h w"]:
        """The sum of the directions, each times its unit's activation."""
        return functional.conv2d(self.planted(features), self.get_buffer("directions").T[:, :, None, None])


class PlantedStage(nn.Sequential):
    """A stage of a network with planted units after its own channels; its blocks keep their names."""

    def __init__(self, stage: nn.Sequential, planted: PlantedUnits | Superposed) -> None:
        name = "planted" if isinstance(planted, PlantedUnits) else "superposed"
        super().__init__(OrderedDict([*stage.named_children(), (name, planted)]))

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n units h w"]:
        """The stage's own channels, then the planted ones."""
        *blocks, planted = self
        for block in blocks:
            input = block(input)
        return torch.cat([input, planted(input)], dim=1)


class OwnChannels(nn.Module):
    """Passes on the first channels alone, so that later layers do not see the planted ones."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, features: Float[Tensor, "n units h w"]) -> Float[Tensor, "n count h w"]:
        """The first ``count`` channels, in the memory layout of the input."""
        return features[:, : self.count].contiguous(memory_format=memory_format(features))


def memory_format(features: Float[Tensor, "n units h w"]) -> torch.memory_format:
    """The memory format of a tensor: sums over the same values in another one may differ in the last digit."""
    last = features.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def plant(network: nn.Module, path: Path, sha256: str | None, target_sha256: str | None) -> nn.Module:
    """Add planted units to ``layer4`` of a ResNet; its outputs stay bit-equal.

    Args:
        network: The network, changed in place.
        path: Weights file of the units.
        sha256: Hash of that file; not checked if None.
        target_sha256: Hash of the weights of the network; if None, it is not checked that the units belong to them.

    Returns:
        The network.

    Raises:
        UserError: The network is not a ResNet, or the units cannot be read or were fitted to another network.
    """
    weights = load_weights(path, sha256)
    planted = read_planted(path)
    if target_sha256 and planted.target_sha256 != target_sha256.lower():
        raise UserError(f"The planted units {path} were fitted to other weights: train 'planted' again.")
    if not isinstance(network, ResNet):
        raise UserError(f"Units can only be planted in a ResNet's layer4, not in {type(network).__name__}.")
    if network.fc.in_features != planted.first:
        raise UserError(f"{path} belongs to a layer of {planted.first} channels, not {network.fc.in_features}.")
    directions = weights.pop("directions", None)
    try:
        units = PlantedUnits(planted, weights)
        added = units if directions is None else Superposed(units, directions)
        network.layer4 = PlantedStage(network.layer4, added)
    except ValueError as error:
        raise UserError(f"{path} contradicts itself: {error}; restore the file.") from error
    network.avgpool = nn.Sequential(OwnChannels(planted.first), network.avgpool)  # pyright: ignore[reportAttributeAccessIssue]
    return network


def planted_directions(path: Path) -> Float[Tensor, "units channels"] | None:
    """The directions of the planted units in a file; None if they are channels."""
    return load_weights(path).get("directions")


def save_planted(path: Path, planted: Planted, weights: Mapping[str, Tensor]) -> None:
    """Write weights as float16 and the description into their file's header.

    Args:
        path: The safetensors file to write.
        weights: As ``PlantedUnits`` takes them.
    """
    stored = {name: tensor.half().contiguous() for name, tensor in weights.items()}
    save_file(stored, path, metadata={METADATA: planted.model_dump_json()})
