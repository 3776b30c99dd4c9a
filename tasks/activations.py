"""Reading a network's layers: by dotted name, as a context manager, several layers in one pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tasks.errors import UserError, unknown_name
from tasks.observation import LayerKind

Pooling = Literal["mean", "max", "cls"]


class _LastLayerReached(Exception):
    """Ends a forward pass whose remaining layers nobody asked for."""


def resolve_layer(model: nn.Module, name: str) -> nn.Module:
    """Find a layer by its dotted name.

    Args:
        model: The network.
        name: For example ``layer4`` or ``layer4.2.conv3``.

    Raises:
        UserError: if there is no such layer; the message names the nearest ones.
    """
    known = [layer for layer, _ in model.named_modules() if layer]
    if name not in known:
        raise unknown_name("layer", name, known)
    return model.get_submodule(name)


class LayerCapture:
    """Captures layer outputs while the context is open; its hooks are removed on every way out.

    What a layer shows does not depend on which other layers are captured: outputs are copied before later layers can
    change them in place, and of a module that one pass calls several times (a block's only ReLU) the first call counts.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> with LayerCapture(model, ["1"]) as capture:
        ...     outputs = capture(torch.zeros(5, 4))
        >>> outputs["1"].shape
        torch.Size([5, 3])
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        self._model = model
        self._layers = {name: resolve_layer(model, name) for name in dict.fromkeys(layers)}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._outputs: dict[str, Tensor] = {}

    def __enter__(self) -> LayerCapture:
        for name, layer in self._layers.items():
            self._handles.append(layer.register_forward_hook(self._keeper(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._outputs = {}

    def __call__(self, batch: Float[Tensor, "n c h w"] | Tensor) -> dict[str, Tensor]:
        """Run a batch as far as the last wanted layer.

        Returns:
            Layer name → its output: [n, units, h, w], [n, tokens, units] or [n, units].

        Raises:
            RuntimeError: outside the context, or if the pass never reaches a wanted layer.
            UserError: if a layer's output is no tensor.
        """
        if not self._handles:
            raise RuntimeError("LayerCapture reads layers only inside its with block")
        self._outputs = {}
        with contextlib.suppress(_LastLayerReached):
            self._model(batch)
        missing = [name for name in self._layers if name not in self._outputs]
        if missing:
            raise RuntimeError(f"the forward pass never reached {', '.join(missing)}")
        return self._outputs

    def _keeper(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def keep(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            if name in self._outputs:
                return
            tensor = output[0] if isinstance(output, tuple) else output
            if not isinstance(tensor, Tensor):
                raise UserError(
                    f"The layer {name!r} gives a {type(tensor).__name__}, not a tensor; choose a layer in it."
                )
            last = len(self._outputs) + 1 == len(self._layers)
            # An in-place layer further on (torchvision's ReLUs) would otherwise overwrite what was kept.
            self._outputs[name] = tensor if last else tensor.clone()
            if last:
                raise _LastLayerReached

        return keep


def layer_kind(output: Tensor) -> LayerKind:
    """What a layer's output is, by its rank.

    Raises:
        UserError: for outputs that are neither 2-, 3- nor 4-dimensional.
    """
    kinds: dict[int, LayerKind] = {4: "spatial", 3: "tokens", 2: "vector"}
    if output.ndim not in kinds:
        raise UserError(
            f"The layer's output has shape {tuple(output.shape)}; CLEAR reads [n, units], [n, tokens, units] "
            "and [n, units, h, w]. Choose another layer."
        )
    return kinds[output.ndim]


def pool(output: Tensor, pooling: Pooling) -> Float[Tensor, "n units"]:
    """Reduce a layer's output to one number a unit and image.

    Args:
        output: [n, units, h, w], [n, tokens, units] or [n, units]; the last is returned as it is.
        pooling: ``mean`` or ``max`` over positions; ``cls`` takes token 0.

    Raises:
        UserError: if the layer has no CLS token.
    """
    kind = layer_kind(output)
    if kind == "vector":
        return output
    if pooling == "cls":
        if kind != "tokens":
            raise UserError("Pooling 'cls' needs a layer of tokens; this layer is spatial: use 'mean' or 'max'.")
        return output[:, 0]
    positions = output.flatten(2) if kind == "spatial" else output.transpose(1, 2)
    return positions.mean(2) if pooling == "mean" else positions.amax(2)
