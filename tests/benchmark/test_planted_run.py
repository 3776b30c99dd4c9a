"""Planted units from the command to the scores: the truth is what was planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark import runner
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from leaderboard.board.facts import run_facts
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.truth import accuracy_by_truth


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Both tests read one layer under the same conditions."""
    return str(tmp_path_factory.mktemp("cache"))


def test_planted_units_are_labelled_and_scored_by_what_was_planted(tmp_path: Path, cache: str) -> None:
    options = RunOptions.model_validate(
        {
            "tasks": ("resnet50_planted",),
            "methods": ("clip_dissect", "random_label"),
            "suites": ("contrast",),
            "images": 200,
            "units": 24,
            "out": tmp_path / "planted",
            "device": "cpu",
            "faithfulness": "none",
            "cache": cache,
        }
    )
    result = runner.run(options, Display("quiet"))
    scores = RunFolder(result.folder).read_table("scores")
    assert scores["unit"].min() >= 2048
    assert scores["unit"].nunique() == 24
    assert {"single", "and", "or"} == set(scores["truth_op"])
    for operation in ("and", "or"):
        assert scores["truth"][scores["truth_op"] == operation].str.contains(f" {operation} ").all()
    clean = result.summary[result.summary["perturbation"] == "clean"].set_index("method")
    assert clean.loc["clip_dissect", "accuracy"] > clean.loc["random_label", "accuracy"]
    singles = scores[(scores["truth_op"] == "single") & (scores["method"] == "clip_dissect")]
    assert singles["right_clean"].astype(bool).mean() > 0.6


def test_wrapped_methods_run_are_stored_and_shown_like_any_other(tmp_path: Path, cache: str) -> None:
    names = ("semantic_lens", "several(semantic_lens)", "set_of(semantic_lens)")
    options = RunOptions.model_validate(
        {
            "tasks": ("resnet50_planted",),
            "methods": names,
            "method_options": {names[1]: {"clusters": 3, "top_images": 3}, names[2]: {"resamples": 6, "top_images": 5}},
            "suites": ("contrast",),
            "images": 200,
            "unit_ids": tuple(range(2100, 2148, 2)),
            "repeats": 1,
            "thumbnails": 0,
            "out": tmp_path / "wrapped",
            "device": "cpu",
            "faithfulness": "none",
            "cache": cache,
        }
    )
    result = runner.run(options, Display("quiet"))
    assert not result.failed
    folder = RunFolder(result.folder)
    scores, labels = folder.read_table("scores"), folder.read_table("labels")
    assert set(scores["method"]) == set(names)
    assert folder.info()["identity"]["content"]["methods"] == dict(zip(names, ("1", "1+1", "1+1"), strict=True))
    assert not any(set(path.name) & set("()") for path in folder.path.rglob("*"))

    # Both concepts of OR units: by the labels that a method gives, not by its runners-up.
    assert scores.loc[scores["truth_op"] != "or", "named_both"].isna().all()
    clean = scores.loc[(scores["truth_op"] == "or") & (scores["perturbation"] == "clean")]
    both = clean.groupby("method")["named_both"].sum()
    assert both["several(semantic_lens)"] > both["semantic_lens"] == 0
    given = labels.loc[labels["method"].eq(names[2]) & labels["perturbation"].eq("clean")]
    assert given.groupby("unit")["score"].sum().between(0.9 - 1e-9, 1 + 1e-9).all()
    (table,) = [one for one in accuracy_by_truth(scores, run_facts(folder.info())) if one.task == "resnet50_planted"]
    assert table.sections[-1].title.startswith("OR, both concepts named (n = ")
    (path,) = result.folder.glob("tables/accuracy_by_truth*.md")
    assert f"| {names[1]} |" in path.read_text()
