"""Several sets as one: every image is where its identifier says, and nothing is absent where nobody looked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from probing_files import picture, save
from pydantic import TypeAdapter

from baselines.network_dissection import NetworkDissection
from tasks.activations.maps import MemoryMaps
from tasks.catalogue import profile_path
from tasks.common.errors import UserError
from tasks.common.yamlfile import read_yaml
from tasks.miniature.broden import export
from tasks.miniature.probing import MiniatureProbingSet
from tasks.observation import Observation, Segmentation, Toolbox
from tasks.probing.base import Facts, StoredSet
from tasks.probing.build import build
from tasks.probing.missing import missing
from tasks.probing.schema import UnionSource
from tasks.probing.union import shares, union
from tasks.profiles.schema import load_profile
from tasks.view import View

LAYERS = {"object": np.array([[1, 1], [0, 2]])}


def stored(ids: str, value: int = 0, **changes) -> StoredSet:
    names = tuple(ids)

    def read(index: int) -> np.ndarray:
        return np.full((4, 4, 3), value + index, np.uint8)

    facts = Facts(len(names) + 2, (("x", "broken"),), ((names[0],) * 2,), 1, f"licence {value}")
    plain = StoredSet("plain", names, f"digest {ids} {value}", (4, 4), facts, read, (), np.zeros((len(names), 0), bool))
    return replace(plain, **changes)


def annotated(ids: str, value: int = 0, **changes) -> StoredSet:
    segmentation = Segmentation(("", "dog", "cat"), {"object": (1, 2)}, lambda index: LAYERS, (2, 2))
    return stored(ids, value, segmentation=segmentation, **changes)


def test_every_image_is_where_its_identifier_says():
    parts = {"b_": stored("pq", 50), "b": stored("adz", 10), "a": stored("m", 90)}
    whole = union(parts)
    assert list(whole.ids) == sorted(f"{part}/{own}" for part, one in parts.items() for own in one.ids)
    for index, identifier in enumerate(whole.ids):
        part, _, own = identifier.partition("/")
        expected = parts[part].load([parts[part].ids.index(own)])
        assert torch.equal(whole.load([index]), expected)
    assert torch.equal(whole.load([3, 0]), torch.cat([whole.load([3]), whole.load([0])]))
    assert whole.facts.available == 2 + 3 + 1 + 6
    assert ("b/x", "broken") in whole.facts.skipped
    assert ("a/m", "a/m") in whole.facts.duplicates
    assert whole.facts.licence == "a: licence 90; b: licence 10; b_: licence 50"


def test_the_digest_follows_names_and_digests_of_the_parts_and_not_their_order():
    one, other = stored("ab", 1), stored("ab", 2)
    whole = union({"x": one, "y": other})
    assert whole.digest == union({"y": other, "x": one}).digest
    others = [union({"x": other, "y": one}), union({"x": one, "z": other}), union({"x": one, "y": stored("ab", 3)})]
    assert len({whole.digest, *(found.digest for found in others)}) == 4


def test_what_not_all_parts_know_is_not_known():
    classes = {"concepts": ("dog", "cat"), "presence": np.array([[True, False], [False, True]])}
    masked = {"mask": lambda index: np.full((4, 4), bool(index))}
    known = union({"x": stored("ab", **classes, **masked), "y": stored("cd", **classes, **masked)})
    assert known.concepts == ("dog", "cat")
    assert known.presence.tolist() == [[True, False], [False, True]] * 2
    assert known.load_foreground(range(4)).flatten(1).any(1).tolist() == [False, True, False, True]
    other = union({"x": stored("ab", **classes, **masked), "y": stored("cd")})
    assert (other.concepts, other.presence.shape) == ((), (4, 0))
    assert other.load_foreground([0]) is None
    renamed = union({"x": stored("ab", **classes), "y": stored("cd", **{**classes, "concepts": ("dog", "car")})})
    assert renamed.concepts == ()


def test_annotation_stays_with_its_part():
    whole = union({"a": stored("k"), "b": annotated("mn")})
    assert [dict(whole.segmentation.pixels(index)) for index in range(3)] == [{}, LAYERS, LAYERS]
    assert union({"a": stored("k"), "b": stored("m")}).segmentation is None
    both = union({"a": annotated("k"), "b": annotated("m")})
    assert [dict(both.segmentation.pixels(index)) for index in range(2)] == [LAYERS, LAYERS]
    strange = annotated("k").segmentation
    with pytest.raises(UserError, match="parts a and b of a union are annotated with different labels"):
        union({"a": stored("k", segmentation=replace(strange, labels=("", "car", "cat"))), "b": annotated("m")})


def test_images_of_several_sizes_get_one_as_a_network_sees_them():
    whole = union({"a": stored("k"), "b": stored("m", size=(4, 8))})
    assert whole.size is None
    assert whole.seen_by(View(4, 4)).images.shape == (2, 3, 4, 4)


def dissect(activations: np.ndarray, segmentation: Segmentation, quantile: float):
    maps = torch.from_numpy(activations).float()
    observation = Observation(
        layer="layer4",
        kind="spatial",
        condition="clean",
        severity=0,
        repeat=0,
        image_ids=tuple(map(str, range(len(maps)))),
        activations=maps.mean(dim=(2, 3)),
        maps=MemoryMaps(maps),
        clip_embeddings=torch.zeros(len(maps), 2),
        images=lambda indices: torch.zeros(len(indices), 3, 4, 4, dtype=torch.uint8),
        segmentation=segmentation,
    )
    tools = Toolbox(seed=0, activate=lambda images: torch.zeros(len(images), 1))
    return [unit.ranked for unit in NetworkDissection(quantile=quantile).label(observation, range(3), tools)]


def test_network_dissection_counts_nothing_against_a_concept_where_nobody_looked():
    rng = np.random.default_rng(2)
    part = annotated("abcdefgh")
    fires = (rng.random((8, 3, 2, 2)) < 0.4).astype(float)
    whole = union({"broden": part, "more": stored("ijklmnop")})
    alone = dissect(fires, part.segmentation, quantile=0.9)
    assert all(alone)
    # Both thresholds are 0, so a unit covers what fires. The further images fire everywhere, and nobody annotated them.
    assert dissect(np.concatenate([fires, np.ones_like(fires)]), whole.segmentation, quantile=0.95) == alone


@pytest.mark.parametrize("seed", range(5))
def test_shares_follow_the_sizes_and_only_grow(seed):
    rng = np.random.default_rng(seed)
    available = {name: int(rng.integers(1, 40)) for name in "abc"}
    total = sum(available.values())
    before = dict.fromkeys(available, 0)
    for count in range(1, total + 1):
        given = shares(available, count)
        assert sum(given.values()) == count
        assert all(before[name] <= given[name] <= available[name] for name in available)
        assert all(abs(given[name] - count * available[name] / total) < 1 for name in available)
        before = given
    assert before == available
    for count in (0, total + 1):
        with pytest.raises(UserError, match=f"hold {total} images together, but {count} are requested"):
            shares(available, count)


@pytest.fixture
def source(tmp_path) -> UnionSource:
    export(tmp_path / "broden", "probe", 4)
    for number in range(6):
        save(tmp_path / "photos" / f"{number}.png", picture(number))
    return TypeAdapter(UnionSource).validate_python(
        {
            "loader": "union",
            "parts": {
                "photos": {"loader": "folder", "path": tmp_path / "photos", "licence": "mine"},
                "broden": {"loader": "broden", "path": tmp_path / "broden", "licence": "theirs"},
            },
        }
    )


def test_it_is_opened_from_a_profile(source):
    whole = build(source)
    assert [name.partition("/")[0] for name in whole.ids] == ["broden"] * 4 + ["photos"] * 6
    assert whole.seen_by(View(256, 224)).images.shape == (10, 3, 224, 224)
    assert whole.segmentation.pixels(0)
    assert not whole.segmentation.pixels(9)
    some = build(source, 5, seed=1)
    assert [name.partition("/")[0] for name in some.ids] == ["broden"] * 2 + ["photos"] * 3
    assert set(some.ids) <= set(build(source, 6, seed=1).ids) <= set(whole.ids)
    assert set(build(source, 1, seed=1).ids) <= set(some.ids)
    with pytest.raises(UserError, match="hold 10 images together, but 11 are requested"):
        build(source, 11)


def test_a_broken_image_is_left_out_of_a_union_too(source, tmp_path):
    for number in range(3):
        (tmp_path / "photos" / f"{number}.png").write_bytes(b"no image")
    photos = source.parts["photos"].model_copy(update={"max_skipped": 0.9})
    lenient = source.model_copy(update={"parts": {**source.parts, "photos": photos}})
    for seed in range(4):
        assert len(build(lenient, 3, seed=seed).ids) == 3
    with pytest.raises(UserError, match="cannot be used"):
        build(source)


def test_what_is_missing_of_any_part_is_told(source, tmp_path):
    assert missing(source) == []
    (tmp_path / "broden/label.csv").unlink()
    assert [item.path for item in missing(source)] == [tmp_path / "broden/label.csv"]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"a": {"loader": "folder", "path": "x", "licence": "b"}}, "at least 2 items"),
        ({"a/b": {"loader": "folder", "path": "x", "licence": "b"}}, "a/b"),
        ({"a": {"loader": "union", "parts": {}}}, "union"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path, parts, words):
    literal = _profile()
    literal["probing_sets"] = {"both": {"loader": "union", "parts": parts}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(literal))
    with pytest.raises(UserError, match=words):
        load_profile(str(path))


def test_a_profiles_paths_are_relative_and_no_part_of_its_identity(tmp_path):
    literal = _profile()
    part = {"loader": "folder", "path": "photos", "licence": "mine"}
    identities = []
    for folder in ("photos", "moved"):
        parts = {"a": {**part, "path": folder}, "b": {**part, "max_skipped": 0.5}}
        literal["probing_sets"] = {"both": {"loader": "union", "parts": parts}}
        path = tmp_path / "mine.yaml"
        path.write_text(yaml.safe_dump(literal))
        profile = load_profile(str(path))
        assert profile.probing_set("both").parts["a"].path == tmp_path / folder
        identities.append(profile.identity((), ("both",)))
    assert identities[0] == identities[1]
    assert identities[0]["probing_sets"]["both"]["parts"]["b"]["max_skipped"] == 0.5


def test_the_published_probing_set_is_a_union():
    for name in ("paper", "open"):
        profile = load_profile(name)
        both = profile.probing_set("imagenet_broden")
        assert isinstance(both, UnionSource)
        assert both.parts == {
            "imagenet": profile.probing_set("imagenet_val"),
            "broden": profile.probing_set("broden"),
        }


def _profile() -> dict:
    return read_yaml(profile_path("paper"))


def test_some_images_of_a_set_keep_all_that_is_known_of_them() -> None:
    whole = MiniatureProbingSet("probe", 6)
    some = whole.only([1, 4])
    assert some.ids == (whole.ids[1], whole.ids[4])
    assert torch.equal(some.load([1, 0]), whole.load([4, 1]))
    assert torch.equal(some.load_foreground([0, 1]), whole.load_foreground([1, 4]))
    assert np.array_equal(some.presence, whole.presence[[1, 4]])
    assert np.array_equal(some.segmentation.pixels(1)["object"], whole.segmentation.pixels(4)["object"])
    assert len({whole.digest, some.digest, whole.only([1, 5]).digest}) == 3
