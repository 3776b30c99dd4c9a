"""Shared settings of the tests: offline, two threads at most, no global state left behind."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Beside another process of the tests, a second thread would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")
os.environ["CLEAR_CACHE"] = "none"  # a test must not find what an earlier one left

from hypothesis import HealthCheck, settings

# Seeded, and patient: a busy machine is no reason to fail.
settings.register_profile("clear", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("clear")
