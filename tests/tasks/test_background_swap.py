"""The background swap: which pixels stay, whose background comes, and annotation that follows the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.common.errors import UserError
from tasks.donors import Donors
from tasks.miniature.probing import MiniatureProbingSet
from tasks.observation import ConceptPresence
from tasks.observe import Condition, Probe, as_shown, classes_of, perturbed, probe_of
from tasks.perturbations import perturb
from tasks.perturbations.settings import Settings
from tasks.perturbations.suites import load_suite
from tasks.perturbations.swap import CHANGES, background_of, boxed, tiled

COUNT, SIDE = 24, 48
CPU = torch.device("cpu")
MIXED = ("mixed_same", "mixed_rand", "mixed_next")


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of noise, and masks of a disk whose size and place differ."""
    draws = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    places = draws.integers(12, SIDE - 12, (COUNT, 2)), draws.integers(4, 10, COUNT)
    masks = [(rows - r) ** 2 + (columns - c) ** 2 < radius**2 for (r, c), radius in zip(*places, strict=True)]
    images = draws.integers(1, 256, (COUNT, 3, SIDE, SIDE), dtype=np.uint8)
    return torch.from_numpy(images), torch.from_numpy(np.stack(masks))


IMAGES, MASKS = drawn()
CLASSES = [number % 4 for number in range(COUNT)]


def probe(classes: Sequence[int] | None = CLASSES, masks: Tensor = MASKS, asked: list[int] | None = None) -> Probe:
    def load(indices: Sequence[int]) -> Tensor:
        if asked is not None:
            asked.append(len(indices))
        return IMAGES[list(indices)]

    ids = tuple(f"image-{number:02d}" for number in range(COUNT))
    return Probe(ids, load, lambda indices: masks[list(indices)], class_of=classes and classes.__getitem__)


def seen(name: str, of: Probe | None = None, severity: int = 5, seed: int = 0) -> Tensor:
    of = of or probe()
    return perturbed(of, Condition(name, severity), seed, Settings(), CPU)(range(len(of.ids)))


def test_the_suite_has_the_published_variants_at_the_published_strength() -> None:
    assert set(load_suite("background_swap").conditions(None, (3,))) == {(name, 5) for name in CHANGES}


@pytest.mark.parametrize("name", ["only_fg", *MIXED])
def test_foreground_pixels_are_untouched(name: str) -> None:
    inside = MASKS[:, None].expand_as(IMAGES)
    after = seen(name)
    assert torch.equal(after[inside], IMAGES[inside])
    assert (after[~inside] != IMAGES[~inside]).float().mean() > 0.9


@pytest.mark.parametrize("name", ["no_fg", "only_bg_b", "only_bg_t"])
def test_background_pixels_are_untouched_and_no_foreground_pixel_is_left(name: str) -> None:
    gone = (MASKS if name == "no_fg" else boxed(MASKS))[:, None].expand_as(IMAGES)
    after = seen(name)
    assert torch.equal(after[~gone], IMAGES[~gone])
    if name == "only_bg_t":
        around = torch.where(gone, 0, IMAGES)
        assert torch.equal(after, background_of(around, MASKS))  # of the background alone
        assert bool(after[gone].all())
    else:
        assert not after[gone].any()


def test_the_box_is_that_of_the_mask() -> None:
    for mask, box in zip(MASKS.numpy(), boxed(MASKS).numpy(), strict=True):
        rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
        expected = np.zeros_like(mask)
        expected[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        assert np.array_equal(box, expected)
    assert not boxed(torch.zeros(1, 40, 50, dtype=torch.bool)).any()
    assert boxed(torch.ones(1, 40, 50, dtype=torch.bool)).all()


@pytest.mark.parametrize(
    ("box", "source"),
    [
        ((30, 40, 20, 40), lambda r, c: (r % 30, c)),  # above
        ((5, 20, 20, 40), lambda r, c: (20 + r % 30, c)),  # below
        ((10, 40, 40, 50), lambda r, c: (r, c % 40)),  # left
        ((10, 40, 5, 20), lambda r, c: (r, 20 + c % 40)),  # right
        ((20, 30, 20, 40), lambda r, c: (r % 20, c)),  # all alike: above comes first
        ((0, 50, 0, 60), lambda r, c: None),  # no strip: black
    ],
)
def test_the_largest_strip_is_repeated_along_its_short_side(box: tuple[int, ...], source: Any) -> None:
    top, bottom, left, right = box
    image = torch.arange(50 * 60).reshape(1, 1, 50, 60)
    mask = torch.zeros(1, 50, 60, dtype=torch.bool)
    mask[:, top:bottom, left:right] = True
    found = tiled(image, mask)[0, 0]
    for row, column in [(top, left), (bottom - 1, right - 1), ((top + bottom) // 2, (left + right) // 2)]:
        place = source(row, column)
        assert found[row, column] == (0 if place is None else image[0, 0, place[0], place[1]])


@pytest.mark.parametrize("name", CHANGES)
def test_any_part_of_the_images_in_any_order_gives_the_same_bits(name: str) -> None:
    whole = seen(name, severity=3)
    images = perturbed(probe(), Condition(name, 3), 0, Settings(), CPU)
    assert torch.equal(images([7]), whole[[7]])
    assert torch.equal(images([20, 3, 9]), whole[[20, 3, 9]])
    assert torch.equal(images(range(COUNT)), whole)
    assert not torch.equal(seen(name, severity=3, seed=1), whole)


@pytest.mark.parametrize("name", CHANGES)
def test_severity_is_the_share_of_the_images_that_change(name: str) -> None:
    images, masks = IMAGES.repeat(10, 1, 1, 1), MASKS.repeat(10, 1, 1)
    before = torch.zeros(len(images), dtype=torch.bool)
    for severity in range(1, 6):
        after = perturb(images, name, severity, range(len(images)), masks, images.flip(0))
        now = (after != images).flatten(1).any(1)
        assert bool((before <= now).all())
        assert abs(now.float().mean() - severity / 5) < 0.1
        before = now
    assert bool(before.all())


def test_donors_have_the_class_that_the_variant_says() -> None:
    found = {name: [Donors(probe(), name, 0).of(number) for number in range(COUNT)] for name in MIXED}
    assert all(CLASSES[donor] == CLASSES[number] for number, donor in enumerate(found["mixed_same"]))
    assert all(CLASSES[donor] == (CLASSES[number] + 1) % 4 for number, donor in enumerate(found["mixed_next"]))
    assert {CLASSES[donor] for donor in found["mixed_rand"]} == {0, 1, 2, 3}
    assert all(donor != number for donors in found.values() for number, donor in enumerate(donors))
    assert all(len(set(donors)) > COUNT / 3 for donors in found.values())
    # The pasted background is the donor's, with its object tiled over.
    behind = background_of(IMAGES, MASKS)
    for name, donors in found.items():
        assert torch.equal(seen(name), torch.where(MASKS[:, None], IMAGES, behind[donors]))


def test_all_images_of_a_class_and_all_classes_are_equally_likely() -> None:
    uneven = [0] * 20 + [1] * 4
    donors = [Donors(probe(uneven), "mixed_rand", seed).of(0) for seed in range(300)]
    assert 120 < sum(uneven[donor] for donor in donors) < 180
    same = [Donors(probe(uneven), "mixed_same", seed).of(21) for seed in range(300)]
    assert set(same) == {20, 22, 23}
    assert min(same.count(donor) for donor in set(same)) > 70


def test_an_object_that_leaves_no_strip_and_an_image_without_one_are_no_donors() -> None:
    masks = MASKS.clone()
    masks[4:8], masks[8:12] = True, False
    masks[12:16] = True
    masks[12:16, 0] = False  # a strip of 1 px of 48, 4.7 px at 224
    names = [Donors(probe(masks=masks), name, seed).of(0) for name in MIXED for seed in range(100)]
    assert not set(names) & set(range(4, 16))


def test_the_next_class_is_the_next_one_that_has_images() -> None:
    classes = [(0, 5, 9)[number % 3] for number in range(COUNT)]
    donors = Donors(probe(classes), "mixed_next", 0)
    assert [classes[donors.of(number)] for number in range(3)] == [5, 9, 0]


@pytest.mark.parametrize(
    ("name", "classes", "sentence"),
    [
        *((name, None, f"{name} takes backgrounds by class, but the probing images have neither") for name in MIXED),
        ("mixed_same", list(range(COUNT)), "mixed_same finds no background for the image image-00: it needs another"),
        ("mixed_next", [3] * COUNT, "another class, whose object leaves a strip of 8 px; use more images"),
    ],
)
def test_without_a_donor_there_is_one_clear_sentence(name: str, classes: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        seen(name, probe(classes))
    assert "\n" not in str(error.value)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.donors._AT_ONCE", 5)
    asked: list[int] = []
    images = perturbed(probe(asked=asked), Condition("mixed_rand", 5), 0, Settings(), CPU)
    images([3, 4])
    assert max(asked) == 2  # never more donors than images


# ---- over the miniature ----


@pytest.fixture(scope="module")
def scenes() -> Any:
    return MiniatureProbingSet("probe", 40)


def test_the_class_of_a_scene_is_its_background_and_that_of_a_photograph_its_class(scenes: Any) -> None:
    class_of = classes_of(scenes)
    assert class_of is not None
    names = [scenes.segmentation.labels[class_of(number)] for number in range(40)]
    assert all(scenes.presence[number, scenes.concepts.index(name)] for number, name in enumerate(names))
    assert len(set(names)) == len(scenes.segmentation.categories["scene"])
    photographs = cast(Any, SimpleNamespace(classes=np.array([4, 2]), segmentation=scenes.segmentation))
    given = classes_of(photographs)
    assert given is not None
    assert [given(0), given(1)] == [4, 2]
    assert classes_of(cast(Any, SimpleNamespace(segmentation=None))) is None


@pytest.mark.parametrize("name", CHANGES)
def test_annotation_follows_the_pixels(name: str, scenes: Any) -> None:
    whole = probe_of(scenes, masked=True).only(range(1, 40))
    shown = as_shown(whole, Condition(name, 5), 3)
    assert whole.segmentation is not None
    assert shown.segmentation is not None
    for number in range(0, 39, 6):
        before, after = whole.segmentation.pixels(number), shown.segmentation.pixels(number)
        for category in ("object", "part", "color", "texture"):
            kept, own = np.asarray(after[category]), np.asarray(before[category])
            # Objects stay exactly where their pixels do: no donor's object shows, they are tiled over.
            assert np.array_equal(kept > 0, own > 0 if name in ("only_fg", *MIXED) else np.zeros_like(own, bool))
            assert np.array_equal(kept[kept > 0], own[kept > 0])
        if name == "only_fg":
            assert after["scene"] == []
        elif name in MIXED:
            donor = Donors(whole, name, 3).of(number)
            assert after["scene"] == whole.segmentation.pixels(donor)["scene"]
        else:
            assert after["scene"] == before["scene"]
        assert shown.presence is not None
        named = {shown.segmentation.labels[one] for found in after.values() for one in np.unique(found).astype(int)}
        assert {*np.array(shown.presence.concepts)[shown.presence.shown[number]]} == named - {""}


def test_annotation_of_images_that_are_not_changed_stays(scenes: Any) -> None:
    whole = probe_of(scenes, masked=True)
    assert as_shown(whole, Condition("background_blur", 3), 0) is whole
    images = perturbed(whole, Condition("no_fg", 2), 0, Settings(), CPU)(range(40))
    same = [torch.equal(after, before) for after, before in zip(images, scenes.images, strict=True)]
    assert 5 < sum(same) < 35
    shown = as_shown(whole, Condition("no_fg", 2), 0)
    assert shown.segmentation is not None
    assert [bool(np.any(shown.segmentation.pixels(n)["object"])) for n in range(40)] == same


@pytest.mark.parametrize("name", CHANGES)
def test_without_segmentation_an_image_shows_its_class_as_long_as_its_foreground_is_there(name: str) -> None:
    shown = ConceptPresence(("cat", "dog", "cow", "owl"), np.eye(4, dtype=bool)[CLASSES])
    given = Probe(probe().ids, probe().load, probe().masks, presence=shown, class_of=CLASSES.__getitem__)
    after = as_shown(given, Condition(name, 5), 0).presence
    assert after is not None
    assert np.array_equal(after.shown, shown.shown) == (name in ("only_fg", *MIXED))
    assert after.shown.any() == (name in ("only_fg", *MIXED))
