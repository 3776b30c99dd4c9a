"""Published numbers that need networks and images: CLIP-Dissect on class names.

CLEAR computes one of these protocols itself: accuracy of CLIP-Dissect on a classifier's outputs with the class names as
concepts, if the profile's models and images are on this machine.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from baselines.clip_dissect.scores import similarity
from baselines.clip_dissect.wpmi import CosineFactors
from benchmark.external.published.label_files import is_vit_b_16
from benchmark.external.published.target import Missing, Target
from tasks.common.errors import UserError
from tasks.observe import CLEAN, observe, probe_of
from tasks.profiles.build import Roles
from tasks.profiles.resolve import absent, resolve
from tasks.profiles.schema import Profile

_TARGETS: Final = {"ResNet-50 ImageNet": "resnet50", "ViT-B/16 ImageNet": "vit_b_16", "ResNet-18 ImageNet": "resnet18"}
_PROBES: Final = {
    "CIFAR-100": "cifar100_val",
    "Broden": "broden",
    "ImageNet val": "imagenet_val",
    "ImageNet val + Broden": "imagenet_broden",
}
_CLASS_NAMES: Final = "% class-name set, probe "


class Networks:
    """The networks and images of a profile.

    Args:
        roles: None if no profile was given.
    """

    def __init__(self, roles: Roles | None) -> None:
        self._roles = roles

    def measure(self, target: Target) -> float:
        """The number of a row.

        Raises:
            Missing: A model, images, or the protocol.
        """
        if self._roles is None:
            raise Missing(f"{target.needs}; --profile paper says what of it is on this machine")
        if _CLASS_NAMES not in target.quantity:
            raise Missing(f"its protocol, which CLEAR does not implement; it takes: {target.needs}")
        name, probe = _TARGETS[target.network], _PROBES[target.quantity.rpartition(_CLASS_NAMES)[2]]
        lacking = _absent(self._roles.profile, name, probe)
        if lacking:
            how = f"'python -m benchmark doctor --profile {self._roles.profile.name}' says how to get each"
            raise Missing(f"{', '.join(lacking)}: {how}")
        function = target.method.removeprefix("CLIP-Dissect ")
        top = int(target.quantity.partition(" ")[0].removeprefix("top-"))
        return 100 * class_name_accuracy(self._roles, name, target.layer, probe, function, top)


def class_name_accuracy(roles: Roles, network: str, layer: str, probe: str, function: str, top: int) -> float:
    """How often the right class is among the best concepts of a classifier's output, for CLIP-Dissect on class names.

    Args:
        roles: Of a profile with CLIP.
        network: Name of the target.
        layer: The layer of its outputs.
        probe: Name of the probing set, of which all images are read.
        function: See ``baselines.clip_dissect.scores.similarity``.
        top: Number of best concepts.

    Returns:
        Share of units, in [0, 1]; a concept of equal score before the right one counts as better.

    Raises:
        UserError: The profile does not name the classes.
    """
    cosines, activations = _observed(roles, network, layer, probe)
    scores = similarity(function, cosines, activations)
    own = scores.diagonal()[:, None]
    # A tie with an earlier concept is lost, so that equal scores everywhere are no success.
    before = (scores > own) | ((scores == own) & torch.ones_like(scores).tril(-1).bool())
    return float((before.sum(dim=1) < top).double().mean())


@cache
def _observed(
    roles: Roles, network: str, layer: str, probe: str
) -> tuple[CosineFactors, Float[Tensor, "images units"]]:
    target = roles.target(network)
    images = probe_of(roles.probing_set(probe, None, roles.view(network)), masked=False)
    observation = observe(target, {layer: "mean"}, images, CLEAN, images.load, roles.clip)[layer]
    activations = observation.activations.cpu()
    names = roles.class_names(activations.shape[1])
    if names is None:
        profile, units = roles.profile.name, activations.shape[1]
        raise UserError(f"The profile {profile} does not name the {units} classes of {network}.")
    texts = roles.clip.encode_text([name.partition(",")[0].strip() for name in names])
    parts = (torch.nn.functional.normalize(one.double().cpu(), dim=1) for one in (observation.clip_embeddings, texts))
    return CosineFactors(*parts), activations


def _absent(profile: Profile, network: str, probe: str) -> list[str]:
    """What of a network, a probing set and CLIP a profile does not have here."""
    named = (("network", network, profile.targets), ("probing set", probe, profile.probing_sets))
    found = [
        f"the profile {profile.name} has no {kind} {name}" for kind, name, known in named if name and name not in known
    ]
    if not is_vit_b_16(profile.clip):
        found.append(f"the profile {profile.name} has another CLIP than ViT-B/16")
    targets = [network] if network in profile.targets else []
    probes = [probe] if probe in profile.probing_sets else []
    parts = absent(resolve(profile, targets, probes, (), ("clip",)))
    return found + [f"{part.role} ({part.source})" for part in parts]
