"""A planted unit whose truth is not an object: it measures how blurred the network's input is, by a fixed formula.

Nothing is fitted, so it has seen no scenes or blurs. It is appended to the channels of ``layer4``, for the analysis of
perturbation-sensitive units to find.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import ResNet

from tasks.common.errors import UserError
from tasks.models.planted import OwnChannels, memory_format
from tasks.profiles.networks import build_network
from tasks.profiles.schema import load_profile

LAYER: Final = "with_blur"
"""The layer with the channels of ``layer4`` and, last, the blur unit."""

_DIRECTIONS: Final = (
    ((0.0, 0.0, 0.0), (1.0, -2.0, 1.0), (0.0, 0.0, 0.0)),
    ((0.0, 1.0, 0.0), (0.0, -2.0, 0.0), (0.0, 1.0, 0.0)),
    ((1.0, 0.0, 0.0), (0.0, -2.0, 0.0), (0.0, 0.0, 1.0)),
    ((0.0, 0.0, 1.0), (0.0, -2.0, 0.0), (1.0, 0.0, 0.0)),
)
_LEAST: Final = 1e-6


class BlurUnit(nn.Module):
    """How much fine detail an image lacks relative to its coarse detail.

    With E_d the mean square of the second difference along direction d (across, down and the two diagonals) of the grey
    image, and E'_d that of the image at half its size, the activation is ln(1 + max_d E'_d / E_d). A ratio of two
    energies is invariant to contrast and brightness; the maximum over directions detects motion blur, which removes
    detail along one of them alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("differences", torch.tensor(_DIRECTIONS)[:, None], persistent=False)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """Activations above 0; more for more blur."""
        grey = images.mean(1, keepdim=True)
        ratio = (self._energy(functional.avg_pool2d(grey, 2)) + _LEAST) / (self._energy(grey) + _LEAST)
        return torch.log1p(ratio.amax(1))

    def _energy(self, grey: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n directions"]:
        return functional.conv2d(grey, self.get_buffer("differences")).square().mean((2, 3))


class WithBlurUnit(nn.Module):
    """A ResNet with the blur unit next to the channels of its last stage; its outputs stay bit-equal."""

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.network = network
        self.blur = BlurUnit()
        self.with_blur = nn.Identity()
        self.own = OwnChannels(network.fc.in_features)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        """The network's own outputs."""
        net = self.network
        features = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            features = stage(features)
        blur = self.blur(images)[:, None, None, None].expand(-1, 1, *features.shape[2:])
        # Next to an expanded tensor cat changes the layout.
        both = torch.cat([features, blur], dim=1).contiguous(memory_format=memory_format(features))
        features = self.own(self.with_blur(both))
        return net.fc(torch.flatten(net.avgpool(features), 1))


def resnet50_blur() -> WithBlurUnit:
    """The miniature's ResNet-50 with the blur unit: unit 2048 of the layer ``with_blur``.

    Raises:
        UserError: The network's weights cannot be read.
    """
    network, _ = build_network(load_profile("miniature").target("resnet50"), "resnet50")
    if not isinstance(network, ResNet):
        raise UserError("The profile's resnet50 is not a torchvision ResNet; restore tasks/profiles/miniature.yaml.")
    return WithBlurUnit(network)
