"""The parts of a large board one beside the other, in processes; the results and their order are the same."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LARGE: Final = 10_000
"""Rows of scores from which processes are worth their start, about two seconds each."""


def for_each(work: Callable[[Item], Result], items: Sequence[Item], rows: int) -> list[Result]:
    """What a function makes of every item.

    Args:
        work: A function of a module, so that another process finds it.
        items: What to work on; they and the results are sent between processes.
        rows: How many rows of scores all of them hold.
    """
    processes = min(len(items), os.cpu_count() or 1)
    if processes < 2 or rows < LARGE:
        return [work(item) for item in items]
    # Forking a process in which libraries have started threads may hang; a fresh server process has none.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("forkserver")) as pool:
        return list(pool.map(work, items))
