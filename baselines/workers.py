"""Work shared among threads, each of which calculates alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def workers() -> Iterator[Callable[..., Iterator[Any]]]:
    """A ``map`` that runs in as many threads as torch may use; within, torch does not share single steps among threads.

    Steps of a fraction of a millisecond cost more in waiting for each other than sharing them saves, and what a number
    is summed up from must not depend on the number of threads.
    """
    threads = torch.get_num_threads()
    if threads < 2:
        yield map
        return
    torch.set_num_threads(1)
    try:
        # A thread's own setting is also what later threads begin with: all must be put back.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)
