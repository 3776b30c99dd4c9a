"""One pass over the images: what an observation holds, whatever the batches are, and how little of it is in memory."""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from baselines.evidence import top_images
from tasks.activations.maps import LateMaps, MemoryMaps, StoredMaps, TopMaps
from tasks.common.errors import UserError
from tasks.common.seeding import integer_seed
from tasks.models.target import Preprocessing, TargetModel
from tasks.observation import Segmentation
from tasks.observe import (
    CLEAN,
    Condition,
    Probe,
    image_seeds,
    late_maps,
    observe,
    perturbed,
    probe_of,
    repeated,
)
from tasks.perturbations import perturb
from tasks.perturbations.settings import Settings

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
    def load(indices):
        return images[list(indices)]

    return observe(model, LAYERS, Probe(IDS, load), Condition("snow", 3), load, Encoder(), **settings)


def whole(maps):
    return torch.cat([block for _, block in maps.blocks()])


def stored(values):
    maps = StoredMaps(tuple(values.shape))
    maps.write(0, values[:3])
    maps.write(3, values[3:])
    return maps


@pytest.mark.parametrize("made", [MemoryMaps, stored, lambda values: LateMaps(lambda: stored(values))])
def test_maps_are_read_in_parts_or_block_by_block(monkeypatch, made):
    values = torch.arange(5 * 3 * 2 * 2).reshape(5, 3, 2, 2).half()
    maps = made(values)
    assert maps.shape == (5, 3, 2, 2)
    assert maps.read([], [1]).shape == (0, 1, 2, 2)
    assert torch.equal(maps.read([4, 1], [2, 0, 2]), values[[4, 1]][:, [2, 0, 2]])
    monkeypatch.setattr("tasks.activations.maps.BLOCK_VALUES", 24)
    parts = list(maps.blocks([1]))
    assert [part for part, _ in parts] == [range(0, 2), range(2, 4), range(4, 5)]
    assert torch.equal(torch.cat([block for _, block in parts]), values[:, [1]])
    assert torch.equal(whole(maps), values)


def test_maps_of_some_units_are_those_of_the_whole_layer():
    values = torch.arange(5 * 3 * 2 * 2).reshape(5, 3, 2, 2).half()
    some = StoredMaps((5, 3, 2, 2), [2, 0])
    some.write(0, values[:, [2, 0]])
    assert some.shape == (5, 3, 2, 2)
    assert torch.equal(some.read([4, 1], [0, 2]), values[[4, 1]][:, [0, 2]])
    assert torch.equal(torch.cat([block for _, block in some.blocks([2])]), values[:, [2]])
    for ask in (lambda: some.read([0], [1]), lambda: list(some.blocks()), lambda: list(some.blocks([0, 1]))):
        with pytest.raises(ValueError, match="unit 1 were not stored"):
            ask()


def test_maps_are_computed_when_first_asked_for():
    made = []

    def make():
        made.append(1)
        return MemoryMaps(torch.zeros(2, 1, 1, 1))

    maps = LateMaps(make)
    assert not made
    assert maps.shape == (2, 1, 1, 1)
    maps.read([0], [0])
    assert len(made) == 1


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


def test_only_the_maps_of_the_units_asked_for_are_kept(model, images):
    everything = look(model, images, maps=["0"])["0"]
    some = look(model, images, maps={"0": [3, 1]})
    assert some["2"].maps is None
    assert some["0"].maps.shape == everything.maps.shape
    assert torch.equal(some["0"].maps.read(range(11), [1, 3]), everything.maps.read(range(11), [1, 3]))
    assert torch.equal(some["0"].activations, everything.activations)
    with pytest.raises(ValueError, match="unit 0"):
        some["0"].maps.read([0], [0])


def test_late_maps_are_those_of_the_pass_and_made_batch_by_batch(model, images):
    asked = []

    def load(indices):
        asked.append(list(indices))
        return images[list(indices)]

    expected = look(model, images, maps={"0": [3, 1]}, batch=4)["0"].maps
    late = late_maps(model, "0", [3, 1], (11, 4, 30, 30), load, batch=4)
    assert torch.equal(late.read([9, 2, 9], [1]), expected.read([9, 2, 9], [1]))
    assert asked == [[8, 9, 10], [0, 1, 2, 3]]
    assert torch.equal(late.read(range(11), [1, 3]), expected.read(range(11), [1, 3]))
    assert asked[2:] == [[4, 5, 6, 7]]


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_maps_of_top_images_are_those_that_a_pass_over_all_would_keep(count):
    draw = torch.Generator().manual_seed(count)
    pooled = torch.randint(-3, 3, (11, 4), generator=draw).float()
    pooled[[2, 5], 0] = torch.nan
    pooled[:, 3] = 1.5
    maps = torch.rand(11, 3, 2, 2, generator=draw).half()
    columns = {3: 0, 0: 1, 1: 2}
    top = TopMaps((11, 4, 2, 2), list(columns), count, Unread())
    for part in (range(4), range(4, 5), range(5, 11)):
        top.add(part.start, pooled[list(part)], maps[list(part)])
    for unit, column in columns.items():
        held = top_images(pooled[:, unit], count, split=True)
        assert [image for image in top.images[column].tolist() if image >= 0] == held
        if held:
            assert torch.equal(top.read(held[::-1], [unit]), maps[held[::-1], column, None])
            left = min(set(range(11)) - set(held), default=None)
            if left is not None:
                assert top.read([held[0], left], [unit]) == ([held[0], left], [unit])
    if count:
        same = top.read([0, 0], [3, 3])
        assert torch.equal(same, maps[0, 0].expand(2, 2, 2, 2))
    assert list(top.blocks([1])) == [[1]]
    with pytest.raises(ValueError, match="unit 2 were not stored"):
        top.read([0], [2])


class Unread:
    """Maps that tell what was read of them."""

    def read(self, images, units):
        return images, units

    def blocks(self, units):
        return [units]


def test_a_pass_keeps_the_maps_of_top_images_and_computes_others_again(model, images):
    everything = look(model, images, maps={"0": [3, 1]}, batch=4)["0"]
    asked = []

    def load(indices):
        asked.append(list(indices))
        return images[list(indices)]

    def top(mapped):
        probe = Probe(IDS, load)
        return observe(model, LAYERS, probe, CLEAN, load, Encoder(), maps={"0": [3, 1]}, mapped=mapped, batch=4)["0"]

    seen = top(2)
    asked.clear()
    for unit in (1, 3):
        best = top_images(seen.activations[:, unit], 11)
        assert torch.equal(seen.maps.read(best[:2], [unit]), everything.maps.read(best[:2], [unit]))
    assert not asked
    assert torch.equal(seen.maps.read(best[1:3], [1, 3]), everything.maps.read(best[1:3], [1, 3]))
    assert len(asked) == len({image // 4 for image in best[1:3]})
    none = top(0)
    assert none.maps.shape == everything.maps.shape
    for maps in (seen.maps, none.maps):
        assert torch.equal(
            torch.cat([part for _, part in maps.blocks([3, 1])]), everything.maps.read(range(11), [3, 1])
        )
    assert torch.equal(none.activations, everything.activations)


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


def read_ahead():
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_a_thread_that_reads_ahead_changes_no_bit(model, images):
    snow = Condition("snow", 3)
    probe = Probe(IDS, lambda indices: images[list(indices)])
    readers, ahead = set(), []

    def seen(ahead_of):
        shown = perturbed(probe, snow, 0, Settings(), torch.device("cpu"))
        done = []

        def noted(indices):
            readers.add(threading.current_thread().name.startswith("read-ahead"))
            ahead.append(indices[0] - sum(done))
            return shown(indices)

        asked = {"maps": ["0"], "batch": 4, "advance": done.append, "ahead": ahead_of}
        return observe(model, LAYERS, probe, snow, noted, Encoder(), **asked)

    plain = seen(False)
    assert (readers, set(ahead)) == ({False}, {0})
    threaded = seen(True)
    assert readers == {False, True}
    assert max(ahead) <= 4
    assert not read_ahead()
    readers.clear()
    seen(None)
    assert readers == {False}
    for name in LAYERS:
        assert torch.equal(threaded[name].activations, plain[name].activations)
        assert torch.equal(threaded[name].clip_embeddings, plain[name].clip_embeddings)
    assert torch.equal(whole(threaded["0"].maps), whole(plain["0"].maps))


@pytest.mark.parametrize("ahead", [False, True])
def test_an_error_of_an_image_arrives_when_its_turn_comes(model, images, ahead):
    done = []

    def load(indices):
        if 5 in indices:
            raise UserError("image-5 cannot be read")
        return images[list(indices)]

    with pytest.raises(UserError, match="image-5"):
        observe(model, LAYERS, Probe(IDS, load), CLEAN, load, Encoder(), batch=2, advance=done.append, ahead=ahead)
    assert done == [2, 2]
    assert not read_ahead()


def test_an_interrupted_pass_leaves_no_thread(model, images):
    asked = []

    def load(indices):
        asked.append(list(indices))
        return images[list(indices)]

    def interrupted(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        observe(model, LAYERS, Probe(IDS, load), CLEAN, load, Encoder(), batch=2, advance=interrupted, ahead=True)
    assert not read_ahead()
    assert asked in ([[0, 1]], [[0, 1], [2, 3]])


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


class Scenes:
    """A probing set of noise: the left half of each image is its foreground, but of the first nothing and of the last
    all; it notes how many images were asked for at once."""

    def __init__(self, images):
        self.ids = IDS
        self.segmentation = Segmentation(("", "thing"), {"object": (1,)}, lambda index: {"object": [index]}, (32, 32))
        self.concepts, self.presence = ("thing",), np.arange(11)[:, None] % 2 == 1
        self.asked = []
        self._images = images
        self._masks = torch.zeros(11, 32, 32, dtype=torch.bool)
        self._masks[:, :, :16] = True
        self._masks[0], self._masks[-1] = False, True

    def load(self, indices):
        self.asked.append(len(indices))
        return self._images[list(indices)]

    def load_foreground(self, indices):
        return self._masks[list(indices)]


BLUR = Condition("background_blur", 2)


def blurred(probe):
    return perturbed(probe, BLUR, 0, Settings(), torch.device("cpu"))


def test_images_are_perturbed_once_and_alike_whenever_they_are_asked_for(images, monkeypatch):
    snow = Condition("snow", 3)
    whole = perturb(images, "snow", 3, image_seeds(0, IDS, snow))
    scenes = Scenes(images)
    shown = perturbed(probe_of(scenes, masked=False), snow, 0, Settings(), torch.device("cpu"))
    assert torch.equal(shown([7]), whole[[7]])
    assert torch.equal(shown([2, 7, 3, 2]), whole[[2, 7, 3, 2]])
    assert torch.equal(shown(range(11)), whole)
    scenes.asked.clear()
    assert torch.equal(shown([10, 0]), whole[[10, 0]])
    assert not scenes.asked
    shown([1]).zero_()
    assert torch.equal(shown([1]), whole[[1]])
    # Without room on the disk they are perturbed anew.
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=11 * 3 * 32 * 32))
    again = perturbed(probe_of(scenes, masked=False), snow, 0, Settings(), torch.device("cpu"))
    for _ in range(2):
        assert torch.equal(again([4, 4, 1]), whole[[4, 4, 1]])
    assert again([]).shape == (0, 3, 32, 32)


def test_clean_images_are_the_probing_sets_own(images):
    probe = probe_of(Scenes(images), masked=False)
    assert torch.equal(perturbed(probe, CLEAN, 0, Settings(), torch.device("cpu"))([3, 1]), images[[3, 1]])


def test_the_images_with_a_foreground_and_a_background_can_be_taken_alone(images, monkeypatch):
    monkeypatch.setattr("tasks.observe.IMAGES_AT_ONCE", 4)
    scenes = Scenes(images)
    probe = probe_of(scenes, masked=True)
    assert probe.divided.tolist() == [False, *[True] * 9, False]
    kept = probe.only(np.flatnonzero(probe.divided).tolist())
    assert kept.divided.all()
    assert kept.ids == IDS[1:-1]
    assert torch.equal(kept.load([0, 8]), images[[1, 9]])
    assert kept.segmentation.pixels(4) == {"object": [5]}
    expected = perturb(images[[1, 9]], "background_blur", 2, [0, 0], scenes.load_foreground([1, 9]))
    assert torch.equal(blurred(kept)([0, 8]), expected)


def test_masks_may_come_from_a_segmenter_which_sees_each_image_once(images):
    class Segmenter:
        def foreground(self, images):
            seen.extend(images[:, 0, 0, 0].tolist())
            masks = torch.zeros(len(images), 32, 32, dtype=torch.bool)
            masks[:, 8:] = True
            return masks

    seen = []
    probe = probe_of(Scenes(images), masked=True, segmenter=Segmenter())
    assert probe.divided.all()
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[:, 8:] = True
    expected = perturb(images[[0, 5]], "background_blur", 2, [0, 0], masks)
    assert torch.equal(blurred(probe)([0, 5]), expected)
    assert seen == images[:, 0, 0, 0].tolist()


def test_a_set_without_masks_has_no_divided_images(images):
    scenes = Scenes(images)
    scenes.load_foreground = lambda indices: None
    probe = probe_of(scenes, masked=True)
    assert (probe.masks, probe.divided) == (None, None)


def test_never_more_than_a_block_of_images_is_asked_for(model, images):
    scenes = Scenes(images)
    probe = probe_of(scenes, masked=True)
    observe(model, LAYERS, probe, CLEAN, probe.load, Encoder(), maps=["0"], batch=4)
    assert max(scenes.asked) == 4
    assert sum(scenes.asked) == 11


def test_presence_follows_the_images_that_are_left(model, images):
    probe = probe_of(Scenes(images), masked=False).only([1, 2, 9])
    seen = observe(model, LAYERS, probe, CLEAN, probe.load, Encoder())["0"].presence
    assert seen is not None
    assert (seen.concepts, seen.shown.tolist()) == (("thing",), [[True], [False], [True]])
