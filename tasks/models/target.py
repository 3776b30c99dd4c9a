"""The network under study: preprocessing, batching and layer reading in one place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from tasks.activations.capture import LayerCapture, Pooling, check_cls, layer_kind, pool, positions, prefix_tokens
from tasks.activations.readout import Readout
from tasks.cache.padded import filled, rows_for
from tasks.models.batches import Batches
from tasks.models.layout import place
from tasks.models.preprocessing import Preprocessing
from tasks.observation import LayerKind

__all__ = ["LayerReading", "MapsOf", "Preprocessing", "TargetModel", "units_of"]

MapsOf = Collection[str] | Mapping[str, Sequence[int]]
"""Layers whose un-pooled maps are requested: of all their units, or, in a mapping, of the given ones."""


def units_of(maps: MapsOf, layer: str) -> Sequence[int] | None:
    """The units whose maps are requested of a layer; None for all."""
    return maps.get(layer) if isinstance(maps, Mapping) else None


@dataclass(frozen=True)
class LayerReading:
    """One layer's output for a batch.

    Attributes:
        pooled: float32 [n, units].
        maps: float16 [n, chosen units, h, w], None unless requested and defined: for a layer of tokens, the patch
            tokens arranged by position.
    """

    kind: LayerKind
    pooled: Float[Tensor, "n units"]
    maps: Float[Tensor, "n chosen h w"] | None


class TargetModel:
    """A network with its preprocessing, ready to be read.

    Args:
        network: In eval mode; moved to the device.
        preprocessing: Maps uint8 images in the network's view to its input.
        batch_size: Images per forward pass; a runtime setting. It is halved when memory runs out.
        readout: What the units of one layer are, if not its channels.

    Attributes:
        on_read: Called with the number of images of each reading.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        device: torch.device,
        batch_size: int = 64,
        readout: Readout | None = None,
    ) -> None:
        self.network = place(network.eval(), device, channels_last=True)
        self.preprocessing = preprocessing
        self.device = device
        self.readout = readout and readout.to(device)
        self.on_read: Callable[[int], None] = lambda count: None
        self._batches = Batches(batch_size)

    @property
    def batch_size(self) -> int:
        """Current number of images per forward pass."""
        return self._batches.size

    @batch_size.setter
    def batch_size(self, size: int) -> None:
        self._batches.size = size

    @torch.inference_mode()
    def read(
        self, images: UInt8[Tensor, "n 3 h w"], layers: Mapping[str, Pooling], maps: MapsOf = ()
    ) -> dict[str, LayerReading]:
        """Read layers for images of one size; they are seen completely, see ``Preprocessing``.

        Args:
            layers: Dotted layer name → pooling.
            maps: The layers whose un-pooled maps are requested as well; a mapping also selects their units.

        Returns:
            Layer name → its reading, on the CPU.

        Raises:
            UserError: No such layer, its output cannot be read or pooled in this way, or memory does not suffice for a
                single image.
        """
        for pooling in layers.values():
            check_cls(self.network, pooling)
        with LayerCapture(self.network, list(layers)) as capture:

            def work(batch: UInt8[Tensor, "n 3 h w"]) -> dict[str, LayerReading]:
                # Odd numbers of images are divided among threads, and then added up, in different ways.
                rows = min(rows_for(self.device), self.batch_size)
                whole = filled(batch, -(-len(batch) // rows) * rows)
                # Moved as bytes and normalised there: a GPU would otherwise wait for it.
                inputs = self.preprocessing(whole.to(self.device)).contiguous(memory_format=torch.channels_last)
                shown = capture(inputs)
                return {
                    name: self._reading(name, shown[name], len(batch), pooling, name in maps, units_of(maps, name))
                    for name, pooling in layers.items()
                }

            parts = list(self._batches.run(work, images))
        self.on_read(len(images))
        return {name: _join([part[name] for part in parts]) for name in layers}

    def readout_of(self, layer: str) -> Readout | None:
        """What the units of a layer are; None for its channels."""
        return self.readout if self.readout is not None and self.readout.layer == layer else None

    def _reading(
        self, layer: str, output: Tensor, count: int, pooling: Pooling, mapped: bool, units: Sequence[int] | None
    ) -> LayerReading:
        readout = self.readout_of(layer)
        if readout is None:
            return self._units(output, count, pooling, mapped, units)
        step = readout.images_at_once(output, rows_for(self.device))
        parts = output[: max(1, -(-count // step)) * step].split(step)
        made = _join([self._units(readout(part), len(part), pooling, mapped, units) for part in parts])
        return LayerReading(made.kind, made.pooled[:count], None if made.maps is None else made.maps[:count])

    def _units(
        self, output: Tensor, count: int, pooling: Pooling, mapped: bool, units: Sequence[int] | None
    ) -> LayerReading:
        prefix = prefix_tokens(self.network, output)
        spread = positions(output, prefix) if mapped else None
        if spread is not None and units is not None:
            spread = spread[:, list(units)]
        return LayerReading(
            kind=layer_kind(output),
            pooled=pool(output, pooling, prefix)[:count].float().cpu(),
            maps=None if spread is None else spread[:count].to("cpu", torch.float16).contiguous(),
        )


def _join(readings: Sequence[LayerReading]) -> LayerReading:
    maps = [reading.maps for reading in readings if reading.maps is not None]
    return LayerReading(
        kind=readings[0].kind,
        pooled=torch.cat([reading.pooled for reading in readings]),
        maps=torch.cat(maps) if maps else None,
    )
