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
from benchmark.trace.contexts import ContextTrace
from benchmark.trace.draw import Question, find_trace, trace_page
from benchmark.trace.record import RunIdentity
from benchmark.trace.sheet import WIDTH
from leaderboard.store.run_folder import OBSERVATION, CellKey, RunFolder
from tasks.common.errors import UserError
from tasks.common.images import to_array
from tasks.view import View

TASK, PROFILE, UNIT, SEED, IMAGES, SIDE = "resnet50_layer4", "miniature", 17, 5, 6, 40
PROBES = ("gaussian_blur:3", "foreground_blur:3", "background_grey:5")


def candidate(concept: str, seed: int, score: float) -> dict:
    terms = {"follows": 0.4, "contrast": 0.3, "captions": 0.7}
    return {"concept": concept, "seed": seed, "score": score, "activation": 0.6, "evidence": 2.5, "terms": terms}


def seen(context: str, *captions: str) -> dict:
    return {"context": context, "captions": captions, "activations": [2.5, 1.25]}


CELL = {
    "evidence": [4, 1],
    "candidates": 7,
    "tested": [candidate("red fish", 12, 0.75), candidate("fish", 11, 0.7)],
    "dependence": {
        "foreground": 0.8,
        "background": None,
        "context": 0.3,
        "losses": {"gaussian_blur:3": 0.1, "foreground_blur:3": 0.8, "background_grey:5": 0.05},
        "parts": [{"part": "red", "foreground": 1.0, "background": 0.25}],
    },
    "trace": {
        "top_images": [4, 1],
        "seen": [
            seen("as_given", "a red fish on sand", "a blue cup"),
            seen("gaussian_blur:3", "a red blob", "a blue cup"),
            seen("foreground_blur:3", "sand", "a cup"),
            seen("background_grey:5", "a red fish", "a blue cup"),
        ],
        "parts": ["red", "fish", "sand"],
        "synthesis": {"template": "One realistic image of {concept}", "count": 3},
        "drawn": True,
        "weights": {"follows": 1.0, "contrast": 1.0, "captions": 0.5},
        "evidence_weight": 0.1,
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


def test_top_images_are_shown_as_every_probe_shows_them(drawn):
    _, sheet, probing = drawn()
    for number, name in enumerate(("as_given", *PROBES)):
        context = Context(*(("as_given", 0) if name == "as_given" else (name.split(":")[0], int(name[-1]))))
        seeds = context_seeds(SEED, context, [probing.ids[4], probing.ids[1]])
        expected = to_array(apply_context(probing.images[[4, 1]], context, seeds, left))
        assert all(
            np.array_equal(thumb.pixels, image) for thumb, image in zip(sheet.rows[number], expected, strict=True)
        )
    assert [line for line, _ in sheet.rows[1][0].lines] == ["2.500", "a red blob"]
    assert "foreground blur 3 (probe): the unit loses 80% of its excess activation" in sheet.texts
    assert "as given" in sheet.texts


def test_only_the_images_that_are_shown_are_loaded(drawn):
    _, _, probing = drawn()
    assert sorted(probing.asked) == [1, 4]


def test_the_page_says_what_was_shortlisted_chosen_and_lost(drawn):
    page, sheet, _ = drawn()
    for text in (
        "Unit 17: red fish",
        "clear, mode fixed",
        '"red", foreground',
        "The 2 of 7 candidates with the most evidence",
        "rank of drawn images 0.600",
        "evidence 2.500",
        "captions 0.700",
        "score 0.750",
    ):
        assert text in sheet.texts, text
    assert any("(red; fish; sand)" in text and "3 images per candidate" in text for text in sheet.texts)
    assert page.width == WIDTH
    assert sheet.texts[sheet.texts.index("chosen") + 1] == "1. red fish"
    synthetic = to_array(NoisyGenerator().generate("red fish", 3, 12))
    assert all(np.array_equal(t.pixels, image) for t, image in zip(sheet.rows[-2], synthetic, strict=True))


def test_a_choice_without_drawn_images_shows_none(drawn):
    _, drawing, _ = drawn()
    _, without, _ = drawn({**CELL, "trace": {**CELL["trace"], "drawn": False}})
    assert len(without.rows) == len(drawing.rows) - len(CELL["tested"])
    assert any("No image is drawn" in text for text in without.texts)


def test_whole_image_probes_need_no_segmenter(drawn):
    cell = copy.deepcopy(CELL)
    cell["trace"]["seen"] = cell["trace"]["seen"][:2]
    drawn(cell, foreground=None)
    beside = {name: cell[name] for name in ("candidates", "tested", "dependence")}
    assert not ContextTrace.model_validate({**cell["trace"], **beside}).needs_foreground()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda cell: cell["trace"]["seen"][0].update(captions=["one"]), "differ in number in as_given"),
        (lambda cell: cell["trace"]["seen"][0].update(context="fog:x"), "invalid literal"),
        (lambda cell: cell["tested"][0]["terms"].pop("follows"), "the terms of 'red fish'"),
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
