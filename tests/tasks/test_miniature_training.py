"""What the training scripts share: data, batches, rates and tokens. Nothing is trained here."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from drawn_scenes import drawn
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from tasks.common.images import resize, to_tensor
from tasks.miniature.captions import draw_caption, full_caption
from tasks.miniature.render import outline, render
from tasks.miniature.scene import scene_at
from tasks.miniature.training import augment, data, evaluate
from tasks.miniature.training.augment import draw_views
from tasks.miniature.training.cells import NONE, SIZES, CellHeads
from tasks.miniature.training.common import Recipe, optimiser, scheduled
from tasks.miniature.training.data import RenderedScenes, batches, rendered_scenes
from tasks.miniature.training.tokenizer import CONTEXT_LENGTH, FUNCTION_WORDS, SPECIAL, build_tokenizer, save_tokenizer
from tasks.miniature.vocabulary import CONCEPTS, GRID, HELD_OUT, KINDS, SIDE, SIZE

RECIPE = Recipe(images=10, views=2000, batch=20, peak_rate=0.01, weight_decay=0.1)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def rendered(split, start, stop):
    rows = data._render_chunk((split, start, stop))
    return RenderedScenes(**rows, scenes=[scene_at(split, number) for number in range(start, stop)])


@pytest.fixture(scope="module")
def some():
    return rendered("test", 0, 12)


def test_rendered_data_is_what_the_models_see_at_run_time(some):
    for place, (scene, picture) in enumerate(drawn()[:4]):
        small = resize(to_tensor(picture.image[None]), SIDE)[0]
        assert torch.equal(data.crop(some.images[place], data.FRAME), small)
        assert {CONCEPTS[number] for number in np.flatnonzero(some.concepts[place])} == scene.concepts
        grid = data.grid_of(some.layers[place])
        assert grid.shape == (4, GRID, GRID)
        centres = (np.arange(GRID) + 0.5) * SIZE / GRID
        for found, layer in zip(grid, (picture.kind, picture.part, picture.colour, picture.pattern), strict=True):
            # What stands within three pixels of a cell's centre is kept.
            near = [
                layer[np.ix_(np.clip(centres + down, 0, 223).astype(int), np.clip(centres + right, 0, 223).astype(int))]
                for down in range(-3, 4)
                for right in range(-3, 4)
            ]
            assert (np.stack(near) == found).any(0).all()
        mask = data.mask_of(some.foreground[place], side=SIZE).numpy()
        assert np.array_equal(mask, picture.foreground)


def test_views_keep_their_objects_whole_and_their_annotation_in_place(some):
    """A view's own colours tell whether cells and mask moved along with the pixels."""
    marked = [render(scene) for scene in some.scenes]
    images = np.stack([np.repeat((item.kind * 20)[..., None], 3, axis=2) for item in marked])
    data_marked = replace(some, images=images)
    rows = np.repeat(np.arange(12), 6)
    views = draw_views(data_marked, rows, np.random.default_rng(0), progress=0.0)
    masks = augment.masks_of(data_marked, rows, views)
    kinds = (views.images[:, 0] * 255 / 20).round().long()
    centres = SIDE // GRID // 2
    seen = kinds[:, centres :: SIDE // GRID, centres :: SIDE // GRID]
    assert (seen == views.grid[:, 0]).float().mean() > 0.97
    assert ((kinds > 0) == masks).float().mean() > 0.97
    for view, row in enumerate(rows):
        assert set(views.grid[view, 0].unique().tolist()) - {0} == {
            1 + KINDS.index(thing.kind) for thing in some.scenes[row].things
        }
        border = torch.cat([kinds[view, 0], kinds[view, -1], kinds[view, :, 0], kinds[view, :, -1]])
        assert (border > 0).float().mean() < 0.06
    assert 0.3 < views.mirrored.mean() < 0.7
    sizes = masks.float().mean((1, 2)).reshape(12, 6)
    assert (sizes.std(1) > 0.005).sum() > 6


def test_crops_hold_all_objects_and_differ():
    generator = np.random.default_rng(0)
    areas = []
    for number in range(60):
        scene = scene_at("train", number)
        for _ in range(5):
            left, top, width, height = augment.draw_crop(scene, generator)
            assert 0 <= left <= SIZE - width
            assert 0 <= top <= SIZE - height
            for thing in scene.things:
                points = np.concatenate([polygon for polygon, _ in outline(thing)])
                assert (points >= (left - 1, top - 1)).all()
                assert (points <= (left + width + 1, top + height + 1)).all()
            areas.append(width * height / SIZE**2)
    assert min(areas) >= augment.AREA * 0.98
    assert 0.55 < np.mean(areas) < 0.98


def test_the_jitter_grows_and_leaves_the_annotation(some):
    rows = np.arange(12)
    first = draw_views(some, rows, np.random.default_rng(0), progress=0.0)
    torch.manual_seed(0)
    last = draw_views(some, rows, np.random.default_rng(0), progress=1.0)
    for row, flip in enumerate(first.mirrored):
        whole = data.crop(some.images[row], data.FRAME).float() / 255
        same = first.images[row].flip(2) if flip else first.images[row]
        assert abs(float(same.mean() - whole.mean())) < 0.1
    changed = (first.images - last.images).abs().mean((1, 2, 3))
    assert (changed > 0.01).sum() >= 10
    assert torch.equal(first.grid, last.grid)


def test_brightness_and_saturation_keep_the_hue(some, monkeypatch):
    monkeypatch.setattr(augment, "CONTRAST", 0.0)
    rows = np.arange(12)
    first = draw_views(some, rows, np.random.default_rng(0), progress=0.0).images
    last = draw_views(some, rows, np.random.default_rng(0), progress=1.0).images
    lead = first.topk(2, dim=1).values
    clear = (lead[:, 0] - lead[:, 1] > 0.2) & (last.amax(1) - last.amin(1) > 0.05) & (last.amax(1) < 1)
    assert clear.float().mean() > 0.1
    assert (first.argmax(1) == last.argmax(1))[clear].float().mean() > 0.98


def test_contrast_is_stretched_about_each_channels_mean():
    images = torch.rand(3, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    none, same, half = augment.stretch_contrast(images, torch.tensor([0.0, 1.0, 0.5]))
    assert torch.allclose(none, images[0].mean((1, 2), keepdim=True).expand(3, 5, 5))
    assert torch.allclose(same, images[1])
    assert torch.allclose(half.mean((1, 2)), images[2].mean((1, 2)), atol=1e-6)
    assert torch.allclose(half.std((1, 2)), images[2].std((1, 2)) / 2)
    wide = augment.stretch_contrast(images, torch.full((3,), 5.0))
    assert wide.min() == 0
    assert wide.max() == 1


def test_a_mirrored_scene_is_told_from_its_own_left():
    for scene, _ in drawn():
        if len(scene.things) == 2:
            turned = replace(scene, things=tuple(replace(thing, x=SIZE - thing.x) for thing in scene.things))
            assert full_caption(scene, mirrored=True) == full_caption(turned)
            assert full_caption(scene) != full_caption(turned)


def test_a_position_without_an_object_weighs_less():
    """The loss is scikit-learn's log loss with sample weights, summed over the four categories."""
    torch.manual_seed(0)
    heads = CellHeads(5, GRID, weights=(1, 0, 0, 0))
    features = torch.randn(2, 5, GRID, GRID)
    grid = torch.zeros(2, 4, GRID, GRID, dtype=torch.long)
    grid[0, 0, 2, 3], grid[1, 0, 4, 4] = 3, 5
    shares = heads.read(features)[:, : SIZES[0]].detach().double().softmax(1).permute(0, 2, 3, 1).reshape(-1, SIZES[0])
    truth = grid[:, 0].flatten().numpy()
    weight = np.where(truth == 0, NONE, 1.0)
    expected = log_loss(truth, shares.numpy(), sample_weight=weight, labels=range(SIZES[0]))
    assert heads(features, grid).item() == pytest.approx(expected, rel=1e-4)


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
    assert found.images.shape == (3, 3, SIDE, SIDE)
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
