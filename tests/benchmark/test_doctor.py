"""``doctor`` and ``run --offline``: everything that misses is told at once, and no socket is opened for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.commands.doctor import diagnose
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.core.prepare import apply_overrides, load_methods, needed_parts, needs_masks
from tasks.catalogue import profile_path
from tasks.common.errors import UserError
from tasks.profiles.resolve import require

ROOT = Path(__file__).parents[2]
KEY = "sk-planted-secret-0123456789"
ROLES = {"clip", "sentence_encoder", "captioner", "summariser", "generator", "segmenter"}


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    import torch
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def call(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_a_complete_profile_ends_with_0():
    result = call()
    assert result.exit_code == 0
    assert "profile miniature: complete; 0 of" in result.output
    assert "To get what is missing" not in result.output


def test_an_incomplete_profile_ends_with_1_after_the_table(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    result = call("--profile", "paper")
    assert result.exit_code == 1
    for text in ("target densenet161", "missing", "102.5 MB", "BSD-3-Clause", "OPENAI_API_KEY (set)", "CPU"):
        assert text in result.output
    for command in (
        "hf download CompVis/stable-diffusion-v1-4",
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    ):
        assert command in result.output
    assert KEY not in result.output


def test_json_says_the_same_and_never_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result = call("--profile", "paper", "--json")
    assert result.exit_code == 1
    facts = json.loads(result.output)
    assert facts["keys"] == [{"variable": "OPENAI_API_KEY", "set": False}]
    assert {part["role"] for part in facts["resources"]} >= ROLES
    assert {package["module"] for package in facts["packages"]} >= {"diffusers", "accelerate", "openai"}
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    text = call("--profile", "paper", "--json").output
    assert json.loads(text)["keys"][0]["set"] is True
    assert KEY not in text


def test_methods_that_the_profile_has_no_role_for_are_named(tmp_path):
    result = call()
    assert result.exit_code == 0
    assert "dnd_vision cannot run with it: needs a describer, which the profile does not have." in result.output
    assert result.output.count("cannot run") == 1
    photo = {one["method"]: one["reason"] for one in diagnose("photo")["excluded"]}
    assert set(photo) == {"clear", "dnd_refined", "dnd_vision", "line", "network_dissection"}
    assert photo["line"] == "needs a proposer, which the profile does not have"  # dnd's options there need none
    assert "captioner" in photo["clear"]
    assert "concept annotation" in photo["network_dissection"]
    own = tmp_path / "own.yaml"
    own.write_text(profile_path("miniature").read_text().replace("dnd: {crop_px", "dnd: {crop"))
    wrong = {one["method"]: one["reason"] for one in diagnose(str(own))["excluded"]}
    assert "crop_px" in wrong["dnd"]


def test_open_needs_no_key():
    facts = diagnose("open")
    assert facts["keys"] == []
    assert all("openai" not in part["source"].split() for part in facts["resources"])


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sentence_transformers" else find(name)
    )
    facts = diagnose("miniature")
    assert facts["complete"] is False
    told = {package["module"]: package["get"] for package in facts["packages"]}
    assert told["sentence_transformers"].endswith("pip install sentence-transformers")
    result = call()
    assert result.exit_code == 1
    assert "pip install sentence-transformers" in " ".join(result.output.split())


def test_a_mistake_in_a_profile_is_one_sentence(tmp_path):
    result = call("--profile", str(tmp_path / "gone.yaml"))
    assert result.exit_code == 1
    assert "There is no profile file" in result.output


def require_files(options: RunOptions) -> None:
    profile, tasks = apply_overrides(options, check(options))
    methods = load_methods(options, profile)
    require(needed_parts(options, profile, tasks, methods, needs_masks(options, tasks)))


def test_a_run_needs_only_what_it_uses():
    require_files(RunOptions(tasks=("resnet50_layer4",)))
    with pytest.raises(UserError) as caught:
        require_files(
            RunOptions(tasks=("resnet50_layer4",), profile="paper", methods=("clip_dissect",), faithfulness="none")
        )
    said = str(caught.value)
    assert "target resnet50" in said
    assert "clip" in said
    assert not any(word in said for word in ("generator", "captioner", "densenet161", "segmenter"))
    words = {"dnd": {"describe": "words", "summarise": False, "scoring": "none"}}
    with pytest.raises(UserError) as caught:
        require_files(
            RunOptions(
                tasks=("resnet50_layer4",), profile="paper", methods=("dnd",), faithfulness="none", method_options=words
            )
        )
    assert not any(word in str(caught.value) for word in ("generator", "captioner", "summariser"))
    with pytest.raises(UserError, match=r"captioner.*generator"):
        require_files(RunOptions(tasks=("resnet50_layer4",), profile="paper", methods=("dnd",)))
    with pytest.raises(UserError, match="segmenter"):
        require_files(RunOptions(tasks=("resnet50_layer4",), profile="open", masks="segmenter"))
    with pytest.raises(UserError) as caught:
        require_files(RunOptions(tasks=("resnet50_layer4",), profile="open", masks="segmenter", suites=("fog",)))
    assert "segmenter" not in str(caught.value)


_BLOCKED = """
import socket, sys
tried = []
def refused(*arguments, **more):
    tried.append(arguments)
    raise OSError("a socket was opened")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
sys.argv = ["benchmark", *sys.argv[1:]]
from benchmark.cli import main
try:
    main()
finally:
    print("sockets:", len(tried))
"""


def test_no_socket_is_opened_and_all_that_misses_is_told(tmp_path):
    """In a process of its own, without the switches that the tests set, because libraries read theirs at import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    places = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf"), "TORCH_HOME": str(tmp_path / "torch")}
    arguments = ["run", "--task", "resnet50_layer4", "--profile", "open", "--offline"]
    command = [sys.executable, "-c", _BLOCKED, *arguments]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**kept, **places, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "sockets: 0" in done.stdout
    said = done.stdout + done.stderr
    for role in ("target resnet50", "probing set scenes", "concept set scenes", *(ROLES - {"segmenter"})):
        assert role in said
    assert not (tmp_path / "runs").exists()


def test_offline_is_said_to_every_library():
    code = "from tasks.common.offline import go_offline, is_offline, opens_no_socket"
    code += "; print(is_offline(), opens_no_socket())"
    code += "; go_offline(); import huggingface_hub.constants as told"
    code += "; print(is_offline(), opens_no_socket(), told.HF_HUB_OFFLINE)"
    kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "True", "True"]
