"""Labels of latents against those of the nearest channel and of a random direction, and of other seeds' latents.

``python tests/asv/benchmarks/latent_labels.py NETWORK [FOLDER] [KIND ...]`` prints Markdown tables: of
``resnet50_superposed``, ``resnet50`` or ``vit_tiny``; a folder keeps the maps; a kind is ``topk`` or ``relu``. Each
layer is read once per condition, and every readout is computed from the same maps.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from baselines.evidence import dead_units
from benchmark.core.options import RunOptions
from benchmark.core.prepare import asked_roles, load_methods
from benchmark.core.toolbox import make_toolbox
from benchmark.core.truth import right_labels, unit_truth
from tasks.activations.maps import MemoryMaps
from tasks.activations.readout import Readout
from tasks.cache import open_cache
from tasks.catalogue import load_task
from tasks.miniature.training.cards import CHECKPOINTS, OF_LAYERS
from tasks.miniature.training.latents import LAYERS
from tasks.models.dictionaries import read_readout
from tasks.models.planted import planted_directions
from tasks.models.planted_facts import read_planted
from tasks.observation import Observation
from tasks.observe import CLEAN, Condition, perturbed, probe_of
from tasks.profiles.build import RECOVERED, Roles
from tasks.profiles.schema import load_profile

METHODS = ("clip_dissect", "semantic_lens", "csp", "network_dissection", "invert")
CONDITIONS = (
    CLEAN,
    Condition("fog", 3),
    Condition("contrast", 3),
    Condition("gaussian_noise", 3),
    Condition("gaussian_blur", 3),
)
TASKS = {
    "resnet50": "resnet50_layer4_sae",
    "vit_tiny": "vit_tiny_block_sae",
    "resnet50_superposed": "resnet50_superposed",
}
IMAGES, MOST, DRAWS = 300, 32, 2000
ALIKE = 0.8
"""Cosine from which on latents of two seeds count as the same."""


def main() -> None:
    """Print the tables of one network."""
    network = sys.argv[1]
    study = Study(network, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    kinds = sys.argv[3:] or ["topk", "relu"]
    latents = {f"{kind}_{seed}": study.dictionary(kind, seed) for kind in kinds for seed in (0, 1)}
    if network == "resnet50_superposed":
        for name, readout in latents.items():
            study.recovered(name, readout)
    for kind in kinds:
        study.against(kind, latents[f"{kind}_0"])
        study.seeds(kind, latents[f"{kind}_0"], latents[f"{kind}_1"])


class Study:
    """The maps of one layer under each condition, and what is made of them.

    Args:
        kept: Folder for the maps, to run it again without the network.
    """

    def __init__(self, network: str, kept: Path | None) -> None:
        self.network, self.layer, self.task = network, LAYERS[network], load_task(TASKS[network])
        self.roles = Roles(load_profile("miniature"), torch.device("cpu"), cache=open_cache())
        self.options = RunOptions(tasks=(self.task.name,), methods=METHODS)
        self.methods = load_methods(self.options, self.roles.profile)
        self.probing = self.roles.probing_set("scenes", IMAGES, self.roles.view(network))
        self.probe = probe_of(self.probing, masked=False)
        asked, concepts = asked_roles(self.methods), tuple(self.probing.concepts)
        words = self.roles.profile.concept_set("scenes").read_text().split("\n")
        concepts = tuple(word for word in words if word)
        self.tools = make_toolbox(self.roles, self.task, concepts, 0, lambda: {}, asked=asked, target=self.target())
        self.maps = {condition: self.read(condition, kept) for condition in CONDITIONS}

    def target(self) -> Any:
        """The network, with channels."""
        return self.roles.target(self.network)

    def read(self, condition: Condition, kept: Path | None) -> tuple[Tensor, Tensor, Any]:
        """Maps, embeddings and images of a condition."""
        images = perturbed(self.probe, condition, 0, self.options.perturbing(), self.roles.device)
        file = None if kept is None else kept / f"{self.network}-{condition.name}.pt"
        if file is not None and file.exists():
            found = torch.load(file, weights_only=True)
        else:
            parts = [images(range(start, min(start + 100, IMAGES))) for start in range(0, IMAGES, 100)]
            read = [self.target().read(part, {self.layer: "mean"}, [self.layer])[self.layer].maps for part in parts]
            found = {
                "maps": torch.cat(read),
                "clip": torch.cat([self.roles.clip.encode_images(part) for part in parts]),
            }
            if file is not None:
                torch.save(found, file)
        print(f"read {self.network} {condition}", file=sys.stderr, flush=True)
        return found["maps"].float(), found["clip"], images

    def dictionary(self, kind: str, seed: int) -> Readout:
        """One of the autoencoders."""
        return read_readout("dictionary", CHECKPOINTS / OF_LAYERS[f"sae_{self.network}_{kind}_{seed}"], self.layer)

    def rows(self, directions: Tensor) -> Readout:
        """Directions as units."""
        return Readout(self.layer, directions, torch.zeros(len(directions)), decoder=directions)

    def look(self, readout: Readout, condition: Condition) -> Observation:
        """The observation of a readout; dense, because these dictionaries are small."""
        maps, clip, images = self.maps[condition]
        codes = torch.cat([readout(part) for part in maps.split(50)])
        return Observation(
            self.layer, "spatial", condition.name, condition.severity, 0, self.probe.ids, codes.flatten(2).mean(2),
            MemoryMaps(codes.half()), clip, images, self.probe.segmentation, self.probe.presence,
        )  # fmt: skip

    def truth(self, readout: Readout, units: Sequence[int]) -> list[Mapping[str, Any] | None]:
        """The concept of each unit: the planted one of its direction, or the best one of its activations."""
        if self.network == "resnet50_superposed":
            file = CHECKPOINTS / OF_LAYERS["superposed"]
            cosines = normalize(readout.directions, dim=1) @ normalize(_planted(), dim=1).T
            planted = read_planted(file).units
            own = {unit: planted[int(cosines[unit].argmax())].concepts[0] for unit in units}
            return [{"concept": own[unit]} if float(cosines[unit].max()) >= RECOVERED else None for unit in units]
        clean = self.look(readout, CLEAN)
        dead = np.asarray(dead_units(clean.activations))
        task = self.task.model_copy(update={"truth": "best_concept"})
        found = unit_truth(task, units, clean, dead, self.probing.concepts, self.probing.presence, self.roles)
        return [found.get(unit) for unit in units]

    def labels(self, readout: Readout, units: Sequence[int]) -> dict[str, dict[Condition, list[str | None]]]:
        """Method → condition → the first label of each unit."""
        found: dict[str, dict[Condition, list[str | None]]] = {name: {} for name in METHODS}
        for condition in CONDITIONS:
            seen = self.look(readout, condition)
            for name, method in self.methods.items():
                answers = method.label(seen, list(units), self.tools)
                found[name][condition] = [one.ranked[0].text if one.ranked else None for one in answers]
        return found

    def recovered(self, name: str, readout: Readout) -> None:
        """How many planted directions a dictionary found, against random ones and the channels."""
        directions = normalize(_planted(), dim=1)
        random = torch.randn(len(readout.encoder), directions.shape[1], generator=torch.Generator().manual_seed(11))
        for what, rows in (
            (name, readout.directions),
            ("random", random),
            ("channels", torch.eye(directions.shape[1])),
        ):
            best = (normalize(rows, dim=1) @ directions.T).max(0).values
            print(f"| {what} | {len(rows)} | {best.mean():.3f} | {(best >= RECOVERED).float().mean():.0%} |")

    def against(self, kind: str, latents: Readout) -> None:
        """Latents, the channel of each one's largest weight, and a random direction for each."""
        clean = self.look(latents, CLEAN).activations
        living = np.flatnonzero(~np.asarray(dead_units(clean)))
        units = [int(unit) for unit in np.random.default_rng(0).permutation(living)]
        if self.network == "resnet50_superposed":
            units = [unit for unit, truth in zip(units, self.truth(latents, units), strict=True) if truth]
        units = sorted(units[:MOST])
        nearest = latents.directions[units].argmax(1)
        random = torch.randn(len(units), latents.directions.shape[1], generator=torch.Generator().manual_seed(12))
        arms = {
            "latents": (latents, units),
            "nearest channel": (self.rows(torch.eye(latents.directions.shape[1])[nearest]), range(len(units))),
            "random direction": (self.rows(normalize(random, dim=1)), range(len(units))),
        }
        truths, given, right, same = {}, {}, {}, {}
        for arm, (readout, some) in arms.items():
            # Of planted directions the question is whether the label is that of the latent's direction.
            known = self.truth(latents, units) if self.network == "resnet50_superposed" else self.truth(readout, some)
            truths[arm], given[arm] = known, self.labels(readout, some)
            for name in METHODS:
                clean, *others = (given[arm][name][condition] for condition in CONDITIONS)
                verdicts = [right_labels(told, known, self.roles) for told in (clean, *others)]
                right[arm, name] = np.array([[one or False for one in row] for row in verdicts])
                pairs = [[a is not None and a == b for a, b in zip(clean, told, strict=True)] for told in others]
                same[arm, name] = np.array(pairs)
        print(f"\n### {self.network}, {kind}: {len(units)} latents\n")
        print("| | " + " | ".join(METHODS) + " | mean |\n" + "|---" * (len(METHODS) + 2) + "|")
        asked = (
            ("right, clean", right, slice(0, 1)),
            ("right, perturbed", right, slice(1, None)),
            ("same label", same, slice(None)),
        )
        for arm in arms:
            for what, table, part in asked:
                values = [table[arm, name][part].mean() for name in METHODS]
                print(f"| {arm}: {what} | " + " | ".join(f"{value:.2f}" for value in [*values, np.mean(values)]) + " |")
            share = np.mean([truth is not None for truth in truths[arm]])
            print(f"| {arm}: share with a truth | | | | | | {share:.2f} |")
        for other in list(arms)[1:]:
            for what, table, part in asked:
                own, rest = (
                    np.mean([table[arm, name][part].mean(0) for name in METHODS], axis=0) for arm in ("latents", other)
                )
                print(f"| latents − {other}: {what} | | | | | | {_interval(own - rest)} |")

    def seeds(self, kind: str, first: Readout, second: Readout) -> None:
        """Latents of one seed against the most similar ones of the other."""
        alive = [np.flatnonzero(~np.asarray(dead_units(self.look(one, CLEAN).activations))) for one in (first, second)]
        cosines = normalize(first.directions, dim=1)[alive[0]] @ normalize(second.directions, dim=1)[alive[1]].T
        best, match = cosines.max(1)
        chosen = np.sort(np.random.default_rng(0).permutation(len(alive[0]))[:MOST])
        units, others = alive[0][chosen].tolist(), alive[1][match.numpy()[chosen]].tolist()
        own, theirs = (self.look(one, CLEAN) for one in (first, second))
        close = best.numpy()[chosen] >= ALIKE
        alike = float((best >= ALIKE).float().mean())
        told = f"{kind}: seed 0 and 1, mean cosine {best.mean():.2f}, {alike:.0%} at least {ALIKE}"
        print(f"\n| {told} | same label | of those |\n|---|---|---|")
        for name, method in self.methods.items():
            told = [[one.ranked[0].text if one.ranked else None for one in method.label(seen, some, self.tools)]
                    for seen, some in ((own, units), (theirs, others))]  # fmt: skip
            same = np.array([a is not None and a == b for a, b in zip(*told, strict=True)], dtype=float)
            print(f"| {name} | {_interval(same)} | {_interval(same[close])} |")


def _planted() -> Tensor:
    """The planted directions."""
    found = planted_directions(CHECKPOINTS / OF_LAYERS["superposed"])
    assert found is not None
    return found


def _interval(values: np.ndarray) -> str:
    """Mean and 95 % interval over units, by a percentile bootstrap."""
    if not len(values):
        return "none"
    draws = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
