"""Planted units: detectors of single concepts fitted to ``layer4`` of the ResNet-50, and AND and OR of two of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from tasks.common.images import to_tensor
from tasks.common.seeding import generator
from tasks.miniature.scene import Scene
from tasks.miniature.training.common import log
from tasks.miniature.training.data import RenderedScenes, grid_of, rendered_scenes
from tasks.miniature.training.planted_truth import in_cells, measure, occurrence, positions
from tasks.miniature.training.target import RECIPES
from tasks.miniature.vocabulary import CATEGORIES, CONCEPTS, OPTIONAL_PARTS, PARTS
from tasks.models.planted import PlantedUnits, save_planted
from tasks.models.planted_facts import Op, Planted, PlantedUnit
from tasks.models.target import TargetModel
from tasks.models.weights import file_sha256
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

FITTED: Final = 6_000
"""Scenes of the train split that the detectors are fitted to."""
CHOOSING: Final = 2_000
"""Further scenes of the train split, on which units must reach the bars first."""
TESTED: Final = 4_000
"""Scenes of the test split, on which they must reach them again and whose figures are reported."""
SEED: Final = 0
PENALTY: Final = 1e-3
ITERATIONS: Final = 60
STRENGTH: Final = 8.0
"""Median log-odds of a detector where its concept is present."""

AUROC_BAR: Final = 0.95
"""Bar for ``auroc`` and ``strict_auroc``."""
CELL_IOU_BAR: Final = 0.5
"""A detector that is on in the right cell and one wrong one, of four, reaches it."""
LEAST_SHARE: Final = 0.01
"""Rarer combinations are not tried: 500 probing images would show fewer than five."""
GREATEST_SHARE: Final = 0.5
CANDIDATES: Final = 8
"""Pairs drawn for each operation and pair of categories."""

PAIRS: Final[tuple[tuple[Op, str, str], ...]] = (
    ("and", "object", "color"),
    ("and", "object", "texture"),
    ("and", "object", "scene"),
    ("and", "color", "texture"),
    ("and", "color", "scene"),
    ("and", "texture", "scene"),
    # A background fills the image and would drown an object, so it is joined by OR only with other backgrounds.
    ("or", "object", "object"),
    ("or", "color", "color"),
    ("or", "scene", "scene"),
    ("or", "object", "color"),
    ("or", "object", "texture"),
    ("or", "color", "texture"),
)

SINGLES: Final = tuple(name for name in CONCEPTS if name not in PARTS or name in OPTIONAL_PARTS)
"""Every concept except the parts that their kind never lacks: a trunk unit would not differ from a tree unit."""

Candidate = tuple[Op, tuple[str, ...]]


@dataclass(frozen=True)
class Sample:
    """Scenes with the network's features.

    Attributes:
        grid: Kind, part, colour, pattern numbers at the cell centres.
        features: Maps of ``layer4``.
    """

    scenes: Sequence[Scene]
    grid: UInt8[np.ndarray, "n 4 cells cells"]
    features: Float[Tensor, "n channels h w"]


def train_planted(path: Path, cache: Path) -> dict[str, Any]:
    """Fit the detectors, test the units and save those that pass.

    Args:
        path: The safetensors file to write.
        cache: Folder of the rendered scenes.

    Returns:
        Facts for the model card.
    """
    profile = load_profile("miniature")
    entry = profile.target("resnet50")
    target = Roles(profile, torch.device("cpu")).target("resnet50")
    started = time.monotonic()
    train = rendered_scenes("train", RECIPES["resnet50"][0].images, cache)
    fitted = _sample(target, train, slice(0, FITTED))
    choosing = _sample(target, train, slice(FITTED, FITTED + CHOOSING))
    testing = _sample(target, rendered_scenes("test", TESTED, cache), slice(0, TESTED))
    log.info("planted: features read after %.0f s", time.monotonic() - started)
    weights = fit_detectors(fitted)
    log.info("planted: detectors fitted after %.0f s", time.monotonic() - started)

    def passing(candidates: Sequence[Candidate]) -> list[PlantedUnit]:
        chosen = [unit for unit in _measured(candidates, weights, choosing) if passes(unit)]
        again: list[Candidate] = [(unit.op, unit.concepts) for unit in chosen]
        return [unit for unit in _measured(again, weights, testing) if passes(unit)]

    singles = passing([("single", (name,)) for name in SINGLES])
    pairs = draw_pairs([unit.concepts[0] for unit in singles], fitted.scenes)
    units = [*singles, *passing(pairs)]
    first = fitted.features.shape[1]
    # The miniature's networks come from files, never from a hub.
    digest = entry.sha256 or file_sha256(cast(Path, entry.weights))
    save_planted(path, _described(units, first, digest), weights)
    tried = [op for op, _ in pairs]
    return {
        "seconds": round(time.monotonic() - started),
        "fitted to": f"train scenes 0 to {FITTED - 1}",
        "chosen on": f"train scenes {FITTED} to {FITTED + CHOOSING - 1}",
        "measured on": f"test scenes 0 to {TESTED - 1}; the figures of each unit below",
        "bar": f"AUROC and strict AUROC of {AUROC_BAR}, IoU on cells of {CELL_IOU_BAR}, on both",
        "kept": {
            "single": f"{len(singles)} of {len(SINGLES)}",
            **{op: f"{sum(unit.op == op for unit in units)} of {tried.count(op)}" for op in ("and", "or")},
        },
        "units": [told(unit) for unit in units],
    }


def fit_detectors(sample: Sample) -> dict[str, Tensor]:
    """Logistic regression of each concept's occurrence in a cell on the cell's features, with an L2 penalty.

    Each concept's log-odds are then scaled so that their median over the cells that show it is ``STRENGTH``: otherwise
    the loudest concept would decide which images excite an OR most.

    Returns:
        ``weight`` [concepts, channels] and ``bias`` [concepts] in the order of ``CONCEPTS``, rounded to float16.
    """
    wanted = torch.from_numpy(_in_cells(sample, sample.features.shape[-1]))
    features = sample.features.permute(0, 2, 3, 1).flatten(0, 2)
    mean, scale = features.mean(0), features.std(0).clamp(min=1e-2)
    features = (features - mean) / scale
    weight = torch.zeros(features.shape[1], len(CONCEPTS), requires_grad=True)
    bias = torch.zeros(len(CONCEPTS), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe", tolerance_change=0
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = torch.addmm(bias, features, weight)
        total = functional.binary_cross_entropy_with_logits(logits, wanted) * len(CONCEPTS)
        total = total + 0.5 * PENALTY * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        logits = torch.addmm(bias, features, weight)
        medians = [logits[wanted[:, number] > 0, number].median() for number in range(len(CONCEPTS))]
        # A detector too weak to pass any bar has a median near or below 0, by which nothing can be scaled.
        louder = STRENGTH / torch.stack(medians).clamp(min=1)
        folded = (weight / scale[:, None] * louder).T
        found = {"weight": folded, "bias": bias * louder - folded @ mean}
    # Rounded as they will be stored, so that the measured weights are the shipped ones.
    return {name: tensor.detach().half().float() for name, tensor in found.items()}


def draw_pairs(concepts: Sequence[str], scenes: Sequence[Scene]) -> list[Candidate]:
    """Draw candidates for AND and OR among the concepts, for each entry of ``PAIRS``.

    Args:
        concepts: Concepts whose single units passed.
        scenes: They must show a candidate in a share between ``LEAST_SHARE`` and ``GREATEST_SHARE``.
    """
    drawn: list[Candidate] = []
    for op, one, other in PAIRS:
        first, second = ([name for name in CATEGORIES[category] if name in concepts] for category in (one, other))
        every = list(itertools.combinations(first, 2) if one == other else itertools.product(first, second))
        order = generator(SEED, "planted", op, one, other).permutation(len(every))
        common = (
            every[int(number)]
            for number in order
            if LEAST_SHARE <= occurrence(scenes, op, every[int(number)]).mean() <= GREATEST_SHARE
        )
        drawn.extend((op, pair) for pair in itertools.islice(common, CANDIDATES))
    return drawn


def passes(unit: PlantedUnit) -> bool:
    """Whether a unit reaches the bars."""
    return min(unit.auroc, unit.strict_auroc) >= AUROC_BAR and unit.cell_iou >= CELL_IOU_BAR


def told(unit: PlantedUnit) -> str:
    """One line about a unit for the model card."""
    figures = f"AUROC {unit.auroc:.4f}, strict {unit.strict_auroc:.4f}, IoU {unit.iou:.3f} (cells {unit.cell_iou:.3f})"
    return f"{unit.text}: {figures}, share {unit.share:.4f}"


def _sample(target: TargetModel, data: RenderedScenes, rows: slice) -> Sample:
    reading = target.read(to_tensor(np.array(data.images[rows])), {"layer4": "mean"}, maps=["layer4"])["layer4"]
    if reading.maps is None:
        raise RuntimeError("layer4 has no maps")
    grid = np.stack([grid_of(layers) for layers in data.layers[rows]])
    return Sample(data.scenes[rows], grid, reading.maps.float())


def _in_cells(sample: Sample, side: int) -> Float[np.ndarray, "cells concepts"]:
    shown = [in_cells(positions(sample.scenes, sample.grid, "single", [name]), side) for name in CONCEPTS]
    return np.stack(shown, axis=-1).reshape(-1, len(CONCEPTS)).astype(np.float32)


def _measured(candidates: Sequence[Candidate], weights: dict[str, Tensor], sample: Sample) -> list[PlantedUnit]:
    bare = [
        PlantedUnit(op=op, concepts=concepts, share=0, auroc=0, strict_auroc=0, iou=0, cell_iou=0)
        for op, concepts in candidates
    ]
    with torch.inference_mode():
        maps = PlantedUnits(_described(bare, sample.features.shape[1], ""), weights)(sample.features)
    return [
        measure(op, concepts, maps[:, number], sample.scenes, sample.grid)
        for number, (op, concepts) in enumerate(candidates)
    ]


def _described(units: Sequence[PlantedUnit], first: int, target_sha256: str) -> Planted:
    return Planted(target_sha256=target_sha256, first=first, detectors=CONCEPTS, units=tuple(units))
