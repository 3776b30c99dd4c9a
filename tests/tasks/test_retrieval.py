"""Photographs retrieved for a text: the nearest of a pool that never meets the images that are probed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.common.errors import UserError
from tasks.common.image_files import centre_square, find_images, load_image
from tasks.models.retrieval import RetrievalGenerator, pool_sha256
from tasks.probing.build import build
from tasks.probing.held_out import SHARE, hashes_of, is_held_out, kept
from tasks.probing.schema import FolderSource
from tasks.profiles.build import Roles
from tasks.profiles.pool import pool_of
from tasks.profiles.schema import load_profile
from tasks.profiles.sources import RetrievalSource
from tasks.roles import ImageGenerator

COUNT = 60
COLOURS = {"red": (250, 0, 0), "green": (0, 250, 0), "blue": (0, 0, 250)}


class ByColour:
    """An image-text encoder that sees the mean colour, and knows the names of three."""

    def encode_images(self, images):
        return torch.nn.functional.normalize(images.float().mean(dim=(2, 3)) + 1e-3, dim=1)

    def encode_text(self, texts):
        return torch.nn.functional.normalize(torch.tensor([COLOURS[t] for t in texts]).float(), dim=1)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Plain pictures, each of another colour."""
    place = tmp_path / "photos"
    place.mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        image = np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), (40, 64, 3))
        Image.fromarray(image).save(place / f"{number:02d}.png")
    return place


def pool(folder):
    files, _ = find_images(folder)
    return [(sha256, path) for sha256, (_, path) in zip(hashes_of(files), files, strict=True)]


def profile_with(folder, probed=None, **changed):
    source = RetrievalSource(loader="retrieval", path=folder, licence="CC0", **changed)
    sets = {} if probed is None else {"scenes": probed}
    profile = load_profile("miniature")
    return profile.model_copy(update={"generator": source, "probing_sets": sets or profile.probing_sets})


def of_folder(folder, hold_out):
    return FolderSource(loader="folder", path=folder, licence="CC0", hold_out=hold_out)


def test_the_nearest_photographs_come_first_and_each_is_another(folder):
    generator = RetrievalGenerator(pool(folder), ByColour(), side=32)
    assert isinstance(generator, ImageGenerator)
    every = torch.stack([torch.tensor(centre_square(load_image(path), 32)) for _, path in pool(folder)])
    every = every.permute(0, 3, 1, 2)
    for text in COLOURS:
        found = generator.generate(text, 7, seed=0)
        assert found.dtype == torch.uint8
        assert found.shape == (7, 3, 32, 32)
        similarity = (ByColour().encode_images(every) @ ByColour().encode_text([text])[0]).sort(descending=True)
        assert torch.equal(found, every[similarity.indices[:7]])
        assert len({image.numpy().tobytes() for image in found}) == 7
    assert generator.generate("red", 0, seed=0).shape == (0, 3, 32, 32)


def test_neither_seed_nor_template_nor_order_nor_names_matter(folder, tmp_path):
    generator = RetrievalGenerator(pool(folder), ByColour(), side=32)
    first = generator.generate("blue", 5, seed=1)
    assert torch.equal(generator.generate("blue", 5, 2, "One realistic image of {concept}"), first)
    assert torch.equal(generator.generate("blue", 9, 2)[:5], first)
    assert torch.equal(generator.generate("blue", 3, 0, first=2), first[2:])
    other = tmp_path / "other"
    other.mkdir()
    for number, (_, path) in enumerate(reversed(pool(folder))):
        shutil.copy(path, other / f"copy{number}.png")
        shutil.copy(path, other / f"twice{number}.png")
    assert pool_sha256(pool(other)) == pool_sha256(pool(folder))
    assert torch.equal(RetrievalGenerator(pool(other), ByColour(), side=32).generate("blue", 5, 0), first)


def test_too_few_photographs_are_said_and_broken_ones_left_out(folder):
    (folder / "broken.png").write_bytes(b"no picture")
    generator = RetrievalGenerator(pool(folder), ByColour(), side=32)
    assert len(generator.generate("red", COUNT, 0)) == COUNT
    with pytest.raises(UserError, match=f"{COUNT + 1} photographs are requested .* has {COUNT} usable"):
        generator.generate("red", COUNT + 1, 0)


def test_one_folder_is_split_by_content(folder, tmp_path):
    probed = build(of_folder(folder, hold_out=True), cache=None)
    left = {path.name for _, path in pool_of(profile_with(folder), profile_with(folder).generator)}
    assert left.isdisjoint(probed.ids)
    assert left | set(probed.ids) == {f"{number:02d}.png" for number in range(COUNT)}
    assert 0.5 * SHARE < len(left) / COUNT < 2 * SHARE
    for sha256, path in pool(folder):
        assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert is_held_out(sha256) == (path.name in left)
    # A copy under another name, in another folder, is on the same side.
    for _, path in pool(folder):
        other = tmp_path / "other" / f"x{path.name}"
        other.parent.mkdir(exist_ok=True)
        shutil.copy(path, other)
        assert bool(kept([("x", other)])) == (path.name not in left)


def test_a_folder_of_its_own_gives_no_photograph_that_is_probed(folder, tmp_path):
    probed = tmp_path / "probed"
    probed.mkdir()
    for number in range(0, COUNT, 3):
        shutil.copy(folder / f"{number:02d}.png", probed / f"other{number}.png")
    profile = profile_with(folder, of_folder(probed, hold_out=False), held_out=False)
    left = {path.name for _, path in pool_of(profile, profile.generator)}
    assert left == {f"{number:02d}.png" for number in range(COUNT) if number % 3}
    few = profile.generator.model_copy(update={"most": 5})
    assert pool_of(profile, few) == sorted(pool_of(profile, profile.generator))[:5]
    whole = profile_with(folder, of_folder(folder, hold_out=False), held_out=False)
    with pytest.raises(UserError, match="none is left for the generator"):
        pool_of(whole, whole.generator)


def test_a_profile_retrieves_by_its_clip(folder):
    roles = Roles(profile_with(folder), torch.device("cpu"))
    assert roles.generator.generate("red fish", 3, 0).shape == (3, 3, 256, 256)
    assert roles.pool_digest() == pool_sha256([one for one in pool(folder) if is_held_out(one[0])])
    assert Roles(load_profile("miniature"), torch.device("cpu")).pool_digest() is None


def test_a_missing_folder_is_told(tmp_path):
    profile = profile_with(tmp_path / "none")
    with pytest.raises(UserError, match="--images FOLDER"):
        _ = Roles(profile, torch.device("cpu")).generator


def test_where_the_photographs_lie_is_no_part_of_a_profiles_identity(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "moved")
    assert profile_with(folder).identity((), ()) == profile_with(tmp_path / "moved").identity((), ())
    assert profile_with(folder, side=64).identity((), ()) != profile_with(folder).identity((), ())
