"""What the training scripts share: data, batches, rates and tokens. Nothing is trained here."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
from drawn_scenes import drawn
from sklearn.metrics import roc_auc_score
from torch import nn

from tasks.images import resize, to_array, to_tensor
from tasks.miniature.captions import draw_caption, full_caption
from tasks.miniature.scene import scene_at
from tasks.miniature.training import data, evaluate
from tasks.miniature.training.common import Recipe, image_batch, mirrored, optimiser, scheduled
from tasks.miniature.training.data import batches, rendered_scenes
from tasks.miniature.training.tokenizer import CONTEXT_LENGTH, FUNCTION_WORDS, SPECIAL, build_tokenizer, save_tokenizer
from tasks.miniature.vocabulary import CONCEPTS, HELD_OUT

RECIPE = Recipe(images=10, views=2000, batch=20, peak_rate=0.01, weight_decay=0.1)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_rendered_data_is_what_the_models_see_at_run_time():
    rows = data._render_chunk(("test", 2, 6))
    for place, (scene, picture) in enumerate(drawn()[2:6]):
        small = to_array(resize(to_tensor(picture.image[None]), 64))[0]
        assert np.array_equal(rows["images"][place], small)
        assert {CONCEPTS[number] for number in np.flatnonzero(rows["concepts"][place])} == scene.concepts
        assert rows["grid"].shape == (4, 4, 16, 16)
        for found, layer in zip(
            rows["grid"][place], (picture.kind, picture.part, picture.colour, picture.pattern), strict=True
        ):
            assert np.array_equal(found, layer[7::14, 7::14])
        large = cv2.resize(rows["foreground"][place].astype(np.uint8), (224, 224), interpolation=cv2.INTER_NEAREST) > 0
        assert (large & picture.foreground).sum() / (large | picture.foreground).sum() > 0.9


def test_rendered_data_is_written_once_and_read_back(tmp_path, monkeypatch):
    class Here:
        """Runs the work of a process pool in this process."""

        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        map = staticmethod(map)

    threads = (torch.get_num_threads(), cv2.getNumThreads())
    monkeypatch.setattr(data, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(data, "CHUNK", 2)
    try:
        first = rendered_scenes("test", 5, tmp_path)
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])
    whole = data._render_chunk(("test", 0, 5))
    for name, expected in whole.items():
        assert np.array_equal(getattr(first, name), expected), name
    assert first.scenes == [scene_at("test", number) for number in range(5)]
    monkeypatch.setattr(data, "_write", lambda *_: pytest.fail("rendered twice"))
    assert np.array_equal(rendered_scenes("test", 5, tmp_path).images, first.images)


def test_batches_visit_each_image_once_an_epoch():
    stream = batches(23, 5, np.random.default_rng(0))
    epochs = [[next(stream) for _ in range(4)] for _ in range(3)]
    for epoch in epochs:
        seen = np.concatenate(epoch)
        assert len(set(seen.tolist())) == len(seen) == 20
        assert all((np.diff(batch) > 0).all() for batch in epoch)
    assert len({tuple(np.concatenate(epoch).tolist()) for epoch in epochs}) == 3
    again = batches(23, 5, np.random.default_rng(0))
    assert np.array_equal(next(again), epochs[0][0])


def test_the_rate_warms_up_and_falls_to_zero():
    optimizer = optimiser([nn.Linear(3, 2)], RECIPE)
    rates = [optimizer.param_groups[0]["lr"] for _ in scheduled(optimizer, RECIPE, "test")]
    assert RECIPE.steps == len(rates) == 100
    expected = [0.01 * min(1, (n + 1) / 5) * (1 + math.cos(math.pi * n / 100)) / 2 for n in range(100)]
    assert rates == pytest.approx(expected)
    assert max(rates) <= 0.01
    assert rates[-1] < 1e-5


def test_only_matrices_are_decayed():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    model[2].bias.requires_grad = False
    decayed, free = optimiser([model], RECIPE).param_groups
    assert {id(p) for p in decayed["params"]} == {id(model[0].weight), id(model[2].weight)}
    assert {id(p) for p in free["params"]} == {id(model[0].bias), id(model[1].weight), id(model[1].bias)}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


def test_images_are_mirrored_half_of_the_time_with_their_grids():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 2, 3, 3), dtype=np.uint8)
    grid = rng.integers(0, 9, (200, 4, 16, 16), dtype=np.uint8)
    moved, moved_grid = mirrored(images, grid, np.random.default_rng(1))
    assert moved.dtype == moved_grid.dtype == np.uint8
    flipped = [np.array_equal(now, before[:, ::-1]) for now, before in zip(moved, images, strict=True)]
    for place, flip in enumerate(flipped):
        assert np.array_equal(moved[place], images[place][:, ::-1] if flip else images[place])
        assert np.array_equal(moved_grid[place], grid[place][..., ::-1] if flip else grid[place])
    assert 70 < sum(flipped) < 130


def test_image_batches_are_channels_first_in_zero_to_one():
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3), dtype=np.uint8)
    batch = image_batch(images, torch.device("cpu"))
    assert torch.equal(batch, torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)


def test_all_captions_fit_and_come_back(tokenizer):
    generator = np.random.default_rng(0)
    texts = [full_caption(scene_at("train", number)) for number in range(60)]
    texts += [draw_caption(scene_at("train", number), generator)[0] for number in range(200)]
    for text in texts:
        ids = tokenizer(text).input_ids
        assert len(ids) <= CONTEXT_LENGTH
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_a_word_of_the_world_is_one_token_and_others_are_spelt(tokenizer):
    for word in {part for name in CONCEPTS for part in name.split()} | set(FUNCTION_WORDS):
        assert len(tokenizer.tokenize(word)) == 1, word
    assert tokenizer.tokenize("zebra") == ["z", "##e", "##b", "##r", "##a"]
    assert tokenizer.unk_token_id not in tokenizer("Route 66 quickly").input_ids
    assert len(set(tokenizer.all_special_ids)) == len(SPECIAL)


def test_the_tokenizer_is_the_same_from_its_folder(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    save_tokenizer(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    text = "a red striped fish and a zebra on rippling water"
    assert loaded(text).input_ids == tokenizer(text).input_ids
    assert len(loaded) == len(tokenizer)


def test_aurocs_are_scikit_learns():
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 6, (60, 4)).astype(float), rng.random((60, 4)) < 0.4
    expected = [roc_auc_score(truth[:, n], scores[:, n]) for n in range(4)]
    assert evaluate._aurocs(scores, truth) == pytest.approx(expected)


def test_test_scenes_are_those_of_the_test_split():
    found = evaluate.test_scenes(3)
    assert found.scenes == [scene for scene, _ in drawn()[:3]]
    assert found.images.shape == (3, 3, 224, 224)
    one = found.where(lambda scene: scene == found.scenes[2])
    assert one.scenes == found.scenes[2:]
    assert torch.equal(one.images, found.images[2:])


def test_zero_shot_counts_the_right_names():
    """A stand-in for CLIP that reads the truth gets all right, and nothing but chance on shuffled scenes."""
    scenes = [scene for scene, _ in drawn() if len(scene.things) == 1]

    class Knowing:
        def encode_images(self, images):
            rows = [[name in scene.concepts for name in CONCEPTS] for scene in scenes]
            return torch.tensor(rows).float()

        def encode_text(self, texts):
            return torch.tensor([[name in text for name in CONCEPTS] for text in texts]).float()

    images = torch.zeros(len(scenes), 3, 4, 4, dtype=torch.uint8)
    assert set(evaluate.zero_shot(Knowing(), images, scenes).values()) == {1.0}
    shifted = evaluate.zero_shot(Knowing(), images, scenes[1:] + scenes[:1])
    same = [a.background == b.background for a, b in zip(scenes, scenes[1:] + scenes[:1], strict=True)]
    assert shifted["background"] == pytest.approx(np.mean(same))


def test_held_out_scenes_are_recognised():
    found = [
        scene
        for scene in itertools.islice((scene_at("test", n) for n in range(200)), 200)
        if evaluate._holds_unseen(scene)
    ]
    assert found
    for scene in found:
        pairs = {pair for t in scene.things for pair in ((t.colour, t.kind), (t.pattern, t.kind))}
        assert pairs & set(HELD_OUT)


@pytest.mark.parametrize("case", range(30))
def test_the_shared_concept_of_a_summary_case_is_shown(case):
    from tasks.miniature.scene import draw_scene

    draw = np.random.default_rng(case)
    concept, fixed = evaluate._shared_concept(draw)
    scene = draw_scene(draw, **fixed)
    assert set(concept.split()) <= {word for name in scene.concepts for word in name.split()}
