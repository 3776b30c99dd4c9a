"""Tuning the last stage: what stays, what is learnt, and that a run can be repeated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tasks.common.errors import UserError
from tasks.miniature.probing import MiniatureProbingSet
from tasks.models.target import TargetModel
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.tuning import Examples, Recipe, check_tunable, frozen_features, logits_of, tune

SHORT = Recipe(steps=4, batch=4, rate=1e-3, every=2, patience=2)


@pytest.fixture(scope="module")
def target() -> TargetModel:
    return Roles(load_profile("miniature"), torch.device("cpu")).target("resnet18")


@pytest.fixture(scope="module")
def examples(target: TargetModel) -> Examples:
    """Dark scenes, which the network knows less well than others."""
    scenes = MiniatureProbingSet("train", 16)
    features = frozen_features(target, lambda indices: scenes.images[list(indices)] // 4, 16)
    return Examples(features, torch.from_numpy(scenes.presence))


def weights(target: TargetModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in target.network.state_dict().items()}


def test_the_classifier_on_stored_features_is_the_network(target: TargetModel) -> None:
    images = MiniatureProbingSet("test", 5).images
    features = frozen_features(target, lambda indices: images[list(indices)], 5)
    assert features.dtype == torch.float16
    expected = target.read(images, {"fc": "mean"})["fc"].pooled
    torch.testing.assert_close(logits_of(target, features), expected, rtol=0.01, atol=0.02)


def test_it_learns_and_leaves_the_network_and_its_frozen_stages_alone(target: TargetModel, examples: Examples) -> None:
    before = weights(target)
    tuned = tune(target, examples, examples, 0, SHORT)
    assert tuned.losses[tuned.step] < tuned.losses[0]
    after, now = weights(tuned.target), weights(target)
    assert all(torch.equal(before[name], now[name]) for name in before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.split(".")[0] for name in changed} == {"layer4", "fc"}
    assert not any("running" in name for name in changed)
    shared = (one.network.get_submodule("layer1") for one in (target, tuned.target))
    assert next(shared) is next(shared)


def test_the_same_seed_gives_the_same_network_and_another_does_not(target: TargetModel, examples: Examples) -> None:
    one, again, other = (weights(tune(target, examples, examples, seed, SHORT).target) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["fc.weight"], other["fc.weight"])


def test_what_does_not_help_is_not_taken(target: TargetModel, examples: Examples) -> None:
    """Validation images whose concepts are the opposite: every step makes them worse."""
    opposite = Examples(examples.features, logits_of(target, examples.features) > 0)
    wrong = Examples(examples.features, ~opposite.presence)
    tuned = tune(target, wrong, opposite, 0, SHORT)
    assert tuned.step == 0
    before, after = weights(target), weights(tuned.target)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_it_stops_when_nothing_helps_any_more_unless_steps_are_given(target: TargetModel, examples: Examples) -> None:
    opposite = Examples(examples.features, logits_of(target, examples.features) > 0)
    wrong = Examples(examples.features, ~opposite.presence)
    patient = Recipe(steps=40, batch=4, rate=1e-3, every=1, patience=2)
    assert max(tune(target, wrong, opposite, 0, patient).losses) == 2
    control = tune(target, wrong, opposite, 0, patient, steps=4)
    assert (control.step, max(control.losses)) == (4, 4)
    assert control.losses[4] > control.losses[0]


def test_no_steps_are_the_network_itself(target: TargetModel, examples: Examples) -> None:
    tuned = tune(target, examples, examples, 0, SHORT, steps=0)
    torch.testing.assert_close(weights(tuned.target), weights(target), rtol=0, atol=0)


def test_only_resnets_and_their_own_concepts(target: TargetModel, examples: Examples) -> None:
    check_tunable(target, "resnet18")
    other = TargetModel(nn.Sequential(nn.Flatten()), target.preprocessing, torch.device("cpu"))
    with pytest.raises(UserError, match="mine is a Sequential"):
        check_tunable(other, "mine")
    with pytest.raises(ValueError, match="46 outputs"):
        tune(target, Examples(examples.features, examples.presence[:, :3]), examples, 0, SHORT)
    with pytest.raises(ValueError, match="0 examples"):
        tune(target, Examples(examples.features[:0], examples.presence[:0]), examples, 0, SHORT)
