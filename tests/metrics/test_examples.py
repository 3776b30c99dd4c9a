"""The examples in the docstrings are run, and importing the package is cheap."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.mark.parametrize(("name", "examples"), [("cosy", 2), ("stability", 7), ("text", 4), ("statistics", 4)])
def test_docstring_examples(name, examples):
    module = importlib.import_module(f"metrics.{name}")
    result = doctest.testmod(module, extraglobs={"np": np})
    assert result.failed == 0
    assert result.attempted == examples


def test_importing_metrics_is_light():
    code = "import sys, metrics; print([m for m in ('torch', 'scipy', 'pandas', 'statsmodels') if m in sys.modules])"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
