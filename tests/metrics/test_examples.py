"""The examples in the docstrings are run, and importing the package is cheap."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import metrics

MODULES = sorted(module.name for module in pkgutil.walk_packages(metrics.__path__, "metrics."))
CHECKS_ONLY = ("metrics.statistics.result",)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.failed == 0
    functions = [value for value in vars(module).values() if inspect.isfunction(value) and value.__module__ == name]
    # A misspelt "Example" would run nothing and pass.
    assert result.attempted > 0 or name in CHECKS_ONLY or not functions


def test_importing_metrics_is_light():
    code = "import sys, metrics; print([m for m in ('torch', 'scipy', 'pandas', 'statsmodels') if m in sys.modules])"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
