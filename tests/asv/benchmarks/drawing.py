"""What drawing until it is decided saves and changes: methods label the same units with ``draw`` full and adaptive.

Images are counted in two ways:

* per unit: those that each unit's choice needs, as if nothing were shared;
* in the run: those drawn, where units and conditions share what is drawn of a concept.

``python tests/asv/benchmarks/drawing.py --tasks resnet50_layer4 --seeds 0 1`` prints the comparison as Markdown tables.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import UInt8
from torch import Tensor

from baselines import registry
from baselines.base import UnitLabels
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.passes import Passes
from benchmark.core.preflight import check
from benchmark.core.prepare import apply_overrides, load_methods, prepare
from benchmark.core.toolbox import background_words, make_toolbox
from tasks.cache.store import open_cache
from tasks.observe import perturbed, probe_of
from tasks.profiles.build import Roles
from tasks.roles import ImageGenerator
from tasks.schema import Pooling

CONDITIONS = ("foreground_blur", "background_blur", "gaussian_noise", "fog", "jpeg_compression", "contrast")
KINDS = ("full", "adaptive")


class Counted:
    """A generator that counts the images it draws."""

    def __init__(self, generator: ImageGenerator) -> None:
        self.generator, self.images = generator, 0

    def generate(
        self, concept: str, count: int, seed: int, template: str = "{concept}", first: int = 0
    ) -> UInt8[Tensor, "count 3 h w"]:
        """Draw images; see ``tasks.roles.ImageGenerator``."""
        self.images += count
        return self.generator.generate(concept, count, seed, template, first)


def top(labels: UnitLabels) -> str | None:
    """The label of a unit."""
    return labels.ranked[0].text if labels.ranked else None


def compare(task: str, seed: int, method: str, units: int | None, conditions: Sequence[str]) -> list[tuple[Any, ...]]:
    """A row per condition: units, equal labels, images per unit and in the run, each full and adaptive."""
    given = {"tasks": (task,), "methods": (method,), "suites": tuple(conditions), "seed": seed}
    options = RunOptions.model_validate(given | ({} if units is None else {"units": units}))
    profile, tasks = apply_overrides(options, check(options))
    methods = {
        kind: load_methods(options.model_copy(update={"method_options": {method: {"draw": kind}}}), profile)
        for kind in KINDS
    }
    roles = Roles(profile, torch.device("cpu"), cache=open_cache())
    work = prepare(options, profile, tasks, methods["full"], roles, Display("quiet")).works[0]
    probing = roles.probing_set(work.task.probing_set, work.images, roles.view(work.task.model))
    probe = probe_of(probing, masked=True)
    passes = Passes(roles, work.task.model, probe, probing.digest, options.perturbing(), seed)
    background = background_words(roles.captioner, probe.load, len(probe.ids))
    tools = make_toolbox(roles, work.task, (), seed, lambda: background, asked=registry.entry(method).needs)
    assert tools.generator is not None
    counted = {kind: Counted(tools.generator) for kind in KINDS}
    # Measurements kept for other runs would hide what a run draws.
    boxes = {kind: replace(tools, generator=counted[kind], kept=None) for kind in KINDS}
    rows = []
    for condition in work.conditions:
        images = perturbed(probe, condition, seed, options.perturbing(), roles.device)
        layers: dict[str, Pooling] = {work.task.layer: work.task.pooling}
        seen = passes.observe(probe, condition, images, layers, {work.task.layer: work.units})[work.task.layer]
        labels, demand, drawn = {}, {}, {}
        for kind in KINDS:
            before, used = counted[kind].images, cast(Any, methods[kind][method])
            labels[kind] = used.label(seen, work.units, boxes[kind])
            demand[kind] = sum(wanted(one, used.images_per_concept) for one in labels[kind])
            drawn[kind] = counted[kind].images - before
        equal = sum(top(one) == top(other) for one, other in zip(*labels.values(), strict=True))
        rows.append((str(condition), len(work.units), equal, *demand.values(), *drawn.values()))
        print(f"| {task} | {seed} | {method} | {' | '.join(map(str, rows[-1]))} |", flush=True)
    return rows


def wanted(labels: UnitLabels, each: int) -> int:
    """Images that a unit's choice needs, had nobody drawn any before."""
    trace = labels.extra.get("trace")
    if trace is None:
        return 0
    if trace["synthesis"].get("draw") == "adaptive":
        return trace["synthesis"]["images"]
    candidates = labels.extra.get("candidates", len(trace.get("candidates", ())))
    return each * candidates


HEADER = (
    "task",
    "seed",
    "method",
    "condition",
    "units",
    "equal",
    "full, per unit",
    "adaptive, per unit",
    "full, in the run",
    "adaptive, in the run",
)


def main() -> None:
    """Print a row per condition, and the sums of each method and task."""
    parser = argparse.ArgumentParser(description="Full and adaptive choices, side by side.")
    parser.add_argument("--tasks", nargs="+", default=["resnet50_layer4", "resnet18_layer4", "resnet50_planted"])
    parser.add_argument("--methods", nargs="+", default=["dnd"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--units", type=int)
    parser.add_argument("--conditions", nargs="+", default=CONDITIONS)
    asked = parser.parse_args()
    print(f"| {' | '.join(HEADER)} |\n{'|---' * len(HEADER)}|")
    for method in asked.methods:
        every = [
            row
            for task in asked.tasks
            for seed in asked.seeds
            for row in compare(task, seed, method, asked.units, asked.conditions)
        ]
        units, equal, *images = (sum(column) for column in list(zip(*every, strict=True))[1:])
        shares = f"{images[1] / images[0]:.1%} | | {images[3] / images[2]:.1%}"
        print(f"| all | | {method} | | {units} | {equal / units:.2%} | | {shares} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
