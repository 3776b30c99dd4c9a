"""A real run of the miniature that takes about a second, and child processes that do it and may be killed.

Run as a script, this module imports everything once and then forks: a child costs no imports. No tensor is touched
before the last fork, so that no child inherits a thread pool that is not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
METHODS = ("random_label", "constant_label")
CELLS = len(METHODS) * (2 + 2)
"""Two clean repeats and two perturbations, for each method."""
TABLES = ("labels", "evidence", "scores", "summary", "comparisons")


def options(out: Path, **changes: object):
    from benchmark.core.options import RunOptions

    values: dict[str, object] = {
        "tasks": ("resnet18_layer4",),
        "methods": METHODS,
        "suites": ("contrast", "fog"),
        "images": 12,
        "unit_ids": (3, 5),
        "out": out,
        "device": "cpu",
        "faithfulness": "none",
        "thumbnails": 0,
    }
    return RunOptions.model_validate(values | changes)


def run(out: Path, **changes: object):
    from benchmark import runner
    from benchmark.core.display import Display

    return runner.run(options(out, **changes), Display("quiet"))


def tables(folder: Path) -> dict[str, str]:
    """The hashes of the tables that must not depend on how a run came about."""
    return {name: hashlib.sha256((folder / f"{name}.parquet").read_bytes()).hexdigest() for name in TABLES}


def perturbed(names: list[str]) -> dict[str, str]:
    """What each perturbation makes of one image, as a hash."""
    import torch

    from tasks.perturbations import perturb
    from tasks.perturbations.settings import needs_background

    image = torch.arange(3 * 40 * 40).remainder(251).to(torch.uint8).reshape(1, 3, 40, 40)
    mask = torch.zeros((1, 40, 40), dtype=torch.bool)
    mask[:, 10:30, 12:40] = True
    other = image.flip(3)
    behind = {name: other if needs_background(name) else None for name in names}
    found = {name: perturb(image, name, 3, [7], mask, background=behind[name]) for name in names}
    return {name: hashlib.sha256(pixels.numpy().tobytes()).hexdigest() for name, pixels in found.items()}


def scenarios(folder: Path, **asked: list[int]) -> dict[str, dict]:
    """What functions of this module say, called one after the other in one process of their own.

    Args:
        folder: Each works in a folder of its name in this one.
        asked: Name of the function → its arguments.
    """
    for name in asked:
        (folder / name).mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, str(folder), json.dumps(asked)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---- in the process of its own ----


def child(work: Callable[[], None], log: Path) -> int:
    """Fork a process that does some work and ends with 0, or with 1 after an error; what it says goes to ``log``."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def exit_code(number: int) -> int:
    """Of a child, once it has ended; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def watched_run(folder: Path, seconds: float = 0.0) -> None:
    """The run; ``FOLDER.calls`` gets a line for each cell that a method does, made slower by so many seconds.

    Raises:
        AssertionError: The run ends although its tables are not complete.
    """
    import torch

    from benchmark.core import sweep
    from leaderboard.store.run_folder import RunFolder

    torch.set_num_threads(1)
    real = sweep.check_labels

    def counted(method: str, answer: object, *rest: object):
        with open(f"{folder}.calls", "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {method}\n")
        time.sleep(seconds)
        return real(method, answer, *rest)

    sweep.check_labels = counted
    result = run(folder)
    assert not result.failed, result.failed
    labels = RunFolder(folder).read_table("labels")
    assert len(labels[["method", "perturbation", "repeat"]].drop_duplicates()) == CELLS


def done_cells(folder: Path) -> int:
    from leaderboard.store.run_folder import RunFolder

    return len(RunFolder(folder).done_cells())


def calls(folder: Path) -> int:
    """How many cells were begun, over all processes."""
    path = Path(f"{folder}.calls")
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def same(folder: Path, other: Path) -> list[str]:
    """The tables that differ."""
    mine, theirs = tables(folder), tables(other)
    return [name for name in TABLES if mine[name] != theirs[name]]


def killed(place: Path, kills: int, seed: int) -> dict:
    """Kill runs at seeded moments and do the same again, until so many were killed; then let the last one end."""
    from random import Random

    whole, log = place / "whole", place / "log"
    started = time.monotonic()
    assert exit_code(child(lambda: watched_run(whole), log)) == 0, log.read_text()
    length = time.monotonic() - started
    random = Random(seed)
    folders, count, wrong, lost, begun = [place / "0"], 0, [], 0, 0
    while True:
        folder = folders[-1]
        before, calls_before = done_cells(folder), calls(folder)
        number = child(lambda: watched_run(folder), log)  # noqa: B023 it runs before the next turn
        if count < kills:
            time.sleep(random.uniform(0, length))
            os.kill(number, signal.SIGKILL)
        code = exit_code(number)
        # At most the cell that was in flight is begun a second time.
        lost += max(0, calls(folder) - calls_before - (done_cells(folder) - before) - (code != 0))
        if code == -signal.SIGKILL:
            count += 1
            continue
        assert code == 0, log.read_text()
        wrong += same(folder, whole)
        begun += calls(folder)
        if count >= kills:
            break
        folders.append(place / str(len(folders)))
    repeated = begun / (CELLS * len(folders)) - 1
    return {"kills": count, "runs": len(folders), "wrong": wrong, "lost": lost, "repeated": repeated}


def shared(place: Path, processes: int) -> dict:
    """Let processes do one run together; and one process another, to compare."""
    alone, together, log = place / "alone", place / "together", place / "log"
    assert exit_code(child(lambda: watched_run(alone), log)) == 0, log.read_text()
    numbers = [child(lambda: watched_run(together, 0.2), log) for _ in range(processes)]
    codes = [exit_code(number) for number in numbers]
    workers = {line.split()[0] for line in Path(f"{together}.calls").read_text().splitlines()}
    return {
        "codes": codes,
        "begun": calls(together),
        "workers": len(workers),
        "wrong": same(together, alone) if not any(codes) else [log.read_text()],
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from benchmark import runner  # noqa: F401 so that every child has it

    functions = {"killed": killed, "shared": shared}
    asked = json.loads(sys.argv[2])
    print(json.dumps({name: functions[name](Path(sys.argv[1], name), *asked[name]) for name in asked}))
