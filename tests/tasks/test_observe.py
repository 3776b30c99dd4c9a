"""One pass over the images: what an observation holds, whatever the batches are."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from tasks.maps import MemoryMaps
from tasks.models.target import Preprocessing, TargetModel
from tasks.observe import CLEAN, Condition, Probe, image_seeds, observe, repeated
from tasks.seeding import integer_seed

IDS = tuple(f"image-{number}" for number in range(11))
LAYERS = {"0": "mean", "2": "mean"}


class Encoder:
    """Stands for CLIP: the mean colour, normalised."""

    def encode_images(self, images):
        return nn.functional.normalize(images.float().mean((2, 3)) + 1, dim=1)


@pytest.fixture
def images():
    return torch.randint(0, 256, (11, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture
def model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 30, 5))
    return TargetModel(network, Preprocessing(32, None, (0.5,) * 3, (0.2,) * 3), torch.device("cpu"), batch_size=3)


def look(model, images, **settings):
    probe = Probe(IDS, images, None, None)
    return observe(model, LAYERS, probe, Condition("snow", 3), images, Encoder(), **settings)


def whole(maps):
    return torch.cat([block for _, block in maps.blocks()])


def test_maps_are_read_in_parts_or_block_by_block(monkeypatch):
    values = torch.arange(5 * 3 * 2 * 2).reshape(5, 3, 2, 2).half()
    maps = MemoryMaps(values)
    assert maps.shape == (5, 3, 2, 2)
    assert torch.equal(maps.read([4, 1], [2, 0, 2]), values[[4, 1]][:, [2, 0, 2]])
    monkeypatch.setattr("tasks.maps.BLOCK_VALUES", 24)
    parts = list(maps.blocks([1]))
    assert [part for part, _ in parts] == [range(0, 2), range(2, 4), range(4, 5)]
    assert torch.equal(torch.cat([block for _, block in parts]), values[:, [1]])
    assert torch.equal(whole(maps), values)


def test_an_observation_holds_what_the_target_and_clip_read(model, images):
    seen = look(model, images, maps=["0", "2"])
    direct = model.read(images, LAYERS, maps=["0"])
    assert set(seen) == set(LAYERS)
    for name, observation in seen.items():
        assert (observation.layer, observation.condition, observation.severity, observation.repeat) == (
            name,
            "snow",
            3,
            0,
        )
        assert observation.image_ids == IDS
        assert observation.kind == direct[name].kind
        torch.testing.assert_close(observation.activations, direct[name].pooled)
        assert torch.equal(observation.clip_embeddings, Encoder().encode_images(images))
    assert torch.equal(whole(seen["0"].maps), direct["0"].maps)
    assert seen["2"].maps is None
    assert look(model, images)["0"].maps is None


def test_images_come_back_in_the_order_asked_for(model, images):
    seen = look(model, images)["0"]
    assert torch.equal(seen.images([4, 0, 4]), images[[4, 0, 4]])
    assert seen.images([]).shape == (0, 3, 32, 32)


def test_batches_change_nothing_but_the_progress(model, images):
    expected = look(model, images, maps=["0"])
    for batch in (1, 4, 11):
        done = []
        seen = look(model, images, maps=["0"], batch=batch, advance=done.append)
        assert sum(done) == 11
        assert max(done) <= batch
        for name in LAYERS:
            torch.testing.assert_close(seen[name].activations, expected[name].activations, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(seen[name].clip_embeddings, expected[name].clip_embeddings)
        torch.testing.assert_close(whole(seen["0"].maps), whole(expected["0"].maps), rtol=2e-3, atol=2e-3)


def test_a_repeat_is_the_same_observation_with_another_number(model, images):
    first = look(model, images)["0"]
    again = repeated(first, 2)
    assert (first.repeat, again.repeat) == (0, 2)
    assert again.activations is first.activations
    assert again.image_ids == first.image_ids


def test_each_image_has_a_seed_of_its_own():
    snow = Condition("snow", 3)
    seeds = image_seeds(0, IDS, snow)
    assert len(set(seeds)) == len(IDS)
    assert all(0 <= seed < 2**32 for seed in seeds)
    # The seed belongs to the image, wherever it stands.
    assert image_seeds(0, IDS[::-1], snow) == seeds[::-1]
    assert image_seeds(0, IDS[4:5], snow) == seeds[4:5]
    others = [
        image_seeds(0, IDS, Condition("snow", 4)),
        image_seeds(0, IDS, Condition("frost", 3)),
        image_seeds(1, IDS, snow),
    ]
    others += [image_seeds(0, IDS, snow, repeat=1), seeds]
    for one, two in itertools.combinations(others, 2):
        assert not set(one) & set(two)


def test_image_seeds_are_frozen():
    assert image_seeds(0, ["probe-000017"], Condition("snow", 3)) == [2969853149]
    assert image_seeds(0, ["probe-000017"], Condition("snow", 3)) == [
        integer_seed(0, "perturb", "probe-000017", "snow", 3, 0)
    ]


def test_conditions_are_named_with_their_severity():
    assert (str(CLEAN), str(Condition("snow", 3))) == ("clean", "snow 3")
    assert Condition("clean", 0) == CLEAN
