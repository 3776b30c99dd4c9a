"""A small bottleneck of the miniature and one of CIFAR's shape, from the options to the tables."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from small_cifar import write_cifar

from benchmark.core.display import Display
from benchmark.core.label_concepts import read_concepts
from benchmark.core.options import RunOptions
from benchmark.studies.bottleneck import model as bottleneck_model
from benchmark.studies.bottleneck.run import BottleneckResult, has_bottlenecks, run_bottlenecks
from leaderboard.board.facts import RunFacts
from leaderboard.store.errors import StoreError
from leaderboard.store.frames import empty_frame
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import LABELS, TABLES
from leaderboard.view.bottleneck import HEADS, bottleneck_contents
from report.figures.bottleneck import decision_figures
from tasks.cache import open_cache
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.models.preprocessing import Preprocessing
from tasks.models.target import TargetModel
from tasks.probing.schema import CifarSource
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile, load_profile
from tasks.schema import Task, Units

NAMES = ("bottleneck", "concept_drift", "context_anomaly", "decisions")


def small(**section) -> Task:
    task = load_task("miniature_lfcbm")
    own = {"training_images": 140, "held_out": ("fish",), "held_out_contexts": ("starry night",)} | section
    return task.model_copy(
        update={
            # The smaller network, for time.
            "model": "resnet18",
            "units": Units(),
            "images": 20,
            "suites": ("background_blur", "fog"),
            "bottleneck": task.bottleneck and task.bottleneck.model_copy(update=own),
        }
    )


def done(path: Path, task: Task, profile: Profile | None = None, **options) -> BottleneckResult:
    profile = profile or load_profile("miniature")
    roles = Roles(profile, torch.device("cpu"), cache=open_cache())
    return run_bottlenecks(
        RunOptions(tasks=(task.name,), out=path, **options), profile, [task], roles, Display("quiet")
    )


@pytest.fixture(scope="module", autouse=True)
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All runs ask CLIP and the sentence encoder for the same concepts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLEAR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> BottleneckResult:
    return done(tmp_path_factory.mktemp("bottleneck") / "run", small())


def told(result: BottleneckResult) -> dict:
    (facts,) = result.facts.values()
    return facts


def test_the_tables_are_in_the_store_and_whole(found):
    folder = RunFolder(found.folder)
    for name, frame in zip(NAMES, found.tables[:4], strict=True):
        assert list(frame.columns) == [column.name for column in TABLES[name].columns]
        pd.testing.assert_frame_equal(folder.read_table(name), frame)
    conditions = {"clean", "background_blur", "fog", "other_background", "unseen_background"}
    assert set(found.tables.heads["perturbation"]) == conditions
    assert set(found.tables.heads["head"]) == set(HEADS)
    assert len(found.tables.heads) == 4 * 5
    with pytest.raises(StoreError, match="labelled no units, so it has no table labels"):
        folder.read_table("labels")
    assert "Accuracy" in (found.folder / "tables" / "bottleneck.md").read_text()


def test_it_learns_the_classes_and_fog_takes_them_away(found):
    rows = found.tables.heads.set_index(["head", "perturbation"])
    for head in HEADS:
        assert rows.loc[(head, "clean"), "accuracy"] >= 0.8
        assert rows.loc[(head, "fog"), "accuracy"] <= 0.7
    clean = rows.xs("clean", level="perturbation")
    assert (clean["flips"] == 0).all()
    assert clean["p_value"].isna().all()
    assert rows.loc["backbone_dense", "difference"].isna().all()
    assert rows["low"].le(rows["accuracy"]).all()
    assert rows["accuracy"].le(rows["high"]).all()


def test_the_bottleneck_is_sparse_and_says_what_it_did(found):
    facts = told(found)
    assert facts["heads"]["concepts_sparse"]["kkt_violation"] < 1.1e-3
    per_class = facts["heads"]["concepts_sparse"]["weights_per_class"]
    assert per_class == [len(facts["weights"][label]) for label in facts["labels"]]
    assert max(per_class) < len(facts["concepts"]) / 4
    steps = {step["name"]: step["removed"] for step in facts["filters"]}
    assert list(steps) == ["held out", "long", "class name", "duplicate", "not visible", "not learnable"]
    assert "elephant" in steps["not visible"]
    assert {"fish", "starry night"} <= set(steps["held out"])
    assert min(facts["concepts"].values()) > 0.45
    assert sum(facts["training_images"]) + facts["validation_images"] == 140


def test_what_flips_a_decision_adds_up(found):
    decisions = found.tables.decisions
    flips = decisions[decisions["perturbation"] == "fog"]
    assert len(flips)
    weights = told(found)["weights"]
    for row in flips.to_dict("records"):
        old, new = (weights[row[name]].get(row["concept"], 0.0) for name in ("clean_decision", "decision"))
        assert row["moved"] == pytest.approx((new - old) * (row["activation"] - row["clean_activation"]), abs=1e-4)
        assert row["clean_contribution"] == pytest.approx(old * row["clean_activation"], abs=1e-4)
    assert (flips.groupby("image")["moved"].sum() > 0).all()
    drift = found.tables.drift
    fog = drift[drift["perturbation"] == "fog"]
    share = found.tables.heads.set_index(["head", "perturbation"]).loc[("concepts_sparse", "fog"), "flips"]
    assert fog["flips"].unique().tolist() == [round(share * 20)]
    assert fog["flip_contribution"].sum() > 0


def test_an_unseen_background_and_an_unseen_kind_are_told_from_the_usual(found):
    # 126 training images and a small network: the full task reaches 1.00 and 0.99 (docs/bottleneck.md).
    rows = found.tables.separation.set_index(["negatives", "positives", "inputs", "score"])["low"]
    assert rows["clean", "unseen_background", "context", "nearest"] > 0.5
    assert rows["clean", "anomaly", "other", "nearest"] > 0.5
    assert rows["clean", "other_background", "context", "nearest"] < 0.5
    assert ("anomaly", "unseen_background", "context less other", "nearest") in rows


def test_pictures_and_charts_are_of_the_same_decisions(found):
    pictures = found.tables.thumbnails
    shown = set(zip(pictures["image"], pictures["perturbation"], strict=True))
    for row in found.tables.decisions.to_dict("records"):
        assert {(row["image"], "clean"), (row["image"], row["perturbation"])} <= shown
    assert len(decision_figures(found.tables.decisions, pictures, found.about_run)) == 1
    assert len(bottleneck_contents(*found.tables[:3], RunFacts(), found.facts)) == 5


def test_the_same_command_reads_what_is_there_and_a_damaged_table_is_made_again(found):
    before = {name: (found.folder / f"{name}.parquet").read_bytes() for name in NAMES}
    stamp = (found.folder / "bottleneck.parquet").stat().st_mtime_ns
    done(found.folder, small())
    assert (found.folder / "bottleneck.parquet").stat().st_mtime_ns == stamp
    (found.folder / "concept_drift.parquet").write_bytes(b"x")
    done(found.folder, small(), batch_size=7)
    again = {name: (found.folder / f"{name}.parquet").read_bytes() for name in ("bottleneck", "context_anomaly")}
    assert pd.read_parquet(found.folder / "concept_drift.parquet").shape == found.tables.drift.shape
    for name, data in again.items():
        if data != before[name]:
            one, other = (pd.read_parquet(io.BytesIO(part)) for part in (data, before[name]))
            pd.testing.assert_frame_equal(one, other, rtol=1e-3)


def test_cifar_goes_the_same_way(tmp_path):
    folder = write_cifar(tmp_path / "cifar-10-batches-bin")
    sets = {
        f"cifar10_{split}": CifarSource(loader="cifar", path=folder, licence="none", split=split)
        for split in ("train", "test")
    }
    words = tmp_path / "words.txt"
    words.write_text("red\ngreen\nblue\nstriped\ncar\nsandy beach\nelephant\n")
    profile = load_profile("miniature")
    profile = profile.model_copy(
        update={
            "probing_sets": {**profile.probing_sets, **sets},
            "concept_sets": {**profile.concept_sets, "cifar10": words},
        }
    )
    task = load_task("resnet50_cifar10_lfcbm")
    section = task.bottleneck
    assert section is not None
    # Squares of one colour are no scenes: the small CLIP sees and learns less of them.
    thresholds = section.thresholds.model_copy(update={"visible": -1.0, "learnable": -1.0})
    few = {"training_images": 60, "groups": {name: (name,) for name in ("airplane", "automobile", "bird")}}
    section = section.model_copy(update={**few, "thresholds": thresholds})
    # The small network in place of CLIP's.
    own = {"model": "resnet18", "layer": "layer4", "units": Units(), "images": 12, "suites": ("fog",)}
    task = task.model_copy(update={**own, "bottleneck": section})
    result = done(tmp_path / "run", task, profile)
    rows = result.tables.heads.set_index(["head", "perturbation"])
    assert rows.loc[("backbone_dense", "clean"), "accuracy"] == 1.0
    assert rows.loc[("concepts_sparse", "clean"), "accuracy"] >= 0.8
    assert set(result.tables.heads["perturbation"]) == {"clean", "fog"}
    assert len(result.tables.separation) == 0
    assert len(bottleneck_contents(*result.tables[:3], RunFacts(), result.facts)) == 3


def test_the_published_backbone_of_cifar_gives_its_embeddings():
    entry = load_profile("paper").target("clip_rn50")
    task = load_task("resnet50_cifar10_lfcbm")
    network = timm.create_model(entry.architecture, pretrained=False).eval()
    given = entry.input
    assert given is not None
    steps = Preprocessing(given.resize, given.crop, given.mean, given.std, given.interpolation)
    target = TargetModel(network, steps, torch.device("cpu"), 2)
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    images[1] = 200
    with torch.inference_mode():
        embedded = network(steps(images))
    assert (task.library, task.weights) == (entry.loader, entry.pretrained)
    read = target.read(images, {task.layer: task.pooling})[task.layer].pooled
    assert read.shape == (2, task.units.total)
    torch.testing.assert_close(read, embedded, rtol=1e-4, atol=1e-5)


# ---- refusals ----


def test_a_bottleneck_runs_by_itself():
    assert has_bottlenecks([small()])
    assert not has_bottlenecks([load_task("resnet50_fc")])
    with pytest.raises(UserError, match="by itself"):
        has_bottlenecks([small(), load_task("resnet50_fc")])


def test_options_of_labels_are_refused(tmp_path):
    with pytest.raises(UserError, match="labels no units: omit --methods"):
        done(tmp_path, small(), methods=("dnd",))


def test_backgrounds_are_not_exchanged(tmp_path):
    with pytest.raises(UserError, match="omit mixed_same from --suites"):
        done(tmp_path, small(), suites=("background_swap",))


def test_no_concept_left_is_said_with_the_reasons(tmp_path):
    thresholds = small().bottleneck.thresholds.model_copy(update={"visible": 0.99})
    with pytest.raises(UserError, match=r"No concept is left .* not visible"):
        done(tmp_path / "run", small(training_images=40, thresholds=thresholds))


def test_the_section_is_checked_when_it_is_read(tmp_path):
    literal = yaml.safe_load((Path("tasks/definitions/miniature_lfcbm.yaml")).read_text())
    literal["name"] = "mine"
    literal["bottleneck"]["hold_out"] = ["fish"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(literal))
    with pytest.raises(UserError, match="hold_out"):
        load_task(str(tmp_path / "mine.yaml"))


# ---- concepts from labels ----


def test_concepts_are_read_from_a_run_and_from_one_of_its_methods(tmp_path):
    rows = [
        ("dnd", "clean", 0, 1, "red star"), ("dnd", "clean", 0, 2, "runner up"), ("dnd", "fog", 0, 1, "grey star"),
        ("clip_dissect", "clean", 1, 1, "Boat"), ("clip_dissect", "clean", 2, 1, "red star"),
        ("random_label", "clean", 0, 1, "noise"),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["method", "perturbation", "unit", "rank", "label"]).assign(
        task="t", profile="p", repeat=0, score=np.nan
    )
    frame["severity"] = np.where(frame["perturbation"] == "clean", 0, 3)
    with RunFolder(tmp_path / "run") as folder:
        folder.create_or_continue({"test": 1, "seed": 0}, {})
        folder.write_table("labels", pd.concat([empty_frame(LABELS), frame], ignore_index=True))
    assert read_concepts(tmp_path / "run") == ("Boat", "red star")
    assert read_concepts(Path(f"{tmp_path / 'run'}:dnd")) == ("red star",)
    with pytest.raises(UserError, match="clip_dissect"):
        read_concepts(Path(f"{tmp_path / 'run'}:clip_disect"))
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    assert read_concepts(tmp_path / "words.txt") == ("one", "two")


# ---- stopped and continued ----


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_where_it_was_and_ends_with_the_same_bytes(found, tmp_path, monkeypatch):
    calls = {"read": 0, "fit_projection": 0, "fit_sparse": 0}
    plain = {"read": TargetModel.read}
    plain |= {name: getattr(bottleneck_model, name) for name in ("fit_projection", "fit_sparse")}
    stop_at: dict[str, int] = {}

    def counted(name):
        def call(*args, **named):
            if calls[name] == stop_at.get(name):
                raise Stopped
            calls[name] += 1
            return plain[name](*args, **named)

        return call

    monkeypatch.setattr(TargetModel, "read", counted("read"))
    for name in ("fit_projection", "fit_sparse"):
        monkeypatch.setattr(bottleneck_model, name, counted(name))

    def stopped(**where) -> None:
        stop_at.clear()
        stop_at.update(where)
        with pytest.raises(Stopped):
            done(tmp_path / "run", small())

    stopped(fit_sparse=1)  # all images of the training, the projection and three heads are there
    trained = calls["read"]
    stopped(read=trained + 2)  # clean and one perturbation are there
    assert calls == {"read": trained + 2, "fit_projection": 1, "fit_sparse": 2}
    pieces = tmp_path / "run" / "parts" / "bottleneck" / "miniature_lfcbm"
    assert (pieces / "images-clean-s0.json").is_file()
    damaged = pieces / "images-clean-s0.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    stop_at.clear()
    result = done(tmp_path / "run", small())
    # The other perturbation, two kinds of moved images, the anomalies, and clean images again.
    assert calls == {"read": trained + 2 + 5, "fit_projection": 1, "fit_sparse": 2}
    for name in (*NAMES, "thumbnails"):
        assert (result.folder / f"{name}.parquet").read_bytes() == (found.folder / f"{name}.parquet").read_bytes()
    assert result.facts == found.facts
    assert not list(pieces.glob("images-*"))
    assert (pieces / "projection.safetensors").is_file()
    assert (result.folder / "corrupt" / "bottleneck-images-clean-s0.safetensors").is_file()


def test_a_budget_of_time_stops_between_two_pieces(tmp_path):
    with pytest.raises(UserError, match=r"The time budget .* Run the same command again"):
        done(tmp_path / "run", small(), budget_seconds=1e-9)
