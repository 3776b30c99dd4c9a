"""The picture of a trace, on a hand-made run: no network is loaded, and none may be."""

from __future__ import annotations

import copy
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from recording_sheet import RecordingSheet
from typer.testing import CliRunner

import benchmark.trace.page
from baselines.dnd.crops import crop_image
from benchmark.cli import app
from benchmark.trace.draw import Question, find_trace, trace_page, write_trace
from benchmark.trace.images import Redrawn, without
from benchmark.trace.page import CHOSEN_FILL
from benchmark.trace.record import RunIdentity
from benchmark.trace.sheet import GAP, MARGIN, THUMB, WIDTH, _length, drawable, wrapped
from leaderboard.store.errors import StoreError
from leaderboard.store.run_folder import OBSERVATION, CellKey, RunFolder
from tasks.common.errors import UserError
from tasks.common.images import to_array
from tasks.miniature.generator import RenderingGenerator
from tasks.miniature.probing import MiniatureProbingSet
from tasks.observe import Condition, image_seeds, perturbed, probe_of
from tasks.perturbations import perturb
from tasks.perturbations.settings import Settings
from tasks.perturbations.suites import load_suite
from tasks.probing.folder import open_folder
from tasks.view import View

TASK, PROFILE, UNIT, SEED, IMAGES, SIDE = "resnet50_layer4", "miniature", 17, 5, 6, 40
WHOLE = View(224)
CLEAN, NOISE, FOREGROUND = ("clean", 0), ("gaussian_noise", 2), ("foreground_blur", 3)


def candidate(concept: str, seed: int, score: float | None, **measures) -> dict:
    return {"concept": concept, "seed": seed, "score": score, **measures}


DND = {
    "mode": "fixed",
    "scoring": "topk_compare",
    "crop_px": 60,
    "top_images": [4, 1],
    "described": [
        {"image": 4, "box": [30, 0, 60, 30], "activation": 2.5},
        {"image": 1, "box": None, "activation": 1.25},
    ],
    "captions": ["a red fish on sand", "a blue cup"],
    "simplified": ["red fish on sand", "a blue cup"],
    "replies": ["red fish", "", "cup"],
    "candidates": ["cup", "red fish"],
    "synthesis": {"template": "One realistic image of {concept}", "count": 3, "synth_px": None},
    "tested": [
        candidate("cup", 11, 0.25, ranks=[2, 3, 5], topk_sq_mean=12.667, image_similarity=0.25),
        candidate("red fish", 12, 1.5, ranks=[0, 1, 4], topk_sq_mean=5.667, image_similarity=0.75),
    ],
    "chosen": "red fish",
}
REFINED = {
    **DND,
    "scoring": "activation × specificity × consistency",
    "tested": [],
    "rounds": [
        {
            "round": 1,
            "synthetic": [],
            "replies": ["cup"],
            "candidates": ["cup"],
            "tested": [
                candidate("cup", 11, 0.1, activation=0.4, specificity=0.5, consistency=0.5, mean_activation=0.3)
            ],
            "threshold": 0.9,
            "best": "cup",
            "passed": False,
            "stopped": None,
        },
        {
            "round": 2,
            "synthetic": [{"concept": "cup", "number": 2, "seed": 11, "caption": "a fish in a cup"}],
            "replies": ["red fish"],
            "candidates": ["red fish"],
            "tested": [
                candidate("red fish", 12, 0.6, activation=0.9, specificity=0.8, consistency=0.8, mean_activation=1.1),
                candidate("cup", 11, 0.05, activation=0.4, specificity=0.5, consistency=0.25, mean_activation=0.3),
            ],
            "threshold": 0.9,
            "best": "red fish",
            "passed": True,
            "stopped": "passed",
        },
    ],
}


@dataclass
class SmallProbing:
    """Images that differ in every pixel block."""

    ids: tuple[str, ...] = tuple(f"probe-{i}" for i in range(IMAGES))
    images: torch.Tensor = field(
        default_factory=lambda: torch.from_numpy(
            np.random.default_rng(0).integers(0, 256, (IMAGES, 3, SIDE, SIDE), dtype=np.uint8)
        )
    )
    foreground: torch.Tensor = field(default_factory=lambda: torch.arange(SIDE).expand(IMAGES, SIDE, SIDE) < SIDE // 2)

    def load(self, indices):
        return self.images[list(indices)]

    def load_foreground(self, indices):
        return self.foreground[list(indices)]


class NoisyGenerator:
    """Draws noise that depends on concept, seed and number, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []

    def generate(self, concept, count, seed, template="{concept}"):
        self.asked.append((concept, count, seed, template))
        draws = [np.random.default_rng([seed, len(concept), i]).integers(0, 256, (3, 20, 20)) for i in range(count)]
        return torch.from_numpy(np.stack(draws).astype(np.uint8))


CONDITIONS = ("foreground_blur", *load_suite("imagenet_c").perturbations)


def identity(**changes) -> dict:
    facts = {
        "layer": "layer4",
        "probing_set": "scenes",
        "images": 500,
        "name": TASK,
    }
    return {
        "methods": ["clip_dissect", "dnd", "dnd_refined"],
        "repeats": 2,
        "images": IMAGES,
        "profile": PROFILE,
        "seed": SEED,
        "masks": "probing_set",
        "corruptions": "published",
        "lengths": "scaled",
        "feather": 0.0,
        "content": {
            "tasks": {TASK: facts},
            "images": {TASK: "unknown"},
            "views": {TASK: asdict(WHOLE)},
            "conditions": {TASK: [[name, severity] for name in CONDITIONS for severity in (2, 3)]},
        },
        **changes,
    }


def make_run(
    path: Path, trace: dict = DND, cells=((CLEAN, 0), (NOISE, 0), (FOREGROUND, 0)), traced="dnd", **changes
) -> Path:
    """A run folder, made anew, with one trace per method in each cell."""
    shutil.rmtree(path, ignore_errors=True)
    units = {str(UNIT): {"evidence": [4, 1], "trace": trace}, "3": {"dead": True}}
    with RunFolder(path) as folder:
        folder.create_or_continue(identity(**changes), {})
        folder.record("profile", {"note": "Measured on rendered scenes."})
        folder.record("methods", {traced: {"trace": "candidates"}})
        for (name, severity), repeat in cells:
            rows = pd.DataFrame({"unit": [UNIT], "rank": [1], "label": ["red fish"], "score": [1.5]})
            for method in {traced, "dnd", "dnd_refined"}:
                key = CellKey(TASK, PROFILE, method, name, severity, repeat)
                folder.write_cell(key, rows, {"units": units})
            key = CellKey(TASK, PROFILE, "clip_dissect", name, severity, repeat)
            folder.write_cell(key, rows, {"units": {str(UNIT): {"evidence": []}}})
            seen = pd.DataFrame(
                {"unit": [UNIT, UNIT], "rank": [1, 2], "image": ["probe-4", "probe-1"], "activation": [2.75, 1.25]}
            )
            truth = {"truth": {str(UNIT): {"concept": "fish", "auroc": 0.95}}} if name == "clean" else {}
            folder.write_evidence(CellKey(TASK, PROFILE, OBSERVATION, name, severity, 0), seen, truth)
    return path


def find(path: Path, *question, **named):
    folder = RunFolder(path)
    return find_trace(
        folder, RunIdentity.model_validate(folder.info()["identity"]), PROFILE, Question(*question, **named)
    )


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draws a trace of a hand-made run; gives the page, what the sheet was told and what the generator was asked."""
    sheets: list[RecordingSheet] = []

    def make() -> RecordingSheet:
        sheets.append(RecordingSheet())
        return sheets[-1]

    monkeypatch.setattr(benchmark.trace.page, "Sheet", make)

    def drawn(trace: dict = DND, condition=CLEAN, segmenter=None, **named):
        path = make_run(tmp_path / "run", trace)
        recorded = find(path, UNIT, condition=condition[0], severity=condition[1], **named)
        generator = NoisyGenerator()
        page = trace_page(recorded, SmallProbing(), generator, segmenter)
        return page, sheets[-1], generator

    return drawn


def lines(thumb) -> list[str]:
    return [text for text, _ in thumb.lines]


# ---- what is drawn ----


@pytest.mark.parametrize("condition", [CLEAN, NOISE, FOREGROUND])
def test_pictures_are_those_of_the_run(draw, condition):
    _, sheet, _ = draw(condition=condition)
    probing = SmallProbing()
    seeds = image_seeds(SEED, probing.ids, Condition(*condition))
    # The run perturbs all images at once; a trace only those that it shows.
    shown = probing.images
    if condition != CLEAN:
        shown = perturb(probing.images, *condition, seeds, probing.foreground)
        assert not torch.equal(shown[4], probing.images[4])
    shown = to_array(shown)
    top, described = sheet.rows[:2]
    assert all(np.array_equal(thumb.pixels, shown[i]) for thumb, i in zip(top, (4, 1), strict=True))
    assert np.array_equal(described[0].pixels, crop_image(shown[4], (30, 0, 60, 30), 60))
    assert np.array_equal(described[1].pixels, shown[1])


def test_captions_stand_under_their_pictures_and_crops_are_outlined_on_their_originals(draw):
    _, sheet, _ = draw()
    top, described = sheet.rows[:2]
    assert [lines(thumb) for thumb in top] == [["probe-4", "activation 2.750"], ["probe-1", "activation 1.250"]]
    assert [lines(thumb)[0] for thumb in described] == ["crop, 2.500", "image, 1.250"]
    # A caption that simplifying left as it was is written once.
    assert lines(described[0])[1:] == ["a red fish on sand", "red fish on sand"]
    assert lines(described[1])[1:] == ["a blue cup"]
    (box,) = top[0].boxes
    assert box == ((0.5, 0.0, 1.0, 0.5), "1", described[0].frame)
    assert top[1].boxes == ()


def test_look_alikes_are_shown_in_the_order_of_the_described_images(draw):
    _, sheet, _ = draw({**DND, "look_alikes": [3, 0], "no_contrast": None})
    shown = to_array(SmallProbing().images)
    assert [lines(thumb) for thumb in sheet.rows[2]] == [["probe-3"], ["probe-0"]]
    assert all(np.array_equal(thumb.pixels, shown[i]) for thumb, i in zip(sheet.rows[2], (3, 0), strict=True))
    why = "no image activates the unit less than its mean"
    _, sheet, _ = draw({**DND, "look_alikes": [], "no_contrast": why}, repeat=0)
    assert f"No look-alikes were shown as contrast: {why}." in sheet.texts


def test_a_choice_by_csp_names_itself(draw):
    _, sheet, generator = draw({**DND, "scoring": "csp", "tested": []})
    assert generator.asked == []
    assert any("the candidate that is nearest by CSP, red fish, is the label" in text for text in sheet.texts)


def test_a_loop_shows_the_images_of_both_draws_of_a_concept(draw):
    turns = [
        {"round": 1, "replies": ["cup"], "candidates": ["cup"], "tested": [candidate("cup", 11, 0.25)], "best": "cup"},
        {
            "round": 2,
            "replies": [],
            "candidates": ["cup"],
            "tested": [candidate("cup", 12, 0.75)],
            "best": "cup",
            "stopped": "no gain",
        },
    ]
    nothing = {key: [] for key in ("described", "captions", "simplified", "replies", "tested")}
    _, sheet, generator = draw({**DND, **nothing, "rounds": turns, "chosen": "cup"})
    assert [asked[2] for asked in generator.asked] == [11, 12]
    assert [len(row) for row in sheet.rows] == [2, 3, 3], "top images, then three images of each draw"
    assert [text for text in sheet.texts if text in ("best so far", "chosen")] == ["best so far", "chosen"]


def test_heading_replies_measures_and_note(draw):
    _, sheet, _ = draw(condition=NOISE)
    for text in (
        "Unit 17: red fish",
        "fish (AUROC 0.95)",
        TASK,
        "layer4",
        "gaussian_noise 2",
        "dnd, mode fixed",
        "(nothing)",
        "Candidates: cup; red fish",
        "5.667",
        "Measured on rendered scenes.",
    ):
        assert text in sheet.texts, text


def test_candidates_come_best_first_with_their_images_and_the_chosen_one_is_marked(draw):
    page, sheet, generator = draw()
    assert generator.asked == [
        (concept, 3, seed, DND["synthesis"]["template"]) for concept, seed in (("red fish", 12), ("cup", 11))
    ]
    names = [text for text in sheet.texts if text[:3] in ("1. ", "2. ")]
    assert names == ["1. red fish", "2. cup"]
    assert sheet.texts.count("chosen") == 1
    # The pill is told before the name of the candidate that it marks.
    assert sheet.texts[sheet.texts.index("chosen") + 1] == "1. red fish"
    for row, (concept, seed) in zip(sheet.rows[2:], (("red fish", 12), ("cup", 11)), strict=True):
        expected = to_array(NoisyGenerator().generate(concept, 3, seed))
        assert all(np.array_equal(thumb.pixels, image) for thumb, image in zip(row, expected, strict=True))
    assert share_of(page, CHOSEN_FILL) > 0


def test_equal_scores_keep_the_order_of_the_method(draw):
    trace = copy.deepcopy(DND)
    trace["tested"][0]["score"] = trace["tested"][1]["score"]
    _, sheet, _ = draw(trace)
    # Of equal scores the later candidate wins, as published.
    assert [text for text in sheet.texts if text[:3] in ("1. ", "2. ")] == ["1. red fish", "2. cup"]


def test_ranks_are_listed_or_stand_under_their_images_where_the_order_is_known(draw):
    _, sheet, _ = draw()
    assert "ranks of its images: 0, 1, 4" in sheet.texts
    assert all(not thumb.lines for row in sheet.rows[2:] for thumb in row)
    trace = copy.deepcopy(DND)
    trace["tested"][0]["image_ranks"], trace["tested"][1]["image_ranks"] = [3, 2, 5], [4, 0, 1]
    _, sheet, _ = draw(trace)
    assert [[lines(thumb) for thumb in row] for row in sheet.rows[2:]] == [
        [["rank 4"], ["rank 0"], ["rank 1"]],
        [["rank 3"], ["rank 2"], ["rank 5"]],
    ]
    assert not any(text.startswith("ranks of") for text in sheet.texts)


def test_an_adaptive_choice_shows_the_images_of_each_candidate_and_who_dropped_out_first_last(draw):
    trace = copy.deepcopy(DND)
    trace["synthesis"] |= {"draw": "adaptive", "images": 5}
    cup, fish = trace["tested"]
    cup |= {"images": 2, "image_ranks": [0, 1], "ranks": [0, 1], "score": 9.0}
    fish |= {"images": 3, "image_ranks": [0, 2, 1], "ranks": [0, 1, 2]}
    _, sheet, _ = draw(trace)
    assert [text for text in sheet.texts if text[:3] in ("1. ", "2. ")] == ["1. red fish", "2. cup"]
    assert [[lines(thumb) for thumb in row] for row in sheet.rows[2:]] == [
        [["rank 0"], ["rank 2"], ["rank 1"]],
        [["rank 0"], ["rank 1"]],
    ]
    assert any("up to 3 images per candidate" in text for text in sheet.texts)
    _, sheet, generator = draw({**trace, "candidates": ["red fish"], "tested": []})
    assert generator.asked == []
    assert "No synthetic images were generated: a single candidate is the label." in sheet.texts


def test_synthetic_images_are_shown_reduced_where_the_unit_saw_them_reduced(draw):
    trace = copy.deepcopy(REFINED)
    trace["synthesis"]["synth_px"] = 8
    _, sheet, _ = draw(trace)
    first, captioned, *_ = sheet.rows[2:]
    assert first[0].pixels.shape == (8, 8, 3)
    # The captioner saw them as they were drawn.
    assert captioned[0].pixels.shape == (20, 20, 3)


def test_a_refined_search_has_one_block_a_round(draw):
    _, sheet, _ = draw(REFINED, method="dnd_refined")
    marks = ("Round 1 of 2", "1. cup", "Round 2 of 2", "1. red fish", "2. cup")
    assert [text for text in sheet.texts if text in marks] == list(marks)
    assert sheet.texts.count("best so far") == sheet.texts.count("chosen") == 1
    # Round 2 draws the new candidate only; the old one has its images in round 1.
    first, captioned, second = sheet.rows[2:]
    cups, fish = (to_array(NoisyGenerator().generate(*request)) for request in (("cup", 3, 11), ("red fish", 3, 12)))
    assert np.array_equal(first[0].pixels, cups[0])
    assert np.array_equal(captioned[0].pixels, cups[2])
    assert lines(captioned[0]) == ["of: cup", "a fish in a cup"]
    assert np.array_equal(second[0].pixels, fish[0])
    told = " ".join(sheet.texts)
    assert "0.300, needed: 0.900, which is too little; the search continued." in told
    assert "1.100, needed: 0.900, which is enough; the search ended (passed)." in told


def test_without_selection_there_are_no_synthetic_images(draw):
    _, sheet, generator = draw({**DND, "scoring": "none", "tested": []})
    assert generator.asked == []
    assert len(sheet.rows) == 2
    assert any(text.startswith("No synthetic images") for text in sheet.texts)


def test_a_unit_that_nothing_names_has_a_page(draw):
    page, sheet, _ = draw({**DND, "replies": ["", ""], "candidates": [], "tested": [], "chosen": None})
    assert "Unit 17: no label" in sheet.texts
    assert "Candidates: none" in sheet.texts
    assert share_of(page, CHOSEN_FILL) == 0


def test_masks_come_from_the_segmenter_where_the_run_took_them_from_it(draw):
    class Everything:
        def foreground(self, images):
            return torch.ones(len(images), *images.shape[2:], dtype=torch.bool)

    _, sheet, _ = draw(condition=FOREGROUND, segmenter=Everything())
    images = SmallProbing().images
    everywhere = perturb(images, *FOREGROUND, [0] * IMAGES, torch.ones(IMAGES, SIDE, SIDE, dtype=torch.bool))
    assert np.array_equal(sheet.rows[0][0].pixels, to_array(everywhere)[4])


def test_images_that_were_left_out_are_not_counted():
    probing = MiniatureProbingSet("probe", 3)
    kept = without(probing, {probing.ids[1]})
    assert kept.ids == (probing.ids[0], probing.ids[2])
    assert torch.equal(kept.load([1, 0]), probing.images[[2, 0]])
    assert torch.equal(kept.load_foreground([1]), probing.foreground[[2]])
    assert without(probing, frozenset()) is probing


def test_an_image_on_the_background_of_another_one_is_redrawn_as_in_the_run():
    probing, condition = MiniatureProbingSet("probe", 12), Condition("mixed_rand", 5)
    expected = perturbed(probe_of(probing, masked=True), condition, 3, Settings(), torch.device("cpu"))([7, 2])
    trace = SimpleNamespace(images=lambda: (7, 2))
    identity = SimpleNamespace(seed=3, perturbing=Settings)
    redrawn = Redrawn(trace, condition, identity, probing, NoisyGenerator())
    assert np.array_equal(redrawn.original(7), to_array(expected)[0])
    assert np.array_equal(redrawn.original(2), to_array(expected)[1])


# ---- nothing overflows ----


def share_of(page: Image.Image, colour: str) -> float:
    rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return float((np.asarray(page) == rgb).all(axis=2).mean())


@pytest.mark.parametrize(
    "text",
    ["a red fish on sand " * 40, "W" * 3000, "fish\n\x00\x1b[31m\u202e" * 100, "鱼" * 120, ""],
    ids=["long", "one word", "controls", "another script", "empty"],
)
def test_text_of_any_kind_stays_on_the_page(draw, text):
    trace = {**DND, "captions": [text] * 2, "replies": [text] * 7, "candidates": [text], "chosen": text}
    trace["tested"] = [candidate(text, 1, 0.5, ranks=list(range(300)), topk_sq_mean=1e6, image_similarity=-1.0)]
    page, _, _ = draw(trace)
    pixels = np.asarray(page)
    assert page.width == WIDTH
    for strip in (pixels[:, : MARGIN - 13], pixels[:, WIDTH - MARGIN + 13 :], pixels[:20], pixels[-20:]):
        assert (strip == 255).all()


def test_captions_are_painted_in_the_column_of_their_picture(draw):
    pages = []
    for caption in ("a red fish on the sand of a beach", "the mast of a ship under stars"):
        page, _, _ = draw({**DND, "captions": ["a cup", caption], "simplified": ["a cup", caption]})
        pages.append(np.asarray(page))
    assert pages[0].shape == pages[1].shape
    _, columns = np.nonzero((pages[0] != pages[1]).any(axis=2))
    second = MARGIN + THUMB + GAP
    assert len(columns) > 100
    # A letter's smoothed edge may reach one pixel beyond its box.
    assert second - 1 <= columns.min()
    assert columns.max() < second + THUMB + 1


@pytest.mark.parametrize("width", [40, 104, 300])
@pytest.mark.parametrize("text", ["a red fish on sand, seen from above", "Donaudampfschifffahrt on W" + "i" * 90])
def test_wrapped_text_fits_and_says_where_it_is_cut(text, width):
    whole = wrapped(text, 12, width, 1000)
    assert "".join(whole).replace(" ", "") == text.replace(" ", "")
    assert all(_length(line, 12) <= width for line in whole)
    for most in (1, 2, 3):
        cut = wrapped(text, 12, width, most)
        assert len(cut) == min(most, len(whole))
        assert all(_length(line, 12) <= width for line in cut)
        assert cut[-1].endswith("…") == (len(whole) > most)


def test_characters_that_the_font_lacks_are_spelt():
    assert drawable("café × 中\x1b[0m\u202e…") == "cafe x <U+4E2D>[0m…"


# ---- which trace ----


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"unit": 4}, r"Unit 4 is not in .*run; its units are 3, 17\."),
        ({"unit": 3}, r"Unit 3 is dead under clean: .*no trace\."),
        ({"task": "resnet50_layer3"}, r"Unknown task \(in this run\) 'resnet50_layer3'\. Did you mean resnet50_layer4"),
        (
            {"method": "network_dissection"},
            r"network_dissection is not part of this run; .* clip_dissect, dnd, dnd_refined\.",
        ),
        ({"method": "clip_dissect"}, r"clip_dissect records no traces; of .* dnd, dnd_refined do\."),
        ({"condition": "gaussian_blur"}, r"Unknown condition \(in this run\) 'gaussian_blur'.*Available:.*clean"),
        ({"condition": "fog"}, r"fog ran at several severities; choose one with --severity: 2, 3\."),
        ({"condition": "fog", "severity": 5}, r"fog did not run at severity 5; it ran at 2, 3\."),
        ({"condition": "clean", "severity": 1}, r"clean did not run at severity 1; it ran at 0\."),
        (
            {"condition": "fog", "severity": 3},
            r"has not finished dnd on resnet50_layer4, fog 3, repeat 0: run its command",
        ),
        ({"repeat": 1}, r"has not finished dnd on resnet50_layer4, clean, repeat 1"),
        ({"repeat": 2}, r"Repeat 2 does not exist: clean ran with repeats 0 to 1\."),
        ({"condition": "gaussian_noise", "severity": 2, "repeat": 1}, r"Repeat 1 does not exist: .* repeats 0 to 0\."),
    ],
)
def test_what_the_run_does_not_have_is_one_sentence(tmp_path, question, sentence):
    path = make_run(tmp_path / "run")
    with pytest.raises(UserError, match=sentence):
        find(path, **{"unit": UNIT, **question})


def test_the_method_is_the_first_that_left_traces(tmp_path):
    path = make_run(tmp_path / "a", methods=["clip_dissect", "dnd_refined"])
    assert find(path, UNIT).key.method == "dnd_refined"
    path = make_run(tmp_path / "b", methods=["clip_dissect"])
    with pytest.raises(UserError, match="No method of this run records traces; its methods are clip_dissect"):
        find(path, UNIT)


def test_a_method_of_ones_own_that_states_a_form_can_be_traced(tmp_path):
    path = make_run(tmp_path / "run", methods=["clip_dissect", "mine"], traced="mine")
    assert find(path, UNIT).key.method == "mine"


def test_a_run_of_several_tasks_asks_which(tmp_path):
    tasks = identity()["content"]["tasks"]
    content = {"tasks": {**tasks, "other": tasks[TASK]}, "images": {}, "views": {}, "conditions": {}}
    path = make_run(tmp_path / "run", content=content)
    with pytest.raises(UserError, match="several tasks; choose one with --task: other, resnet50_layer4"):
        find(path, UNIT)
    assert find(path, UNIT, task=TASK).key.task == TASK


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"captions": ["one"]}, "described, captions and simplified differ in length"),
        (
            {"described": [{"image": 1, "box": [0, 0, 61, 5], "activation": 1.0}] * 2},
            "is not inside an image of 60 px",
        ),
        ({"tested": "none"}, "field 'tested'"),
    ],
)
def test_a_damaged_trace_is_one_sentence(tmp_path, change, sentence):
    path = make_run(tmp_path / "run", {**DND, **change})
    with pytest.raises(UserError, match=f"In the trace of unit 17, .*{sentence}"):
        find(path, UNIT)


def test_images_that_the_run_does_not_have_are_one_sentence(tmp_path):
    path = make_run(tmp_path / "run", {**DND, "top_images": [IMAGES]})
    with pytest.raises(UserError, match="refers to image 6, but the run has images 0 to 5"):
        trace_page(find(path, UNIT), SmallProbing(), NoisyGenerator())


# ---- the whole way, on the miniature's renderer ----


@pytest.fixture(scope="module")
def digest() -> str:
    return MiniatureProbingSet("probe", IMAGES).seen_by(WHOLE).digest


@pytest.fixture
def no_networks(monkeypatch):
    def loaded(*_, **__):
        raise AssertionError("a trace is drawn without any network")

    for name in ("profiles.loading.load_weights", "profiles.build.check_file", "profiles.build.TargetModel"):
        monkeypatch.setattr(f"tasks.{name}", loaded)
    for name in ("clip_encoder.OpenClipEncoder", "blip_captioner.BlipCaptioner"):
        monkeypatch.setattr(f"tasks.models.{name}", loaded)


def rendered_run(path: Path, digest: str) -> Path:
    content = identity()["content"] | {"images": {TASK: digest}}
    return make_run(path, content=content)


@pytest.mark.usefixtures("no_networks")
def test_the_command_writes_the_picture(tmp_path, digest):
    run = rendered_run(tmp_path / "run", digest)
    command = ["trace", str(run), "--unit", "17", "--condition", "gaussian_noise", "--severity", "2"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (path,) = (run / "traces").iterdir()
    assert str(path) in result.stdout
    page = Image.open(path)
    assert page.format == "PNG"
    assert page.width == WIDTH
    recorded = find(run, UNIT, condition="gaussian_noise", severity=2)
    expected = trace_page(recorded, MiniatureProbingSet("probe", IMAGES), RenderingGenerator())
    assert np.array_equal(np.asarray(page), np.asarray(expected))


@pytest.mark.usefixtures("no_networks")
def test_a_picture_replaces_the_old_one_whole_or_not_at_all(tmp_path, digest, monkeypatch):
    run = rendered_run(tmp_path / "run", digest)
    out = tmp_path / "out" / "trace.png"
    assert write_trace(run, Question(UNIT), out) == out
    first = out.read_bytes()
    out.write_bytes(b"old")
    write_trace(run, Question(UNIT), out)
    assert out.read_bytes() == first

    def full(*_):
        raise OSError(28, "No space left on device")

    out.write_bytes(b"old")
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StoreError, match="No space left"):
        write_trace(run, Question(UNIT), out)
    assert [path.read_bytes() for path in out.parent.iterdir()] == [b"old"]


@pytest.mark.usefixtures("no_networks")
def test_a_perturbation_that_is_another_one_today_is_not_passed_off_as_the_runs(tmp_path, digest):
    facts = identity()["content"] | {"images": {TASK: digest}}
    old = facts | {"perturbations": {"engine": "1", "frost": {"version": "1", "parameters": []}}}
    run = make_run(tmp_path / "run", cells=((("frost", 2), 0), (CLEAN, 0)), content=old, corruptions="fixed")
    with pytest.raises(UserError, match=r"frost has changed since .* was made"):
        write_trace(run, Question(UNIT, condition="frost", severity=2))
    assert write_trace(run, Question(UNIT)).exists()


def test_images_that_are_not_the_runs_are_not_passed_off_as_them(tmp_path):
    run = make_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"present images of profile .* are not those of"):
        write_trace(run, Question(UNIT))
    assert not (run / "traces").exists()


@pytest.mark.usefixtures("no_networks")
def test_a_run_on_a_folder_of_the_users_needs_the_folder_again(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(IMAGES):
        colours = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(colours).save(photos / f"{number}.png")
    own = open_folder(photos, "mine").seen_by(WHOLE)
    content = identity()["content"]
    tasks = {TASK: content["tasks"][TASK] | {"probing_set": "own_images"}}
    run = make_run(tmp_path / "run", content=content | {"tasks": tasks, "images": {TASK: own.digest}})
    with pytest.raises(UserError, match="give their folder with --images FOLDER"):
        write_trace(run, Question(UNIT))
    assert Image.open(write_trace(run, Question(UNIT), images=photos)).width == WIDTH
    (photos / "0.png").write_bytes((photos / "1.png").read_bytes())
    with pytest.raises(UserError, match=r"present images of profile .* are not those of"):
        write_trace(run, Question(UNIT), images=photos)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere", "--unit", "17"], "is not a run folder"),
        (["run", "--unit", "4"], "Unit 4 is not in"),
        (["run", "--unit", "17", "--out", "trace.jpg"], "the name must end in .png"),
    ],
)
def test_mistakes_on_the_command_line_are_one_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    make_run(Path("run"))
    result = CliRunner().invoke(app, ["trace", *arguments])
    assert result.exit_code == 1
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
