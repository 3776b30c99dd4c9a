"""Probing sets of which a share is perturbed: which images, with what, and what methods then see."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from benchmark.studies.tuning.images import Suite, mixed, replaced, with_suite
from tasks.activations.maps import MemoryMaps
from tasks.miniature.probing import MiniatureProbingSet
from tasks.observation import Observation
from tasks.observe import CLEAN, Condition, Probe, perturbed, probe_of
from tasks.perturbations.settings import Settings

CPU = torch.device("cpu")
SUITE = Suite(("gaussian_noise", "background_blur", "brightness"), 3)


@pytest.fixture(scope="module")
def probe() -> Probe:
    return probe_of(MiniatureProbingSet("probe", 12), masked=True)


def augmented(probe: Probe, suite: Suite = SUITE, seed: int = 0, condition: Condition = CLEAN):
    images = perturbed(probe, condition, seed, Settings(), CPU)
    return with_suite(probe, images, suite, seed, Settings(), CPU)


# ---- which images ----


def test_a_smaller_share_is_part_of_a_greater_one() -> None:
    ids = [f"scene-{number}" for number in range(20)]
    chosen = [replaced(ids, share, 0) for share in (0, 0.25, 0.5, 0.75, 1)]
    assert [int(one.sum()) for one in chosen] == [0, 5, 10, 15, 20]
    for less, more in itertools.pairwise(chosen):
        assert not (less & ~more).any()


def test_the_choice_follows_the_seed_and_the_names_not_their_order() -> None:
    ids = [f"scene-{number}" for number in range(20)]
    before, turned = replaced(ids, 0.5, 0), replaced(ids[::-1], 0.5, 0)
    assert before.tolist() == turned[::-1].tolist()
    assert before.tolist() != replaced(ids, 0.5, 1).tolist()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_lies_between_none_and_all(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        replaced(["a"], share, 0)


# ---- with what ----


def test_an_image_is_perturbed_alike_whichever_others_are_asked_for(probe: Probe) -> None:
    whole = augmented(probe)(range(12))
    alone = torch.cat([augmented(probe)([index]) for index in reversed(range(12))])
    assert torch.equal(whole, alone.flip(0))
    plain = probe.load(range(12))
    assert all(not torch.equal(whole[index], plain[index]) for index in range(12))
    assert not torch.equal(whole, augmented(probe, seed=1)(range(12)))


def test_masks_are_those_of_the_unperturbed_image(probe: Probe) -> None:
    assert probe.masks is not None
    blurred = augmented(probe, Suite(("background_blur",), 3))(range(12))
    foreground = probe.masks(range(12))[:, None].expand_as(blurred)
    plain = probe.load(range(12))
    assert torch.equal(blurred[foreground], plain[foreground])
    assert not torch.equal(blurred[~foreground], plain[~foreground])


def test_it_comes_after_the_condition(probe: Probe) -> None:
    fog, suite = Condition("fog", 3), Suite(("brightness",), 3)  # brightness draws nothing
    before = perturbed(probe, fog, 0, Settings(), CPU)(range(12))
    expected = Settings().apply(before, "brightness", 3, [0] * 12, None)
    assert torch.equal(augmented(probe, suite, condition=fog)(range(12)), expected)


# ---- what methods see ----


def observation(value: float, images: int = 6, with_maps: bool = True) -> Observation:
    rows = torch.arange(images, dtype=torch.float32)[:, None] + value

    def pictures(indices: Sequence[int]) -> torch.Tensor:
        return torch.full((len(indices), 3, 2, 2), int(value), dtype=torch.uint8)

    return Observation(
        "layer", "spatial", "fog", 3, 0, tuple(f"i{n}" for n in range(images)), rows.repeat(1, 4),
        MemoryMaps(rows[:, :, None, None].repeat(1, 4, 2, 3)) if with_maps else None, rows.repeat(1, 5), pictures,
    )  # fmt: skip


def test_chosen_images_are_seen_as_changed_in_every_part() -> None:
    found = mixed(observation(0), observation(100), np.array([-1, 1, -1, -1, 4, 5]))
    expected = torch.tensor([0.0, 101, 2, 3, 104, 105])
    assert found.activations[:, 2].tolist() == expected.tolist()
    assert found.clip_embeddings[:, 0].tolist() == expected.tolist()
    assert found.images([5, 0, 1])[:, 0, 0, 0].tolist() == [100, 0, 100]
    assert found.maps is not None
    assert found.maps.shape == (6, 4, 2, 3)
    assert found.maps.read([4, 3], [1, 0]).unique().tolist() == [3, 104]
    for units in (None, [2]):
        parts = [block for _, block in found.maps.blocks(units)]
        assert torch.cat(parts)[:, 0, 1, 2].tolist() == expected.tolist()
    assert (found.condition, found.severity) == ("fog", 3)


def test_a_few_images_observed_alone_replace_those_that_they_belong_to() -> None:
    found = mixed(observation(0), observation(100, images=2), np.array([-1, 1, -1, -1, 0, -1]))
    expected = [0.0, 101, 2, 3, 100, 5]
    assert found.activations[:, 2].tolist() == found.clip_embeddings[:, 0].tolist() == expected
    assert found.images([4, 3])[:, 0, 0, 0].tolist() == [100, 0]
    assert found.maps is not None
    assert found.maps.read([1, 4, 5], [3])[:, 0, 0, 0].tolist() == [101, 100, 5]
    parts = [block for _, block in found.maps.blocks()]
    assert torch.cat(parts)[:, 0, 1, 2].tolist() == expected


def test_none_and_all_are_the_two_observations() -> None:
    plain, changed = observation(0, with_maps=False), observation(100, with_maps=False)
    assert mixed(plain, changed, np.full(6, -1)).activations.equal(plain.activations)
    whole = mixed(plain, changed, np.arange(6))
    assert whole.activations.equal(changed.activations)
    assert whole.maps is None
