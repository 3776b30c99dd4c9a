"""The picture of a unit that ``clear`` labelled, on a hand-made run: no network is loaded."""

from __future__ import annotations

import copy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from recording_sheet import RecordingSheet

import benchmark.trace.page
from baselines.contexts import Context, apply_context, context_seeds
from baselines.dnd.crops import crop_image
from benchmark.trace.contexts import ContextTrace
from benchmark.trace.draw import Question, find_trace, trace_page
from benchmark.trace.record import RunIdentity
from benchmark.trace.sheet import WIDTH
from leaderboard.store.run_folder import OBSERVATION, CellKey, RunFolder
from tasks.common.errors import UserError
from tasks.common.images import to_array
from tasks.view import View

TASK, PROFILE, UNIT, SEED, IMAGES, SIDE = "resnet50_layer4", "miniature", 17, 5, 6, 40
CONTEXTS = ("as_given", "gaussian_blur:3", "foreground_blur:3")
PROBE = "background_grey:5"


def terms(**changes: float) -> dict[str, dict[str, float]]:
    return {name: {"activation": 0.9, "images": 0.5, "captions": 0.7} | changes for name in CONTEXTS}


def candidate(concept: str, seed: int, score: float, *proposed: str) -> dict:
    costs = {"distinctness": 0.4, "specificity": 0.8, "cost": 0.04}
    return {"concept": concept, "seed": seed, "score": score, "proposed": proposed, "contexts": terms(), **costs}


def seen(context: str, *captions: str) -> dict:
    return {"context": context, "captions": captions, "activations": [2.5, 1.25]}


CELL = {
    "evidence": [4, 1],
    "contexts": CONTEXTS,
    "candidates": 7,
    "tested": [
        candidate("red fish", 12, 0.75, "as_given", "gaussian_blur:3", "joined"),
        candidate("fish", 11, 0.7, "part"),
    ],
    "dependence": {
        "foreground": 0.8,
        "background": None,
        "context": 0.3,
        "losses": {"gaussian_blur:3": 0.1, "foreground_blur:3": 0.8, PROBE: 0.05},
        "parts": [{"part": "red", "foreground": 1.0, "background": 0.25}],
    },
    "trace": {
        "crop_px": 60,
        "top_images": [4, 1],
        "described": [{"image": 4, "box": [30, 0, 60, 30]}, {"image": 1, "box": None}],
        "seen": [
            seen("as_given", "a red fish on sand", "a blue cup"),
            seen("gaussian_blur:3", "a red blob", "a blue cup"),
            seen("foreground_blur:3", "sand", "a cup"),
            seen(PROBE, "a red fish", "a blue cup"),
        ],
        "replies": {"foreground_blur:3": ["sand", ""], "gaussian_blur:3": ["blob"], "as_given": ["red fish", "fish"]},
        "parts": ["red", "fish", "sand"],
        "joined": ["red fish"],
        "synthesis": {"template": "One realistic image of {concept}", "count": 3},
        "weights": {"activation": 0.6, "captions": 0.3, "images": 0.1},
        "aggregate": "spread",
        "spread": 0.25,
    },
}


class SmallProbing:
    """Images that differ in every pixel, and that notes which were asked for."""

    def __init__(self):
        self.ids = tuple(f"probe-{i}" for i in range(IMAGES))
        rng = np.random.default_rng(0)
        self.images = torch.from_numpy(rng.integers(0, 256, (IMAGES, 3, SIDE, SIDE), dtype=np.uint8))
        self.asked: list[int] = []

    def load(self, indices):
        self.asked += indices
        return self.images[list(indices)]

    def load_foreground(self, indices):
        raise AssertionError("contexts find the foreground anew")


class NoisyGenerator:
    def generate(self, concept, count, seed, template="{concept}"):
        draws = [np.random.default_rng([seed, len(concept), i]).integers(0, 256, (3, 20, 20)) for i in range(count)]
        return torch.from_numpy(np.stack(draws).astype(np.uint8))


def left(images):
    return torch.arange(SIDE).expand(len(images), SIDE, SIDE) < SIDE // 2


def make_run(path: Path, cell: dict = CELL) -> Path:
    identity = {
        "methods": ["clear"],
        "repeats": 1,
        "images": IMAGES,
        "profile": PROFILE,
        "seed": SEED,
        "masks": "probing_set",
        "corruptions": "published",
        "lengths": "scaled",
        "feather": 0.0,
        "content": {
            "tasks": {TASK: {"layer": "layer4", "probing_set": "scenes", "images": 500}},
            "images": {TASK: "unknown"},
            "views": {TASK: asdict(View(224))},
            "conditions": {TASK: []},
        },
    }
    with RunFolder(path) as folder:
        folder.create_or_continue(identity, {})
        folder.record("profile", {"note": "Measured on rendered scenes."})
        rows = pd.DataFrame({"unit": [UNIT], "rank": [1], "label": ["red fish"], "score": [0.75]})
        folder.write_cell(CellKey(TASK, PROFILE, "clear", "clean", 0, 0), rows, {"units": {str(UNIT): cell}})
        strongest = pd.DataFrame({"unit": [UNIT], "rank": [1], "image": ["probe-4"], "activation": [2.75]})
        folder.write_evidence(CellKey(TASK, PROFILE, OBSERVATION, "clean", 0, 0), strongest, {})
    return path


def find(path: Path, **question):
    folder = RunFolder(path)
    identity = RunIdentity.model_validate(folder.info()["identity"])
    return find_trace(folder, identity, PROFILE, Question(UNIT, **question))


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw a cell's page; gives the page, what was put on it, and the probing set."""
    sheets: list[RecordingSheet] = []

    def sheet():
        sheets.append(RecordingSheet())
        return sheets[-1]

    monkeypatch.setattr(benchmark.trace.page, "Sheet", sheet)

    def draw(cell=CELL, foreground=left):
        probing = SmallProbing()
        recorded = find(make_run(tmp_path / f"run{len(sheets)}", cell))
        page = trace_page(recorded, probing, NoisyGenerator(), foreground=foreground)
        return page, sheets[-1], probing

    return draw


def test_described_pictures_are_shown_as_every_context_shows_them(drawn):
    _, sheet, probing = drawn()
    for number, name in enumerate((*CONTEXTS, PROBE), start=1):
        context = Context(*(("as_given", 0) if name == "as_given" else (name.split(":")[0], int(name[-1]))))
        seeds = context_seeds(SEED, context, [probing.ids[4], probing.ids[1]])
        expected = to_array(apply_context(probing.images[[4, 1]], context, seeds, left))
        crop, whole = sheet.rows[number]
        assert np.array_equal(crop.pixels, crop_image(expected[0], (30, 0, 60, 30), 60)), name
        assert np.array_equal(whole.pixels, expected[1]), name
    assert [line for line, _ in sheet.rows[2][0].lines] == ["2.500", "a red blob"]
    assert "foreground blur 3: the unit loses 80% of its excess activation" in sheet.texts
    assert "background grey 5 (probe): the unit loses 5% of its excess activation" in sheet.texts


def test_only_the_images_that_are_shown_are_loaded(drawn):
    _, _, probing = drawn()
    assert sorted(probing.asked) == [1, 4]


def test_the_page_says_what_was_proposed_scored_and_lost(drawn):
    page, sheet, _ = drawn()
    for text in (
        "Unit 17: red fish",
        "clear, mode fixed",
        '"red", foreground',
        "as given: red fish; fish",
        "foreground blur 3: sand; (nothing)",
        "Parts: red; fish; sand",
        "The best 2 of 7 candidates, on synthetic images",
        "two parts; summary of as given, gaussian blur 3",
        "distinctness 0.400",
        "score 0.750",
    ):
        assert text in sheet.texts, text
    assert page.width == WIDTH
    # 0.6 × 0.9 + 0.3 × 0.7 + 0.1 × 0.5, in each of three contexts, for both candidates.
    assert sheet.texts.count("0.800") == 2 * 3 + 1
    assert sheet.texts[sheet.texts.index("chosen") + 1] == "1. red fish"
    synthetic = to_array(NoisyGenerator().generate("red fish", 3, 12))
    assert all(np.array_equal(t.pixels, image) for t, image in zip(sheet.rows[-2], synthetic, strict=True))


def test_contexts_stand_in_the_order_of_the_method(drawn):
    _, sheet, _ = drawn()
    heads = [text for text in sheet.texts if text in ("as given", "gaussian blur 3", "foreground blur 3")]
    assert heads[-3:] == ["as given", "gaussian blur 3", "foreground blur 3"]


def test_a_unit_that_nothing_names_has_a_page(drawn):
    cell = {**CELL, "tested": [], "candidates": 0}
    del cell["dependence"]
    _, sheet, _ = drawn(cell)
    assert "Unit 17: no label" in sheet.texts
    assert "chosen" not in sheet.texts


def test_whole_image_contexts_need_no_segmenter(drawn):
    cell = copy.deepcopy(CELL)
    cell["trace"]["seen"] = cell["trace"]["seen"][:2]
    del cell["trace"]["replies"]["foreground_blur:3"]
    for one in cell["tested"]:
        del one["contexts"]["foreground_blur:3"]
    drawn(cell, foreground=None)
    beside = {name: cell[name] for name in ("candidates", "tested", "dependence")}
    assert not ContextTrace.model_validate({**cell["trace"], **beside}).needs_foreground()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda cell: cell["trace"]["seen"][0].update(captions=["one"]), "differ in length in as_given"),
        (lambda cell: cell["trace"]["seen"][0].update(context="fog:x"), "invalid literal"),
        (lambda cell: cell["tested"][0]["contexts"].pop("as_given"), "the terms of 'red fish'"),
        (lambda cell: cell["trace"]["described"][0].update(box=[0, 0, 61, 5]), "is not inside an image of 60 px"),
        (lambda cell: cell.update(trace="none"), "valid"),
    ],
)
def test_a_damaged_trace_is_one_sentence(tmp_path, change, sentence):
    cell = copy.deepcopy(CELL)
    change(cell)
    with pytest.raises(UserError, match=f"In the trace of unit 17, .*{sentence}"):
        find(make_run(tmp_path / "run", cell))


def test_runs_made_before_clear_wrote_traces_are_told_so(tmp_path):
    cell = {key: value for key, value in CELL.items() if key != "trace"}
    with pytest.raises(UserError, match="before clear recorded traces"):
        find(make_run(tmp_path / "run", cell))
