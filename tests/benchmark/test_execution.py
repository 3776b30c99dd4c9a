"""Items done by sessions: blocks make up the same cells, in any order, in any number of processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from baselines.base import Label, UnitLabels
from benchmark import runner
from benchmark.core import once as once_module
from benchmark.core import passes
from benchmark.core.display import Display
from benchmark.core.items import Item
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.execution.dispatch import Dispatcher, Give
from benchmark.execution.prepare import Job, load_parts, prepare
from benchmark.execution.session import Session
from leaderboard.store.run_folder import RunFolder
from tasks.profiles.build import Roles

UNITS = (1, 2, 3, 5, 8, 13, 21, 34, 55)
TRIVIAL = ("random_label", "constant_label")


def asked(out: Path, **changes: object) -> RunOptions:
    values: dict[str, object] = {
        "tasks": ("resnet18_layer4",),
        "methods": TRIVIAL,
        "suites": ("contrast",),
        "images": 16,
        "unit_ids": UNITS,
        "out": out,
        "device": "cpu",
        "faithfulness": "none",
        "thumbnails": 0,
        "cache": "none",
    }
    return RunOptions.model_validate(values | changes)


def job(options: RunOptions) -> Job[Roles]:
    return prepare(load_parts(options, check(options), Roles), Display("quiet"))


def opened(options: RunOptions) -> tuple[Job[Roles], RunFolder]:
    made = job(options)
    folder = RunFolder(options.folder())
    folder.create_or_continue(made.identity, {})
    return made, folder


def cells(folder: RunFolder) -> dict[str, tuple[str, Any]]:
    """What was found, apart from the time that it took: cell → hash of its labels, and facts about its units."""
    markers = {key.name: folder.marker(key) for key in folder.done_cells()}
    return {name: (marker.sha256, marker.extra["units"]) for name, marker in markers.items() if marker}


@pytest.mark.parametrize(
    ("method", "few"),
    [
        ("dnd", {"candidates": 2}),
        pytest.param("dnd_refined", {"candidates": 2}, marks=pytest.mark.slow),
        ("clear", {"probes": "", "control": 4, "shortlist": 3}),
    ],
)
@pytest.mark.timeout(900)
def test_blocks_of_any_size_make_up_the_bytes_of_the_whole_cell(
    method: str, few: dict[str, Any], tmp_path: Path
) -> None:
    small = {"images_per_concept": 2, "top_images": 3, **few}
    # Captions and embeddings are cached by pixels; crops, activations, drawings and choices are made anew.
    changes = {"methods": (method,), "method_options": {method: small}, "cache": str(tmp_path / "cache")}
    changes |= {"unit_ids": UNITS}
    whole = Session(*opened(asked(tmp_path / "whole", **changes)))
    assert getattr(whole.job.prepared.methods[method], "split", "never") == "units"
    item = whole.sweeps[0].items()[-1]
    assert whole.do(item).done == (item.cell,)
    assert item.cell is not None
    for size in (1, 7, 64):
        blocks = Session(*opened(asked(tmp_path / f"blocks of {size}", **changes)))
        cut = item.blocks(UNITS, size=size)
        outcomes = [blocks.do(block) for block in reversed(cut)]
        assert blocks.assemble(cut[0], outcomes).done == (item.cell,)
        assert cells(blocks.folder) == cells(whole.folder)


def test_a_cell_with_a_block_missing_is_not_stored(tmp_path: Path) -> None:
    session = Session(*opened(asked(tmp_path / "run")))
    item = next(item for item in session.sweeps[0].items() if item.kind == "block")
    blocks = item.blocks(UNITS, size=4)
    outcome = session.assemble(blocks[0], [session.do(block) for block in blocks[:-1]])
    assert "do not make up the units of its cell" in outcome.failures[item.cell]  # type: ignore[index]
    assert session.folder.done_cells() == []


@dataclass(frozen=True)
class Asked:
    """What the steps below ask."""

    words: tuple[str, ...]


def steps(self: object, observation: Any, units: Sequence[int], tools: Any) -> Any:
    found = []
    for unit in units:
        first = yield Asked((f"word {unit % 3}", f"{observation.condition} {unit % 2}"))
        second = yield Asked((f"more {int(sum(first.values())) % 4}",))
        score = round(float(sum(first.values()) + sum(second.values())), 6)
        found.append(UnitLabels(unit, (Label(f"label {score}", score),)))
    return found


def drawn(word: str) -> float:
    return float(sum(map(ord, word)))


def label(self: object, observation: Any, units: Sequence[int], tools: Any) -> list[UnitLabels]:
    run = steps(self, observation, units, tools)
    try:
        wanted = next(run)
        while True:
            wanted = run.send({word: drawn(word) for word in wanted.words})
    except StopIteration as end:
        return end.value


class Shared:
    """Drawings that several sessions share."""

    def __init__(self) -> None:
        self.there: dict[str, float] = {}
        self.made: list[str] = []

    def lacking(self, task: str, asked: Asked) -> list[str]:
        return [word for word in asked.words if word not in self.there]

    def answer(self, task: str, asked: Asked) -> dict[str, float]:
        return {word: self.there[word] for word in asked.words}

    def draw(self, names: Sequence[str], tools: object) -> None:
        self.made += names
        self.there |= {name: drawn(name) for name in names}


def dispatched(options: RunOptions, workers: int, size: int, drawings: Shared) -> RunFolder:
    """A run whose items the dispatcher hands to several sessions, in turn."""
    sessions = {str(number): Session(*opened(options), drawings) for number in range(workers)}
    first = sessions["0"]
    items: list[Item] = []
    for item in (item for sweep in first.sweeps for item in sweep.items()):
        split = getattr(first.job.prepared.methods[item.cell.method], "split", "never") if item.cell else "never"
        items += item.blocks(UNITS, split, size)
    dispatcher, held = Dispatcher(items), {}
    outcomes: dict[Any, list[Any]] = {}
    actions = [action for worker in sessions for action in dispatcher.ready(worker)]
    while True:
        held |= {
            action.worker: Item.of(json.loads(json.dumps(action.item.facts())))
            for action in actions
            if isinstance(action, Give)
        }
        if not held:
            break
        worker = max(held, key=lambda name: (len(held[name].units), name))
        item = held.pop(worker)
        outcome = sessions[worker].do(item)
        assert outcome.failures == {}
        if outcome.parked:
            actions = dispatcher.park(worker, item, outcome.parked)
            continue
        if item.units:
            parts = outcomes.setdefault(item.cell, [])
            parts.append(outcome)
            if sum(len(part.labels) for part in parts) == len(UNITS):
                first.assemble(item, parts)
        actions = dispatcher.finish(worker, item)
    assert dispatcher.finished
    assert dispatcher.failed == {}
    return first.folder


def test_dispatched_to_several_sessions_in_blocks_the_tables_have_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baselines.trivial.RandomLabel.label", label)
    monkeypatch.setattr("baselines.trivial.RandomLabel.steps", steps, raising=False)
    monkeypatch.setattr("baselines.trivial.RandomLabel.split", "units", raising=False)
    alone = asked(tmp_path / "alone")
    assert runner.run(alone, Display("quiet")).failed == []
    drawings = Shared()
    folder = dispatched(asked(tmp_path / "dispatched"), 3, 2, drawings)
    assert cells(folder) == cells(RunFolder(alone.folder()))
    assert len(drawings.made) == len(set(drawings.made)) > 4
    runner.run(asked(tmp_path / "dispatched"), Display("quiet"))
    for name in ("labels", "evidence", "scores", "summary", "comparisons"):
        files = [tmp_path / run / f"{name}.parquet" for run in ("alone", "dispatched")]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_clean_activations_are_read_once_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process, or a later session, takes them from the run folder, also without a cache."""
    seen: list[str] = []
    real = passes.observe

    def observe(target, layers, probe, condition, *rest, **named):
        seen.append(condition.name)
        return real(target, layers, probe, condition, *rest, **named)

    monkeypatch.setattr(passes, "observe", observe)
    options = asked(tmp_path / "run")
    for _ in range(2):  # two processes, each of them begins with another condition
        session = Session(*opened(options))
        for item in session.sweeps[0].items()[::-1] if seen else session.sweeps[0].items():
            if item.kind == "pass":
                session.do(item)
                break
    assert seen == ["clean", "contrast"]


def test_caption_words_and_masks_are_made_once_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captioned, segmented = [], []
    real = Roles.segmenter.func  # type: ignore[attr-defined]

    class Counted:
        def __init__(self, segmenter: Any) -> None:
            self.segmenter = segmenter

        def foreground(self, images: Any) -> Any:
            segmented.append(len(images))
            return self.segmenter.foreground(images)

    class Captioner:
        def caption(self, images: Any) -> list[str]:
            captioned.append(len(images))
            return ["a red dog by a red door", *["a dog"] * (len(images) - 1)]

    monkeypatch.setattr(Roles, "segmenter", property(lambda roles: Counted(real(roles))))
    monkeypatch.setattr(Roles, "captioner", Captioner())
    options = asked(tmp_path / "run", suites=("background_blur",), masks="segmenter")
    found = []
    for _ in range(2):
        session = Session(*opened(options))
        probe, _ = session.probes["resnet18_layer4"]
        tools = session.sweeps[0].tools["resnet18_layer4"]
        assert tools.background is not None
        assert probe.masks is not None
        found.append((tools.background(), probe.masks(range(len(probe.ids))).tolist()))
    assert found[0] == found[1]
    assert found[0][0]["dog"] == 1.0
    assert captioned == [len(found[0][1])]
    assert segmented == [16]


def test_two_processes_that_need_the_same_make_it_once(tmp_path: Path) -> None:
    _, folder = opened(asked(tmp_path / "run"))
    made = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"value": torch.arange(3)}

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(once_module.once, folder, "something", make) for _ in range(8)]
    assert [future.result()["value"].tolist() for future in futures] == [[0, 1, 2]] * 8
    assert made == [1]


def test_preparing_writes_nothing(tmp_path: Path) -> None:
    before = job(asked(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    assert before.identity == job(asked(tmp_path / "run")).identity
