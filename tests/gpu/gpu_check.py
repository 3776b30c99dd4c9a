"""Does CLEAR keep its promises on a GPU, and how fast is it there? ``tests/gpu/check.sh`` runs this.

All models are the miniature's: its ResNet-50 has the published architecture and sees 112 px, its CLIP and captioner are
smaller than published ones, and its generator is a renderer that draws on the CPU. Images are perturbed at 224 px.
Times are wall-clock times up to the end of all work on the device, after a first call that is not counted.

* A stage's rate is that of CLEAR's own call. ``pass`` is ``tasks.observe.observe`` on the clean images, read from disk;
  ``bare loop``, in turns with it, has the images in memory and drops what it computes: preprocessing and the target's
  forward pass as far as the layer, CLIP's image encoder.
* Half precision: labels found with the target and, on CUDA, the captioner in float16, beside those in float32.
* Out of memory: the device's memory is limited, the target is given more images at once than fit, and must give the
  same activations with fewer (in ``--dry`` the network itself says that memory ran out).
* The tests marked ``gpu`` run with pytest.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import logging
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from baselines.clip_dissect import ClipDissect
from baselines.concepts import load_concepts
from baselines.dnd.method import DescribeAndDissect
from baselines.network_dissection import NetworkDissection
from benchmark.core.toolbox import background_words, make_toolbox
from tasks.activations.capture import LayerCapture
from tasks.activations.spool import blocks
from tasks.catalogue import load_task
from tasks.common.image_files import load_image
from tasks.common.seeding import generator
from tasks.miniature.probing import MiniatureProbingSet
from tasks.models.target import TargetModel
from tasks.observe import CLEAN, IMAGES_AT_ONCE, observe, probe_of
from tasks.perturbations.settings import Settings, needs_foreground
from tasks.perturbations.suites import load_suite, perturbations_of
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.profiles.sources import CaptionerSource

ROOT = Path(__file__).parents[2]
TASK = load_task("resnet50_layer4")
PASS_SHARE, PERTURBED_PER_SECOND, SAME_LABELS = 0.9, 5000.0, 0.9
MEMORY = 2**29
"""Bytes that the target may use beyond what is reserved, when memory is to run out."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        images: Images of the pass, and of the stages before it.
        perturbed: Images per call of a perturbation.
        captions: Images that are captioned.
        concepts: Concepts of which ten images are drawn.
        half_images: Images with which labels in half precision are found; soft-WPMI needs 100.
        half_units: Units that Network Dissection labels in half precision.
        half_dnd: Units that Describe-and-Dissect labels in half precision.
        at_once: Images that do not fit into memory at once.
        rounds: Timed calls, of which the median counts.
    """

    images: int = 4096
    perturbed: int = 512
    captions: int = 1024
    concepts: int = 50
    half_images: int = 500
    half_units: int = 256
    half_dnd: int = 32
    at_once: int = 4096
    rounds: int = 5


DRY = Sizes(
    images=16, perturbed=2, captions=4, concepts=1, half_images=100, half_units=8, half_dnd=1, at_once=16, rounds=1
)


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Attributes:
        bar: The least value that passes; None if the figure is only stated.
        met: Whether it passes; None if it is not judged.
        peak: Peak memory in bytes: of the device on CUDA, of the process on a CPU; None if not measured.
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    met: bool | None = None
    peak: int | None = None
    note: str = ""


class Check:
    """The rows so far, and what all stages share."""

    def __init__(self, device: torch.device, sizes: Sizes, *, judge: bool) -> None:
        self.device, self.sizes, self.judge = device, sizes, judge
        self.rows: list[Row] = []
        self.roles = Roles(load_profile("miniature"), device)
        self.view = self.roles.view(TASK.model)

    def add(self, name: str, value: float, unit: str, *, bar: float | None = None, **facts: object) -> None:
        """Keep one figure, and print it at once."""
        met = value >= bar if self.judge and bar is not None else None
        self.rows.append(Row(name, round(value, 4), unit, bar, met, **facts))  # pyright: ignore[reportArgumentType]
        print(f"{name}: {value:,.3g} {unit}", file=sys.stderr, flush=True)

    def seconds(self, *works: Callable[[], object]) -> list[list[float]]:
        """Times of works that take turns, in each round; the first round is not counted."""
        taken: list[list[float]] = [[] for _ in works]
        for repeat in range(self.sizes.rounds + 1):
            for work, times in zip(works, taken, strict=True):
                self._wait()
                start = time.perf_counter()
                work()
                self._wait()
                if repeat:
                    times.append(time.perf_counter() - start)
        return taken

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def forget_peak(self) -> None:
        """Begin a new peak of memory; a process's own cannot be reset."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        """Peak memory since ``forget_peak``."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def stage(self, name: str, count: int, work: Callable[[], object], note: str = "") -> None:
        """Measure the images per second of one stage."""
        self.forget_peak()
        taken = statistics.median(self.seconds(work)[0])
        self.add(name, count / taken, "images/s", peak=self.peak(), note=note)


def decode(check: Check) -> None:
    """Photograph-sized JPEG files to the network's view."""
    count = min(check.sizes.images, 512)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number:06d}.jpg" for number in range(count)]
        for file, image in zip(files, MiniatureProbingSet("probe", count).images, strict=True):
            Image.fromarray(image.permute(1, 2, 0).numpy()).resize((500, 375)).save(file, quality=90)
        read = lambda: [check.view.picture(load_image(file)) for file in files]  # noqa: E731
        check.stage("decode", count, read, "JPEG of 500 × 375 px, one thread")


def perturb(check: Check) -> None:
    """Every perturbation of the task at severity 3, 224 px, images and results on the device."""
    scenes = MiniatureProbingSet("probe", min(check.sizes.perturbed, 64))
    times = -(-check.sizes.perturbed // len(scenes))
    images = scenes.images.repeat(times, 1, 1, 1).to(check.device)
    masks = scenes.foreground.repeat(times, 1, 1).to(check.device)
    seconds = {}
    check.forget_peak()
    for name in perturbations_of(map(load_suite, TASK.suites)):
        shown = masks if needs_foreground(name) else None
        work = lambda name=name, shown=shown: Settings().apply(images, name, 3, range(len(images)), shown)  # noqa: E731
        seconds[name] = statistics.median(check.seconds(work)[0])
    slowest = max(seconds, key=lambda name: seconds[name])
    note = f"{len(seconds)} perturbations; slowest {slowest}, {len(images) / seconds[slowest]:,.0f} images/s"
    rate = len(images) * len(seconds) / sum(seconds.values())
    check.add("perturb", rate, "images/s", bar=PERTURBED_PER_SECOND, peak=check.peak(), note=note)


def models(check: Check) -> None:
    """Each model alone, and the pass beside the bare loop."""
    sizes, roles, layers = check.sizes, check.roles, {TASK.layer: TASK.pooling}
    target, clip, captioner = roles.target(TASK.model), roles.plain_clip, roles.plain_captioner
    draws = roles.generator_for(check.view)
    assert captioner is not None
    assert draws is not None
    probe = probe_of(roles.probing_set(TASK.probing_set, sizes.images, check.view), masked=False)
    parts = [probe.load(part) for part in blocks(sizes.images, IMAGES_AT_ONCE)]
    images = torch.cat(parts)
    check.stage("forward", sizes.images, lambda: target.read(images, layers), f"as far as {TASK.layer}")
    check.stage("CLIP", sizes.images, lambda: clip.encode_images(images))
    check.stage("caption", sizes.captions, lambda: captioner.caption(images[: sizes.captions]))
    concepts = load_concepts(roles.profile.concept_set(TASK.concept_set))[: sizes.concepts]
    drawn = lambda: [draws.generate(concept, 10, 0) for concept in concepts]  # noqa: E731
    check.stage("draw", 10 * len(concepts), drawn, "the miniature's renderer, on the CPU")

    @torch.inference_mode()
    def bare() -> None:
        with LayerCapture(target.network, [TASK.layer]) as capture:
            for part in parts:
                for batch in part.split(target.batch_size):
                    prepared = target.preprocessing(batch.to(check.device))
                    capture(prepared.contiguous(memory_format=torch.channels_last))
                clip.encode_images(part)

    maps = {TASK.layer: range(48)}
    check.forget_peak()
    loop, passed = check.seconds(bare, lambda: observe(target, layers, probe, CLEAN, probe.load, clip, maps=maps))
    peak = check.peak()
    check.add("bare loop", sizes.images / statistics.median(loop), "images/s", peak=peak)
    check.add("pass", sizes.images / statistics.median(passed), "images/s", peak=peak)
    share = statistics.median(one / two for one, two in zip(loop, passed, strict=True))
    check.add("pass, share of the bare loop", share, "", bar=PASS_SHARE)


def half_precision(device: torch.device, sizes: Sizes) -> dict[str, float]:
    """Method → share of the units whose label in float16 is the one in float32."""
    profile = load_profile("miniature")
    captioner = profile.captioner
    assert isinstance(captioner, CaptionerSource)
    halved = captioner.model_copy(update={"half_on_cuda": True})
    whole, half = Roles(profile, device), Roles(profile.model_copy(update={"captioner": halved}), device)
    probe = probe_of(whole.probing_set(TASK.probing_set, sizes.half_images, whole.view(TASK.model)), masked=False)
    background = background_words(whole.plain_captioner, probe.load, len(probe.ids))
    concepts = load_concepts(profile.concept_set(TASK.concept_set))
    full = whole.target(TASK.model)
    small = TargetModel(copy.deepcopy(full.network).half(), lambda images: full.preprocessing(images).half(), device)
    order = generator(0, "gpu check").permutation(TASK.units.total).tolist()
    units = {
        "clip_dissect": range(len(order)),
        "network_dissection": order[: sizes.half_units],
        "dnd": order[: sizes.half_dnd],
    }
    found: list[dict[str, list[str]]] = []
    for roles, target in ((whole, full), (half, small)):
        maps = {TASK.layer: units["network_dissection"]}
        seen = observe(target, {TASK.layer: "mean"}, probe, CLEAN, probe.load, whole.plain_clip, maps=maps)[TASK.layer]
        asked = ("captioner", "summariser", "generator")
        tools = make_toolbox(roles, TASK, concepts, 0, lambda: background, asked=asked, target=target)
        methods = (ClipDissect(), NetworkDissection(), DescribeAndDissect(crop_px=112))
        labels = {method.name: method.label(seen, units[method.name], tools) for method in methods}
        found.append({name: [one.ranked[0].text if one.ranked else "" for one in of] for name, of in labels.items()})
    return {name: float(np.mean(np.array(found[0][name]) == np.array(found[1][name]))) for name in units}


class Narrow(nn.Module):
    """A network whose device holds only so many images: for a dry run."""

    def __init__(self, network: nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most

    def forward(self, images: Tensor) -> Tensor:
        """The network's output."""
        if len(images) > self.most:
            raise torch.OutOfMemoryError(f"{len(images)} images do not fit")
        return self.network(images)


def out_of_memory(check: Check) -> None:
    """More images at once than memory holds: halved, and the same activations."""
    roles, count = check.roles, check.sizes.at_once
    full, cuda = roles.target(TASK.model), check.device.type == "cuda"
    images = roles.probing_set(TASK.probing_set, check.sizes.images, check.view).load(range(min(64, count)))
    expected = full.read(images, {TASK.layer: "mean"})[TASK.layer].pooled
    images = images.repeat(-(-count // len(images)), 1, 1, 1)[:count]
    network = full.network if cuda else Narrow(full.network, 4)
    layer = TASK.layer if cuda else f"network.{TASK.layer}"
    target = TargetModel(network, full.preprocessing, check.device, count)
    if cuda:
        torch.cuda.empty_cache()
        reserved, total = torch.cuda.memory_reserved(check.device), torch.cuda.mem_get_info(check.device)[1]
        torch.cuda.set_per_process_memory_fraction((reserved + MEMORY) / total, check.device)
    try:
        pooled = target.read(images, {layer: "mean"})[layer].pooled
    finally:
        if cuda:
            torch.cuda.set_per_process_memory_fraction(1.0, check.device)
    again = pooled[: len(expected)]
    close = torch.isclose(again, expected, rtol=1e-3, atol=1e-4).float().mean()
    halved = target.batch_size < count
    note = f"{count:,} images at once became {target.batch_size:,}" if halved else "memory did not run out"
    check.add("out of memory, equal activations", float(close) if halved else 0.0, "", bar=1.0, note=note)


def gpu_tests(check: Check) -> None:
    """The tests that need a CUDA device."""
    if importlib.util.find_spec("pytest") is None:
        check.add("tests marked gpu", 0.0, "of them pass", bar=1.0, note="not run: pytest is not installed")
        return
    files = sorted(str(p) for p in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in p.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={results}"]
        done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
        if not results.exists():
            check.add("tests marked gpu", 0.0, "of them pass", bar=1.0, note=f"pytest failed: {done.stdout[-200:]}")
            return
        found = ElementTree.parse(results).getroot().iter("testsuite")
        counts = {key: 0 for key in ("tests", "failures", "errors", "skipped")}
        for suite in found:
            counts = {key: count + int(suite.get(key, 0)) for key, count in counts.items()}
    bad = counts["failures"] + counts["errors"] + counts["skipped"]
    note = ", ".join(f"{count} {key}" for key, count in counts.items())
    check.add("tests marked gpu", 1 - bad / max(counts["tests"], 1), "of them pass", bar=1.0, note=note)


def half_labels(check: Check) -> None:
    """Labels in half precision beside those in float32."""
    for name, share in half_precision(check.device, check.sizes).items():
        check.add(f"float16 labels, {name}", share, "as in float32", bar=SAME_LABELS)


PARTS = (decode, perturb, models, half_labels, out_of_memory, gpu_tests)


def measured(check: Check) -> None:
    """All parts of the check, one after the other; one that fails does not lose the others."""
    for part in PARTS:
        try:
            part(check)
        except Exception as error:
            logging.getLogger(__name__).warning("%s failed", part.__name__, exc_info=True)
            note = f"failed: {type(error).__name__}: {error}"
            check.rows.append(Row(part.__name__, 0.0, "", met=False, note=note))


def table(facts: dict[str, object], rows: Sequence[Row]) -> str:
    """The figures as Markdown."""
    said = {True: "yes", False: "**no**", None: ""}
    lines = [f"{facts['device']}; {facts['versions']}; {facts['seconds']:.0f} s in all."]
    if facts["dry"]:
        lines.append("A dry run on the CPU at a tiny size: no bar is judged, and no figure says anything about speed.")
    lines += ["", "| check | measured | bar | met | peak memory, MB | |", "|---|---|---|---|---|---|"]
    for row in rows:
        value = f"{row.value:,.0f}" if row.unit == "images/s" else f"{row.value:.3f}"
        bar = "" if row.bar is None else f"≥ {row.bar:,g}"
        peak = "" if row.peak is None else f"{row.peak / 1e6:,.0f}"
        note = " ".join(row.note.split()).replace("|", "/")
        lines.append(f"| {row.name} | {f'{value} {row.unit}'.strip()} | {bar} | {said[row.met]} | {peak} | {note} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="tests/gpu/check.sh", description="What CLEAR does on this GPU, in numbers.")
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder of check.json and check.md")
    parser.add_argument("--dry", action="store_true", help="on the CPU, at a tiny size, without judging the bars")
    asked = parser.parse_args(arguments)
    if not asked.dry and not torch.cuda.is_available():
        print("PyTorch finds no CUDA device here: --dry goes through the check on the CPU.", file=sys.stderr)
        return 1
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"--out {asked.out} cannot be made: {error.strerror}; choose another folder.", file=sys.stderr)
        return 1
    device = torch.device("cpu" if asked.dry else "cuda:0")
    start = time.perf_counter()
    check = Check(device, DRY if asked.dry else Sizes(), judge=not asked.dry)
    measured(check)
    facts: dict[str, object] = {
        "device": f"CPU, {platform.machine()}" if asked.dry else torch.cuda.get_device_name(device),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, CUDA {torch.version.cuda}",
        "dry": asked.dry,
        "seconds": round(time.perf_counter() - start, 1),
    }
    written = {**facts, "sizes": asdict(check.sizes), "rows": [asdict(row) for row in check.rows]}
    (asked.out / "check.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    text = table(facts, check.rows)
    (asked.out / "check.md").write_text(text, encoding="utf-8")
    print(text, end="")
    return int(any(row.met is False for row in check.rows))


if __name__ == "__main__":
    sys.exit(main())
