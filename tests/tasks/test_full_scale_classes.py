"""Each full-scale class on a small random checkpoint, loaded through the profile as the published one would be."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from PIL import Image

from tasks.common.errors import UserError
from tasks.models.weights import file_sha256
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile, load_profile
from tasks.profiles.sources import CaptionerSource, ClipSource, GeneratorSource, SegmenterSource, SentenceSource

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def blip(models):
    return tiny_models.blip_folder(models / "blip")


@pytest.fixture(scope="module")
def diffusion(models):
    pytest.importorskip("diffusers")
    return tiny_models.diffusion_folder(models / "diffusion")


@pytest.fixture(scope="module")
def sentence(models):
    pytest.importorskip("sentence_transformers")
    return tiny_models.sentence_folder(models / "sentence")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Puts a folder into an empty cache of the hub, as if it had been fetched under a name."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(folder: Path, name: str) -> str:
        cached = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, cached / "snapshots" / ("a" * 40))
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("a" * 40)
        return name

    return put


def roles(**changes) -> Roles:
    profile: Profile = load_profile("miniature")
    return Roles(profile.model_copy(update=changes), CPU)


def pictures(count=3, height=40, width=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", antialias=True)


def as_pil(images):
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def test_clip_prepares_the_view_as_open_clip_does(models):
    import open_clip

    folder = models / "clip40"
    tiny_models.clip_folder(folder)
    encoder = roles(clip=ClipSource(loader="open_clip", path=folder, licence=None)).clip
    model, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    images = pictures(4, 40, 40)
    with torch.inference_mode():
        pixels = torch.stack([prepare(image) for image in as_pil(images)])
        expected = torch.nn.functional.normalize(model.eval().encode_image(pixels), dim=-1)
    found = encoder.encode_images(images)
    assert (encoder.load()._prepare(images) - pixels).abs().max() < 0.035  # two grey levels: Pillow rounds once more
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.9999


def test_siglip_is_read_as_open_clip_reads_it_also_in_half_precision(models):
    import open_clip

    from tasks.models.clip_encoder import OpenClipEncoder, clip_tokenizer

    folder = tiny_models.siglip_folder(models / "siglip")
    encoder = roles(clip=ClipSource(loader="open_clip", path=folder, licence=None)).clip
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a red fish", "the blue car on grass"])
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(model.eval().encode_text(tokens), dim=-1)
    found = encoder.encode_text(["a red fish", "the blue car on grass"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert encoder.load().token_limit == 64
    half, images = OpenClipEncoder(folder, CPU, half=True), pictures(4)
    assert {weight.dtype for weight in half._model.parameters()} >= {torch.float16}
    for one, other in (
        (half.encode_images(images), encoder.encode_images(images)),
        (half.encode_text(["a red fish"]), found[:1]),
    ):
        assert one.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(one, other).min() > 0.999
    assert clip_tokenizer("ViT-B-16-SigLIP2") == "timm/ViT-B-16-SigLIP2"
    assert clip_tokenizer("ViT-B-16") is None


def test_a_vision_language_model_captions_each_image_alone(models):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = tiny_models.qwen_folder(models / "qwen")
    asked = {"loader": "image_text_to_text", "path": folder, "prompt": "one red image", "max_new_tokens": 6}
    captioner = roles(captioner=CaptionerSource(**asked, licence=None)).captioner
    images = pictures(5)
    captions = captioner.caption(images)
    assert len(set(captions)) > 2
    assert captions == [captioner.caption(images[number : number + 1])[0] for number in range(5)]
    processor, model = AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder)
    for caption, image in zip(captions, as_pil(images), strict=True):
        inputs = processor(
            text=["<|vision_start|> <|image_pad|> <|vision_end|> one red image"], images=[image], return_tensors="pt"
        )
        tokens = model.eval().generate(**inputs, do_sample=False, max_new_tokens=6)
        written = tokens[0, inputs["input_ids"].shape[1] :]
        assert caption == processor.tokenizer.decode(written, skip_special_tokens=True).strip()
    for fields, said in (
        ({"loader": "blip"}, "blip takes none"),
        ({"prompt": None}, "needs one"),
        ({"min_length": 3}, "in the prompt"),
    ):
        with pytest.raises(ValueError, match=said):
            CaptionerSource.model_validate({**asked, **fields, "licence": None})


def test_a_tag_of_open_clip_decides_the_activation(monkeypatch):
    """OpenAI's ViT-B/16 was trained with another GELU than the name ``ViT-B-16`` stands for."""
    import open_clip

    from tasks.models.clip_encoder import OpenClipEncoder, clip_tag

    asked = {}

    def create(name, **options):
        asked.update(options, name=name)
        raise OSError("no network")

    monkeypatch.setattr(open_clip, "create_model", create)
    with pytest.raises(OSError, match="no network"):
        OpenClipEncoder("ViT-B-16", CPU, pretrained="openai")
    assert asked["force_quick_gelu"] is True
    assert asked["weights_only"] is True
    with pytest.raises(UserError, match=r"'ViT-B-61'.*ViT-B-16"):
        clip_tag("ViT-B-61", "openai")
    with pytest.raises(UserError, match="openai"):
        clip_tag("ViT-B-16", "openia")


def test_blip_captions_as_its_own_processor_asks(blip):
    from transformers import BlipForConditionalGeneration, BlipProcessor

    source = CaptionerSource(loader="blip", path=blip, weights="model.safetensors", min_length=5, licence=None)
    captioner = roles(captioner=source.model_copy(update={"max_new_tokens": 7})).captioner
    images = pictures()
    processor = BlipProcessor.from_pretrained(blip)
    inputs = processor(images=as_pil(images), return_tensors="pt")
    assert (captioner.load()._prepare(images) - inputs["pixel_values"]).abs().max() < 0.035
    model = BlipForConditionalGeneration.from_pretrained(blip).eval()
    tokens = model.generate(**inputs, max_new_tokens=7, min_length=5, do_sample=False, num_beams=1)
    expected = [text.strip() for text in processor.batch_decode(tokens, skip_special_tokens=True)]
    captions = captioner.caption(images)
    assert captions == expected
    assert all(4 <= len(caption.split()) <= 7 for caption in captions)


def test_blip_refuses_a_near_empty_tokenizer(tmp_path):
    tiny_models.blip_folder(tmp_path / "padded", spare=300)
    source = CaptionerSource(loader="blip", path=tmp_path / "padded", licence=None)
    with pytest.raises(UserError, match="the tokenizer has"):
        _ = roles(captioner=source).captioner


def test_blip2_captions_hold_no_image_tokens(models):
    folder = tiny_models.blip2_folder(models / "blip2")
    source = CaptionerSource(loader="blip2", path=folder, min_length=5, max_new_tokens=9, licence=None)
    captioner = roles(captioner=source).captioner
    images = pictures()
    captions = captioner.caption(images)
    assert len(captions) == 3
    assert all(5 <= len(caption.split()) <= 9 for caption in captions)
    assert captions == [captioner.caption(images[number : number + 1])[0] for number in range(3)]


def test_sentences_have_unit_norm_and_a_limit(sentence):
    source = SentenceSource(loader="sentence_transformers", path=sentence, licence=None)
    encoder = roles(sentence_encoder=source).sentence_encoder
    rows = encoder.encode(["red fish", "blue car", "red fish"])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows[0], rows[2], atol=1e-6)
    assert np.abs(rows[0] - rows[1]).max() > 1e-4
    assert encoder.token_limit == 12
    assert encoder.over_limit(["red " * 10, "red " * 11]).tolist() == [False, True]


@pytest.fixture(scope="module")
def generator(diffusion):
    source = GeneratorSource(loader="diffusers", path=diffusion, steps=2, licence=None)
    return roles(generator=source).generator


TEMPLATE = "one realistic image of {concept}"


def test_diffusion_draws_with_the_published_scheduler(generator):
    from diffusers import DPMSolverMultistepScheduler

    scheduler = generator._pipeline.scheduler
    assert isinstance(scheduler, DPMSolverMultistepScheduler)
    assert scheduler.config.algorithm_type == "dpmsolver++"
    images = generator.generate("red fish", 2, 0, TEMPLATE)
    assert images.shape == (2, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert images.float().std() > 5
    assert getattr(generator._pipeline, "safety_checker", None) is None


def test_an_image_depends_on_its_address_alone(generator, diffusion):
    before = torch.random.get_rng_state()
    five = generator.generate("red fish", 5, 3, TEMPLATE).int()
    source = GeneratorSource(loader="diffusers", path=diffusion, steps=2, licence=None)
    alone = roles(generator=source).generator
    alone._batch_size = 1
    assert (alone.generate("red fish", 2, 3, TEMPLATE).int() - five[:2]).abs().max() <= 1
    for other in (("red fish", 4, TEMPLATE), ("blue car", 3, TEMPLATE)):
        concept, seed, template = other
        assert (generator.generate(concept, 1, seed, template).int() - five[:1]).abs().max() > 5
    assert (five[0] - five[1]).abs().max() > 5
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_label_with_braces_is_a_prompt_like_any_other(generator):
    assert generator.generate("{0} {concept} {", 1, 0, TEMPLATE).shape == (1, 3, 32, 32)


def test_a_distilled_pipeline_keeps_its_scheduler_and_needs_no_guidance(diffusion):
    source = GeneratorSource(
        loader="diffusers", path=diffusion, scheduler="own", steps=1, guidance=0.0, side=64, licence=None
    )
    distilled = roles(generator=source).generator
    assert type(distilled._pipeline.scheduler).__name__ == "PNDMScheduler"
    assert distilled.generate("red fish", 1, 0).shape == (1, 3, 64, 64)


def test_without_its_package_the_generator_names_the_extra(diffusion, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "accelerate" else find(name))
    source = GeneratorSource(loader="diffusers", path=diffusion, licence=None)
    with pytest.raises(UserError, match=r"accelerate.*clear-benchmark\[paper\]"):
        _ = roles(generator=source).generator


def test_a_semantic_segmentation_gives_the_foreground(tmp_path):
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21).eval()
    torch.save(network.state_dict(), tmp_path / "published.pth")
    source = SegmenterSource(
        loader="torchvision",
        architecture="lraspp_mobilenet_v3_large",
        pretrained="COCO_WITH_VOC_LABELS_V1",
        weights=tmp_path / "published.pth",
        sha256=file_sha256(tmp_path / "published.pth"),
        side=64,
        licence=None,
    )
    images = pictures(2, 64, 64)
    found = roles(segmenter=source).segmenter.foreground(images)
    mean = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
    std = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
    with torch.inference_mode():
        chances = network((images.float() / 255 - mean) / std)["out"].softmax(1)
    sure = (chances[:, 0] - 0.5).abs() > 0.01
    assert found.shape == (2, 64, 64)
    assert torch.equal(found[sure], (chances[:, 0] < 0.5)[sure])


def test_names_are_found_in_the_hub_cache(blip, diffusion, sentence, hub):
    """The names of ``paper`` and ``open`` go this way, once they have been fetched."""
    captioner = CaptionerSource(loader="blip", name=hub(blip, "someone/blip"), licence=None)
    generator = GeneratorSource(loader="diffusers", name=hub(diffusion, "someone/diffusion"), steps=2, licence=None)
    encoder = SentenceSource(loader="sentence_transformers", name=hub(sentence, "someone/sentence"), licence=None)
    built = roles(captioner=captioner, generator=generator, sentence_encoder=encoder)
    assert len(built.captioner.caption(pictures())) == 3
    assert built.generator.generate("red fish", 1, 0).shape == (1, 3, 32, 32)
    assert built.sentence_encoder.encode(["red fish"]).shape == (1, 16)


def test_a_hash_of_a_fetched_model_is_checked(blip, hub):
    name = hub(blip, "someone/blip")
    right = file_sha256(blip / "model.safetensors")
    for sha256, said in ((right, None), ("0" * 64, "another file than the profile expects")):
        source = CaptionerSource(loader="blip", name=name, weights="model.safetensors", sha256=sha256, licence=None)
        if said is None:
            assert roles(captioner=source).captioner is not None
        else:
            with pytest.raises(UserError, match=said):
                _ = roles(captioner=source).captioner


@pytest.mark.parametrize(
    ("role", "entry"),
    [
        ("clip", ClipSource(loader="open_clip", name="ViT-B-16", pretrained="openai", licence=None)),
        ("captioner", CaptionerSource(loader="blip", name="someone/absent", licence=None)),
        ("generator", GeneratorSource(loader="diffusers", name="someone/absent", licence=None)),
        ("sentence_encoder", SentenceSource(loader="sentence_transformers", name="someone/absent", licence=None)),
        ("captioner", CaptionerSource(loader="blip", path="/nowhere/blip", licence=None)),
        ("generator", GeneratorSource(loader="diffusers", path="/nowhere/diffusion", licence=None)),
    ],
)
def test_offline_what_is_absent_is_refused_at_once_in_one_sentence(role, entry, hub):
    with pytest.raises(UserError, match="not on this machine") as caught:
        _ = getattr(roles(**{role: entry}), role)
    assert "path" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_network_the_librarys_failure_is_one_sentence(monkeypatch, hub):
    """Not told to be offline, the library itself tries to fetch; here its socket is refused."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    source = CaptionerSource(loader="blip", name="someone/absent", licence=None)
    with pytest.raises(UserError, match="could not be loaded") as caught:
        _ = roles(captioner=source).captioner
    assert "path: FOLDER" in str(caught.value)
    assert "\n" not in str(caught.value)
