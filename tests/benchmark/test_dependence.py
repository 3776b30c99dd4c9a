"""What methods say that units depend on, from their cells to the table."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from benchmark.core.dependence import dependence_rows
from benchmark.core.work import Work
from leaderboard.store.run_folder import CellKey, RunFolder
from leaderboard.store.schema import DEPENDENCE
from tasks.catalogue import load_task
from tasks.observe import CLEAN, Condition

FOG = Condition("fog", 3)
SAID = {
    "foreground": 0.75,
    "background": None,
    "context": 0.25,
    "losses": {"fog:3": 0.5},
    "parts": [{"part": "red", "foreground": 1, "background": 0.5}, {"part": "fish", "foreground": None}],
}


def work(*methods: str) -> Work:
    return Work(load_task("resnet50_layer4"), "miniature", methods, (CLEAN, FOG), 2, 10, (3, 5))


def write(folder: RunFolder, method: str, condition: Condition, repeat: int, units: dict) -> None:
    key = CellKey("resnet50_layer4", "miniature", method, condition.name, condition.severity, repeat)
    rows = pd.DataFrame({"unit": [3], "rank": [1], "label": ["red fish"], "score": [0.5]})
    folder.write_cell(key, rows, {"units": units})


@pytest.fixture
def folder(tmp_path: Path):
    with RunFolder(tmp_path / "run") as opened:
        opened.create_or_continue({"test": 1}, {})
        yield opened


def test_units_and_parts_have_a_row_each(folder: RunFolder) -> None:
    write(folder, "clear", CLEAN, 0, {"3": {"dependence": SAID}, "5": {"dead": True}})
    write(folder, "clear", FOG, 0, {"3": {"dependence": {**SAID, "parts": []}}})
    write(folder, "dnd", CLEAN, 0, {"3": {"trace": {}}})
    folder.write_table("dependence", dependence_rows(folder, [work("clear", "dnd")]))
    found = folder.read_table("dependence")
    assert list(found.columns) == [column.name for column in DEPENDENCE.columns]
    places = found[["method", "perturbation", "repeat", "unit", "part"]].itertuples(index=False, name=None)
    assert sorted(places) == [
        ("clear", "clean", 0, 3, ""),
        ("clear", "clean", 0, 3, "fish"),
        ("clear", "clean", 0, 3, "red"),
        ("clear", "fog", 0, 3, ""),
    ]
    clean = found[found["perturbation"] == "clean"].set_index("part")
    assert clean.loc["", ["foreground", "context"]].tolist() == [0.75, 0.25]
    assert math.isnan(clean.loc["", "background"])
    assert clean.loc["red", ["foreground", "background"]].tolist() == [1.0, 0.5]
    assert clean.loc["fish"].isna()[["foreground", "background", "context"]].all()


@pytest.mark.parametrize("said", ["much", 0.5, {"foreground": "high", "context": 7, "parts": ["red", {}]}])
def test_what_another_method_calls_so_does_no_harm(folder: RunFolder, said: object) -> None:
    write(folder, "plugin", CLEAN, 0, {"3": {"dependence": said}})
    found = dependence_rows(folder, [work("plugin")])
    assert found[["foreground", "background", "context"]].isna().all(axis=None)
    folder.write_table("dependence", found)


def test_a_run_whose_methods_say_nothing_has_an_empty_table(folder: RunFolder) -> None:
    write(folder, "dnd", CLEAN, 0, {"3": {}})
    folder.write_table("dependence", dependence_rows(folder, [work("dnd")]))
    assert len(folder.read_table("dependence")) == 0
