"""Reading a network's layers: by dotted name, as a context manager, several layers in one pass."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from tasks.common.errors import UserError, unknown_name
from tasks.observation import LayerKind

Pooling = Literal["mean", "max", "cls"]


class _LastLayerReached(Exception):
    """Ends a forward pass whose remaining layers are not needed."""


_Keep = Callable[[nn.Module, Tensor], None]
"""Receives the module that gave a tensor, and the tensor."""


@dataclass(frozen=True)
class Heads:
    """What the heads of an attention give before the output projection mixes them, named ``ATTENTION.heads``.

    The outputs are side by side, as the projection reads them: unit h · d + i is dimension i of head h.

    Attributes:
        attention: torch's, or one with ``num_heads`` and a linear ``proj`` (timm) or ``out_proj`` (transformers).
    """

    attention: nn.Module

    @classmethod
    def of(cls, module: nn.Module) -> Heads | None:
        """The heads of a module; None if it is no such attention."""
        known = isinstance(module, nn.MultiheadAttention)
        return cls(module) if known or (hasattr(module, "num_heads") and _projection(module)) else None

    def register(self, keep: _Keep) -> torch.utils.hooks.RemovableHandle:
        """Call ``keep`` with the outputs [n, tokens, heads · d] in each pass."""
        attention = self.attention
        if isinstance(attention, nn.MultiheadAttention):
            return attention.register_forward_pre_hook(
                lambda _, inputs, options: keep(attention, _unmixed(attention, inputs, options)), with_kwargs=True
            )
        return (_projection(attention) or attention).register_forward_pre_hook(
            lambda projection, inputs: keep(projection, inputs[0])
        )


def _unmixed(attention: nn.MultiheadAttention, inputs: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    """What torch's attention gives with the identity as projection: it is no layer there, so no hook sees its input."""
    twin, weight = copy.copy(attention), attention.out_proj.weight
    twin._modules = {**attention._modules}
    twin.out_proj = copy.copy(attention.out_proj)
    twin.out_proj._parameters = {
        "weight": nn.Parameter(torch.eye(len(weight), dtype=weight.dtype, device=weight.device)),
        "bias": nn.Parameter(weight.new_zeros(len(weight))),
    }
    return twin.forward(*inputs, **options)[0]


def _projection(attention: nn.Module) -> nn.Linear | None:
    found = (getattr(attention, name, None) for name in ("proj", "out_proj"))
    return next((one for one in found if isinstance(one, nn.Linear)), None)


def _layers(model: nn.Module) -> dict[str, nn.Module | Heads]:
    """Everything that has a layer's name, in the order of the modules."""
    found: dict[str, nn.Module | Heads] = {}
    for name, module in model.named_modules():
        if name:
            found[name] = module
            heads = Heads.of(module)
            if heads:
                found[f"{name}.heads"] = heads
    return found


def _register(layer: nn.Module | Heads, keep: Callable[[nn.Module, Any], None]) -> torch.utils.hooks.RemovableHandle:
    """Call ``keep`` with what a layer gives in each pass; of several outputs with the first."""
    if isinstance(layer, Heads):
        return layer.register(keep)

    def hook(module: nn.Module, _: tuple[Any, ...], output: Any) -> None:
        keep(module, output[0] if isinstance(output, tuple) and output else output)

    return layer.register_forward_hook(hook)


def resolve_layer(model: nn.Module, name: str) -> nn.Module | Heads:
    """Find a layer by its dotted name.

    Args:
        name: For example ``layer4``, ``layer4.2.conv3`` or ``blocks.5.attn.heads``, see ``Heads``.

    Raises:
        UserError: No such layer; the message lists close matches, and how to see all.
    """
    known = _layers(model)
    if name not in known:
        raise UserError(f"{unknown_name('layer', name, known)} --list-layers shows all of them with their shapes.")
    return known[name]


def list_layers(model: nn.Module, batch: Float[Tensor, "n c h w"]) -> dict[str, tuple[int, ...]]:
    """Every layer that a forward pass reaches and CLEAR can read, with the shape of its output for one image.

    Args:
        model: The network, in eval mode.
        batch: An input of the network's size.

    Returns:
        Dotted layer name → shape without the image axis: [units], [tokens, units] or [units, h, w].
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def keeper(name: str) -> Callable[[nn.Module, Any], None]:
        def keep(module: nn.Module, tensor: Any) -> None:
            if isinstance(tensor, Tensor) and tensor.ndim in (2, 3, 4) and len(tensor) == len(batch):
                shapes.setdefault(name, tuple(channels_first(model, tensor, module).shape[1:]))

        return keep

    layers = _layers(model)
    handles = [_register(layer, keeper(name)) for name, layer in layers.items()]
    try:
        with torch.inference_mode():
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: shapes[name] for name in layers if name in shapes}


def output_layer(model: nn.Module, batch: Float[Tensor, "n c h w"]) -> str | None:
    """The layer that produces a network's output: its last linear layer, or a module that only passes it on.

    Args:
        model: The network, in eval mode.
        batch: An input of the network's size.

    Returns:
        Dotted name of the first such layer of a pass; None if the network modifies the output of its last layer.
    """
    outputs: dict[str, Tensor] = {}

    def keeper(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def keep(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and len(output) == len(batch):
                outputs.setdefault(name, output.flatten(1).clone())

        return keep

    handles = [layer.register_forward_hook(keeper(name)) for name, layer in model.named_modules() if name]
    try:
        with torch.inference_mode():
            final = model(batch)
    finally:
        for handle in handles:
            handle.remove()
    if not isinstance(final, Tensor):
        return None
    return next((name for name, output in outputs.items() if torch.equal(output, final.flatten(1))), None)


class LayerCapture:
    """Captures layer outputs while the context is open; its hooks are always removed on exit.

    A layer's output does not depend on which other layers are captured: outputs are copied before later layers can
    change them in place, and for a module called several times in one pass (a block's only ReLU) the first call counts.

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
            self._handles.append(_register(layer, self._keeper(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._outputs = {}

    def __call__(self, batch: Float[Tensor, "n c h w"] | Tensor) -> dict[str, Tensor]:
        """Run a batch up to the last requested layer.

        Returns:
            Layer name → its output: [n, units, h, w], also of layers that keep their units last, [n, tokens, units] or
            [n, units].

        Raises:
            RuntimeError: Called outside the context.
            UserError: The pass never reaches a requested layer, or its output is not a tensor with one row per image.
        """
        if not self._handles:
            raise RuntimeError("LayerCapture reads layers only inside its with block")
        self._outputs = {}
        with contextlib.suppress(_LastLayerReached):
            self._model(batch)
        missing = [name for name in self._layers if name not in self._outputs]
        if missing:
            raise UserError(
                f"A pass over an image does not reach the layer {missing[0]!r}; --list-layers shows those that it does."
            )
        cut = next((name for name, output in self._outputs.items() if output.shape[:1] != batch.shape[:1]), None)
        if cut is not None:
            raise UserError(
                f"The layer {cut!r} does not give one row per image (attention within windows gives one per window): "
                "choose one of those that --list-layers shows."
            )
        return self._outputs

    def _keeper(self, name: str) -> Callable[[nn.Module, Any], None]:
        def keep(module: nn.Module, tensor: Any) -> None:
            if name in self._outputs:
                return
            if not isinstance(tensor, Tensor):
                raise UserError(
                    f"The layer {name!r} gives a {type(tensor).__name__}, not a tensor; choose a layer in it."
                )
            last = len(self._outputs) + 1 == len(self._layers)
            turned = channels_first(self._model, tensor, module)
            # A later in-place layer (torchvision's ReLUs) would otherwise overwrite the stored output.
            self._outputs[name] = turned if last else turned.clone()
            if last:
                raise _LastLayerReached

        return keep


# A CLS token and eight registers; patches beside which so many others are not taken for them by accident.
_MOST_PREFIX, _MANY_PATCHES = 9, 49


def layer_kind(output: Tensor) -> LayerKind:
    """The kind of a layer's output, by its rank.

    Raises:
        UserError: The output is neither 2-, 3- nor 4-dimensional.
    """
    kinds: dict[int, LayerKind] = {4: "spatial", 3: "tokens", 2: "vector"}
    if output.ndim not in kinds:
        raise UserError(
            f"The layer's output has shape {tuple(output.shape)}; CLEAR reads [n, units], [n, tokens, units] "
            "and [n, units, h, w]. Choose another layer."
        )
    return kinds[output.ndim]


def channels_first(network: nn.Module, output: Tensor, layer: nn.Module | None = None) -> Tensor:
    """The output with its units in axis 1, if a layer keeps a map with its units last, [n, h, w, units].

    Inputs are square, hence so are maps: two equal axes followed by a different one are height and width. Three equal
    axes have their units last if the network says so of its maps, unless a convolution gives them.

    Args:
        network: The network of the layer; timm's state the length of an embedding (``embed_dim``) and the order.
        layer: The module that gives the output, if known.
    """
    if output.ndim != 4:
        return output
    length = getattr(network, "embed_dim", None)
    stated = str(getattr(network, "output_fmt", "")).upper().endswith("NHWC")
    ordered = stated or isinstance(network, torchvision.models.SwinTransformer)
    _, first, second, third = output.shape
    if first == second == third:
        last = ordered and layer is not None and not isinstance(layer, nn.Conv2d)
    else:
        last = first == second or (isinstance(length, int) and third == length != first)
    return output.permute(0, 3, 1, 2) if last else output


def check_cls(network: nn.Module, pooling: Pooling) -> None:
    """Refuse to take the first token for a CLS token if the network says that it has none, only registers.

    Raises:
        UserError: It has none.
    """
    if pooling == "cls" and getattr(network, "cls_token", network) is None:
        raise UserError("Pooling 'cls' needs a CLS token, but this network has none: use 'mean'.")


def prefix_tokens(network: nn.Module, output: Tensor) -> int | None:
    """The number of tokens before the patch tokens of a layer: a CLS token, registers, or none.

    timm's networks state it (``num_prefix_tokens``); but a layer may precede the point where these tokens are added, so
    the remaining tokens must form a square. Inputs are square, hence so is the grid of patches. Other networks may have
    registers besides the CLS token (DINOv2: four), which are looked for where there are many patches.

    Returns:
        The number; None if the output has no tokens, or no number leaves a square.
    """
    if output.ndim != 3:
        return None
    declared = getattr(network, "num_prefix_tokens", None)
    likely = (declared, 0, 1) if isinstance(declared, int) else (0, 1)
    count = output.shape[1]
    likely += tuple(number for number in range(2, _MOST_PREFIX + 1) if count - number >= _MANY_PATCHES)
    return next((number for number in likely if number < count and _is_square(count - number)), None)


def positions(output: Tensor, prefix: int | None = None) -> Float[Tensor, "n units h w"] | None:
    """A layer's output at each position of the image; None if it has no positions.

    Args:
        output: [n, units, h, w], which is returned as it is, [n, tokens, units] or [n, units].
        prefix: Tokens before the patch tokens, see ``prefix_tokens``; patches are in row-major order.
    """
    if output.ndim == 4:
        return output
    if output.ndim != 3 or prefix is None:
        return None
    patches = output[:, prefix:].transpose(1, 2)
    return patches.unflatten(2, (math.isqrt(patches.shape[2]), -1))


def pool(output: Tensor, pooling: Pooling, prefix: int | None = None) -> Float[Tensor, "n units"]:
    """Reduce a layer's output to one value per unit and image.

    Args:
        output: [n, units, h, w], [n, tokens, units] or [n, units]; the last is returned as it is.
        pooling: ``mean`` or ``max`` over positions; ``cls`` takes token 0.
        prefix: Tokens without a position, see ``prefix_tokens``; None treats every token as a position.

    Raises:
        UserError: The layer has no CLS token.
    """
    kind = layer_kind(output)
    if kind == "vector":
        return output
    if pooling == "cls":
        if kind != "tokens":
            raise UserError("Pooling 'cls' needs a layer of tokens; this layer is spatial: use 'mean' or 'max'.")
        if prefix == 0:
            raise UserError("Pooling 'cls' needs a CLS token, but this layer has patch tokens alone: use 'mean'.")
        return output[:, 0]
    places = output.flatten(2) if kind == "spatial" else output[:, prefix or 0 :].transpose(1, 2)
    return places.mean(2) if pooling == "mean" else places.amax(2)


def _is_square(number: int) -> bool:
    return math.isqrt(number) ** 2 == number
