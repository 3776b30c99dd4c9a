"""Work distributed over threads, each of which computes on its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def workers() -> Iterator[Callable[..., Iterator[Any]]]:
    """A ``map`` over as many threads as torch may use; inside, torch does not split single operations among threads.

    Operations of a fraction of a millisecond spend more time on synchronisation than splitting them saves, and the
    terms of a sum must not depend on the number of threads.
    """
    threads = torch.get_num_threads()
    if threads < 2:
        yield map
        return
    torch.set_num_threads(1)
    try:
        # A thread's own setting is also the default of later threads: all must be restored.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch and the linear algebra behind NumPy and SciPy use one thread each.

    An iteration repeated hundreds of times amplifies the last bit of a sum, which depends on the number of threads,
    into a different result.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)
