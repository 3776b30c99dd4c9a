"""Work shared among threads, each of which calculates alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import threadpool_limits


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


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch and the linear algebra behind NumPy and SciPy use one thread each.

    An iteration that is repeated hundreds of times turns the last bit of a sum, which depends on how many threads add
    it up, into another result.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)
