"""Units that are no channels: the latents of a dictionary (sparse autoencoder), or directions, at each position."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tasks.common.errors import UserError

Activation = Literal["identity", "relu", "topk", "jumprelu", "batchtopk"]
Scaling = Literal["none", "layer_norm", "constant_norm"]

_VALUES_AT_ONCE: Final = 2**26
"""Maximum number of codes of one block of images: 268 MB."""
_EPSILON: Final = 1e-5


@dataclass(frozen=True)
class Readout:
    """What a layer's output is read as, at each position: activation(encoder · (scaled(x) − centre) + bias).

    ``topk`` keeps the k largest codes of a position (Gao et al., arXiv 2406.04093); ``jumprelu`` those above a
    threshold of each latent (Rajamanoharan et al., arXiv 2407.14435); ``batchtopk`` those of at least one threshold, as
    published for inference (Bussmann et al., arXiv 2412.06410); ``identity`` is for directions, whose units may be
    negative.

    Attributes:
        layer: Dotted name of the layer that is read in this way.
        encoder: [units, width].
        bias: [units].
        decoder: [units, width], a direction of the layer for each unit; not needed to read it.
        centre: [width], subtracted from the layer's output first.
        threshold: [units] or a single value, of ``jumprelu`` and ``batchtopk``.
        k: Of ``topk``.
        scaling: Of each position's output: ``layer_norm`` to mean 0 and deviation 1, ``constant_norm`` to norm √width.
        rectified: Whether ``topk`` sets the negative ones among the k largest to 0.
    """

    layer: str
    encoder: Float[Tensor, "units width"]
    bias: Float[Tensor, " units"]
    decoder: Float[Tensor, "units width"] | None = None
    centre: Float[Tensor, " width"] | None = None
    threshold: Float[Tensor, " units"] | None = None
    activation: Activation = "identity"
    k: int | None = None
    scaling: Scaling = "none"
    rectified: bool = True

    @property
    def sparse(self) -> bool:
        """Whether most codes are 0, so that only the others are kept."""
        return self.activation != "identity"

    @property
    def directions(self) -> Float[Tensor, "units width"]:
        """What each unit writes into the layer, or else what it reads."""
        return self.encoder if self.decoder is None else self.decoder

    def to(self, device: torch.device) -> Readout:
        """The same on a device."""
        tensors = {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})

    def images_at_once(self, output: Tensor, rows: int) -> int:
        """How many images' codes to compute at once: ``rows``, or a half, a quarter … of it.

        It depends on nothing but the layer and the readout, because the last bits of a matrix product depend on it.
        """
        codes = output.shape[1:].numel() // max(1, self._width(output)) * len(self.encoder)
        while rows > 1 and rows * codes > _VALUES_AT_ONCE:
            rows //= 2
        return rows

    def __call__(self, output: Tensor) -> Tensor:
        """The units in place of a layer's channels.

        Args:
            output: [n, width, h, w], [n, tokens, width] or [n, width].

        Returns:
            [n, units, h, w], [n, tokens, units] or [n, units].

        Raises:
            UserError: The layer has another width.
        """
        width = self._width(output)
        if width != self.encoder.shape[1]:
            raise UserError(
                f"The dictionary or the directions are for a layer of {self.encoder.shape[1]} units, but {self.layer} "
                f"has {width}; --list-layers shows the layers with their numbers of units."
            )
        if output.ndim != 4:
            return self.encode(output)
        codes = self.encode(output.flatten(2).transpose(1, 2).contiguous())
        return codes.transpose(1, 2).unflatten(2, output.shape[2:])

    def encode(self, x: Float[Tensor, "*positions width"]) -> Float[Tensor, "*positions units"]:
        """The units at each position."""
        x = x.float()
        if self.scaling == "layer_norm":
            x = x - x.mean(-1, keepdim=True)
            x = x / (x.std(-1, keepdim=True) + _EPSILON)
        elif self.scaling == "constant_norm":
            x = x * (math.sqrt(x.shape[-1]) / x.norm(dim=-1, keepdim=True))
        if self.centre is not None:
            x = x - self.centre
        return self._active(functional.linear(x, self.encoder, self.bias))

    def _active(self, codes: Tensor) -> Tensor:
        if self.activation == "identity":
            return codes
        if self.activation == "topk":
            assert self.k is not None  # noqa: S101 - what reads a dictionary checks it
            values, places = codes.topk(self.k, dim=-1)
            return torch.zeros_like(codes).scatter(-1, places, values.relu() if self.rectified else values)
        if self.activation == "relu":
            return codes.relu()
        threshold = self.threshold
        assert threshold is not None  # noqa: S101 - what reads a dictionary checks it
        kept = codes > threshold.relu() if self.activation == "jumprelu" else codes >= threshold
        return codes.relu() * kept

    @staticmethod
    def _width(output: Tensor) -> int:
        return output.shape[1 if output.ndim == 4 else -1]
