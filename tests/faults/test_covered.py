"""The table of faults names tests that are there, and the README counts as the table does."""

from __future__ import annotations

import ast
import re
from functools import cache

from covered import FAULTS, PAGE, ROOT, as_markdown, held


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def test_every_fault_is_there_once_and_says_what_it_lacks():
    assert list(FAULTS) == list(range(1, 41))
    assert all(fault.tests or fault.lacking for fault in FAULTS.values())


def test_every_named_test_exists():
    named = [test for fault in FAULTS.values() for test in fault.tests]
    missing = []
    for test in named:
        file, _, name = test.partition("::")
        if (name and name not in names_in(file)) or not names_in(file):
            missing.append(test)
    assert missing == []


def test_a_test_named_after_a_fault_stands_in_its_row():
    for path in sorted((ROOT / "tests" / "faults").glob("test_*.py")):
        file = f"faults/{path.name}"
        for name in names_in(file):
            if found := re.match(r"test_f(\d\d)_", name):
                assert any(test.startswith(file) for test in FAULTS[int(found[1])].tests), f"{file}::{name}"


def test_the_page_is_the_table_and_the_readme_counts_as_it_does():
    assert PAGE.read_text(encoding="utf-8") == as_markdown()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"(\d+) of 40 faults", readme) == [str(held())]
