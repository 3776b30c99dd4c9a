"""Trackers: what they are told, and each real one in its offline mode where it is installed."""

from __future__ import annotations

import sqlite3
import sys
from types import SimpleNamespace

import pytest
from small_runs import write_run

from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.core.track import track
from leaderboard.store.run_folder import RunFolder
from tasks.common.errors import UserError

KEY = "toy_task/alpha/fog_3/stability"


class Recording(Display):
    def __init__(self) -> None:
        super().__init__("quiet")
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    suites = {"weather": (("fog", 3),)}
    words = ("<script>", "cup", "=1+1", "boat")
    path = tmp_path_factory.mktemp("runs") / "toy"
    return RunFolder(write_run(path, {"alpha": 0.4}, suites=suites, words=words, comparisons=False, units=6))


def told(folder, name):
    display = Recording()
    track(name, folder, folder.read_table("summary"), display)
    assert display.warnings == []


def mean(folder):
    summary = folder.read_table("summary")
    return float(summary.loc[summary["perturbation"].eq("fog") & summary["severity"].eq("3"), "stability"].iloc[0])


def test_a_tracker_gets_settings_and_means_but_no_label(folder, monkeypatch):
    calls = {}
    run = SimpleNamespace(log=lambda numbers: calls.update(log=numbers), finish=lambda: calls.update(finish=True))
    fake = SimpleNamespace(init=lambda **given: calls.update(init=given) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    told(folder, "wandb")
    assert calls["finish"]
    assert calls["log"][KEY] == pytest.approx(mean(folder))
    assert calls["init"]["config"]["seed"] == 0
    assert calls["init"]["id"] == folder.info()["identity_hash"][:16]
    assert "content" not in calls["init"]["config"]
    assert "script" not in str(calls)
    # The same run is the same entry, whatever session told of it.
    first = calls["init"]
    told(folder, "wandb")
    assert calls["init"] == first


def test_none_is_told_unless_asked(folder, monkeypatch):
    monkeypatch.setattr("importlib.import_module", lambda name: pytest.fail(name))
    told(folder, None)


def test_a_tracker_that_fails_costs_no_run(folder, monkeypatch):
    def init(**_):
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    display = Recording()
    track("wandb", folder, folder.read_table("summary"), display)
    (said,) = display.warnings
    assert "no route to host" in said


def test_a_tracker_that_is_not_installed_is_a_sentence_before_anything_runs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="--track needs the package mlflow: pip install"):
        check(RunOptions(tasks=("resnet18_layer4",), track="mlflow"))


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLEAR_OFFLINE", "1")
    for name, value in {
        "WANDB_DIR": tmp_path,
        "WANDB_SILENT": "true",
        "WANDB_CACHE_DIR": tmp_path,
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "TRACKIO_DIR": tmp_path / "trackio",
    }.items():
        monkeypatch.setenv(name, str(value))
    return tmp_path


@pytest.mark.enable_socket  # it talks to a process of its own on this machine
def test_wandb_offline(folder, offline):
    wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
    told(folder, "wandb")
    wandb.teardown()  # its process writes after the run is finished
    (log,) = offline.glob("wandb/offline-run-*/run-*.wandb")
    assert KEY.encode() in log.read_bytes()
    assert b"<script>" not in log.read_bytes()


def test_mlflow_offline(folder, offline, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    told(folder, "mlflow")
    (run,) = mlflow.search_runs(experiment_names=["clear-benchmark"], output_format="list")
    assert run.data.metrics[KEY] == pytest.approx(mean(folder))
    assert run.data.params["identity_hash"] == folder.info()["identity_hash"]
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://tracker.example.org")
    display = Recording()
    track("mlflow", folder, folder.read_table("summary"), display)
    assert "--offline" in display.warnings[0]


@pytest.mark.enable_socket
def test_trackio_offline(folder, offline):
    pytest.importorskip("trackio", reason="the extra trackio is not installed")
    told(folder, "trackio")
    (database,) = (offline / "trackio").glob("*.db")
    with sqlite3.connect(database) as opened:
        rows = opened.execute("select metrics from metrics").fetchall()
    assert any(KEY in str(row) for row in rows)
