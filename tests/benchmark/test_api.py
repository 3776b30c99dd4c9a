"""CLEAR from Python: networks and images in memory, runs as objects that show themselves."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import write_run
from torch import nn

import benchmark
from benchmark.execution.session import Session
from leaderboard.board.facts import run_facts
from leaderboard.store.results import RESULTS
from leaderboard.view.findings import findings_of_run
from tasks.common.errors import UserError
from tasks.miniature.probing import MiniatureProbingSet

HOSTILE = '<script>alert("x")</script>'
PAGE = Path(__file__).parents[2] / "docs" / "python.md"


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> benchmark.Run:
    words = ("red fish", HOSTILE, "cup", "night sky", "wheel")
    return benchmark.load(write_run(tmp_path_factory.mktemp("runs") / "toy", words=words))


def network(seed: int, activation: nn.Module | None = None) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        active = activation or nn.ReLU()
        return nn.Sequential(nn.Conv2d(3, 5, 3, stride=4), active, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_importing_loads_nothing_heavy():
    code = "import sys, benchmark; print(sorted({'torch', 'pandas', 'pyarrow', 'scipy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_tables_are_those_of_the_run(made_up: benchmark.Run) -> None:
    folder = made_up.path
    for name in ("labels", "scores", "summary"):
        stored = pd.read_parquet(folder / f"{name}.parquet")
        found = getattr(made_up, name)
        assert len(found) == len(stored)
        assert set(stored["method"]) == set(found["method"])
    assert any("has the highest mean stability" in said for said in made_up.findings)
    assert "toy_task" in repr(made_up)


def test_labels_are_text_in_a_notebook(made_up: benchmark.Run) -> None:
    unit = int(made_up.labels.loc[made_up.labels["label"] == HOSTILE, "unit"].iloc[0])
    shown = made_up.unit(unit)
    assert "&lt;script&gt;" in shown._repr_html_()
    assert "<script>" not in shown._repr_html_() + made_up._repr_html_()
    assert "clean" in repr(shown)
    assert "fog 5" in repr(shown)


def test_labels_are_text_in_a_paper(made_up: benchmark.Run) -> None:
    unit = int(made_up.labels.loc[made_up.labels["label"] == HOSTILE, "unit"].iloc[0])
    shown = made_up.unit(unit)
    assert r"\<script\>" in shown.markdown()
    assert "<" not in shown.latex()
    assert "script" in shown.latex()


def test_a_table_in_a_notebook_prints_nothing_besides(made_up: benchmark.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = repr(made_up.table())
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *_: pytest.fail("rich displays it too"))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in Jupyter's kernels
    assert repr(made_up.table()) == plain


def test_a_run_that_is_smaller_than_its_task_shows_what_the_command_shows(tmp_path: Path) -> None:
    asked = {"units": {"total": 64, "label": 32, "first": 0}, "suites": {"weather": [["fog", 3], ["snow", 3]]}}
    run = benchmark.load(write_run(tmp_path / "toy", about=asked))
    summary, comparisons = (pd.read_parquet(run.path / f"{name}.parquet") for name in ("summary", "comparisons"))
    (told,) = findings_of_run(summary, comparisons, run_facts(run.info)).values()
    assert told.stability[0] in repr(run)
    assert run.findings == tuple(f"toy_task: {said}" for said in told.sentences)
    (table,) = run.table("stability").tables
    means = summary.loc[summary["perturbation"].eq("all")].set_index("method")["stability"]
    (row,) = (row for row in table.rows if row.name == "mean of all")
    assert [cell.value for cell in row.cells] == pytest.approx(means[list(table.columns)].tolist())


def test_a_unit_shows_its_first_label_under_each_condition(made_up: benchmark.Run) -> None:
    first = made_up.labels.loc[made_up.labels["rank"] == 1]
    own = first.loc[(first["unit"] == 2) & (first["perturbation"] == "fog") & (first["severity"] == 3)]
    (table,) = made_up.unit(2).tables
    (row,) = (row for row in table.rows if row.name == "fog 3")
    assert {m: cell.text for m, cell in zip(table.columns, row.cells, strict=True)} == dict(
        zip(own["method"], own["label"], strict=True)
    )


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda run: run.unit(99), "has no unit 99 of toy_task; it has 0, 1, "),
        (lambda run: run.table("stabilty"), "Did you mean stability"),
        (lambda run: run.figure("heat_maps"), "Did you mean heat_map"),
        (lambda run: run.unit(1, task="toy"), "Unknown task of this run 'toy'"),
        (lambda run: benchmark.load(run.path / "tables"), "is not a run folder"),
        (lambda run: benchmark.run("resnet50_fc", severities=[9]), "'severities.0' cannot be 9: input should be less"),
        (lambda run: benchmark.run("resnet50_fc", unit=3), "unknown field 'unit'. Did you mean 'units'"),
        (lambda run: benchmark.run("resnet50_fc", analyses="variants"), "there is no study 'variants': choose"),
        (lambda run: benchmark.run("resnet50_fd"), "resnet50_fc"),
        (lambda run: benchmark.label(network(0), layer="1", images=[torch.zeros(3, 8, 8)]), r"Image 0 is float32 \[3"),
        (lambda run: benchmark.label(network(0), layer="1", images=[], name="my net"), "letters, digits"),
    ],
)
def test_mistakes_are_one_sentence(made_up: benchmark.Run, ask, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        ask(made_up)
    assert "\n" not in str(caught.value)


def test_a_network_in_memory_is_known_by_its_weights_and_structure(tmp_path: Path) -> None:
    scenes = MiniatureProbingSet("test", 12).images
    as_arrays = [(image.permute(1, 2, 0).numpy(), 0) for image in scenes]  # as a data set gives pairs

    def labelled(seed: int, images: list, activation: nn.Module | None = None) -> benchmark.Run:
        return benchmark.label(
            network(seed, activation),
            layer="1",
            images=images,
            methods=["random_label"],
            units=[0, 3],
            faithfulness="none",
            out=tmp_path / "run",
            quiet=True,
        )

    gc.disable()  # it might collect by chance
    try:
        run = labelled(0, list(scenes))
    finally:
        gc.enable()
    assert not [one for one in gc.get_objects() if type(one) is Session], "models and images outlive the run"
    assert set(run.labels["unit"]) == {0, 3}
    before = (run.path / "labels.parquet").read_bytes()
    again = labelled(0, as_arrays)
    assert (again.path / "labels.parquet").read_bytes() == before
    assert len(run.info["sessions"]) == 2
    with pytest.raises(UserError, match="different settings"):
        labelled(1, list(scenes))
    # Equal weights, another activation function.
    with pytest.raises(UserError, match="different settings"):
        labelled(0, list(scenes), nn.GELU())
    with pytest.raises(UserError, match="different settings"):
        labelled(0, [*list(scenes)[::-1], np.zeros((9, 9, 3), np.uint8)])


def test_the_page_works_on_the_results_that_come_with_clear() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    shown = [block.replace('"leaderboard/results/', f'"{RESULTS}/') for block in blocks[1:3]]
    names: dict[str, object] = {}
    for line in "".join(shown).splitlines():
        if "figure" not in line:
            exec(line, names)
    assert len(names["run"].labels) > 100  # type: ignore[attr-defined]
