from __future__ import annotations

import threading

import pytest
import torch
from threadpoolctl import threadpool_info

from baselines.workers import one_thread, workers


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_order_and_each_thread_calculates_alone(threads, count):
    threads(count)
    with workers() as each:
        assert list(each(lambda x, y: (x + y, torch.get_num_threads()), range(20), range(20))) == [
            (2 * x, 1) for x in range(20)
        ]
    assert torch.get_num_threads() == count
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [count]


def test_an_error_comes_through_and_leaves_the_threads_as_they_were(threads):
    threads(2)
    with pytest.raises(ZeroDivisionError), workers() as each:
        list(each(lambda x: 1 / x, [1, 0, 2]))
    assert torch.get_num_threads() == 2


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_with_one_thread_neither_torch_nor_numpy_has_more_and_all_is_put_back(threads):
    threads(3)
    before = blas_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
        assert blas_threads() == {1}
    assert torch.get_num_threads() == 3
    assert blas_threads() == before
