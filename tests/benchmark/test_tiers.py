"""Where a host keeps its SQLite files: beside what it shares on a local disk, else apart and on one of its own."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.core import tiers
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.core.tiers import local_tier, open_cache
from benchmark.execution.prepare import load_parts
from benchmark.plan.make import _spent
from tasks.common.errors import UserError
from tasks.language.replies import ReplyStore
from tasks.profiles.build import Roles


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is taken for one on a network file system; the temporary folder is on a local disk."""
    monkeypatch.delenv(tiers.VARIABLE, raising=False)
    monkeypatch.setattr(tiers, "is_local", lambda folder: not folder.is_relative_to(tmp_path / "network"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / "network"


def test_a_folder_on_a_local_disk_has_no_tier(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_tier(tmp_path / "run") is None
    options = RunOptions(tasks=("resnet50_layer4",), out=tmp_path / "run")
    parts = load_parts(options, check(options), Roles)
    assert parts.roles.tier is None
    assert sorted(path.name for path in tmp_path.iterdir()) == []
    monkeypatch.setenv("CLEAR_CACHE", str(tmp_path / "cache"))
    cache = open_cache()
    cache.answer({"what": "test"}, lambda: 1)
    assert {path.name.partition("-")[0] for path in (tmp_path / "cache").iterdir()} == {"answers"}


def test_of_a_shared_folder_each_host_has_its_own(network: Path, tmp_path: Path, monkeypatch) -> None:
    run, cache = network / "run", network / "cache"
    options = RunOptions(tasks=("resnet50_layer4",), out=run, cache=str(cache))
    parts = load_parts(options, check(options), Roles)
    here = parts.roles.tier
    assert here is not None
    assert here.parent.stat().st_mode & 0o777 == 0o700
    assert (here.parent.parent, local_tier(run), local_tier(cache) == here) == (tmp_path, here, False)
    parts.roles.cache.answer({"what": "test"}, lambda: 1)
    parts.roles.cache.publish()
    assert not list(network.rglob("*.sqlite"))
    assert len(list(cache.rglob("*.jsonl"))) == 1
    # On another host.
    monkeypatch.setattr(tiers.atomic, "machine", lambda: "0123abcd")
    assert local_tier(run) != here
    assert open_cache(str(cache)).answer({"what": "test"}, lambda: 2) == 1


def test_the_user_may_say_where(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tiers.VARIABLE, str(tmp_path / "scratch"))
    for folder in (network / "run", tmp_path / "run"):
        tier = local_tier(folder)
        assert tier is not None
        assert tier.is_relative_to(tmp_path / "scratch")


def test_a_folder_of_somebody_else_is_refused_in_a_sentence(network: Path, tmp_path: Path, monkeypatch) -> None:
    assert local_tier(network) is not None
    mine = os.getuid()
    (base,) = tmp_path.glob("clear-*")
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    base.rename(base.with_name(base.name.replace(f"clear-{mine}", f"clear-{mine + 1}")))
    with pytest.raises(UserError, match=r"it belongs to another user.: set CLEAR_LOCAL to a folder of your own"):
        local_tier(network)
    monkeypatch.setenv(tiers.VARIABLE, "/dev/null")
    with pytest.raises(UserError, match="cannot be used for what"):
        local_tier(network)


def test_doctor_says_which_tier_is_in_use(network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network.mkdir()
    monkeypatch.setenv("CLEAR_CACHE", str(network / "cache"))
    told = " ".join(CliRunner().invoke(app, ["doctor", "--out", str(tmp_path)]).output.split())
    (tier,) = tmp_path.glob("clear-*")
    assert f"answers as segments there, for processes of all machines, and in an SQLite file below {tier}" in told
    assert "replies in an SQLite file there, for processes of this machine; they take turns by file locks" in told
    facts = json.loads(CliRunner().invoke(app, ["doctor", "--out", str(network), "--json"]).output)
    assert [facts[name]["tier"] for name in ("cache", "out")] == [str(tier)] * 2
    monkeypatch.setenv("CLEAR_CACHE", "none")
    assert json.loads(CliRunner().invoke(app, ["doctor", "--json"]).output)["cache"] is None


def test_a_plan_knows_what_all_hosts_have_spent(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = network / "run"
    assert _spent(run) == 0.0
    store = ReplyStore(run / "replies.sqlite", local_tier(run))
    assert store.book("m", 0.5, 1.0)[0] == 1
    store.close()
    monkeypatch.setattr(tiers.atomic, "machine", lambda: "0123abcd")
    assert _spent(run) == 0.5
