"""The references of the benchmarks, written from the methods' descriptions, find CLEAR's labels: both do the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import released
from labelling import ENGINES

from baselines.network_dissection import NetworkDissection
from tasks.observation import Toolbox

SIZE = (1, 24, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def test_describe_and_dissect_unit_by_unit(folder: Path) -> None:
    ours, reference = (released.dnd(engine, SIZE, folder)() for engine in ENGINES)
    assert len(reference) == 1
    assert all(reference.values())
    assert ours == reference


def test_network_dissection_image_by_image(folder: Path) -> None:
    _, [(has, seen)] = released.observed(SIZE, folder)
    units = released.labelled(SIZE[0])
    found = NetworkDissection().label(seen, units, Toolbox(seed=0, activate=lambda images: images))
    reference = released.released_network_dissection(units, ("clean", 0, 0), has)
    assert all(reference)
    assert [one.ranked[0].text for one in found] == reference
