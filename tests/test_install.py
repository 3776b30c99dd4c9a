"""What an installed CLEAR consists of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from setuptools import Distribution
from setuptools.command.build_py import build_py
from setuptools.config.pyprojecttoml import apply_configuration

ROOT = Path(__file__).parents[1]
PACKAGES = ("baselines", "benchmark", "leaderboard", "metrics", "report", "tasks")


@pytest.fixture(scope="module")
def wheel() -> set[str]:
    """The files that a wheel would contain; building one takes half a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        command = build_py(apply_configuration(Distribution({"script_name": "setup.py"}), ROOT / "pyproject.toml"))
        command.ensure_finalized()
        command.manifest_files = {}  # else an egg-info folder is written
        packages = [(package, command.get_package_dir(package)) for package in command.packages]
        data = [file for package, folder in packages for file in command.find_data_files(package, folder)]
        return {Path(file).as_posix() for file in (*data, *(file for _, _, file in command.find_all_modules()))}


def test_every_committed_file_of_the_packages_is_in_the_wheel(wheel):
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert set(listed.stdout.split()) - wheel == set()


def test_the_script_is_the_command():
    code = "import sys; from benchmark.__main__ import script; sys.argv = ['clear-benchmark', '--help']; script()"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    same = subprocess.run([sys.executable, "-m", "benchmark", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == same.stdout != ""
