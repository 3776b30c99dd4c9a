"""Efficiency with many GPUs: the real dispatcher under virtual time, beside one cell as the unit of work.

``python tests/asv/many_workers.py`` prints the table of docs/performance.md (about five minutes).

The job: Describe-and-Dissect on 2,048 units under 95 perturbed conditions and two clean repeats, 50,000 images. Seconds
per item on one GPU: a pass 285, a block of 64 units 12 (2 once its images are there), a concept's ten images 16.04
(Stable Diffusion 1.5, half precision, A100: 1.604 s per image, fal-ai/stable-diffusion-benchmarks; the others are
assumed). Each unit proposes five concepts per cell: a third is new, the rest comes from the unit's own earlier ones and
from words that are common to all units, which gives 350 thousand distinct concepts of 993 thousand.

Workers: speeds N(1, 0.05), scaled to a mean of 1, drawing time lognormal(0.08), 90 s to start, mean time between
failures 500 h, 300 s until a lost worker is replaced. Efficiency is the useful time (every item and every distinct
concept once) over GPUs times makespan.
"""

from __future__ import annotations

import heapq
import sys
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmark.core.items import Item  # noqa: E402
from benchmark.execution.dispatch import CONCEPTS  # noqa: E402
from benchmark.execution.simulate import Cluster, makespan  # noqa: E402
from leaderboard.store.parts import CellKey  # noqa: E402

PASS, LABELLING, AGAIN, CONCEPT = 285.0, 12.0, 2.0, 16.04
START, LIFETIME, RESTART = 90.0, 500 * 3600.0, 300.0
GPUS = (8, 64, 256, 1024)
SEEDS = range(5)
CANDIDATES = 5


@dataclass(frozen=True)
class Job:
    """A drawing method's cells on one layer; see ``benchmark.execution.simulate.Workload``."""

    cells: int = 97
    units: int = 2048
    seed: int = 0

    @cached_property
    def items(self) -> list[Item]:
        """A pass per condition, the two clean repeats sharing one, and the blocks of each cell."""
        passes = dict.fromkeys(Item("pass", 0, block.condition) for block in self.asked)
        return [*passes, *self.asked]

    @cached_property
    def asked(self) -> dict[Item, tuple[str, ...]]:
        """Block → the concepts that it tests."""
        rng = np.random.default_rng(self.seed)
        asked = {}
        own = [[f"{unit} {number}" for number in range(8)] for unit in range(self.units)]
        for number in range(self.cells):
            name = "clean" if number < 2 else f"condition {number - 1}"
            cell = Item("block", 0, name, cell=CellKey("task", "profile", "dnd", name, 0, int(number == 1)))
            kind = rng.random((self.units, CANDIDATES))
            mine = rng.integers(8, size=kind.shape)
            common = np.minimum(rng.zipf(1.3, size=kind.shape), 5000)
            for block in cell.blocks(range(self.units)):
                asked[block] = tuple(
                    dict.fromkeys(
                        f"{number} {unit} {place}"
                        if kind[unit, place] < 0.33
                        else own[unit][mine[unit, place]]
                        if kind[unit, place] < 0.8
                        else f"word {common[unit, place]}"
                        for unit in block.units
                        for place in range(CANDIDATES)
                    )
                )
        return asked

    @cached_property
    def useful(self) -> float:
        """Seconds of every item and every distinct concept, once."""
        distinct = len({name for names in self.asked.values() for name in names})
        passes = sum(item.kind == "pass" for item in self.items)
        return passes * PASS + len(self.asked) * (LABELLING + AGAIN) + distinct * CONCEPT

    def draws(self, block: Item) -> Collection[str]:
        """The concepts that a block tests."""
        return self.asked[replace(block, epoch=0)]

    def seconds(self, item: Item, again: bool) -> float:
        """Duration on one GPU."""
        if item.kind == "draw":
            return len(item.draws) * CONCEPT
        return PASS if item.kind == "pass" else AGAIN if again else LABELLING


def cluster(gpus: int, seed: int) -> Cluster:
    """Workers as described above."""
    rng = np.random.default_rng([seed, gpus])
    speeds = rng.normal(1, 0.05, gpus)
    return Cluster(
        tuple(speeds / speeds.mean()),
        START,
        lambda: float(rng.exponential(LIFETIME)),
        RESTART,
        lambda item: float(rng.lognormal(0, 0.08)) if item.kind == "draw" else 1.0,
    )


def whole_cells(job: Job, workers: Cluster) -> float:
    """Seconds where a worker takes a whole cell: it draws what nobody has finished drawing, block by block."""
    blocks: dict[str, list[Item]] = {}
    for item in job.items:
        if item.kind == "block":
            assert item.cell is not None
            blocks.setdefault(item.cell.name, []).append(item)
    waiting = deque(blocks)
    there: dict[str, float] = {}
    events = [(workers.start, worker, "", 0) for worker in range(len(workers.speeds))]
    dies = [workers.start + workers.lifetime() for _ in workers.speeds]
    last = 0.0
    while events:
        now, worker, cell, step = heapq.heappop(events)
        if cell and now >= dies[worker]:
            waiting.append(cell)
            begin = dies[worker] + workers.restart + workers.start
            dies[worker] = begin + workers.lifetime()
            heapq.heappush(events, (begin, worker, "", 0))
            continue
        if cell and step == len(blocks[cell]):
            last, cell = max(last, now), ""
        if not cell:
            if not waiting:
                continue
            cell, step = waiting.popleft(), 0
        block = blocks[cell][step]
        missing = [name for name in job.draws(block) if there.get(name, np.inf) > now]
        drawing = len(missing) * CONCEPT * workers.noise(Item("draw", 0))
        end = now + ((PASS if step == 0 else 0.0) + LABELLING + AGAIN + drawing) / workers.speeds[worker]
        for name in missing:
            there[name] = min(end, there.get(name, np.inf))
        heapq.heappush(events, (end, worker, cell, step + 1))
    return last


def table(job: Job, gpus: Sequence[int] = GPUS, seeds: Sequence[int] = SEEDS) -> Iterator[str]:
    """The efficiencies as lines of Markdown: lowest and highest of the seeds."""
    yield from (
        "| GPUs | one cell per worker | pass, block, draw | hours | dispatcher, ms per item |",
        "| --- " * 5 + "|",
    )
    distinct = len({name for names in job.asked.values() for name in names})
    items = len(job.items) + len(job.asked) + distinct / CONCEPTS
    for count in gpus:
        cells = [whole_cells(job, cluster(count, seed)) for seed in seeds]
        started = time.process_time()
        found = [makespan(job, cluster(count, seed)) for seed in seeds]
        spent = 1000 * (time.process_time() - started) / len(seeds) / items
        hours = float(np.mean(found)) / 3600
        shares = f"{_shares(job, count, cells)} | {_shares(job, count, found)}"
        yield f"| {count:,} | {shares} | {hours:.1f} | {spent:.2f} |"


def _shares(job: Job, count: int, seconds: Sequence[float]) -> str:
    low, high = (job.useful / count / pick(seconds) for pick in (max, min))
    return f"{100 * low:.1f} to {100 * high:.1f} %"


if __name__ == "__main__":
    whole = Job()
    print(f"{len(whole.items):,} passes and blocks, {whole.useful / 3600:,.0f} GPU hours of useful work")
    for line in table(whole):
        print(line, flush=True)
