"""Sparse autoencoders on the miniature's networks, and concepts planted in superposition, which one should find."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from tasks.activations.readout import Readout
from tasks.common.images import to_tensor
from tasks.miniature.training.common import log
from tasks.miniature.training.data import rendered_scenes
from tasks.models.dictionaries import read_readout, save_dictionary
from tasks.models.planted import save_planted
from tasks.models.planted_facts import read_planted
from tasks.models.weights import load_weights
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

SCENES: Final = 1_500
"""Scenes of the train split."""
TESTED: Final = 300
"""Scenes of the test split, for the figures in the cards."""
AT_ONCE: Final = 256
QUIET: Final = 256
"""Steps without a code other than 0 after which a latent counts as dead in training."""
CHANNELS: Final = 20
"""Channels that the planted directions share."""
LAYERS: Final = {"resnet50": "layer4", "vit_tiny": "blocks.2", "resnet50_superposed": "layer4.superposed"}


@dataclass(frozen=True)
class SaeRecipe:
    """How an autoencoder is trained.

    Attributes:
        k: Of ``topk``.
        penalty: Weight of the ℓ1 norm of the codes, of ``relu``.
    """

    network: str
    activation: Literal["topk", "relu"]
    seed: int
    latents: int
    k: int
    penalty: float
    steps: int
    batch: int = 1024
    rate: float = 1e-3


SAES: Final = {
    f"sae_{recipe.network}_{recipe.activation}_{recipe.seed}": recipe
    for seed in (0, 1)
    for activation in ("topk", "relu")
    for recipe in (
        SaeRecipe("resnet50", activation, seed, latents=256, k=8, penalty=0.2, steps=600, batch=512),
        SaeRecipe("vit_tiny", activation, seed, latents=512, k=8, penalty=0.2, steps=2000),
        SaeRecipe("resnet50_superposed", activation, seed, latents=64, k=5, penalty=0.05, steps=3000),
    )
}
"""Name → recipe."""


def train_sae(name: str, path: Path, cache: Path) -> dict[str, Any]:
    """Train one of ``SAES`` and save it.

    Returns:
        Facts for the model card, among them the share of the variance that is not explained, the mean number of codes
        other than 0 per position and the share of dead latents, all on scenes of the test split.
    """
    recipe, started = SAES[name], time.monotonic()
    train, test = (
        _positions(recipe.network, split, count, cache) for split, count in (("train", SCENES), ("test", TESTED))
    )
    log.info("%s: %d positions after %.0f s", name, len(train), time.monotonic() - started)
    parts = fit(train, recipe)
    settings = {"activation": recipe.activation, **({"k": recipe.k} if recipe.activation == "topk" else {})}
    save_dictionary(path, parts, settings)
    readout = read_readout("dictionary", path, LAYERS[recipe.network])
    return {
        "recipe": asdict(recipe),
        "scenes": SCENES,
        "seconds": round(time.monotonic() - started),
        **_quality(readout, test),
    }


def fit(data: Float[Tensor, "positions width"], recipe: SaeRecipe) -> dict[str, Tensor]:
    """Train an autoencoder by Adam: x ≈ centre + scale · decoderᵀ · codes, decoder rows of unit length.

    The dead latents of ``topk`` also reconstruct what the others leave (Gao et al., arXiv 2406.04093, AuxK).

    Returns:
        ``encoder``, ``bias``, ``decoder`` and ``centre`` in the scale of the layer.
    """
    draw = torch.Generator().manual_seed(recipe.seed)
    centre = data.mean(0)
    scale = (data - centre).square().sum(1).mean().sqrt()
    first = torch.randperm(len(data), generator=draw)[: recipe.latents]
    noise = torch.randn(recipe.latents, data.shape[1], generator=draw) / data.shape[1] ** 0.5
    decoder = functional.normalize(functional.normalize(data[first] - centre, dim=1) + noise, dim=1)
    weights = [decoder.clone(), torch.zeros(recipe.latents), decoder]
    encoder, bias, decoder = (weight.requires_grad_() for weight in weights)
    optimizer = torch.optim.Adam(weights, lr=recipe.rate)
    quiet = torch.zeros(recipe.latents)
    for step, rows in enumerate(_batches(len(data), recipe.batch, recipe.steps, draw)):
        optimizer.param_groups[0]["lr"] = recipe.rate * min(1.0, 5 * (1 - step / recipe.steps))
        x = (data[rows] - centre) / scale
        plain = functional.linear(x, encoder, bias)
        if recipe.activation == "topk":
            values, places = plain.topk(recipe.k, dim=1)
            codes = torch.zeros_like(plain).scatter(1, places, values.relu())
        else:
            codes = plain.relu()
        rest = x - codes @ decoder
        loss = rest.square().sum(1).mean()
        dead = quiet >= QUIET
        if recipe.activation == "relu":
            loss = loss + recipe.penalty * codes.sum(1).mean()
        elif dead.any():
            values, places = plain.masked_fill(~dead, -torch.inf).topk(min(4 * recipe.k, int(dead.sum())), dim=1)
            others = torch.zeros_like(plain).scatter(1, places, values.relu()) @ decoder
            loss = loss + (rest.detach() - others).square().sum(1).mean() / 32
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            decoder.copy_(functional.normalize(decoder, dim=1))
            quiet = torch.where((codes > 0).any(0), 0, quiet + 1)
    return {"encoder": encoder.detach() / scale, "bias": bias.detach(), "decoder": decoder.detach(), "centre": centre}


def plant_superposed(path: Path, directions: Path) -> dict[str, Any]:
    """Write the planted units of single concepts into fewer channels than concepts, and their directions alone.

    Args:
        path: The safetensors file of the units, see ``tasks.models.planted.Superposed``.
        directions: The file of the directions [concepts, channels], which ``--directions`` reads.
    """
    source = load_profile("miniature").target("resnet50_planted").planted
    assert source is not None  # noqa: S101 - it is what the target is for
    planted, weights = read_planted(source.weights), load_weights(source.weights, source.sha256)
    singles = tuple(unit for unit in planted.units if unit.op == "single")
    rows = [planted.detectors.index(unit.concepts[0]) for unit in singles]
    drawn = torch.randn(len(singles), CHANNELS, generator=torch.Generator().manual_seed(0))
    apart = spread(functional.normalize(drawn, dim=1)).half().float()
    described = planted.model_copy(update={"units": singles, "detectors": tuple(unit.concepts[0] for unit in singles)})
    save_planted(path, described, {name: tensor[rows] for name, tensor in weights.items()} | {"directions": apart})
    save_file({"directions": apart.half().contiguous()}, directions)
    cosines = functional.normalize(apart, dim=1) @ functional.normalize(apart, dim=1).T
    most = float((cosines - torch.eye(len(apart))).abs().max())
    return {"concepts": len(singles), "channels": CHANNELS, "largest |cosine| of two directions": round(most, 3)}


def spread(directions: Float[Tensor, "concepts channels"]) -> Float[Tensor, "concepts channels"]:
    """Unit vectors pushed apart until the largest cosines are small."""
    vectors = directions.clone().requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=0.02)
    off = ~torch.eye(len(vectors), dtype=torch.bool)
    for _ in range(500):
        unit = functional.normalize(vectors, dim=1)
        loss = (unit @ unit.T)[off].pow(4).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return functional.normalize(vectors.detach(), dim=1)


@functools.cache
def _positions(network: str, split: str, count: int, cache: Path) -> Float[Tensor, "positions width"]:
    """A layer's output at all positions of some scenes, patches without the CLS token."""
    layer, target = LAYERS[network], Roles(load_profile("miniature"), torch.device("cpu")).target(network)
    images, found = rendered_scenes(split, count, cache).images, []
    target.readout = None
    for start in range(0, count, AT_ONCE):
        maps = target.read(to_tensor(np.array(images[start : start + AT_ONCE])), {layer: "mean"}, [layer])[layer].maps
        found.append(cast(Tensor, maps).float().flatten(2).transpose(1, 2).flatten(0, 1))
    return torch.cat(found)


def _batches(count: int, size: int, steps: int, draw: torch.Generator) -> Iterator[Tensor]:
    for _ in range(steps):
        yield torch.randint(count, (size,), generator=draw)


def _quality(readout: Readout, data: Float[Tensor, "positions width"]) -> dict[str, float]:
    assert readout.decoder is not None  # noqa: S101 - it was just saved
    codes = torch.cat([readout.encode(part) for part in data.split(4096)])
    # The decoder has unit length, so its scale is that of least squares.
    made, centred = codes @ readout.decoder, data - data.mean(0)
    factor = float((made * centred).sum() / made.square().sum())
    unexplained = float((centred - factor * (made - made.mean(0))).square().sum() / centred.square().sum())
    active = codes > 0
    return {
        "unexplained variance": round(unexplained, 4),
        "codes per position": round(float(active.sum(1).float().mean()), 2),
        "dead latents": round(float((~active.any(0)).float().mean()), 4),
    }
