"""Latents and directions of the user's own through a whole run: labels, facts, identity, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from baselines.clip_dissect.method import ClipDissect
from benchmark.cli import app
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.core.prepare import apply_overrides
from benchmark.runner import run
from leaderboard.store.errors import StoreError
from leaderboard.store.run_folder import RunFolder
from tasks.activations.sparse import SparseColumns, sparse_rows
from tasks.common.errors import UserError
from tasks.models.dictionaries import save_dictionary
from tasks.observation import Observation, Toolbox
from tasks.profiles.schema import load_profile

LATENTS, DEAD = 24, 5
TASK = "resnet50_layer4"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, a dictionary of its sixth block whose sixth latent is dead, and directions."""
    folder = tmp_path_factory.mktemp("files")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_vit", num_classes=7).state_dict(), folder / "vit.safetensors")
        parts = {"encoder": torch.randn(LATENTS, 64), "bias": torch.zeros(LATENTS), "decoder": torch.randn(LATENTS, 64)}
    parts["bias"][DEAD] = -1000
    save_dictionary(folder / "sae.safetensors", parts, {"activation": "relu"})
    save_file({"probes": parts["encoder"][:3].clone()}, folder / "probes.safetensors")
    return folder


def options(files: Path, out: Path, **changes: object) -> RunOptions:
    values: dict[str, object] = {
        "tasks": (TASK,),
        "model": "timm:test_vit",
        "weights": files / "vit.safetensors",
        "layer": "blocks.5",
        "methods": ("clip_dissect", "network_dissection"),
        "method_options": {"clip_dissect": {"top_k": 10}},
        "suites": ("gaussian_blur",),
        "images": 40,
        "unit_ids": (1, DEAD, 7),
        "faithfulness": "none",
        "thumbnails": 0,
        "device": "cpu",
        "cache": str(out.parent / "cache"),
        "out": out,
    }
    return RunOptions.model_validate(values | changes)


def test_latents_go_through_a_whole_run_and_are_known_by_their_content(files: Path, tmp_path: Path) -> None:
    asked = {"dictionary": files / "sae.safetensors"}
    with (tmp_path / "log.txt").open("w+") as log:
        result = run(options(files, tmp_path / "run", **asked), Display("plain", stream=log))
        log.seek(0)
        said = log.read()
    assert result.failed == []
    labels = RunFolder(result.folder).read_table("labels")
    assert set(labels["task"]) == {"timm_test_vit_blocks_5_sae"}
    assert {1, 7} == set(labels["unit"])
    facts = json.loads((result.folder / "run.json").read_text())
    (counted,) = facts["facts"]["latents"].values()
    assert (counted["latents"], counted["dead"]) == (LATENTS, 1)
    assert 0 < counted["dense"] < LATENTS
    assert f"of {LATENTS} latents 1 are dead" in said
    (task,) = facts["identity"]["content"]["tasks"].values()
    assert task["readout"] == "dictionary"
    assert str(files) not in json.dumps(facts["identity"])
    # What the cache of the first run holds gives the same labels, and sparse columns again.
    again = run(options(files, tmp_path / "again", **asked), Display("quiet"))
    assert (again.folder / "labels.parquet").read_bytes() == (result.folder / "labels.parquet").read_bytes()
    other = tmp_path / "sae.safetensors"
    parts = {"encoder": torch.ones(LATENTS, 64), "bias": torch.zeros(LATENTS), "decoder": torch.ones(LATENTS, 64)}
    save_dictionary(other, parts, {"activation": "relu"})
    with pytest.raises(StoreError, match="tasks"):
        run(options(files, tmp_path / "run", dictionary=other), Display("quiet"))


def test_directions_are_units_too(files: Path, tmp_path: Path) -> None:
    changes = {"directions": files / "probes.safetensors", "unit_ids": None, "methods": ("network_dissection",)}
    result = run(options(files, tmp_path / "run", **changes, method_options={}), Display("quiet"))
    assert result.failed == []
    assert set(RunFolder(result.folder).read_table("evidence")["unit"]) == {0, 1, 2}
    assert "latents" not in json.loads((result.folder / "run.json").read_text())["facts"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dictionary": Path("gone.safetensors")}, "There is no file gone.safetensors for --dictionary"),
        ({"dictionary": "sae", "layer": "blocks.5.mlp.act"}, "for a layer of 64 units, but blocks.5.mlp.act has 192"),
        ({"dictionary": "probes"}, "is no dictionary that CLEAR knows"),
    ],
)
def test_a_dictionary_that_does_not_fit_gets_one_clear_sentence(files, tmp_path, changes, said):
    found = {name: files / f"{value}.safetensors" if name == "dictionary" and value in ("sae", "probes") else value
             for name, value in changes.items()}  # fmt: skip
    with pytest.raises(UserError, match=said):
        run(options(files, tmp_path / "run", **found), Display("quiet"))


def test_both_at_once_are_refused_on_the_command_line(files: Path) -> None:
    given = ["--dictionary", str(files / "sae.safetensors"), "--directions", str(files / "probes.safetensors")]
    result = CliRunner().invoke(app, ["run", "--task", TASK, *given])
    assert result.exit_code == 1
    assert "--dictionary and --directions cannot be given together" in result.output
    assert "Traceback" not in result.output


def test_another_layer_of_a_task_of_latents_has_channels(tmp_path: Path) -> None:
    asked = RunOptions(tasks=("resnet50_layer4_sae",), layer="layer3", out=tmp_path)
    _, (task,) = apply_overrides(asked, check(asked))
    assert (task.layer, task.readout, task.truth) == ("layer3", "channels", "best_concept")


def test_two_dictionaries_make_two_networks_with_names_of_their_own(files: Path, tmp_path: Path) -> None:
    asked = options(files, tmp_path, dictionary=files / "sae.safetensors", model=None, weights=None, layer=None)
    profile, (task,) = apply_overrides(asked, check(asked))
    assert (task.name, task.model, task.readout) == ("resnet50_layer4_sae", "resnet50_layer4_sae", "dictionary")
    assert (task.units.total, task.truth) == (None, "best_concept")
    entry = profile.target(task.model)
    assert (entry.readout.layer, len(entry.readout.sha256)) == ("layer4", 64)
    assert profile.identity((task.model,)) != load_profile("miniature").identity(("resnet50",))


class Clip:
    def encode_text(self, texts):
        return torch.randn(len(texts), 6, generator=torch.Generator().manual_seed(2))


def look(activations: object) -> Observation:
    draw = torch.Generator().manual_seed(1)
    names, embeddings = tuple(map(str, range(60))), torch.randn(60, 6, generator=draw)
    images = lambda indices: torch.zeros(len(indices), 3, 4, 4)  # noqa: E731
    return Observation("x", "vector", "clean", 0, 0, names, activations, None, embeddings, images)


def test_clip_dissect_labels_latents_as_it_would_a_dense_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = (torch.randn(60, 12, generator=torch.Generator().manual_seed(0)) - 0.8).relu()
    dense[:, 4] = 0
    columns = SparseColumns.stacked([sparse_rows(dense)])
    tools = Toolbox(0, lambda images: torch.zeros(len(images), 12), ("a", "b", "c", "d"), Clip())
    method = ClipDissect(top_k=10)
    expected, found = (method.label(look(layer), [3, 4, 0], tools) for layer in (dense, columns))
    assert [one.ranked for one in found] == [one.ranked for one in expected]
    # With more latents than the prior takes, it is the same whichever are asked for.
    monkeypatch.setattr("baselines.clip_dissect.method._LATENTS", 5)
    some = {one.unit: one.ranked for one in method.label(look(columns), [3, 0], tools)}
    for unit, ranked in some.items():
        (alone,) = method.label(look(columns), [unit], tools)
        assert [label.text for label in alone.ranked] == [label.text for label in ranked]
        np.testing.assert_allclose([label.score for label in alone.ranked], [label.score for label in ranked])
