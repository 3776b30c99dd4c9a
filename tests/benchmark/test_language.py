"""The language model of a run: its mistakes come first, and its use is told."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

from baselines import registry
from benchmark.core.display import Display
from benchmark.core.language_check import build_summariser, say_usage
from benchmark.core.options import RunOptions
from benchmark.core.work import Work
from benchmark.runner import run
from leaderboard.store.run_folder import RunFolder
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.language.config import OpenAISource
from tasks.language.summariser import LanguageModelSummariser
from tasks.observe import CLEAN
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

ELSEWHERE = "https://example.org/v1"
HERE = "http://127.0.0.1:9/v1"


def roles_with(folder: Path, base_url: str) -> Roles:
    source = OpenAISource(loader="openai", model="small", base_url=base_url, licence="none")
    profile = load_profile("miniature").model_copy(update={"summariser": source})
    return Roles(profile, torch.device("cpu"), replies=folder / "replies.sqlite")


def work(*methods: str) -> Work:
    return Work(load_task("resnet50_layer4"), "miniature", methods, (CLEAN,), 1, 10, (3,))


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "run")
    with found:
        found.create_or_continue({"a": 1}, {})
    return found


def test_a_missing_key_is_told_before_any_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("CLEAR_OFFLINE", raising=False)
    monkeypatch.setattr("tasks.profiles.build.build_network", never)
    profile = roles_with(tmp_path, ELSEWHERE).profile
    monkeypatch.setattr("benchmark.core.prepare.load_profile", lambda name: profile)
    asked = RunOptions(tasks=("resnet50_layer4",), methods=("dnd",), device="cpu", out=tmp_path / "run")
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        run(asked, Display("quiet"))
    assert not (tmp_path / "run").exists()
    # A method that asks nobody needs no key: it comes as far as the network.
    with pytest.raises(AssertionError, match="a model was loaded"):
        run(asked.model_copy(update={"methods": ("clip_dissect",)}), Display("quiet"))


def test_it_is_built_early_and_only_for_cells_that_need_it(tmp_path: Path, folder: RunFolder) -> None:
    roles = roles_with(tmp_path, HERE)
    methods = {name: registry.load(name) for name in ("clip_dissect", "random_label", "dnd")}
    few = {name: methods[name] for name in ("clip_dissect", "random_label")}
    build_summariser(folder, [work(*few)], few, roles)
    assert "summariser" not in vars(roles)
    unasked = {"dnd": registry.load("dnd", summarise=False)}
    build_summariser(folder, [work("dnd")], unasked, roles)
    assert "summariser" not in vars(roles)
    build_summariser(folder, [work(*methods)], methods, roles)
    assert isinstance(vars(roles)["summariser"], LanguageModelSummariser)


@pytest.mark.parametrize(("usd", "cost"), [(0.0123, "0.0123 USD"), (None, "cost unknown")])
def test_what_it_was_asked_is_told_and_recorded(
    tmp_path: Path, folder: RunFolder, usd: float | None, cost: str
) -> None:
    roles = roles_with(tmp_path, HERE)
    said = io.StringIO()
    say_usage(folder, roles, Display("plain", stream=said))
    assert said.getvalue() == ""
    store = roles.summariser.model.store  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue]
    for read, written in ((100, 5), (20, 3)):
        booking, _ = store.book("small", None, None)
        store.settle(booking, read, written, None if usd is None else usd / 2)
    say_usage(folder, roles, Display("plain", stream=said))
    assert said.getvalue() == f"language model small: 2 requests, 120 tokens read, 8 written, {cost}\n"
    recorded = json.loads((folder.path / "run.json").read_text())["facts"]["language_model"]
    assert recorded == {
        "model": "small",
        "requests": 2,
        "prompt_tokens": 120,
        "completion_tokens": 8,
        "usd": usd,
    }
