"""The miniature's vision transformer and its task: a timm network by name and options, read from its tokens."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import yaml
from drawn_scenes import drawn

from benchmark import runner
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from leaderboard.store.run_folder import RunFolder
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.common.images import to_tensor
from tasks.miniature.training import evaluate
from tasks.profiles.build import Roles
from tasks.profiles.networks import build_network
from tasks.profiles.schema import load_profile

TASK = "vit_tiny_block"
SIDE = 14
"""Patches along one side."""

WIDTHS = {"blocks.2": 128, "blocks.2.mlp.act": 512}
"""What a block passes on, and the hidden dimensions that the task reads → units."""


@pytest.fixture(scope="module")
def roles():
    return Roles(load_profile("miniature"), torch.device("cpu"))


@pytest.fixture(scope="module")
def pictures():
    return to_tensor(np.stack([picture.image for _, picture in drawn()[:6]]))


@pytest.fixture(scope="module", params=WIDTHS)
def layer(request):
    return request.param


@pytest.fixture(scope="module")
def tokens(roles, pictures, layer):
    """What the layer gives: [n, 1 + 196, units], the CLS token first."""
    target = roles.target("vit_tiny")
    kept = []
    handle = target.network.get_submodule(layer).register_forward_hook(lambda _, __, out: kept.append(out.clone()))
    with torch.inference_mode():
        target.network(target.preprocessing(pictures))
    handle.remove()
    return kept[0]


def test_the_loader_of_published_networks_builds_it(roles):
    network, steps = build_network(roles.profile.target("vit_tiny"))
    assert isinstance(network, timm.models.VisionTransformer)
    assert (network.num_prefix_tokens, len(network.blocks), network.embed_dim, network.num_classes) == (1, 4, 128, 46)
    assert network.patch_embed.grid_size == (SIDE, SIDE)
    assert (steps.side, steps.crop) == (112, None)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}


def test_it_recognises_concepts_of_unseen_scenes(roles):
    """A small sample may miss the bar by chance; the slack is about three standard errors."""
    figures = evaluate.evaluate_target(roles, "vit_tiny", evaluate.test_scenes(120))
    barred = [figure for figure in figures if figure.bar is not None]
    assert len(barred) == 1
    assert barred[0].value >= barred[0].bar - 0.03


@pytest.mark.slow
def test_its_bar_holds_on_two_thousand_scenes(roles):
    assert all(figure.reached for figure in evaluate.evaluate_target(roles, "vit_tiny", evaluate.test_scenes(2000)))


def test_pooling_by_hand(roles, pictures, layer, tokens):
    assert tokens.shape == (len(pictures), 1 + SIDE * SIDE, WIDTHS[layer])
    by_hand = {"cls": tokens[:, 0], "mean": tokens[:, 1:].sum(1) / SIDE**2, "max": tokens[:, 1:].amax(1)}
    for pooling, expected in by_hand.items():
        reading = roles.target("vit_tiny").read(pictures, {layer: pooling})[layer]
        assert reading.kind == "tokens"
        torch.testing.assert_close(reading.pooled, expected, rtol=1e-4, atol=1e-4)
        assert sum(torch.allclose(reading.pooled, other, atol=1e-2) for other in by_hand.values()) == 1


def test_maps_are_the_patch_tokens_in_their_places(roles, pictures, layer, tokens):
    reading = roles.target("vit_tiny").read(pictures, {layer: "mean"}, [layer])[layer]
    assert reading.maps.shape == (len(pictures), WIDTHS[layer], SIDE, SIDE)
    spread = reading.maps.float()
    # Maps are kept in float16, which has 11 bits.
    atol = 2.0**-10 * float(tokens.abs().max())
    for row, column in ((0, 0), (2, 5), (13, 13)):
        torch.testing.assert_close(spread[:, :, row, column], tokens[:, 1 + SIDE * row + column], rtol=0, atol=atol)
    torch.testing.assert_close(spread.mean((2, 3)), reading.pooled, rtol=0, atol=atol)
    torch.testing.assert_close(spread.sum((2, 3)), tokens[:, 1:].sum(1), rtol=0, atol=SIDE**2 * atol)


def test_the_task_is_true_of_its_network(roles):
    task = load_task(TASK)
    assert (task.model, task.library, task.truth, task.version) == ("vit_tiny", "timm", "best_concept", 3)
    assert roles.unit_count(task.model, task.layer) == task.units.total == WIDTHS[task.layer]
    same = load_task("resnet50_layer4")
    assert (task.suites, task.severities, task.images) == (same.suites, same.severities, same.images)
    assert (task.probing_set, task.concept_set) == (same.probing_set, same.concept_set)


def test_the_task_runs_from_end_to_end(tmp_path):
    options = RunOptions.model_validate(
        {
            "tasks": (TASK,),
            "methods": ("clip_dissect", "network_dissection", "random_label"),
            "suites": ("gaussian_blur",),
            "images": 100,
            "units": 3,
            "repeats": 1,
            "out": tmp_path / "vit",
            "device": "cpu",
            "faithfulness": "none",
        }
    )
    result = runner.run(options, Display("quiet"))
    assert result.failed == []
    labels = RunFolder(result.folder).read_table("labels")
    conditions = labels.drop_duplicates(["method", "perturbation", "unit"]).groupby(["method", "perturbation"]).size()
    assert set(conditions.index) == {
        (method, condition) for method in options.methods or () for condition in ("clean", "gaussian_blur")
    }
    assert set(conditions) == {3}
    assert labels["label"].str.len().gt(0).all()


@pytest.fixture
def profile(tmp_path):
    def written(**changes):
        target = {
            "loader": "timm",
            "architecture": "test_vit",
            "options": {"img_size": 64, "depth": 2},
            "weights": "a.safetensors",
            "licence": "x",
            **changes,
        }
        content = {
            "name": "mine",
            "description": "A profile of the tests.",
            "note": "Only a test.",
            "targets": {"mine": target},
            "probing_sets": {},
            "concept_sets": {},
            "clip": {"loader": "open_clip", "name": "ViT-B-16", "pretrained": "openai", "licence": "MIT"},
        }
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return load_profile(str(path))

    return written


def test_options_reach_timm_and_are_identity(profile, tmp_path):
    from safetensors.torch import save_file

    save_file(timm.create_model("test_vit", img_size=64, depth=2).state_dict(), tmp_path / "a.safetensors")
    network, _ = build_network(profile().target("mine"))
    assert len(network.blocks) == 2
    assert network.patch_embed.img_size == (64, 64)
    assert profile().identity() != profile(options={"img_size": 64, "depth": 3}).identity()


def test_options_that_cannot_be_are_explained(profile):
    with pytest.raises(UserError, match=r"options are for timm's networks"):
        profile(pretrained="r160_in1k")
    with pytest.raises(UserError, match=r"checkpoint_path is none: use weights"):
        profile(options={"checkpoint_path": "a.pt"})
    with pytest.raises(UserError, match=r"test_vit does not take the options.*dpth"):
        build_network(profile(options={"dpth": 3}).target("mine"))
