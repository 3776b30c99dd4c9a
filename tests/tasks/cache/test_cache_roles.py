"""Models behind the cache: the same bits with and without it, whatever the batch, and no model where none is needed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import tasks
from tasks.cache import open_cache
from tasks.cache.padded import PaddedCaptioner, PaddedEncoder
from tasks.cache.roles import CachedCaptioner, CachedEncoder, CachedGenerator, CachedSentenceEncoder
from tasks.common.errors import UserError
from tasks.miniature.generator import RenderingGenerator
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile
from tasks.view import View

CHECKPOINTS = Path(tasks.__file__).parent / "miniature" / "checkpoints"
TEXTS = ["red fish", "", "a blue striped car on a sandy beach", "日本", "red fish", "cat and a dog", "x " * 200]


def roles(folder=None, **changes) -> Roles:
    profile = load_profile("miniature").model_copy(update=changes)
    return Roles(profile, torch.device("cpu"), cache=None if folder is None else open_cache(folder))


def unloadable():
    pytest.fail("the model was loaded")


@pytest.fixture(scope="module")
def images():
    return roles().probing_set("scenes", 17, View(64)).images


@pytest.fixture(scope="module")
def plain():
    return roles()


def test_embeddings_do_not_depend_on_the_batch(plain, images) -> None:
    whole = plain.clip.encode_images(images)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.clip.encode_images(images[order]), whole[order])
    assert torch.equal(torch.cat([plain.clip.encode_images(images[n : n + 1]) for n in range(3)]), whole[:3])
    texts = plain.clip.encode_text(TEXTS)
    assert torch.equal(torch.cat([plain.clip.encode_text([text]) for text in TEXTS]), texts)
    assert torch.equal(plain.clip.encode_text(TEXTS[::-1]), texts.flip(0))


def test_every_answer_is_bit_equal_and_models_are_loaded_once_for_all(tmp_path, plain, images, monkeypatch) -> None:
    for number in range(2):
        if number:
            for model in (
                "models.clip_encoder.OpenClipEncoder",
                "models.blip_captioner.BlipCaptioner",
                "profiles.build.TargetModel",
            ):
                monkeypatch.setattr(f"tasks.{model}", lambda *_, **__: unloadable())
        cached = roles(tmp_path)
        assert torch.equal(cached.clip.encode_images(images), plain.clip.encode_images(images))
        assert torch.equal(cached.clip.encode_text(TEXTS), plain.clip.encode_text(TEXTS))
        assert cached.clip.over_limit(TEXTS).tolist() == plain.clip.over_limit(TEXTS).tolist()
        assert cached.captioner.caption(images) == plain.captioner.caption(images)
        assert cached.unit_count("resnet18", "layer4") == 512
        assert cached.clip.over_limit(TEXTS).tolist()[-1] is True


def test_a_partly_filled_cache_gives_the_same_bits(tmp_path, plain, images) -> None:
    roles(tmp_path).clip.encode_images(images[3:8])
    roles(tmp_path).captioner.caption(images[[5, 2]])
    assert torch.equal(roles(tmp_path).clip.encode_images(images), plain.clip.encode_images(images))
    assert roles(tmp_path).captioner.caption(images) == plain.captioner.caption(images)


def test_one_pixel_is_another_image(tmp_path, images) -> None:
    cached = roles(tmp_path)
    changed = images[:1].clone()
    changed[0, 1, 50, 50] = 255 - changed[0, 1, 50, 50]
    first, second = cached.clip.encode_images(images[:1]), cached.clip.encode_images(changed)
    assert torch.equal(second, roles().clip.encode_images(changed))
    assert not torch.equal(first, second)


def test_no_input_gives_no_output(tmp_path, images) -> None:
    cached = roles(tmp_path)
    assert cached.clip.encode_images(images[:0]).shape == (0, 128)
    assert cached.captioner.caption(images[:0]) == []
    assert cached.clip.over_limit([]).shape == (0,)


def test_another_clip_has_other_keys(tmp_path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(CHECKPOINTS / "clip", folder)
    source = load_profile("miniature").clip
    base = roles(tmp_path / "cache").clip.identity
    # The same files in another place are the same model.
    assert roles(tmp_path / "cache", clip=source.model_copy(update={"path": folder})).clip.identity == base
    config = folder / "open_clip_config.json"
    config.write_text(config.read_text() + "\n")
    assert roles(tmp_path / "cache", clip=source.model_copy(update={"path": folder})).clip.identity != base
    unpinned = source.model_copy(update={"sha256": None})
    assert roles(tmp_path / "cache", clip=unpinned).clip.identity != base


def test_wrong_files_are_refused_even_if_all_is_answered(tmp_path) -> None:
    roles(tmp_path / "cache").clip.encode_text(["red"])
    folder = tmp_path / "clip"
    shutil.copytree(CHECKPOINTS / "clip", folder)
    weights = bytearray((folder / "open_clip_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "open_clip_model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="clip"):
        _ = roles(tmp_path / "cache", clip=load_profile("miniature").clip.model_copy(update={"path": folder})).clip


def test_the_identity_of_a_network(tmp_path) -> None:
    profile = load_profile("miniature")
    base = roles().network_identity("resnet18")
    target = profile.targets["resnet18"]
    unlike = {
        "sha256": None,
        "classes": 45,
        "licence": "other",
        "input": target.input.model_copy(update={"resize": 65}),
    }
    found = {
        field: roles(targets={"resnet18": target.model_copy(update={field: value})}).network_identity("resnet18")
        for field, value in unlike.items()
    }
    assert found["licence"] == base
    assert all(found[field] != base for field in ("sha256", "classes", "input"))
    assert len(found["sha256"]["files"]["resnet18.safetensors"]) == 64
    mine = target.model_copy(update={"loader": "factory", "architecture": "package.module:function", "weights": None})
    assert roles(targets={"mine": mine}).network_identity("mine") is None


class Generator(RenderingGenerator):
    def __init__(self) -> None:
        super().__init__()
        self.drawn = 0

    def generate(self, concept, count, seed, template="{concept}", first=0):
        self.drawn += 1
        return super().generate(f"{concept} {template}", count, seed, first=first)


def test_generated_images_by_concept_count_seed_prompt_and_generator(tmp_path) -> None:
    model = Generator()
    requests = [("fish", 1, 0, "{concept}"), ("car", 1, 0, "{concept}"), ("fish", 2, 0, "{concept}")]
    requests += [("fish", 1, 1, "{concept}"), ("fish", 1, 0, "a {concept}")]
    drawn = [model.generate(*request) for request in requests]
    model.drawn = 0
    for load in (lambda: model, lambda: model, unloadable):
        cached = CachedGenerator(load, {"source": "a"}, open_cache(tmp_path))
        for request, images in zip(requests, drawn, strict=True):
            found = cached.generate(*request)
            assert torch.equal(found, images)
            assert found.dtype == torch.uint8
    assert model.drawn == len(requests)
    later = CachedGenerator(lambda: model, {"source": "a"}, open_cache(tmp_path))
    for _ in range(2):
        assert torch.equal(later.generate("fish", 1, 0, first=1), drawn[2][1:])
    assert model.drawn == len(requests) + 1
    model.drawn -= 1
    CachedGenerator(lambda: model, {"source": "b"}, open_cache(tmp_path)).generate(*requests[0])
    assert model.drawn == len(requests) + 1


class Sentences:
    asked: list[str]

    def __init__(self) -> None:
        self.asked = []

    def encode(self, texts):
        self.asked += texts
        return np.array([[len(text), 1 / 3] for text in texts], np.float32).reshape(-1, 2)

    def over_limit(self, texts):
        return np.array([len(text) > 100 for text in texts])


def test_sentences(tmp_path) -> None:
    model = Sentences()
    cached = CachedSentenceEncoder(lambda: model, {"source": "a"}, open_cache(tmp_path))
    again = CachedSentenceEncoder(unloadable, {"source": "a"}, open_cache(tmp_path))
    expected, cut = Sentences().encode(TEXTS), Sentences().over_limit(TEXTS)
    for encoder in (cached, again):
        found = encoder.encode(TEXTS)
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(encoder.over_limit(TEXTS), cut)
    assert sorted(model.asked) == sorted(set(TEXTS))


def test_padding_feeds_one_size_and_cuts_it_off(images) -> None:
    sizes: list[int] = []

    class Model:
        def encode_images(self, batch):
            sizes.append(len(batch))
            return batch.float().mean((2, 3))

        def encode_text(self, texts):
            sizes.append(len(texts))
            return torch.tensor([[len(text)] for text in texts])

        def caption(self, batch):
            sizes.append(len(batch))
            return [str(int(image.sum())) for image in batch]

    encoder, captioner = PaddedEncoder(Model, 8), PaddedCaptioner(Model, 8)
    torch.testing.assert_close(encoder.encode_images(images), images.float().mean((2, 3)))
    assert encoder.encode_text(TEXTS).flatten().tolist() == [len(text) for text in TEXTS]
    assert captioner.caption(images[:9]) == [str(int(image.sum())) for image in images[:9]]
    assert set(sizes) == {8}


def test_wrappers_fill_their_roles(tmp_path) -> None:
    from tasks import roles as protocols

    cache = open_cache(tmp_path)
    plain = PaddedEncoder(unloadable, 8)
    assert isinstance(plain, protocols.ImageTextEncoder)
    assert isinstance(CachedEncoder(plain, {}, cache), protocols.ImageTextEncoder)
    assert isinstance(CachedCaptioner(PaddedCaptioner(unloadable, 8), {}, cache), protocols.Captioner)
    assert isinstance(CachedSentenceEncoder(unloadable, {}, cache), protocols.SentenceEncoder)
    assert isinstance(CachedGenerator(unloadable, {}, cache), protocols.ImageGenerator)


def test_a_damaged_answer_gives_the_result_of_a_fresh_run(tmp_path, plain, images, caplog) -> None:
    import sqlite3

    from tasks.cache.answers import FILE

    cached = roles(tmp_path)
    cached.clip.encode_images(images)
    cached.cache.small.close()
    with sqlite3.connect(tmp_path / FILE) as database:
        item, value = database.execute("SELECT item, value FROM answers LIMIT 1").fetchone()
        flipped = bytes([value[0] ^ 1]) + value[1:]
        database.execute("UPDATE answers SET value = ? WHERE item = ?", (flipped, item))
    database.close()
    assert torch.equal(roles(tmp_path).clip.encode_images(images), plain.clip.encode_images(images))
    assert len(caplog.records) == 1
