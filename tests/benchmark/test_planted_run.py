"""Planted units from the command to the scores: the truth is what was planted."""

from __future__ import annotations

from pathlib import Path

from benchmark import runner
from benchmark.run.display import Display
from benchmark.run.options import RunOptions
from leaderboard.store.run_folder import RunFolder


def test_planted_units_are_labelled_and_scored_by_what_was_planted(tmp_path: Path) -> None:
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
