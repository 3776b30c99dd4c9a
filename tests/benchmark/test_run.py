"""The main job, end to end, on the real miniature at reduced size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from baselines.base import Label, UnitLabels
from benchmark import runner
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from leaderboard.board.facts import RunFacts
from leaderboard.board.merge import merge_runs
from leaderboard.store.errors import StoreError
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.comparisons import comparison_tables
from report.tables import document_tables
from tasks.catalogue import DEFINITIONS
from tasks.common.errors import UserError

UNITS = (2, 12, 23, 25)
METHODS = ("clip_dissect", "network_dissection", "dnd", "random_label", "constant_label")
# On few images; a class unit has one position per image.
ALL = {
    "methods": METHODS,
    "method_options": {"clip_dissect": {"top_k": 20}, "network_dissection": {"quantile": 0.05}},
    "images": 64,
}


def run(out: Path, **changes: object) -> runner.RunResult:
    values: dict[str, object] = {
        "tasks": ("resnet50_fc",),
        "methods": ("constant_label",),
        "suites": ("background_blur",),
        "images": 12,
        "unit_ids": UNITS,
        "out": out,
        "device": "cpu",
        "faithfulness": "none",
    }
    return runner.run(RunOptions.model_validate(values | changes), Display("quiet"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> runner.RunResult:
    return run(tmp_path_factory.mktemp("runs") / "main", **ALL)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """For runs whose tests are not about the passes over the images."""
    return str(tmp_path_factory.mktemp("cache"))


def top_labels(folder: Path) -> pd.DataFrame:
    labels = RunFolder(folder).read_table("labels")
    best = labels[labels["rank"] == 1]
    return best.set_index(["method", "perturbation", "repeat", "unit"])["label"].sort_index()


def test_every_method_labels_every_unit_under_every_condition(finished: runner.RunResult) -> None:
    best = top_labels(finished.folder)
    assert not finished.failed
    for method in METHODS:
        for condition, repeat in (("clean", 0), ("clean", 1), ("background_blur", 0)):
            labelled = best.loc[(method, condition, repeat)]
            assert list(labelled.index) == list(UNITS)
            assert labelled.str.strip().str.len().min() > 0


def test_scores_follow_their_definitions(finished: runner.RunResult) -> None:
    scores = RunFolder(finished.folder).read_table("scores")
    expected = (scores["clip_similarity"] - scores["chance"]) / (1 - scores["chance"])
    varied = scores["method"] != "constant_label"
    pd.testing.assert_series_equal(
        scores["stability"][varied], expected[varied], check_names=False, rtol=1e-6, atol=1e-6
    )
    assert (scores["stability"][~varied] == 0).all()
    clean = scores[(scores["perturbation"] == "clean") & (scores["repeat"] == 0)]
    assert clean["clip_similarity"].to_numpy() == pytest.approx(1.0)
    assert clean["evidence_overlap"].to_numpy() == pytest.approx(1.0)
    assert clean["rank_biased_overlap"].to_numpy() == pytest.approx(1.0)
    assert clean["activation_correlation"].to_numpy() == pytest.approx(1.0)
    blurred = scores[scores["perturbation"] == "background_blur"]
    assert blurred["activation_correlation"].between(0.3, 0.999).all()
    assert scores[["clarity", "redundancy", "monosemanticity"]].apply(lambda own: own.between(-1, 1)).all(axis=None)
    assert scores["polysemanticity"].between(0, 2).all()
    # Of the unit, so the same for all methods; of the images, so another one under a perturbation.
    assert scores.groupby(["perturbation", "unit"])["clarity"].nunique().max() == 1
    assert (blurred["clarity"].to_numpy() != clean["clarity"].to_numpy()).mean() > 0.9
    assert (scores["truth_op"] == "single").all()
    deterministic = scores[scores["method"].isin(["clip_dissect", "network_dissection", "constant_label"])]
    assert deterministic["noise_floor"].to_numpy() == pytest.approx(1.0)


def test_labels_of_class_units_beat_the_floors(finished: runner.RunResult) -> None:
    clean = finished.summary[finished.summary["perturbation"] == "clean"].set_index("method")["accuracy"]
    assert clean["clip_dissect"] > clean["constant_label"]
    assert clean["dnd"] > clean["constant_label"]
    assert clean["constant_label"] == 0


def test_run_json_says_what_a_reader_must_know(finished: runner.RunResult) -> None:
    facts = json.loads((finished.folder / "run.json").read_text())
    assert facts["identity"]["content"]["images"]["resnet50_fc"]
    assert facts["facts"]["profile"]["masks"] == "probing_set"
    assert {"torch", "open_clip_torch"} <= set(facts["sessions"][0]["packages"])
    assert (finished.folder / "tables" / "stability.tex").read_text().startswith("%")
    assert (finished.folder / "tables" / "accuracy.tex").exists()


def test_the_same_command_does_nothing_twice(finished: runner.RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a finished run read the network again")

    before = {path: path.read_bytes() for path in finished.folder.rglob("*.parquet")}
    monkeypatch.setattr("benchmark.core.passes.observe", never)
    again = run(finished.folder, **ALL)
    assert not again.failed
    assert {path: path.read_bytes() for path in finished.folder.rglob("*.parquet")} == before


def test_tables_are_made_again_only_where_one_is_gone_or_the_code_has_changed(
    finished: runner.RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "main"
    shutil.copytree(finished.folder, folder)
    scored: list[Path] = []
    real = runner.score_run
    monkeypatch.setattr(runner, "score_run", lambda where, *rest: scored.append(where.path) or real(where, *rest))
    before = run(folder, **ALL)
    assert scored == []
    pd.testing.assert_frame_equal(before.scores, finished.scores)

    damaged = folder / "tables" / "stability.tex"
    text = damaged.read_bytes()
    damaged.write_bytes(text[:-9])
    run(folder, **ALL)
    assert scored == [folder]
    assert damaged.read_bytes() == text

    monkeypatch.setattr("benchmark.core.tables_cache.source_hash", lambda: "of corrected code")
    run(folder, **ALL)
    assert scored == [folder] * 2
    run(folder, **ALL)
    assert scored == [folder] * 2


def test_an_interrupted_run_continues_to_the_same_tables(finished: runner.RunResult, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder, copy)
    removed = 0
    for marker in copy.glob("parts/**/*dnd*background_blur*.json"):
        marker.unlink()
        removed += 1
    assert removed == 1
    run(copy, **ALL)
    assert (copy / "labels.parquet").read_bytes() == (finished.folder / "labels.parquet").read_bytes()
    assert (copy / "summary.parquet").read_bytes() == (finished.folder / "summary.parquet").read_bytes()


def test_evidence_that_was_lost_is_made_again_beside_the_clean_activations(
    finished: runner.RunResult, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.folder, copy)
    lost = [path for path in copy.glob("parts/**/*.json") if "evidence" in str(path) and "background_blur" in str(path)]
    assert lost
    for marker in lost:
        marker.unlink()
    run(copy, **ALL)
    before, after = (RunFolder(folder).read_table("scores") for folder in (finished.folder, copy))
    pd.testing.assert_frame_equal(before, after)


def test_a_unit_alone_gets_the_label_it_gets_among_others(finished: runner.RunResult, tmp_path: Path) -> None:
    run(tmp_path / "alone", **ALL, unit_ids=(UNITS[1],), batch_size=16)
    alone, among = top_labels(tmp_path / "alone"), top_labels(finished.folder)
    pd.testing.assert_series_equal(alone, among[among.index.get_level_values("unit") == UNITS[1]])


def test_another_seed_is_refused_in_the_same_folder(finished: runner.RunResult) -> None:
    with pytest.raises(StoreError, match="seed"):
        run(finished.folder, **ALL, seed=1)


def test_two_layers_of_one_network_share_each_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.core import passes

    made: list[tuple[str, tuple[str, ...]]] = []
    real = passes.observe

    def counting(target: object, layers: dict, probe: object, condition: object, *rest: object, **more: object):
        made.append((str(condition), tuple(layers)))
        return real(target, layers, probe, condition, *rest, **more)

    monkeypatch.setattr(passes, "observe", counting)
    result = run(tmp_path / "two", tasks=("resnet50_layer4", "resnet50_fc"))
    assert made == [("clean", ("layer4", "fc")), ("background_blur 3", ("layer4", "fc"))]
    assert set(result.summary["task"]) == {"resnet50_layer4", "resnet50_fc"}


def test_one_layer_pooled_in_two_ways_is_read_twice(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    literal = (DEFINITIONS / "resnet18_layer4.yaml").read_text()
    mine.write_text(literal.replace("name: resnet18_layer4", "name: peaks").replace("pooling: mean", "pooling: max"))
    result = run(tmp_path / "both", tasks=("resnet18_layer4", str(mine)), unit_ids=(5,))
    evidence = RunFolder(result.folder).read_table("evidence")
    strongest = evidence[evidence["rank"] == 1].groupby("task")["activation"].first()
    assert strongest["peaks"] > strongest["resnet18_layer4"]


def test_hidden_units_have_a_truth_only_above_the_bar(tmp_path: Path) -> None:
    result = run(tmp_path / "hidden", tasks=("resnet18_layer4",), unit_ids=None, units=40, images=100)
    folder = RunFolder(result.folder)
    (key,) = [key for key in folder.done_cells("evidence") if key.condition == "clean"]
    marker = folder.marker(key, "evidence")
    assert marker is not None
    assert marker.extra["layer_units"] == 512
    known = marker.extra["truth"]
    assert 0 < len(known) < 40
    assert all(found["auroc"] >= 0.9 for found in known.values())
    assert (result.summary["known"] == len(known)).all()


def test_masks_may_come_from_the_segmenter(tmp_path: Path, cache: str) -> None:
    result = run(tmp_path / "masks", masks="segmenter", cache=cache)
    facts = json.loads((result.folder / "run.json").read_text())
    assert facts["facts"]["profile"]["masks"] == "segmenter"


def test_images_without_a_mask_are_left_out_and_listed(
    tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.miniature.probing import MiniatureProbingSet

    real = MiniatureProbingSet.load_foreground

    def without_masks(self: MiniatureProbingSet, indices: Sequence[int]) -> torch.Tensor:
        masks = real(self, indices)
        for place, index in enumerate(indices):
            if index in (3, 7):
                masks[place] = index == 7
        return masks

    monkeypatch.setattr(MiniatureProbingSet, "load_foreground", without_masks)
    changes = {"suites": ("background_blur", "gaussian_blur"), "cache": cache}
    folder = RunFolder(run(tmp_path / "masks", **changes).folder)
    assert folder.info()["facts"]["left_out"] == {"resnet50_fc": ["probe-000003", "probe-000007"]}
    evidence = folder.read_table("evidence")
    assert set(evidence["perturbation"]) == {"clean", "background_blur", "gaussian_blur"}
    assert not {"probe-000003", "probe-000007"} & set(evidence["image"])
    # An older version had other clean labels; what it began is not continued.
    info = json.loads((folder.path / "run.json").read_text())
    del info["facts"]["left_out"], info["facts"]["finished"]
    (folder.path / "run.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="run it anew with another --out"):
        run(folder.path, **changes)


def test_clean_labels_with_fewer_images_are_another_group(
    tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.miniature.probing import MiniatureProbingSet

    run(tmp_path / "runs" / "whole", suites=("gaussian_blur",), cache=cache)
    real = MiniatureProbingSet.load_foreground
    monkeypatch.setattr(
        MiniatureProbingSet,
        "load_foreground",
        lambda self, indices: real(self, indices) & (torch.tensor(indices) > 3)[:, None, None],
    )
    run(tmp_path / "runs" / "fewer", cache=cache)
    groups = merge_runs(tmp_path / "runs").groups
    shown = sorted(sorted(set(group.scores["perturbation"])) for group in groups)
    assert shown == [["background_blur", "clean"], ["clean", "gaussian_blur"]]


def test_a_run_whose_images_have_no_masks_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.models.segmenter import ForegroundSegmenter

    monkeypatch.setattr(
        ForegroundSegmenter, "foreground", lambda self, images: torch.zeros(len(images), *images.shape[-2:]) > 0
    )
    with pytest.raises(UserError, match="Of the 12 images of resnet50_fc, 0 have a foreground"):
        run(tmp_path / "none", masks="segmenter")


def test_the_reference_engine_and_other_choices_give_other_images(tmp_path: Path, cache: str) -> None:
    changes = {"suites": ("pixelate", "frost"), "severities": (5,), "cache": cache}
    changes["lengths"] = "raw"  # the reference knows no others
    evidence = [
        RunFolder(run(tmp_path / engine, **changes, corruptions=engine).folder).read_table("evidence")
        for engine in ("published", "package", "repaired", "reference")
    ]
    frost = [table[table["perturbation"] == "frost"]["activation"].to_numpy() for table in evidence]
    assert not any(np.allclose(frost[i], frost[j]) for i, j in combinations(range(4), 2))
    pixelate = [table[table["perturbation"] == "pixelate"]["activation"].to_numpy() for table in evidence]
    assert np.array_equal(pixelate[0], pixelate[1])
    assert np.array_equal(pixelate[0], pixelate[2])
    assert np.allclose(pixelate[0], pixelate[3], atol=0.5)


def test_a_broken_method_loses_only_its_own_cells(tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from baselines.trivial import ConstantLabel

    def label(self: object, observation: object, units: object, tools: object) -> list[UnitLabels]:
        raise ZeroDivisionError("a method of somebody's")

    monkeypatch.setattr("baselines.trivial.RandomLabel.label", label)
    result = run(tmp_path / "broken", methods=("random_label", "constant_label"), cache=cache)
    assert len(result.failed) == 3
    assert all("ZeroDivisionError" in reason for reason in result.failed)
    assert set(result.summary["method"]) == {ConstantLabel.name}


def test_a_run_whose_every_cell_failed_lists_them_and_has_empty_tables(
    tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def label(self: object, observation: object, units: object, tools: object) -> list[UnitLabels]:
        raise ZeroDivisionError("a method of somebody's")

    monkeypatch.setattr("baselines.trivial.RandomLabel.label", label)
    result = run(tmp_path / "broken", methods=("random_label",), faithfulness="clean", cache=cache)
    assert len(result.failed) == 3
    assert result.summary.empty
    assert RunFolder(result.folder).read_table("scores").empty
    assert not document_tables(result.summary, RunFacts(), result.scores)
    assert not comparison_tables(result.comparisons, RunFacts())


def test_dead_units_are_counted_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.core import passes

    real = passes.observe

    def deadened(*args: object, **kwargs: object) -> object:
        found = real(*args, **kwargs)
        for observation in found.values():
            observation.activations[:, UNITS[0]] = 0.0
        return found

    monkeypatch.setattr(passes, "observe", deadened)
    result = run(tmp_path / "dead", methods=("constant_label", "random_label"))
    assert (result.summary["dead"] == 1).all()
    assert (result.summary["units"] == len(UNITS) - 1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit_ids": (46,)}, "Unit 46 does not exist"),
        ({"unit_ids": None, "units": 47}, "--units 47 is more than the 46 units of"),
        ({"profile": "miniatur"}, "Did you mean miniature"),
        ({"device": "cuda:7"}, "--device cuda:7"),
        ({"images": 50, "methods": ("clip_dissect",)}, "100"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path / "mistake", **changes)
    assert "\n" not in str(caught.value)


def test_label_texts_survive_as_they_are(tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = "<script>alert(1)</script> \\input{/etc/passwd} 50 % of_units & $x$"

    def label(self: object, observation: object, units: tuple[int, ...], tools: object) -> list[UnitLabels]:
        return [UnitLabels(unit, (Label(hostile, 1.0),)) for unit in units]

    monkeypatch.setattr("baselines.trivial.ConstantLabel.label", label)
    result = run(tmp_path / "hostile", cache=cache)
    assert set(RunFolder(result.folder).read_table("labels")["label"]) == {hostile}
