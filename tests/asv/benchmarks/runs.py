"""Whole commands, each a process of its own: start-up, the default sweep at two sizes, the same command once more."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
SIZES = ((6, 100), (12, 200))
"""Units and images of the sweeps: twice as many of both."""


def benchmark(*words: str, cache: str = "none") -> float:
    """Seconds of ``python -m benchmark`` with these words."""
    environment = {**os.environ, "CLEAR_CACHE": cache}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *words], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return time.perf_counter() - started


def sweep(out: str, units: int, images: int, cache: str) -> float:
    """Seconds of the default task's sweep."""
    sizes = ("--units", str(units), "--images", str(images))
    return benchmark("run", "--task", "resnet50_layer4", *sizes, "--out", f"{out}/run", cache=cache)


def imports() -> float:
    """Seconds until a process has imported what a run needs, and nothing else."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import benchmark.runner, benchmark.commands.run"], cwd=ROOT, check=True)
    return time.perf_counter() - started


class StartUp:
    """``--help`` and ``list`` import no torch."""

    def time_help(self) -> None:
        benchmark("--help")

    def time_list(self) -> None:
        benchmark("list", "tasks")

    def time_imports_of_a_run(self) -> None:
        imports()


class Sweep:
    """The default sweep, reduced, and the same command once more."""

    params = (list(range(len(SIZES))),)
    param_names = ("size",)
    number, repeat, rounds = 1, 1, 1
    timeout = 900

    def setup(self, size: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.cache = f"{self.folder.name}/cache"
        self.first = sweep(self.folder.name, *SIZES[size], self.cache)

    def teardown(self, size: int) -> None:
        self.folder.cleanup()

    def track_first(self, size: int) -> float:
        return self.first

    def track_again(self, size: int) -> float:
        """The same command when all is done, less what importing takes."""
        return sweep(self.folder.name, *SIZES[size], self.cache) - imports()


if __name__ == "__main__":
    print(f"--help {benchmark('--help'):.2f} s, list {benchmark('list', 'tasks'):.2f} s, imports {imports():.2f} s")
    for number, (units, images) in enumerate(SIZES):
        case = Sweep()
        case.setup(number)
        again = case.track_again(number)
        print(f"{units} units, {images} images: {case.first:.1f} s; again, less imports: {again:.2f} s")
        case.teardown(number)
