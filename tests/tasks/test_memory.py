"""Freed memory is kept for the next tensors, unless the user has decided otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import torch
from tasks.common.memory import keep_freed_memory

kept = keep_freed_memory()
count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2_000_000)
before = count()
for _ in range(20):
    torch.ones(2_000_000)
    torch.ones(7_000_000)
print(kept, count() - before)
"""


def _run(**environment: str) -> tuple[bool, int]:
    done = subprocess.run(
        [sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True, env={"PATH": "", **environment}
    )
    kept, faults = done.stdout.split()
    return kept == "True", int(faults)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_blocks_are_used_again() -> None:
    kept, faults = _run()
    assert kept
    chosen, faults_before = _run(MALLOC_TRIM_THRESHOLD_="131072")
    assert not chosen
    # 20 times 36 MB are 180,000 pages of 4 kB: all of them the first time only.
    assert faults < faults_before / 4


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_the_users_own_settings_stay() -> None:
    assert not _run(GLIBC_TUNABLES="glibc.malloc.trim_threshold=131072")[0]
