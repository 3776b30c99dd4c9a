"""A short probe of each stage of a run on this machine: a few images, a few units, at no cost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from baselines import registry
from baselines.base import Method
from baselines.costs import Cost
from baselines.evidence import dead_units
from baselines.wrapper import Wrapper
from benchmark.core.prepare import asked_roles
from benchmark.core.sweep import evidence_rows, label_rows, unit_facts
from benchmark.core.thumbnails import thumbnail_rows
from benchmark.core.toolbox import background_words, make_toolbox
from benchmark.core.unit_measures import unit_measures
from benchmark.core.work import Work
from benchmark.plan.clock import ProbeClock
from benchmark.plan.count import cost_of
from benchmark.plan.language import language_roles
from benchmark.plan.made_up import TABLE_CONDITIONS, enlarged, made_up_scores
from benchmark.plan.rates import MethodTime, Rates
from benchmark.plan.tally import CountedRoles
from leaderboard.board.comparison import compare
from leaderboard.board.facts import RunFacts
from leaderboard.board.summary import summarise
from leaderboard.store.identity import as_json
from leaderboard.store.run_folder import CellKey, RunFolder
from metrics.evidence import activation_correlation
from metrics.faithfulness import faithfulness
from tasks.common.seeding import integer_seed
from tasks.models.target import TargetModel
from tasks.observation import Observation, Toolbox
from tasks.observe import CLEAN, Probe, probe_of
from tasks.perturbations.settings import Settings, needs_background, needs_foreground
from tasks.profiles.sources import GeneratorSource

IMAGES: Final = 32
"""Number of probing images for the probe, half a batch."""

FEW_IMAGES: Final = 4
"""Number of images for stages that are slow or vary little: perturbations, masks, captions."""

UNITS: Final = (1, 4, 32, 256, 2_048)
"""Units labelled in the calls of a method, as many calls as the time allows: the first includes loading, and the last
two give the cost per unit."""

LEAST: Final = 1.0
"""Seconds of the probe that every method gets: a single unit says little about those that label all units at once."""

TABLE_UNITS: Final = (32, 320)
"""Units of the made-up scores: what does not grow with them must be told from what does."""

TABLES_SHARE: Final = 1.9
"""The tables without comparisons, relative to the summary; the rest is reading, scoring and writing. 1.7 for 256 units
and 1.95 for 2,048 (resnet50_layer4, 18 conditions)."""


def measure(
    work: Work,
    methods: Mapping[str, Method],
    concepts: tuple[str, ...],
    roles: CountedRoles,
    settings: Settings,
    seed: int,
    masks: str | None,
    clock: ProbeClock,
) -> Rates:
    """Measure a task's stages.

    Each is measured on what little fits in the time; ``Rates.basis`` says on how much. A method for which there is no
    time left has the rate that follows from its stated cost.

    Args:
        roles: Models are built here, as part of the measured time.
        masks: Source of foreground masks; None if none are needed.
        clock: When to end, and the seconds that count.
    """
    with clock.threads() as speedup:
        return _Measuring(work, methods, concepts, roles, settings, seed, masks, clock, speedup).all()


class _Measuring:
    def __init__(
        self,
        work: Work,
        methods: Mapping[str, Method],
        concepts: tuple[str, ...],
        roles: CountedRoles,
        settings: Settings,
        seed: int,
        masks: str | None,
        clock: ProbeClock,
        speedup: float,
    ) -> None:
        self.work, self.methods, self.concepts, self.roles = work, methods, concepts, roles
        self.settings, self.seed, self.masks = settings, seed, masks
        self.clock, self.speedup = clock, speedup
        self.view = roles.view(work.task.model)
        self.rates = Rates()
        self.background: Mapping[str, float] = {}

    def all(self) -> Rates:
        probe = self._images()
        self._perturbations(probe)
        with self._timed("loading"):
            target, clip = self.roles.target(self.work.task.model), self.roles.clip
            target.network(target.preprocessing(_pixels(probe, 2)).to(target.device))
            clip.encode_images(_pixels(probe, 2))
        observation = self._observation(target, probe)
        self._roles(probe)
        self._evidence(observation)
        self._tables()
        self._faithfulness()
        # The cheapest come first, in case the time does not suffice for all.
        names = sorted(self.work.methods, key=lambda name: len(registry.entry(name).needs))
        for place, name in enumerate(names):
            self._method(name, observation, target, self.clock.left() / (len(names) - place))
        return self.rates

    @contextmanager
    def _timed(self, stage: str, count: int = 1, of: str = "images", speedup: float = 1.0) -> Iterator[None]:
        started = self.clock()
        yield
        spent = (self.clock() - started) / count / speedup
        self.rates.seconds[stage] = self.rates.seconds.get(stage, 0.0) + spent
        self.rates.basis[stage] = f"{count} {of}"

    def _images(self) -> Probe:
        count = min(IMAGES, self.work.images)
        with self._timed("images", count):
            probing = self.roles.probing_set(self.work.task.probing_set, count, self.view)
            probe = probe_of(probing, masked=self.masks == "probing_set")
        if self.masks != "segmenter":
            return probe
        with self._timed("loading"):
            self.roles.segmenter.foreground(_pixels(probe, 1))
        with self._timed("masks", FEW_IMAGES):
            self.roles.segmenter.foreground(_pixels(probe, FEW_IMAGES))
        return probe

    def _perturbations(self, probe: Probe) -> None:
        images = _pixels(probe, FEW_IMAGES)
        # A grid: every image has both, with equally many pixels of each.
        rows, columns = torch.meshgrid(*(torch.arange(side) // 56 for side in images.shape[2:]), indexing="ij")
        part = ((rows + columns) % 2 == 0).expand(len(images), -1, -1)
        names = list(dict.fromkeys(condition.name for condition in self.work.conditions if condition != CLEAN))
        # A third of the time; each is tried on one image at least.
        until = self.clock.left() * 2 / 3
        for name in names:
            severities = [condition.severity for condition in self.work.conditions if condition.name == name]
            severity = sorted(severities)[len(severities) // 2]
            masks = part if needs_foreground(name) else None
            seeds = [integer_seed(self.seed, "plan", name, index) for index in range(len(images))]
            few = 1 if self.clock.left() < until else len(images)
            if few > 1:
                self._apply(images[:1], name, severity, seeds[:1], None if masks is None else masks[:1])
            started = self.clock()
            self._apply(images[:few], name, severity, seeds[:few], None if masks is None else masks[:few])
            self.rates.perturbed[name] = (self.clock() - started) / few
            self.rates.basis["perturbations"] = f"{few} images each"

    def _apply(self, images: Tensor, name: str, severity: int, seeds: list[int], masks: Tensor | None) -> None:
        shown = images.to(self.roles.device)
        behind = shown if needs_background(name) else None
        own = None if masks is None else masks.to(self.roles.device)
        self.settings.apply(shown, name, severity, seeds, own, behind).cpu()

    def _observation(self, target: TargetModel, probe: Probe) -> Observation:
        """Observation under the clean condition, as large as in the run, from the few images repeated."""
        layer, pooling = self.work.task.layer, self.work.task.pooling
        images = _pixels(probe, IMAGES)
        with self._timed("target", len(images), speedup=self.speedup):
            reading = target.read(images, {layer: pooling}, [layer])[layer]
        if self.clock.left() > 0:
            # Most depends on this rate: what disturbs one reading may spare the other.
            started = self.clock()
            target.read(images, {layer: pooling}, [layer])
            again = (self.clock() - started) / len(images) / self.speedup
            self.rates.seconds["target"] = min(self.rates.seconds["target"], again)
        with self._timed("clip", len(images), speedup=self.speedup):
            embeddings = self.roles.clip.encode_images(images)
        return enlarged(probe, layer, reading, embeddings, self.work.images)

    def _roles(self, probe: Probe) -> None:
        needed = asked_roles(self.methods)
        # A summariser that uses word frequencies needs the captions of all images.
        counts = "summariser" in needed and self.roles.profile.may_count_words
        if ("captioner" in needed or counts) and self.roles.captioner is not None:
            with self._timed("loading"):
                captioner = self.roles.captioner
                captioner.caption(_pixels(probe, 1))
            few = min(2 * FEW_IMAGES, len(probe.ids))
            with self._timed("captions", few, speedup=self.speedup):
                self.background = background_words(captioner, probe.load, few)
        source = self.roles.profile.generator
        if source is None:
            return
        if isinstance(source, GeneratorSource) and self.roles.device.type == "cpu":
            self.rates.unmeasured["generated images"] = "a diffusion model takes minutes per image on a CPU"
            return
        with self._timed("loading"):
            assert self.roles.generator is not None  # noqa: S101 - the profile names it
            self.roles.generator.generate(self.concepts[0], 1, self.seed)
        with self._timed("generated", FEW_IMAGES, speedup=self.speedup):
            self.roles.generator.generate(self.concepts[-1], FEW_IMAGES, self.seed)

    def _evidence(self, observation: Observation) -> None:
        shown = observation.image_ids[: 2 * FEW_IMAGES]
        with self._timed("thumbnails", len(shown)):
            thumbnails = thumbnail_rows(observation, shown)
        # Rows grow with the units, and so does everything else here.
        units = self.work.units[: TABLE_UNITS[-1]]
        with self._timed("evidence", len(units), "units"):
            dead_units(observation.activations[:, list(units)])
            evidence = evidence_rows(observation, units)
            before = observation.activations[:, list(units)].numpy()
            activation_correlation(before, before)
            unit_measures(observation, units, self.seed)
        self.rates.thumbnail_bytes = float(np.mean([len(webp) for webp in thumbnails["webp"]]))
        with _folder() as folder:
            key = self.work.observation_key(CLEAN)
            folder.write_evidence(key, evidence)
            self.rates.evidence_bytes = _size(folder) / len(units)

    def _method(self, name: str, observation: Observation, target: TargetModel, allowance: float) -> None:
        reason = self._unfit(name)
        if reason is not None:
            self.rates.unmeasured[name] = reason
            return
        stated, why = cost_of(self.methods[name], 1, self.work.images)
        modelled = None if why else self._modelled(stated)
        allowance = max(allowance, LEAST)
        if modelled is not None and modelled + (stated.generated.likely or 0.0) * self._drawing() > allowance:
            self.rates.methods[name] = MethodTime(0.0, 0.0, modelled, 0.0, 0.0)
            self.rates.basis[name] = "its stated cost, not tried for lack of time"
            return
        try:
            self.rates.methods[name] = self._time(name, self.methods[name], observation, target, allowance)
        except Exception as error:  # the run will report the same for each cell; the rest can be planned
            self.rates.unmeasured[name] = f"it fails: {type(error).__name__}: {error}"

    def _time(
        self, name: str, method: Method, observation: Observation, target: TargetModel, allowance: float
    ) -> MethodTime:
        """The rates of a method; those of a wrapper follow from the method inside, which it repeats."""
        if isinstance(method, Wrapper):
            inner = self._time(name, method.inner, observation, target, allowance)
            cell, unit = method.seconds(inner.cell, inner.unit)
            self.rates.basis[name] += f" by {method.inner.name}, {method.labellings} times"
            return replace(inner, cell=cell, unit=unit)
        stated, why = cost_of(method, 1, self.work.images)
        modelled = None if why else self._modelled(stated)
        return self._label(name, method, observation, self._tools(target), allowance, modelled)

    def _modelled(self, stated: Cost) -> float | None:
        """Seconds of a unit without generated images, by the stated use of the models; None if one is unknown."""
        used = ((stated.activated, "target"), (stated.embedded, "clip"), (stated.captioned, "captions"))
        amounts = [(amount.likely, self.rates.seconds.get(stage)) for amount, stage in used]
        if any(amount is None or (amount and rate is None) for amount, rate in amounts):
            return None
        return sum((amount or 0.0) * (rate or 0.0) for amount, rate in amounts)

    def _unfit(self, name: str) -> str | None:
        asked = asked_roles({name: self.methods[name]})
        if asked & language_roles(self.roles.profile):
            return "a plan sends no requests to language models"
        if "generator" in asked and "generated" not in self.rates.seconds:
            return self.rates.unmeasured.get("generated images", "the profile has no generator")
        return None

    def _label(
        self,
        name: str,
        method: Method,
        observation: Observation,
        tools: Toolbox,
        allowance: float,
        modelled: float | None,
    ) -> MethodTime:
        dead = dead_units(observation.activations)
        alive = [unit for unit in self.work.units if not dead[unit]] or list(self.work.units)
        begun, start, took = time.monotonic(), 0, 0.0
        counts: list[int] = []
        seconds: list[float] = []
        sizes: list[int] = []
        for count in dict.fromkeys(min(count, len(alive)) for count in UNITS):
            spent = time.monotonic() - begun
            # No call costs more per unit than the one before it, which had fewer units to share with.
            if len(counts) > 1 and spent + took * count / counts[-1] > allowance:
                break
            # Different units each time: what a method remembers of some must not make the next ones cheap.
            units = [alive[(start + place) % len(alive)] for place in range(count)]
            start += count
            drawn, called, started = self.roles.tally["generated"], time.monotonic(), self.clock()
            found = method.label(observation, units, tools)
            used, took = (self.clock() - started) / self.speedup, time.monotonic() - called
            drawing = (self.roles.tally["generated"] - drawn) * self._drawing()
            with _folder() as folder:
                key = CellKey(self.work.task.name, self.work.profile, name, CLEAN.name, 0, 0)
                folder.write_cell(key, label_rows(found), {"units": as_json(unit_facts(found))})
                sizes.append(_size(folder))
            seconds.append(max(0.0, used - drawing))
            counts.append(count)
        self.rates.basis[name] = f"calls of {', '.join(map(str, counts))} units"
        cell, unit = _line(counts[-2:], seconds[-2:])
        if len(counts) < 3:
            # The first call includes loading: what units cost beyond the stated use of models counts for the cell.
            each = seconds[-1] / counts[-1]
            unit = each if modelled is None else min(modelled, each)
            cell = seconds[-1] - counts[-1] * unit
        cell_bytes, unit_bytes = _line(counts[-2:], sizes[-2:])
        return MethodTime(max(0.0, seconds[0] - cell - counts[0] * unit), cell, unit, cell_bytes, unit_bytes)

    def _drawing(self) -> float:
        """Seconds per generated image, including its pass through the target and CLIP."""
        return sum(self.rates.seconds.get(stage, 0.0) for stage in ("generated", "target", "clip"))

    def _tools(self, target: TargetModel) -> Toolbox:
        timed = {"captioner": "captions", "generator": "generated"}
        untimed = {role for role, stage in timed.items() if stage not in self.rates.seconds}
        asked = asked_roles(self.methods) - untimed - language_roles(self.roles.profile)
        task, words = self.work.task, self.background
        return make_toolbox(self.roles, task, self.concepts, self.seed, lambda: words, asked=asked, target=target)

    def _tables(self) -> None:
        counts = sorted({min(count, len(self.work.units)) for count in TABLE_UNITS})
        each, once = [], []
        for count in counts:
            rows = made_up_scores(self.work, count, self.seed)
            started = self.clock()
            summarise(rows, self.seed)
            between = self.clock()
            compare(rows, RunFacts(self.seed))
            each.append(TABLES_SHARE * (between - started) / (len(self.work.methods) * TABLE_CONDITIONS))
            once.append(self.clock() - between)
        self.rates.seconds["tables"], self.rates.seconds["tables_unit"] = _line(counts, each)
        self.rates.seconds["compared"], self.rates.seconds["compared_unit"] = _line(counts, once)
        self.rates.basis["tables"] = f"made-up scores of {counts[-1]} units"

    def _faithfulness(self) -> None:
        random = np.random.default_rng(self.seed)
        activations, presence = random.random((FEW_IMAGES, self.work.images, 1)), np.zeros((self.work.images, 1))
        presence[::2] = 1
        with self._timed("faithfulness", FEW_IMAGES, "labels"):
            for unit in activations:
                faithfulness(unit, presence)


@contextmanager
def _folder() -> Iterator[RunFolder]:
    with tempfile.TemporaryDirectory(prefix="clear-plan-") as path, RunFolder(Path(path) / "run") as folder:
        yield folder


def _size(folder: RunFolder) -> int:
    return sum(path.stat().st_size for path in (folder.path / "parts").rglob("*") if path.is_file())


def _line(counts: Sequence[int], values: Sequence[float]) -> tuple[float, float]:
    """Start and slope, neither below 0, of the line through first and last point, or through a single one and 0."""
    x1, x2, y1, y2 = counts[0], counts[-1], values[0], values[-1]
    slope = (y2 - y1) / (x2 - x1) if x2 > x1 else y2 / x2
    if slope < 0:
        return y2, 0.0
    start = y2 - slope * x2
    return (start, slope) if start >= 0 else (0.0, y2 / x2)


def _pixels(probe: Probe, count: int) -> UInt8[Tensor, "few 3 h w"]:
    """The first images, at most ``count``."""
    return probe.load(range(min(count, len(probe.ids))))
