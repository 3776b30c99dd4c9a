"""What docstrings and documents name in the code is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("baselines", "benchmark", "leaderboard", "metrics", "report", "tasks")
NAME = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.\w+)+)`")


def _is_there(name: str) -> bool:
    """Whether a dotted name leads to a package, a module, or what is written in one."""
    place, parts = ROOT, name.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    module = place / f"{parts.pop(0)}.py" if parts and (place / f"{parts[0]}.py").exists() else place / "__init__.py"
    text = module.read_text(encoding="utf-8")
    return all(re.search(rf"\b{part}\b", text) for part in parts)


def test_every_dotted_name_in_a_text_is_there():
    texts = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *(f for p in PACKAGES for f in (ROOT / p).rglob("*.py"))]
    named = {(file, name) for file in texts for name in NAME.findall(file.read_text(encoding="utf-8"))}
    assert len(named) > 100
    assert [(str(file.relative_to(ROOT)), name) for file, name in sorted(named) if not _is_there(name)] == []


def test_a_name_that_has_moved_is_found():
    assert _is_there("leaderboard.store.schema.CONTEXT_ANOMALY")
    assert not _is_there("leaderboard.store.schema.CONTEXTANOMALY")
    assert not _is_there("leaderboard.pack")
