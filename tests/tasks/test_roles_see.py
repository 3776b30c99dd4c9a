"""Which picture every role sees: all of whatever it is given, with masks that fit.

A view was cropped for the network under study once. Each test marks the border of such a view, which any second crop
would cut away.
"""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image
from torch import nn

from benchmark.commands import preview
from benchmark.core.label_images import LabelImages, draw
from benchmark.core.thumbnails import thumbnail
from benchmark.core.toolbox import make_toolbox
from benchmark.studies.bottleneck.images import single_objects
from benchmark.studies.tuning.networks import _Scenes
from benchmark.trace.images import Redrawn
from tasks.language.describer import VisionLanguageDescriber
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.vocabulary import BACKGROUNDS, KINDS
from tasks.models.conse import ConseEncoder
from tasks.models.preprocessing import Preprocessing
from tasks.models.seen import SeenGenerator
from tasks.models.segmenter import ForegroundSegmenter
from tasks.models.target import LayerReading, TargetModel
from tasks.observe import CLEAN, Condition
from tasks.perturbations.settings import Settings
from tasks.schema import Task
from tasks.view import View

CPU = torch.device("cpu")
PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CROPPED = View(64, 48)


def bordered(side: int, count: int = 1) -> torch.Tensor:
    """Dark pictures whose border, a sixteenth of a side wide, is white."""
    images = torch.full((count, 3, side, side), 40, dtype=torch.uint8)
    width = max(1, side // 16)
    for axis in (2, 3):
        images.narrow(axis, 0, width).fill_(250)
        images.narrow(axis, side - width, width).fill_(250)
    return images


def shows_border(pixels: torch.Tensor) -> bool:
    """Whether all four edges are much brighter than the middle, in units of the pixels' own spread."""
    pixels = pixels.float().flatten(0, -3).mean(dim=0)
    middle, spread = pixels.shape[0] // 2, pixels.max() - pixels.min()
    edges = (pixels[0, middle], pixels[-1, middle], pixels[middle, 0], pixels[middle, -1])
    return bool(spread > 0) and all(edge - pixels[middle, middle] > 0.5 * spread for edge in edges)


def inputs_of(module: nn.Module) -> list[torch.Tensor]:
    """What a module will be given, collected as it is called."""
    found: list[torch.Tensor] = []
    module.register_forward_pre_hook(lambda _, given: found.append(given[0]))
    return found


def test_the_checks_would_see_a_second_crop():
    assert shows_border(bordered(48))
    assert not shows_border(CROPPED(bordered(48)))


@pytest.mark.parametrize("side", [48, 96, 32])
def test_the_target_sees_views_attention_crops_and_reduced_images_completely(side):
    target = TargetModel(nn.Sequential(nn.Identity()), Preprocessing(64, 48, *PLAIN), CPU)
    reading = target.read(bordered(side), {"0": "max"}, ["0"])["0"]
    assert reading.maps is not None
    assert reading.maps.shape == (1, 3, 48, 48)
    assert shows_border(reading.maps)


def test_clip_sees_the_whole_view(tmp_path):
    from tasks.models.clip_encoder import OpenClipEncoder

    encoder = OpenClipEncoder(tiny_models.clip_folder(tmp_path / "clip"), CPU)
    given = inputs_of(encoder._model.visual)
    encoder.encode_images(bordered(48))
    assert given[0].shape[2:] == (32, 32)
    assert shows_border(given[0])


def test_the_classifier_in_place_of_clip_sees_the_whole_view():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    given = inputs_of(network)
    sentences = SimpleNamespace(encode=lambda texts: np.eye(3, dtype=np.float32)[: len(texts)])
    names = ("one", "two", "three")
    encoder = ConseEncoder(network, Preprocessing(86, 65, *PLAIN), sentences, names, CPU)  # type: ignore[arg-type]
    encoder.encode_images(bordered(48))
    assert given[0].shape[2:] == (65, 65)
    assert shows_border(given[0])


def test_the_captioner_sees_the_whole_view(tmp_path):
    from tasks.models.blip_captioner import BlipCaptioner

    captioner = BlipCaptioner(tiny_models.blip_folder(tmp_path / "blip"), CPU, max_new_tokens=2)
    given: list[torch.Tensor] = []
    captioner._model.vision_model.register_forward_pre_hook(
        lambda _, __, named: given.append(named["pixel_values"]), with_kwargs=True
    )
    captioner.caption(bordered(48))
    assert given[0].shape[2:] == (32, 32)
    assert shows_border(given[0])


class Bright(nn.Module):
    """Everything brighter than the mean is foreground."""

    def forward(self, x):
        return {"out": x.mean(dim=1, keepdim=True) - x.mean()}


def test_the_segmenters_mask_covers_the_whole_view():
    mask = ForegroundSegmenter(Bright(), 40, CPU).foreground(bordered(48))
    assert mask.shape == (1, 48, 48)
    assert shows_border(mask)


class Painter:
    """Draws pictures of which a view keeps the inside, whose border is white."""

    def generate(self, concept, count, seed, template="{concept}", first=0):
        images = torch.full((count, 3, 80, 80), 250, dtype=torch.uint8)
        images[:, :, 10:70, 10:70] = bordered(60, count)
        return images


def test_target_clip_and_cosy_see_drawn_images_in_the_same_view():
    """The view is taken of them once, by whoever draws: a method's toolbox, or the measure of faithfulness."""
    target = TargetModel(nn.Sequential(nn.Identity()), Preprocessing(64, 48, *PLAIN), CPU)
    roles = SimpleNamespace(
        target=lambda name: target,
        view=lambda name: CROPPED,
        clip=None,
        generator=Painter(),
        generator_for=lambda view: SeenGenerator(Painter(), view),
        measured=lambda *_: None,
    )
    task = Task.model_construct(name="task", model="network", layer="0", pooling="mean")
    tools = make_toolbox(roles, task, (), 0, dict, asked=("generator",))  # type: ignore[arg-type]
    assert tools.generator is not None
    drawn = tools.generator.generate("a fish", 2, 0)
    assert drawn.shape == (2, 3, 48, 48)
    assert shows_border(drawn)
    given = inputs_of(target.network)
    draw([LabelImages("a fish", 2, ("task",))], [SimpleNamespace(task=task, units=(0,))], roles, 0)  # type: ignore[arg-type, list-item]
    tools.activate(drawn)
    assert torch.equal(given[0], given[1])
    assert shows_border(given[0])


def test_the_vision_language_model_sees_the_whole_picture():
    asked = []

    def chat(messages, **options):
        asked.extend(messages)
        return SimpleNamespace(text="white border")

    describer = VisionLanguageDescriber(SimpleNamespace(chat=chat), edge=64)  # type: ignore[arg-type]
    assert describer.describe([bordered(48)[0], bordered(160)[0]], 0) == "white border"
    for picture, side in zip(asked[0].pictures, (48, 64), strict=True):
        shown = np.asarray(picture.image())
        assert shown.shape == (side, side, 3)
        assert shows_border(torch.from_numpy(shown.copy()).permute(2, 0, 1)[None])


def test_tuning_reads_the_networks_view_and_perturbs_it_by_masks_of_the_same_view():
    read: list[torch.Tensor] = []

    class Target:
        preprocessing = Preprocessing(64, 48, *PLAIN)
        device = CPU

        def read(self, images, layers, maps=()):
            read.append(images)
            return {name: LayerReading("spatial", images[:, :, 0, 0].float(), images.half()) for name in layers}

    scenes = _Scenes("test", slice(0, 4), Target(), 0, Settings())  # type: ignore[arg-type]
    scenes.under(CLEAN)
    scenes.under(Condition("background_blur", 5))
    expected = MiniatureProbingSet("test", 4).seen_by(CROPPED)
    assert expected.foreground is not None
    clean, blurred = read
    assert torch.equal(clean, expected.images)
    changed = (clean != blurred).any(dim=1)
    assert not changed[expected.foreground].any()
    assert changed[~expected.foreground].float().mean() > 0.5


def test_a_bottleneck_learns_from_the_networks_view_and_its_masks_fit():
    images = single_objects("test", 3, KINDS, BACKGROUNDS, CROPPED)
    assert images.moved is not None
    places = [BACKGROUNDS[(BACKGROUNDS.index(name) + 1) % len(BACKGROUNDS)] for name in images.contexts]
    (before, mask), (after, _) = images.load(range(3)), images.moved(places).load(range(3))
    assert before.shape == (3, 3, 48, 48)
    assert mask is not None
    apart = (before.int() - after.int()).abs().amax(dim=1)
    assert apart[mask].float().mean() < 0.2 * apart[~mask].float().mean()


def test_a_preview_perturbs_the_middle_square_completely(tmp_path, monkeypatch):
    given = []

    def apply(self, images, *rest):
        given.append(images)
        return images

    monkeypatch.setattr(Settings, "apply", apply)
    wide = np.full((160, 240, 3), 250, np.uint8)
    wide[:, 40:200] = bordered(160)[0].permute(1, 2, 0).numpy()
    Image.fromarray(wide).save(tmp_path / "wide.png")
    preview.write_preview(tmp_path / "wide.png", ["brightness"], Settings(), 0, tmp_path / "out.png")
    assert given[0].shape == (1, 3, 224, 224)
    assert shows_border(given[0])


def test_a_trace_shows_the_pictures_that_the_roles_saw():
    probing = SimpleNamespace(ids=("a",), load=lambda rows: bordered(48, len(rows)))
    synthesis = SimpleNamespace(count=1, template="{concept}", synth_px=32)
    trace = SimpleNamespace(images=lambda: (0,), crop_px=48, synthesis=synthesis)
    identity = SimpleNamespace(seed=0)
    pictures = Redrawn(trace, CLEAN, identity, probing, SeenGenerator(Painter(), CROPPED))  # type: ignore[arg-type]
    drawn, reduced = (pictures.synthetic("a fish", 0, reduced=one) for one in (False, True))
    for shown, side in ((pictures.original(0)[None], 48), (drawn, 48), (reduced, 32)):
        assert shown.shape == (1, side, side, 3)
        assert shows_border(torch.from_numpy(shown.copy()).permute(0, 3, 1, 2))


def test_a_thumbnail_shows_the_whole_image():
    shown = np.asarray(Image.open(io.BytesIO(thumbnail(bordered(224)[0]))))
    assert shown.shape == (96, 96, 3)
    assert shows_border(torch.from_numpy(shown.copy()).permute(2, 0, 1)[None])
