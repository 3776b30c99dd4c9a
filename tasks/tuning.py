"""Fine-tuning of a ResNet's last stage with its classifier, on the stored outputs of the stages before it.

The stages before ``layer4`` are frozen, so each image passes through them once, whatever the number of steps and of
tuned variants. Batch normalisation keeps its running averages, in training too, and only its scale and offset are
learnt: averages recomputed over perturbed images would adapt the network to them without any tuning (Schneider et al.,
Improving Robustness against Common Corruptions by Covariate Shift Adaptation, NeurIPS 2020), and two networks could no
longer be compared by their tuning data.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
import torchvision
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from tasks.activations.spool import blocks
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.models.target import TargetModel
from tasks.observe import IMAGES_AT_ONCE, Images

FROZEN = "layer3"
"""The last frozen stage."""

TUNED = ("layer4", "fc")
"""The tuned modules; the pooling between them has no parameters."""

_CLIPPED = 1.0


@dataclass(frozen=True)
class Recipe:
    """Length and learning rate of the fine-tuning.

    Attributes:
        steps: Maximum number of optimiser steps (AdamW).
        batch: Images per step.
        rate: Highest learning rate; it rises over the first 5 % of the steps and falls to zero (cosine).
        weight_decay: Applied to matrices and kernels; scales and offsets have none.
        every: Steps between two evaluations on the validation images.
        patience: Evaluations without a lower loss before tuning stops.
    """

    steps: int = 200
    batch: int = 32
    rate: float = 3e-4
    weight_decay: float = 0.01
    every: int = 20
    patience: int = 4


@dataclass(frozen=True)
class Examples:
    """Outputs of the last frozen stage, with the concepts in each image.

    Attributes:
        features: float16 output of the last frozen stage.
        presence: Which concepts an image shows, in the order of the classifier's outputs.
    """

    features: Float[Tensor, "n c h w"]
    presence: Bool[Tensor, "n concepts"]

    def joined(self, other: Examples) -> Examples:
        """These examples followed by others."""
        return Examples(torch.cat([self.features, other.features]), torch.cat([self.presence, other.presence]))


@dataclass(frozen=True)
class Tuned:
    """A tuned network.

    Attributes:
        target: Shares its frozen stages with the original network, which is unchanged.
        step: The step at which this state was taken.
        losses: Step → loss on the validation images.
    """

    target: TargetModel
    step: int
    losses: dict[int, float]


def check_tunable(target: TargetModel, name: str) -> None:
    """Check that a network's last stage can be tuned, i.e. that it is a ResNet's.

    Raises:
        UserError: Any other network.
    """
    if not isinstance(target.network, torchvision.models.ResNet):
        raise UserError(
            f"Only the last stage of a torchvision ResNet can be tuned, and {name} is a "
            f"{type(target.network).__name__}: choose a task of another model."
        )


def frozen_features(target: TargetModel, images: Images, count: int) -> Float[Tensor, "n c h w"]:
    """Outputs of the last frozen stage for images 0 to ``count`` - 1, as float16."""
    parts = []
    for part in blocks(count, IMAGES_AT_ONCE):
        maps = target.read(images(part), {FROZEN: "mean"}, maps=[FROZEN])[FROZEN].maps
        if maps is None:
            raise ValueError(f"{FROZEN} has no maps")
        parts.append(maps)
    return torch.cat(parts).clone()


def logits_of(target: TargetModel, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n concepts"]:
    """The classifier's outputs from those of the last frozen stage; float32 on the CPU."""
    with torch.inference_mode():
        parts = [_logits(target, features[part.start : part.stop]).cpu() for part in blocks(len(features))]
    return torch.cat(parts)


def tune(
    target: TargetModel,
    examples: Examples,
    validation: Examples,
    seed: int,
    recipe: Recipe | None = None,
    steps: int | None = None,
) -> Tuned:
    """Tune a copy of the last stage and the classifier to predict which concepts an image shows (binary cross entropy).

    The state with the lowest validation loss is returned, which may be the untuned one. The same examples, recipe and
    seed give the same network on one machine with one number of threads.

    Args:
        target: The network; it is not changed.
        validation: Used for early stopping.
        recipe: None for the default.
        steps: Return the state after exactly this many steps, whatever the validation loss: for controls.

    Raises:
        ValueError: No examples, or concepts that are not the classifier's.
    """
    recipe = recipe or Recipe()
    for given in (examples, validation):
        _check(target, given)
    copied = _copy(target)
    modules = [copied.network.get_submodule(name) for name in TUNED]
    optimiser = _optimiser(modules, recipe)
    order = generator(seed, "tuning", "batches")
    losses = {0: _loss(copied, validation)}
    best, kept = 0, _state(modules)
    last = recipe.steps if steps is None else steps
    for step in range(1, last + 1):
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * _share(step, recipe.steps)
        rows = torch.from_numpy(order.integers(len(examples.features), size=recipe.batch))
        _step(copied, modules, optimiser, examples.features[rows], examples.presence[rows])
        if step % recipe.every and step != last:
            continue
        losses[step] = _loss(copied, validation)
        if steps is None and losses[step] < losses[best]:
            best, kept = step, _state(modules)
        if steps is None and step - best >= recipe.patience * recipe.every:
            break
    if steps is None:
        for module, state in zip(modules, kept, strict=True):
            module.load_state_dict(state)
    for module in modules:
        module.requires_grad_(False)
    return Tuned(copied, best if steps is None else steps, losses)


def _check(target: TargetModel, given: Examples) -> None:
    outputs = target.network.get_submodule("fc").get_parameter("weight").shape[0]
    if not len(given.features) or given.presence.shape[1] != outputs:
        raise ValueError(
            f"the classifier has {outputs} outputs; {len(given.features)} examples with {given.presence.shape[1]} "
            "concepts cannot tune it"
        )


def _copy(target: TargetModel) -> TargetModel:
    frozen = [module for name, module in target.network.named_children() if name not in TUNED]
    # Objects in the memo count as already copied: both networks share them.
    network = copy.deepcopy(target.network, {id(module): module for module in frozen})
    for name in TUNED:
        network.get_submodule(name).requires_grad_(True)
    return TargetModel(network, target.preprocessing, target.device, target.batch_size, target.readout)


def _optimiser(modules: list[nn.Module], recipe: Recipe) -> torch.optim.AdamW:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    groups = [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate)


def _share(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    return min(1.0, step / warm) * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - 1) / steps)))


def _step(
    target: TargetModel,
    modules: list[nn.Module],
    optimiser: torch.optim.Optimizer,
    features: Float[Tensor, "n c h w"],
    presence: Bool[Tensor, "n concepts"],
) -> None:
    wanted = presence.to(target.device).float()
    loss = functional.binary_cross_entropy_with_logits(_logits(target, features), wanted)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([one for module in modules for one in module.parameters()], _CLIPPED)
    optimiser.step()


def _logits(target: TargetModel, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n concepts"]:
    network = target.network
    inputs = features.to(target.device).float().contiguous(memory_format=torch.channels_last)
    shown = network.get_submodule("avgpool")(network.get_submodule("layer4")(inputs))
    return network.get_submodule("fc")(shown.flatten(1))


def _loss(target: TargetModel, examples: Examples) -> float:
    wanted = examples.presence.float()
    return functional.binary_cross_entropy_with_logits(logits_of(target, examples.features), wanted).item()


def _state(modules: list[nn.Module]) -> list[dict[str, Tensor]]:
    return [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]
