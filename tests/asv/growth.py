"""How time, memory, temporary disk and drawings of a run grow with its units and its images.

Each size is a run of the miniature in a process of its own, without a cache: once over the units of ``resnet50_layer4``
and once over the images of ``resnet18_layer4``, under ``clean`` and ``gaussian_blur`` at severity 3. Time is that of
the processor, so that other programs on the machine change little. Memory is the highest resident set. Temporary disk
is the highest sum of what the process holds in unlinked files, read from ``/proc`` five times per second (Linux). A
drawing is one generated image.

``python tests/asv/growth.py --out FOLDER`` writes ``growth.json`` and ``growth.png`` there and prints the tables in
Markdown. ``--from FOLDER/growth.json`` draws and prints an earlier measurement again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from report.figures import style

ROOT = Path(__file__).parents[2]
METHODS = "clip_dissect,network_dissection,dnd"
SETTINGS = ("--suites", "gaussian_blur", "--severities", "3", "--repeats", "1", "--faithfulness", "none")
Row = dict[str, float]


@dataclass(frozen=True)
class Measure:
    """One panel of the figure and one column of the tables."""

    key: str
    title: str
    shown: Callable[[float], str]


MEASURES = (
    Measure("seconds", "processor time, s", lambda value: f"{value:.0f}"),
    Measure("memory_mb", "peak memory, MB", lambda value: f"{value:.0f}"),
    Measure("disk_mb", "temporary disk, MB", lambda value: f"{value:.1f}"),
    Measure("drawings", "drawings", lambda value: f"{value:.0f}"),
)


def measured(task: str, units: int, images: int, methods: str) -> Row:
    """One run in a process of its own.

    Raises:
        RuntimeError: The run failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        (place / "tmp").mkdir()
        sizes = ("--units", str(units), "--images", str(images), "--methods", methods)
        words = (sys.executable, "-m", "benchmark", "run", "--task", task, *sizes, *SETTINGS, "--out", f"{place}/run")
        environment = {**os.environ, "CLEAR_CACHE": "none", "TMPDIR": f"{place}/tmp"}
        started = time.perf_counter()
        with (place / "said").open("wb") as said:
            process = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=said, stderr=said)
            disk = _Disk(process.pid, f"{place}/tmp")
            _, status, used = os.wait4(process.pid, 0)
        most = disk.stop()
        if os.waitstatus_to_exitcode(status):
            raise RuntimeError((place / "said").read_text(errors="replace"))
        about = json.loads((place / "run" / "run.json").read_text())
        return {
            "units": units,
            "images": images,
            "seconds": used.ru_utime + used.ru_stime,
            "wall_seconds": time.perf_counter() - started,
            "memory_mb": used.ru_maxrss / 1024,
            "disk_mb": most / 1e6,
            "drawings": about["facts"]["plan"]["sessions"][-1]["actual"]["generated"],
        }


class _Disk:
    """Watches how much a process holds in unlinked files below a folder."""

    def __init__(self, pid: int, folder: str) -> None:
        self._open = Path(f"/proc/{pid}/fd")
        self._folder = folder
        self._most = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        """The most bytes so far."""
        self._ended.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            self._most = max(self._most, self._now())

    def _now(self) -> int:
        held = 0
        try:
            for entry in os.scandir(self._open):
                if os.readlink(entry.path).startswith(self._folder):
                    held += os.stat(entry.path).st_blocks * 512
        except OSError:  # the process, or one of its files, is gone
            return 0
        return held


def figure(found: dict[str, Any]) -> Figure:
    """Each measure over units (upper row) and images (lower row), with a line that grows in proportion."""
    with style.styled():
        drawn = Figure(figsize=(style.WIDTH, 3.4), layout="constrained")
        panels = drawn.subplots(len(found["growth"]), len(MEASURES), squeeze=False)
        for row, (over, rows) in zip(panels, found["growth"].items(), strict=True):
            sizes = [one[over] for one in rows]
            for panel, measure in zip(row, MEASURES, strict=True):
                values = [one[measure.key] for one in rows]
                panel.plot(sizes, values, color=style.INK, marker="o", markersize=3)
                if values[0] > 0:
                    panel.plot(
                        sizes, [values[0] * size / sizes[0] for size in sizes], color=style.MUTED, ls=(0, (1, 2))
                    )
                panel.set(xscale="log", yscale="log" if min(values) > 0 else "linear", xlabel=over)
                panel.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=45)
                apart = values[-1] > 1.3 * values[0]
                ends = [values[0], values[-1]] if apart else values[:1]
                panel.set_yticks(ends, [measure.shown(value) for value in ends])
                panel.minorticks_off()
                panel.set_title(measure.title)
        return drawn


def tables(found: dict[str, Any]) -> str:
    """Markdown: every size, and in brackets the exponent p of the step from the size before, as in units to the p."""
    lines = [found["about"]]
    for over, rows in found["growth"].items():
        fixed = "images" if over == "units" else "units"
        lines += ["", f"{rows[0][fixed]:,} {fixed}, {found['tasks'][over]}:", ""]
        lines += ["| " + " | ".join([over, *(measure.title for measure in MEASURES)]) + " |"]
        lines += ["|" + "---|" * (len(MEASURES) + 1)]
        for number, row in enumerate(rows):
            before = rows[number - 1] if number else None
            cells = [_cell(measure, over, row, before) for measure in MEASURES]
            lines.append(f"| {row[over]:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(measure: Measure, over: str, row: Row, before: Row | None) -> str:
    shown = measure.shown(row[measure.key])
    if before is None or min(row[measure.key], before[measure.key]) <= 0:
        return shown
    power = math.log(row[measure.key] / before[measure.key]) / math.log(row[over] / before[over])
    return f"{shown} ({power:.2f})"


def main(words: Sequence[str] | None = None) -> None:
    """Measure, or read a measurement; write and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--from", type=Path, dest="earlier", metavar="JSON")
    parser.add_argument("--units", nargs="+", type=int, default=(48, 192, 768, 2048), metavar="N")
    parser.add_argument("--images", nargs="+", type=int, default=(500, 2000, 8000), metavar="N")
    parser.add_argument("--fixed", nargs=2, type=int, default=(500, 48), metavar="N", help="images, and units, fixed")
    parser.add_argument("--methods", default=METHODS)
    asked = parser.parse_args(words)
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.earlier:
        found = json.loads(asked.earlier.read_text())
    else:
        tasks = {"units": "resnet50_layer4", "images": "resnet18_layer4"}
        images, units = asked.fixed
        about = f"{asked.methods}; {' '.join(SETTINGS)}; {torch.get_num_threads()} threads, "
        about += f"Python {platform.python_version()}, torch {torch.__version__}"
        found = {"about": about, "tasks": tasks, "growth": {"units": [], "images": []}}
        sizes = [("units", count, images) for count in asked.units]
        sizes += [("images", units, count) for count in asked.images]
        for over, some_units, some_images in sizes:
            row = measured(tasks[over], some_units, some_images, asked.methods)
            print(f"{over}: {row}", file=sys.stderr, flush=True)
            found["growth"][over].append(row)
            (asked.out / "growth.json").write_text(json.dumps(found, indent=1))
    figure(found).savefig(asked.out / "growth.png")
    print(tables(found))


if __name__ == "__main__":
    main()
