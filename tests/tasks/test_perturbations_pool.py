"""The pool of worker processes: same pixels, no torch, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tasks.errors import UserError
from tasks.perturbations.worker import PerturbationPool, perturb_batch

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 34, 36, 3), dtype=np.uint8)
MASKS = np.zeros((9, 34, 36), bool)
MASKS[:, 5:20, 5:20] = True
SEEDS = list(range(9))


@pytest.fixture(scope="module")
def pool() -> Iterator[PerturbationPool]:
    with PerturbationPool(2) as opened:
        yield opened


@pytest.mark.parametrize("name", ["gaussian_noise", "glass_blur", "defocus_blur", "spatter", "background_blur"])
def test_pixels_do_not_depend_on_the_workers(name: str, pool: PerturbationPool) -> None:
    expected = perturb_batch(IMAGES, name, 3, SEEDS, MASKS)
    assert np.array_equal(pool.map(IMAGES, name, 3, SEEDS, MASKS), expected)
    with PerturbationPool(0) as here:
        assert np.array_equal(here.map(IMAGES, name, 3, SEEDS, MASKS), expected)


def test_submitted_work_comes_back_in_any_order(pool: PerturbationPool) -> None:
    first, second = (pool.submit(IMAGES, name, 2, SEEDS) for name in ("fog", "frost"))
    assert np.array_equal(second(), perturb_batch(IMAGES, "frost", 2, SEEDS))
    assert np.array_equal(first(), perturb_batch(IMAGES, "fog", 2, SEEDS))


def test_workers_import_no_torch_and_leave_ctrl_c_to_the_parent(pool: PerturbationPool) -> None:
    pool.map(IMAGES, "snow", 1, SEEDS)
    assert pool._executor is not None
    asked = (
        "'torch' in __import__('sys').modules, 'cv2' in __import__('sys').modules, __import__('cv2').getNumThreads()"
    )
    assert pool._executor.submit(eval, asked).result() == (False, True, 1)
    handler = "__import__('signal').getsignal(2) == __import__('signal').SIG_IGN"
    assert pool._executor.submit(eval, handler).result()


def test_no_images_and_severity_0(pool: PerturbationPool) -> None:
    assert pool.map(IMAGES[:0], "snow", 1, []).shape == (0, 34, 36, 3)
    assert np.array_equal(pool.map(IMAGES, "background_blur", 0, SEEDS), IMAGES)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("snoww", 1, SEEDS), "Did you mean snow"),
        (("snow", 9, SEEDS), "Severity 9"),
        (("snow", 1, SEEDS[1:]), "8 seeds were given for 9 images"),
        (("foreground_blur", 1, SEEDS), "needs a foreground mask"),
    ],
)
def test_mistakes_are_found_before_any_work(arguments: tuple, sentence: str) -> None:
    with PerturbationPool(2) as unused:
        with pytest.raises(UserError, match=sentence):
            unused.submit(IMAGES, *arguments)
        assert unused._executor is not None
        assert not unused._executor._processes


def test_a_dead_worker_is_one_sentence() -> None:
    with PerturbationPool(1) as pool:
        assert pool._executor is not None
        pool._executor.submit(os._exit, 1)
        with pytest.raises(UserError, match="died"):
            pool.map(IMAGES, "fog", 1, SEEDS)


def test_a_closed_pool_says_so() -> None:
    with pytest.raises(RuntimeError, match="not open"):
        PerturbationPool(1).map(IMAGES, "fog", 1, SEEDS)
    with pytest.raises(UserError, match="-1 workers"):
        PerturbationPool(-1)


SCRIPT = """
    import os, signal, sys, time
    from tasks.perturbations.worker import PerturbationPool

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
        with PerturbationPool(2) as pool:
            pids = [pool._executor.submit(os.getpid).result(), pool._executor.submit(os.getpid).result()]
            print(*set(pids), *pool._executor._processes, flush=True)
            time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
def test_no_worker_outlives_its_parent(end: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "sleeper.py"
    script.write_text(textwrap.dedent(SCRIPT))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as parent:
        assert parent.stdout is not None
        workers = {int(pid) for pid in parent.stdout.readline().split()}
        assert workers
        parent.send_signal(end)
        parent.wait(timeout=30)
    deadline = time.monotonic() + 20
    while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in workers)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
