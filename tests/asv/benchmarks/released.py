"""Describe-and-Dissect per unit, and a whole sweep, each beside the procedure of the released scripts.

The references are written from the methods' descriptions, do what the releases do in their order, and use CLEAR's
components: the miniature's target, CLIP, captioner, summariser and generator, and CLEAR's seeds, so that labels can be
compared. They have CLEAR's ``fixed`` behaviour wherever a release's own would change a label but not its cost.

* Describe-and-Dissect, for each unit: target and CLIP are loaded again; the top images are read, and their maps made by
  one forward pass each; the images and their attention crops are passed through the target again, one by one, for their
  activations; captions, simplified captions and five summaries; for each candidate ten images are drawn and passed
  through the target, one by one, and the ten that the unit ranks first and the described images through CLIP.
* CLIP-Dissect: target and CLIP are loaded; all images are read and passed through each, in batches of 200; the concepts
  are embedded; soft-WPMI as in ``labelling.py``.
* Network Dissection: the target is loaded, all images are read and passed through it; thresholds by a sort of all
  values of a unit; overlaps as in ``labelling.py``.
* Sweep: for every condition the images are perturbed one by one and written as PNG, once for all methods; then every
  method's script is a process of its own, from its imports and models to its labels.

They are kinder than the releases: rendering the clean images, their masks and annotation is not counted; captioner,
summariser and generator are loaded once; maps and overlaps are computed for the labelled units only; crops are cut at
112 px, the models' size, not at 375; heat maps are resized by OpenCV, not Pillow; images are perturbed by CLEAR's
engine, and compressed without loss at the fastest level.

The references are timed on some units and conditions, since nothing is shared between these, CLEAR on all. Times of
``dnd`` are per unit and condition, those of ``sweep`` per condition; the others are of one layer.

CLEAR's side of the sweep is the command ``run`` as a user gets it, trivial baselines, noise floor, statistics and
tables included (its clean condition, repeated, counts as one), without its cache and without faithfulness, which no
release measures.

``python tests/asv/benchmarks/released.py`` prints both, and the comparisons of ``labelling.py``, as one Markdown table.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from baselines.concepts import load_concepts
from baselines.dnd.method import DescribeAndDissect
from benchmark.core.toolbox import background_words, make_toolbox
from tasks.catalogue import load_task
from tasks.common.seeding import generator, integer_seed
from tasks.models.target import TargetModel
from tasks.observation import Observation
from tasks.observe import CLEAN, Condition, Probe, image_seeds, observe, probe_of
from tasks.perturbations.settings import Settings, needs_foreground
from tasks.perturbations.suites import load_suite
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.roles import ImageTextEncoder

if __package__:  # asv imports the folder as a package
    from .labelling import COMPARISONS as PROCEDURES
    from .labelling import ENGINES, REFERENCE, released_dissection, released_soft_wpmi
else:
    from labelling import COMPARISONS as PROCEDURES
    from labelling import ENGINES, REFERENCE, released_dissection, released_soft_wpmi

TASK = load_task("resnet50_layer4")
SEED = 0
CROP_PX = 112
CPU = torch.device("cpu")
# The references share nothing between units, nor between conditions, so that some of them tell the time of each.
SAMPLE_UNITS, SAMPLE_CONDITIONS = 8, 1
ROOT = Path(__file__).parents[3]
IMPORTS = "import numpy, pandas, PIL, torch, torchvision, open_clip, transformers"
"""What a released script imports before it begins."""

Where = tuple[str, int, int]
"""Condition, severity and repeat."""
Labels = dict[tuple[str, Where, int], str]
"""(method, place, unit) → label; "" for a unit without one."""
Size = tuple[int, ...]
Work = Callable[[], Labels]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Given:
    """What both sides are given: images on disk, and models that every script would load only once.

    Attributes:
        files: One PNG for each image of the condition.
        background: Word → share of the clean images whose caption contains it, for the counting summariser.
    """

    roles: Roles
    probe: Probe
    files: Sequence[Path]
    background: Mapping[str, float]


@cache
def miniature() -> Roles:
    """The miniature's models."""
    return Roles(load_profile("miniature"), CPU)


def given(images: int, folder: Path, masked: bool = False) -> Given:
    """The clean probing set, written to a folder."""
    roles = miniature()
    probe = probe_of(roles.probing_set(TASK.probing_set, images, roles.view(TASK.model)), masked=masked)
    if probe.divided is not None:
        probe = probe.only(np.flatnonzero(probe.divided).tolist())
    background = background_words(roles.plain_captioner, probe.load, len(probe.ids))
    return Given(roles, probe, write(probe.load(range(len(probe.ids))), folder), background)


def write(images: Tensor, folder: Path) -> list[Path]:
    """Write images as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number:06d}.png" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, compress_level=1)
    return files


def read(file: Path) -> np.ndarray:
    """One image, uint8 [h, w, 3]."""
    return np.array(Image.open(file).convert("RGB"))


def tensor(image: np.ndarray) -> Tensor:
    """The same as uint8 [1, 3, h, w]."""
    return torch.from_numpy(image).permute(2, 0, 1)[None]


@dataclass
class Loaded:
    """Target and CLIP as a script loads them."""

    roles: Roles = field(default_factory=lambda: Roles(load_profile("miniature"), CPU))

    @property
    def target(self) -> TargetModel:
        """The network under study."""
        return self.roles.target(TASK.model)

    @property
    def clip(self) -> ImageTextEncoder:
        """CLIP, whose batches are not padded, so that a batch of one costs one image."""
        return self.roles.plain_clip.load()

    @torch.inference_mode()
    def output(self, images: Tensor) -> Tensor:
        """The layer's output, [n, units, h, w], by a hook and a complete forward pass."""
        network: nn.Module = self.target.network
        kept: list[Tensor] = []
        hook = network.get_submodule(TASK.layer).register_forward_hook(lambda *called: kept.append(called[2]))
        try:
            network(self.target.preprocessing(images).contiguous(memory_format=torch.channels_last))
        finally:
            hook.remove()
        return kept[0]

    def over_files(self, files: Sequence[Path], work: Callable[[Tensor], Tensor]) -> Tensor:
        """The results of a pass over all images, in batches of 200."""
        parts = [files[start : start + 200] for start in range(0, len(files), 200)]
        return torch.cat([work(torch.cat([tensor(read(file)) for file in part])) for part in parts])

    def activations(self, files: Sequence[Path]) -> Tensor:
        """Pooled activations of the layer, [images, units]."""
        return self.over_files(files, lambda images: self.output(images).mean(dim=(2, 3)))


def overlap(one: Sequence[int], two: Sequence[int]) -> float:
    """IoU of two boxes."""
    shared = max(0, min(one[2], two[2]) - max(one[0], two[0])) * max(0, min(one[3], two[3]) - max(one[1], two[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return shared / (sum(areas) - shared)


def crops(image: np.ndarray, activation: np.ndarray) -> list[np.ndarray]:
    """The attention crops of one image: boxes around what exceeds Otsu's threshold, the largest first, at most four."""
    low, high = activation.min(), activation.max()
    heat = np.round(255 * (activation.astype(np.float64) - low) / max(high - low, 1e-30)).astype(np.uint8)
    heat = cv2.resize(heat, (CROP_PX, CROP_PX), interpolation=cv2.INTER_CUBIC)
    mask = cv2.threshold(heat, 0, 255, cv2.THRESH_OTSU)[1]
    found = [cv2.boundingRect(one) for one in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]]
    boxes = [(x, y, x + w, y + h) for x, y, w, h in found]
    taken: list[tuple[int, int, int, int]] = []
    for box in sorted(boxes, key=lambda b: (-(b[2] - b[0]) * (b[3] - b[1]), b[1], b[0])):
        apart = all(overlap(box, other) <= 0.5 for other in taken)
        if len(taken) < 4 and apart and overlap(box, (0, 0, CROP_PX, CROP_PX)) < 0.8:
            taken.append(box)
    size = (CROP_PX, CROP_PX)
    whole = image if image.shape[:2] == size else cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return [cv2.resize(whole[y:b, x:r], size, interpolation=cv2.INTER_CUBIC) for x, y, r, b in taken]


def candidates(captions: Sequence[str], unit: int, place: Where, has: Given) -> list[str]:
    """Five summaries of the simplified captions, cleaned."""
    summariser = has.roles.summariser
    assert summariser is not None
    address = (TASK.layer, unit, *place, 1)
    short = [
        summariser.simplify(caption, integer_seed(SEED, "dnd", "simplify", *address, number))
        for number, caption in enumerate(captions)
    ]
    found: dict[str, None] = {}
    for turn in range(5):
        order = generator(SEED, "dnd", "shuffle", *address, turn).permutation(len(short))
        said, again = (integer_seed(SEED, "dnd", "summarise", *address, turn, part) for part in ("first", "again"))
        reply = summariser.summarise([short[number] for number in order], said, has.background)
        reply = reply.split(":")[1] if ":" in reply else reply
        if "," in reply:
            reply = summariser.summarise([piece.strip() for piece in reply.split(",")], again, has.background)
        concept = reply.lower().strip().removesuffix(".")
        if concept:
            found[concept] = None
            if concept.split()[-1] in ("design", "designs", "graphic", "graphics"):
                found[f"{concept} background"] = None
    return list(found)


def chosen(activations: np.ndarray, described: Tensor, drawn: Sequence[Tensor], clip: ImageTextEncoder) -> int:
    """The best candidate by topk-compare, of the unit's activations [candidates, images] on the drawn images."""
    order = np.argsort(-activations.ravel(), kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    ranks = ranks.reshape(activations.shape)
    squares = (np.sort(ranks, axis=1)[:, :5].astype(float) ** 2).mean(axis=1)
    place = sorted(range(len(squares)), key=lambda c: (squares[c], -c))
    scores = []
    for concept, images in enumerate(drawn):
        top = [clip.encode_images(images[i : i + 1]) for i in np.flatnonzero(ranks[concept] < 10)]
        similar = float((described.double() @ torch.cat(top).double().T).mean()) if top else -1.0
        scores.append((len(squares) - place.index(concept)) * similar)
    return max(range(len(scores)), key=lambda c: (scores[c], c))


def released_unit(unit: int, activations: Tensor, place: Where, has: Given) -> str:
    """Describe-and-Dissect's label of one unit."""
    models = Loaded()
    clip = models.clip
    captioner, draws = has.roles.plain_captioner, has.roles.generator_for(has.roles.view(TASK.model))
    assert captioner is not None
    assert draws is not None
    column = activations[:, unit].numpy()
    if not np.ptp(column) > 0:
        return ""
    pool: list[np.ndarray] = []
    for image in np.argsort(-column, kind="stable")[:10]:
        whole = read(has.files[image])
        pool.append(whole)
        pool += crops(whole, models.output(tensor(whole))[0, unit].numpy())
    means = [float(models.output(tensor(image))[0, unit].mean()) for image in pool]
    best = [pool[number] for number in np.argsort(-np.array(means), kind="stable")[:10]]
    described = torch.cat([tensor(image) for image in best])
    concepts = candidates(captioner.load().caption(described), unit, place, has)
    if not concepts:
        return ""
    drawn, measured = [], []
    for concept in concepts:
        seed = integer_seed(SEED, "dnd", "generate", concept, place[2])
        images = draws.generate(concept, 10, seed, "One realistic image of {concept}")
        drawn.append(images)
        measured.append([float(models.output(images[i : i + 1])[0, unit].mean()) for i in range(10)])
    seen = torch.cat([clip.encode_images(tensor(image)) for image in best])
    return concepts[chosen(np.array(measured), seen, drawn, clip)]


def released_dnd(units: Sequence[int], place: Where, has: Given) -> list[str]:
    """The script of Describe-and-Dissect for one cell."""
    activations = Loaded().activations(has.files)
    return [released_unit(unit, activations, place, has) for unit in units]


def released_clip_dissect(units: Sequence[int], place: Where, has: Given) -> list[str]:
    """The script of CLIP-Dissect for one cell; it labels the whole layer."""
    del place
    models = Loaded()
    activations = models.activations(has.files)
    concepts = load_concepts(models.roles.profile.concept_set(TASK.concept_set))
    images = models.over_files(has.files, models.clip.encode_images)
    scores = released_soft_wpmi(images @ models.clip.encode_text(concepts).T, activations)
    return [concepts[number] for number in scores.argmax(dim=1)[list(units)]]


def released_network_dissection(units: Sequence[int], place: Where, has: Given) -> list[str]:
    """The script of Network Dissection for one cell."""
    del place
    segmentation = has.probe.segmentation
    assert segmentation is not None
    models = Loaded()
    maps = models.over_files(has.files, lambda images: models.output(images)[:, list(units)].contiguous())
    values = np.sort(maps.numpy().transpose(1, 0, 2, 3).reshape(len(units), -1), axis=1)
    limits = values[:, -1 - int(0.005 * values.shape[1])]
    scores = released_dissection(maps.numpy(), limits, segmentation)
    return [segmentation.labels[one.argmax()] if one.max() > 0 else "" for one in scores]


SCRIPTS: Mapping[str, Callable[[Sequence[int], Where, Given], list[str]]] = {
    "clip_dissect": released_clip_dissect,
    "network_dissection": released_network_dissection,
    "dnd": released_dnd,
}


def perturbed_files(condition: Condition, has: Given, folder: Path) -> list[Path]:
    """Read, perturb and write the images one by one, with the run's seeds."""
    folder.mkdir()
    masks = has.probe.masks if needs_foreground(condition.name) else None
    files = [folder / file.name for file in has.files]
    for number, seed in enumerate(image_seeds(SEED, has.probe.ids, condition)):
        mask = None if masks is None else masks([number])
        image = tensor(read(has.files[number]))
        image = Settings().apply(image, condition.name, condition.severity, [seed], mask)
        Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(files[number], compress_level=1)
    return files


def released_sweep(units: Sequence[int], conditions: Sequence[Condition], has: Given) -> Labels:
    """Every script under every condition."""
    found: Labels = {}
    for condition in conditions:
        place = (condition.name, condition.severity, 0)
        with tempfile.TemporaryDirectory() as folder:
            here = replace(has, files=perturbed_files(condition, has, Path(folder) / "images"))
            for method, script in SCRIPTS.items():
                process([sys.executable, "-c", IMPORTS])
                said = script(units, place, here)
                found |= {(method, place, unit): label for unit, label in zip(units, said, strict=True)}
    return found


def labelled(count: int) -> list[int]:
    """The units to label, drawn as a run draws them."""
    return sorted(generator(SEED, "units", TASK.name).permutation(TASK.units.total)[:count].tolist())


def conditions_of(count: int) -> list[Condition]:
    """Some of the task's perturbations, evenly spread over its list."""
    pairs = [pair for name in TASK.suites for pair in load_suite(name).conditions(None, TASK.severities)]
    return [Condition(*pairs[round(place)]) for place in np.linspace(0, len(pairs) - 1, count)]


@cache
def observed(size: Size, folder: Path) -> tuple[Mapping[str, float], list[tuple[Given, Observation]]]:
    """What both sides are given: background words; images and activations of each cell."""
    has = given(size[1], folder / "clean")
    cells = []
    for condition in (CLEAN, *conditions_of(size[2] - 1)):
        here = has
        if condition != CLEAN:
            here = replace(has, files=perturbed_files(condition, has, folder / str(condition)))
        cells.append((here, seen(condition, labelled(size[0]), here)))
    return has.background, cells


def dnd(engine: str, size: Size, folder: Path) -> Work:
    """Describe-and-Dissect from the activations, models loaded anew; size: units, images, conditions."""
    units, (background, cells) = labelled(size[0]), observed(size, folder)

    def reference() -> Labels:
        pairs = [(here, one, unit) for unit in units for here, one in cells]
        return {
            ("dnd", where(one), unit): released_unit(unit, one.activations, where(one), here)
            for here, one, unit in pairs[:: max(1, len(pairs) // SAMPLE_UNITS)]
        }

    def clear() -> Labels:
        roles, method = Roles(load_profile("miniature"), CPU), DescribeAndDissect(crop_px=CROP_PX)
        asked = ("captioner", "summariser", "generator")
        tools = make_toolbox(roles, TASK, (), SEED, lambda: background, asked=asked)
        return {
            ("dnd", where(one), labels.unit): labels.ranked[0].text if labels.ranked else ""
            for _, one in cells
            for labels in method.label(one, units, tools)
        }

    return reference if engine == REFERENCE else clear


def seen(condition: Condition, units: Sequence[int], has: Given) -> Observation:
    """What CLEAR observes of the images of a condition."""

    def images(indices: Sequence[int]) -> Tensor:
        return torch.cat([tensor(read(has.files[index])) for index in indices])

    target, clip, layers = has.roles.target(TASK.model), has.roles.plain_clip, {TASK.layer: TASK.pooling}
    return observe(target, layers, has.probe, condition, images, clip, maps={TASK.layer: units})[TASK.layer]


def where(observation: Observation) -> Where:
    """Where an observation was made."""
    return observation.condition, observation.severity, observation.repeat


def sweep(engine: str, size: Size, folder: Path) -> Work:
    """Every cell, from the models and the images to the labels; size: units, images, perturbations."""
    units, conditions = labelled(size[0]), conditions_of(size[2])
    if engine == REFERENCE:
        has = given(size[1], folder, masked=any(needs_foreground(condition.name) for condition in conditions))
        return lambda: released_sweep(units, conditions[len(conditions) // 2 :][:SAMPLE_CONDITIONS], has)

    command = [sys.executable, "-m", "benchmark", "run", "--task", TASK.name, "--images", str(size[1])]
    command += ["--unit-ids", ",".join(map(str, units)), "--suites", ",".join(one.name for one in conditions)]
    command += ["--faithfulness", "none", "--device", "cpu", "--cache", "none", "--out"]

    def clear() -> Labels:
        with tempfile.TemporaryDirectory() as out:
            process([*command, f"{out}/run"])
            rows = pd.read_parquet(f"{out}/run/labels.parquet")
        rows = rows[rows["method"].isin(SCRIPTS) & (rows["rank"] == 1)]
        columns = (rows[name].tolist() for name in ("method", "perturbation", "severity", "repeat", "unit", "label"))
        return {(m, (c, s, r), unit): label for m, c, s, r, unit, label in zip(*columns, strict=True)}

    return clear


def process(command: Sequence[str]) -> None:
    """A process of its own, with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)


COMPARISONS: dict[str, tuple[Callable[[str, Size, Path], Work], tuple[Size, ...], str]] = {
    "dnd": (dnd, ((8, 100, 1), (16, 100, 19)), "units × images × conditions"),
    "sweep": (sweep, ((8, 100, 18),), "units × images × perturbations"),
}
LAYERS: dict[str, Size] = {
    "network_dissection": (1024, 200),
    "soft_wpmi": (512, 10_000, 3000),
    "clip_dissect": (512, 10_000, 3000),
}


def spent(work: Callable[[], Result]) -> tuple[float, Result]:
    """Processor time of one call, all threads and finished child processes together, and what it gives."""
    start = sum(os.times()[:4])
    result = work()
    return sum(os.times()[:4]) - start, result


def agreement(found: Labels, expected: Labels) -> float:
    """Share of the expected labels that were found; a unit without a label may have no entry."""
    return statistics.mean(found.get(key, "") == label for key, label in expected.items())


PER: Mapping[str, Callable[[Labels], int]] = {
    "dnd": len,
    "sweep": lambda labels: len({place[:2] for _, place, _ in labels}),
}
"""What a time is divided by: the labels of a unit under a condition; the conditions."""


class Released:
    """Both, at the sizes of the table."""

    params = (ENGINES, [(name, size) for name, (_, sizes, _) in COMPARISONS.items() for size in sizes])
    param_names = ("engine", "comparison")
    timeout = 1200

    def setup(self, engine: str, comparison: tuple[str, Size]) -> None:
        """Write the images; the clock does not run yet."""
        torch.set_num_threads(1)
        name, size = comparison
        self.folder = tempfile.TemporaryDirectory()
        self.work = COMPARISONS[name][0](engine, size, Path(self.folder.name))
        self.divisor = PER[name]

    def teardown(self, *_: object) -> None:
        """Remove the images."""
        self.folder.cleanup()

    def track_seconds(self, *_: object) -> float:
        """Processor time per unit and condition, or per condition."""
        taken, labels = spent(self.work)
        return taken / self.divisor(labels)

    track_seconds.unit = "s"


def row(name: str, size: Size) -> str:
    """One comparison as a line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        if name in COMPARISONS:
            prepared, _, axes = COMPARISONS[name]
            works = [prepared(engine, size, Path(folder)) for engine in ENGINES]
            (ours, found), (theirs, expected) = map(spent, works)
            same = agreement(found, expected)
            ours, theirs = ours / PER[name](found), theirs / PER[name](expected)
        else:
            layer, _, axes = PROCEDURES[name]
            (ours, one), (theirs, other) = (spent(layer(engine, size)) for engine in ENGINES)
            same = float((one == other).mean())
    cells = [name, f"{' × '.join(f'{n:,}' for n in size)} {axes}", f"{theirs:.2f}", f"{ours:.2f}"]
    return f"| {' | '.join([*cells, f'{theirs / ours:.1f}', f'{same:.0%}'])} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CLEAR beside the procedures of the released scripts.")
    parser.add_argument("--only", nargs="+", default=[*COMPARISONS, *LAYERS], choices=[*COMPARISONS, *LAYERS])
    parser.add_argument("--units", type=int, help="of dnd and sweep [default: 8 and 16, 8]")
    parser.add_argument("--images", type=int, help="of dnd and sweep, at least 100, which soft-WPMI needs")
    parser.add_argument("--perturbations", type=int, help="of dnd, from 0, and sweep, from 1; at most 18")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"Processor time; Python {platform.python_version()}, torch {torch.__version__}\n")
    print(f"| comparison | size | {REFERENCE}, s | CLEAR, s | times faster | the same labels |")
    print("|---" * 6 + "|")
    for name in asked.only:
        for size in COMPARISONS[name][1] if name in COMPARISONS else [LAYERS[name]]:
            if name in COMPARISONS:
                last = size[2] if asked.perturbations is None else asked.perturbations + (name == "dnd")
                size = (asked.units or size[0], asked.images or size[1], last)
            print(row(name, size), flush=True)


if __name__ == "__main__":
    sys.exit(main())
