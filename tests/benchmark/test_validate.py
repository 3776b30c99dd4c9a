"""Validation of submissions with the models: recomputed scores, units labelled again, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from forging import forge

from benchmark import runner
from benchmark.commands.validate import VERIFIED, validate_one
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.external.recompute import mismatches_of_sample
from leaderboard.board.build import build_board
from leaderboard.board.merge import merge_runs
from leaderboard.board.pack import pack_runs
from leaderboard.board.submission import OF_UNITS, read_submission, write_submission
from leaderboard.store.frames import empty_frame
from leaderboard.store.schema import FAITHFULNESS
from metrics.stability import stability

METHODS = ("clip_dissect", "constant_label", "random_label")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    options = {
        "tasks": ("resnet50_fc",),
        "methods": METHODS,
        "method_options": {"clip_dissect": {"top_k": 5}},
        "suites": ("contrast",),
        "units": 6,
        "images": 12,
        "out": tmp_path_factory.mktemp("runs") / "fc",
        "device": "cpu",
        "thumbnails": 0,
        "faithfulness": "none",
    }
    return runner.run(RunOptions.model_validate(options), Display("quiet")).folder


@pytest.fixture(scope="module")
def pack(run):
    return write_submission(run, "someone@example.org", out=run.parent / "fc.clear.zip")


@pytest.fixture(autouse=True, scope="module")
def prepared_once():
    """Equal options give equal jobs; loading the networks takes most of the time of these tests."""
    from benchmark.execution import prepare as module

    made, kept = module.prepare, {}

    def prepare(parts, display):
        key = parts.options.identity_hash()
        if key not in kept:
            kept[key] = made(parts, display)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "prepare", prepare)
        yield


def similar(frame, value):
    """Similarities and what follows from them, as if labels had hardly moved."""
    rows = frame["method"].eq("random_label") & frame["perturbation"].ne("clean") & ~frame["dead"]
    similarity = frame["clip_similarity"].where(~rows, value)
    return frame.assign(
        clip_similarity=similarity, stability=stability(similarity.to_numpy(), frame["chance"].to_numpy())
    )


def test_an_honest_submission_is_verified_and_ranked(run, pack, tmp_path):
    verdict = validate_one(pack, tmp_path / "merged", device="cpu")
    assert verdict.refused == ""
    assert verdict.methods == dict.fromkeys(METHODS, VERIFIED)
    assert len(verdict.units["resnet50_fc"]) == 4
    (merged,) = (tmp_path / "merged").iterdir()
    facts = json.loads((merged / "run.json").read_text())["facts"]["validation"]
    assert facts["methods"] == verdict.methods
    assert facts["sha256"] == verdict.sha256
    # The board is that of the run itself.
    boards = [build_board(merge_runs(path)) for path in (run, merged)]
    rows = [[(row.method, row.values, row.standings) for row in board.standings[0].rows] for board in boards]
    assert rows[0] == rows[1]
    assert boards[1].runs.left_out == ()


def test_the_submission_and_nonce_choose_the_units(pack, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.commands.validate._labelled_again", lambda *_: {})
    chosen = [validate_one(pack, nonce=nonce).units["resnet50_fc"] for nonce in ("", "", "a", "b")]
    assert chosen[0] == chosen[1]
    assert len({tuple(units) for units in chosen}) > 1


def test_rounding_of_another_machine_is_no_forgery(pack, tmp_path):
    def noise(frame):
        rounded = {name: frame[name].astype(np.float32).astype(float) for name in ("clip_similarity", "chance")}
        follows = stability(rounded["clip_similarity"].to_numpy(), rounded["chance"].to_numpy())
        return frame.assign(**rounded, stability=follows)

    assert validate_one(forge(pack, tmp_path / "p.clear.zip", noise), again=False).refused == ""


def other_label(frame):
    """A wrong label becomes the truth, and its verdict right; similarities stay."""
    rows = frame["method"].eq("random_label") & ~frame["right"].fillna(True) & frame["perturbation"].ne("clean")
    return frame.assign(label=frame["label"].where(~rows, frame["truth"]), right=frame["right"].where(~rows, True))


def verdicts(frame):
    return frame.assign(right=frame["right"].where(frame["right"].isna(), True))


def moved_units(frame):
    return frame.assign(unit=frame["unit"] + 1)


def other_truth(frame):
    return frame.assign(truth=frame["truth"].where(frame["truth"].isna(), "dog"))


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        pytest.param(lambda frame: similar(frame, 0.999), "clip_similarity is", id="f38-scores-of-the-old-labels"),
        pytest.param(other_label, "is refused", id="f38-labels-with-the-old-scores"),
        pytest.param(verdicts, "right is", id="f38-verdicts"),
        pytest.param(moved_units, "units are not those", id="f38-other-units"),
        pytest.param(other_truth, "truth is 'dog'", id="f38-truth"),
        pytest.param(
            lambda frame: frame.assign(stability=frame["stability"] * 0.5 + 0.5), "does not follow", id="f38-stability"
        ),
    ],
)
def test_f38_scores_that_do_not_follow_from_the_labels_are_refused(pack, tmp_path, scores, reason):
    change = {} if scores is not moved_units else {name: moved_units for name in ("labels", "evidence")}
    found = validate_one(forge(pack, tmp_path / "p.clear.zip", scores, **change), tmp_path / "merged", again=False)
    assert reason in found.refused
    assert not (tmp_path / "merged").exists()


def settings(path, value):
    def change(run):
        place = run["identity"]
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(settings(["content", "images", "resnet50_fc"], "0" * 64), "other images", id="f38-images"),
        pytest.param(settings(["content", "methods", "clip_dissect"], "1"), "other images", id="f38-method-version"),
        pytest.param(
            settings(["content", "tasks", "resnet50_fc", "version"], 1), "other images", id="f38-task-version"
        ),
        pytest.param(settings(["content", "profile"], "0" * 64), "other images", id="f38-profile"),
        pytest.param(settings(["seed"], 1), "is refused", id="f38-seed"),
        pytest.param(settings(["model"], "os:getcwd"), "--model of its own", id="f38-code"),
        pytest.param(settings(["tasks"], ["/etc/passwd"]), "names a file", id="f38-task-file"),
        pytest.param(settings(["profile"], "../x.yaml"), "is refused", id="f38-profile-file"),
        pytest.param(settings(["images"], "many"), "in its settings", id="f38-kind-of-a-setting"),
    ],
)
def test_f38_other_settings_than_here_are_refused(pack, tmp_path, change, reason):
    assert reason in validate_one(forge(pack, tmp_path / "p.clear.zip", run=change), again=False).refused


def relabelled(frame):
    """Labels of one method replaced by those of another, with all that follows from them."""
    better = frame.loc[frame["method"].eq("clip_dissect")].assign(method="random_label")
    return pd.concat([frame.loc[frame["method"].ne("random_label")], better], ignore_index=True)


def test_f38_labels_that_the_method_does_not_give_are_refused(pack, tmp_path):
    forged = forge(pack, tmp_path / "p.clear.zip", relabelled, labels=relabelled)
    assert validate_one(forged, again=False).refused == ""  # everything follows from these labels
    assert "of its labels are other ones" in validate_one(forged, device="cpu").refused

    def on_another_machine(run):
        run["sessions"][-1]["packages"]["torch"] = "1.0"

    elsewhere = forge(forged, tmp_path / "q.clear.zip", run=on_another_machine)
    verdict = validate_one(elsewhere, device="cpu")
    assert verdict.refused == ""
    assert verdict.methods["random_label"] == "self-reported"
    assert verdict.methods["clip_dissect"] == VERIFIED


def test_f38_what_only_the_images_show_is_measured_again(pack, tmp_path):
    def overlaps(frame):
        return frame.assign(evidence_overlap=frame["evidence_overlap"].where(frame["dead"], 1.0))

    assert "evidence_overlap" in OF_UNITS
    assert "evidence_overlap is" in validate_one(forge(pack, tmp_path / "p.clear.zip", overlaps), device="cpu").refused


def test_f38_faithfulness_of_a_sample_is_compared():
    key = {"task": "t", "profile": "p", "method": "m", "perturbation": "clean", "severity": 0, "repeat": 0}
    again = empty_frame(FAITHFULNESS).reindex(range(2)).assign(**key, unit=[3, 5], label=["dog", "cat"], f1=[0.5, 0.25])
    stated = pd.concat([again, again.iloc[:1].assign(unit=7)], ignore_index=True)
    assert mismatches_of_sample(stated, again, FAITHFULNESS) == ({"m": 0.0}, None)
    assert mismatches_of_sample(stated.assign(f1=stated["f1"] + 1e-6), again, FAITHFULNESS) == ({"m": 0.0}, None)
    shares, wrong = mismatches_of_sample(stated.assign(f1=[0.5, 0.75, 0.5]), again, FAITHFULNESS)
    assert shares == {"m": 0.0}
    assert wrong == "f1 is 0.75 instead of 0.25 (unit 5, clean 0; 1 rows)"
    # Another label has other measures; it counts as a label that differs.
    assert mismatches_of_sample(stated.assign(label=["dog", "cow", "x"], f1=0.5), again, FAITHFULNESS) == (
        {"m": 0.5},
        None,
    )


def test_a_method_that_is_not_installed_is_self_reported(pack, tmp_path):
    def renamed(frame):
        return frame.assign(method=frame["method"].replace("random_label", "somebody_elses"))

    def run(info):
        for place in (info["identity"]["content"]["methods"], info["facts"]["methods"]):
            place["somebody_elses"] = place.pop("random_label")
        info["identity"]["methods"] = sorted(info["identity"]["content"]["methods"])

    forged = forge(pack, tmp_path / "p.clear.zip", renamed, run, labels=renamed)
    verdict = validate_one(forged, device="cpu")
    assert verdict.refused == ""
    assert verdict.why == {"somebody_elses": "this method is not installed here"}
    assert verdict.methods["clip_dissect"] == VERIFIED


def test_packed_and_submitted_runs_have_the_same_tables(run, pack, tmp_path):
    pack_runs(run, tmp_path / "packed")
    submitted = read_submission(pack, tmp_path / "submitted").folder.path
    for path in submitted.glob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "packed" / "fc" / path.name).read_bytes()
