from __future__ import annotations

import pytest
from small_run import run, tables


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tables of the small run, done without any fault."""
    return tables(run(tmp_path_factory.mktemp("whole") / "run").folder)
