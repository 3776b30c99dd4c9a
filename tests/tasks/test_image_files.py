"""Every kind of image file has its stated outcome; a folder's files are the same however listed (faults F13, F14)."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.color import rgb2lab
from torchvision.transforms import v2

from tasks.common.errors import UserError
from tasks.common.image_files import MAX_PIXELS, MIN_SIDE, centre_square, find_images, load_image

ROOT = Path(__file__).parents[2]


def picture(height=40, width=48, seed=0) -> np.ndarray:
    """Smooth colour, so that JPEG keeps it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def ramp(dtype, top, height=40, width=48) -> np.ndarray:
    return np.linspace(0, top, height * width).reshape(height, width).astype(dtype)


def save(path: Path, pixels: np.ndarray | Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that only says how large it is."""
    chunks = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"\0" * 99)
    body = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def assert_sentence(path: Path, text: str) -> None:
    assert text.startswith(str(path))
    assert text.endswith(".")
    assert "\n" not in text


def refused(path: Path, words: str) -> None:
    """One clear sentence."""
    with pytest.raises(UserError, match=words) as caught:
        load_image(path)
    assert_sentence(path, str(caught.value))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "jp2"])
def test_rgb_comes_back_as_it_is(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    image = load_image(save(tmp_path / f"a.{suffix}", picture(), **options))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    assert np.array_equal(image, picture())


def test_the_content_decides_not_the_suffix(tmp_path):
    path = save(tmp_path / "a.jpg", picture(), format="PNG")
    assert np.array_equal(load_image(str(path)), picture())


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_grey_becomes_three_equal_channels(tmp_path, suffix):
    grey = picture()[..., 0]
    image = load_image(save(tmp_path / f"a.{suffix}", grey))
    assert np.array_equal(image[..., 0], image[..., 1])
    assert np.array_equal(image[..., 0], image[..., 2])
    assert np.abs(image[..., 0].astype(int) - grey).max() <= (12 if suffix == "jpg" else 0)


def test_black_and_white(tmp_path):
    bits = picture()[..., 0] > 127
    image = load_image(save(tmp_path / "a.png", Image.fromarray(bits)))
    assert np.array_equal(image, np.where(bits[..., None], 255, 0).repeat(3, axis=2))


def test_palette(tmp_path):
    indexed = Image.fromarray(picture()).quantize(16)
    assert np.array_equal(load_image(save(tmp_path / "a.png", indexed)), np.asarray(indexed.convert("RGB")))
    assert len(np.unique(load_image(tmp_path / "a.png").reshape(-1, 3), axis=0)) == 16


def test_alpha_is_composited_on_white(tmp_path):
    colour, alpha = picture(), ramp(np.uint8, 255)
    image = load_image(save(tmp_path / "a.png", np.dstack([colour, alpha])))
    weight = alpha[..., None] / 255
    expected = colour * weight + 255 * (1 - weight)
    assert np.abs(image - expected).max() <= 1
    assert np.array_equal(image[0, 0], [255, 255, 255])


def test_grey_with_alpha_is_composited_on_white(tmp_path):
    grey, alpha = picture()[..., 0], ramp(np.uint8, 255)
    image = load_image(save(tmp_path / "a.png", np.dstack([grey, alpha])))
    expected = grey * (alpha / 255) + 255 - alpha
    assert np.abs(image - expected[..., None]).max() <= 1


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16"])
def test_a_transparent_colour_is_white(tmp_path, mode):
    if mode == "I;16":
        image, clear, other = Image.fromarray(np.full((40, 40), 300, np.uint16)), 300, 257 * 90
    elif mode == "RGB":
        image, clear, other = Image.new("RGB", (40, 40), (9, 8, 7)), (9, 8, 7), (90, 90, 90)
    else:
        image, clear, other = Image.new(mode, (40, 40), 3), 3, 90
    if mode == "P":
        image.putpalette([value for value in range(256) for _ in range(3)])
    image.putpixel((5, 5), other)
    pixels = load_image(save(tmp_path / "a.png", image, transparency=clear))
    assert np.array_equal(pixels[5, 5], [90, 90, 90])
    pixels[5, 5] = 255
    assert (pixels == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path, suffix):
    ink = Image.new("CMYK", (40, 40), (0, 255, 255, 0))
    ink.paste((255, 0, 0, 0), (20, 0, 40, 40))
    image = load_image(save(tmp_path / f"a.{suffix}", ink))
    assert np.abs(image[20, 5].astype(int) - [255, 0, 0]).max() <= 3
    assert np.abs(image[20, 35].astype(int) - [0, 255, 255]).max() <= 3


def test_an_adobe_cmyk_jpeg_reads_as_opencv_reads_it(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(picture()).convert("CMYK"), quality=95)
    assert b"Adobe" in path.read_bytes()[:64]
    other = cv2.imread(str(path))[..., ::-1]
    assert np.abs(load_image(path).astype(int) - other).mean() < 2


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    deep = ramp(np.uint16, 65535)
    image = load_image(save(tmp_path / f"a.{suffix}", deep))
    assert np.array_equal(image, np.rint(deep / 257).astype(np.uint8)[..., None].repeat(3, axis=2))
    assert np.abs(image.mean() - 127.5) < 0.5


def test_8_bits_stored_in_16_come_back_exactly(tmp_path):
    grey = np.arange(256, dtype=np.uint16).repeat(8).reshape(32, 64)
    assert np.array_equal(load_image(save(tmp_path / "a.png", grey * 257))[..., 2], grey)


def test_16_bit_colour_keeps_the_high_byte(tmp_path):
    deep = np.dstack([ramp(np.uint16, top) for top in (65535, 40000, 300)])
    cv2.imwrite(str(tmp_path / "a.png"), deep[..., ::-1])
    assert np.array_equal(load_image(tmp_path / "a.png"), deep >> 8)


def test_32_bit_whole_numbers_and_floating_point_are_scaled(tmp_path):
    whole, real = ramp(np.int32, 65535), ramp(np.float32, 1)
    assert np.array_equal(load_image(save(tmp_path / "a.tif", whole))[..., 0], np.rint(whole / 257))
    assert np.array_equal(load_image(save(tmp_path / "b.tif", real))[..., 0], np.rint(real * np.float32(255)))


@pytest.mark.parametrize("low", [-1, 0])
@pytest.mark.parametrize("top", [255, 65536, 2**31 - 1])
def test_32_bit_whole_numbers_without_a_known_scale_are_refused(tmp_path, low, top):
    refused(
        save(tmp_path / "a.tif", np.array([low, top] * 800, np.int32).reshape(40, 40)), "whose scale nothing states"
    )


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0, np.nan, np.inf])
def test_floating_point_beyond_its_range_is_refused(tmp_path, value):
    real = ramp(np.float32, 1)
    real[3, 3] = value
    refused(save(tmp_path / "a.tif", real), "only 0 to 1")


def test_a_grey_tiff_with_0_white_is_refused(tmp_path):
    path = save(tmp_path / "a.tif", ramp(np.uint16, 65535))
    tag = struct.pack("<HHI", 262, 3, 1)
    data = path.read_bytes()
    assert data.count(tag + struct.pack("<H", 1)) == 1
    path.write_bytes(data.replace(tag + struct.pack("<H", 1), tag + struct.pack("<H", 0)))
    refused(path, "0 for white")


def test_a_12_bit_tiff_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    strip = bytes(40 * 40 * 3 // 2)
    tags = {256: 40, 257: 40, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 40, 279: len(strip)}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag > 270 else 3, 1, value) for tag, value in tags.items())
    path.write_bytes(
        b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)
    )
    refused(path, "12 bits")


def test_lab_is_converted(tmp_path):
    grey = rgb2lab(np.full((1, 1, 3), 100, np.uint8))[0, 0, 0]
    image = load_image(save(tmp_path / "a.tif", Image.new("LAB", (40, 40), (round(grey * 2.55), 128, 128))))
    assert np.abs(image.astype(int) - 100).max() <= 2


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    upright = picture()
    # What the file stores, so that its orientation tag (EXIF 2.3, tag 0x0112) turns it upright.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 98, "subsampling": 0} if suffix == "jpg" else {}
    image = load_image(save(tmp_path / f"a.{suffix}", np.ascontiguousarray(stored), exif=exif, **options))
    assert image.shape == upright.shape
    assert np.abs(image.astype(int) - upright).max() <= (8 if suffix == "jpg" else 0)


def test_16_bit_grey_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = load_image(save(tmp_path / "a.png", ramp(np.uint16, 65535), exif=exif))
    assert np.array_equal(image[..., 0], np.rot90(np.rint(ramp(np.uint16, 65535) / 257), -1))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_the_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:], **options)
    with Image.open(path) as opened:
        assert getattr(opened, "n_frames", 1) == 3
    assert np.array_equal(load_image(path), np.asarray(frames[0]))


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp"])
def test_a_truncated_file(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(path, "cannot be read|not an image")


def test_an_empty_file(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()
    refused(path, "is empty")


def test_a_text_file_with_an_image_suffix(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("not a picture, but a text that goes on for a while")
    refused(path, r"is not an image of a known format \(JPEG, PNG")


def test_a_format_that_could_run_a_program_is_not_opened(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.eps")
    refused((tmp_path / "a.eps").rename(tmp_path / "a.png"), "not an image of a known format")


@pytest.mark.parametrize("shape", [(1, 1), (31, 100), (100, 31)])
def test_images_too_small_to_corrupt(tmp_path, shape):
    refused(save(tmp_path / "a.png", picture(*shape)), f"{shape[1]} × {shape[0]} px, but needs at least {MIN_SIDE}")
    (tmp_path / "a.png").unlink()
    assert load_image(save(tmp_path / "b.png", picture(32, 32))).shape == (32, 32, 3)


@pytest.mark.parametrize("side", [9_460, 13_000, 20_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    assert side**2 > MAX_PIXELS
    path = png_header(tmp_path / "a.png", side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(path, "89,478,485")


def test_what_is_no_file(tmp_path):
    with pytest.raises(UserError, match=r"gone\.png does not exist"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(UserError, match="is not a file"):
        load_image(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    refused(tmp_path / "a.png", "is not a file")


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp"])
@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_a_damaged_file_is_an_image_or_a_sentence(tmp_path_factory, suffix, seed):
    path = save(tmp_path_factory.mktemp("damaged") / f"a.{suffix}", picture())
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), 4):
        data[place] = rng.integers(256)
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = load_image(path)
        except UserError as error:
            image = None
            assert_sentence(path, str(error))
    if image is not None:
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,)


def a_folder(root: Path) -> Path:
    names = ["b.png", "B.png", "a10.png", "a9.png", "ä.png", "Z/1.PNG", "z/1.png", "z/deep/er.jpeg", "a b/c.tif"]
    for seed, name in enumerate(names):
        save(root / name, picture(seed=seed))
    return root


def test_identifiers_are_relative_paths_sorted_by_code_point(tmp_path):
    files, ignored = find_images(a_folder(tmp_path))
    assert [name for name, _ in files] == [
        *("B.png", "Z/1.PNG", "a b/c.tif", "a10.png", "a9.png", "b.png", "z/1.png", "z/deep/er.jpeg", "ä.png"),
    ]
    assert all(path == tmp_path / name for name, path in files)
    assert ignored == 0


def test_the_order_of_the_directory_does_not_matter(tmp_path, monkeypatch):
    usual = find_images(a_folder(tmp_path))
    listed = Path.iterdir
    for seed in range(4):
        rng = np.random.default_rng(seed)

        def shuffled(path, rng=rng):
            entries = sorted(listed(path))
            return iter([entries[index] for index in rng.permutation(len(entries))])

        monkeypatch.setattr(Path, "iterdir", shuffled)
        assert find_images(tmp_path) == usual


def test_the_locale_does_not_matter_and_torch_is_not_loaded(tmp_path):
    a_folder(tmp_path)
    code = (
        "import json, sys; from pathlib import Path; from tasks.common.image_files import find_images, load_image;"
        "files, _ = find_images(Path(sys.argv[1])); pixels = [load_image(path).sum().item() for _, path in files];"
        "print(json.dumps([sys.getfilesystemencoding(), [name for name, _ in files], pixels]));"
        "assert 'torch' not in sys.modules"
    )
    found = []
    for settings_ in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        told = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env=os.environ | settings_,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(json.loads(told.stdout))
    assert found[0][1:] == found[1][1:]
    assert "ä.png" in found[0][1]
    if sys.platform == "linux":
        assert found[0][0] != found[1][0]


def test_a_folder_of_links_gives_what_the_files_give(tmp_path):
    real = a_folder(tmp_path / "real")
    links = tmp_path / "links"
    links.mkdir()
    for entry in real.iterdir():
        (links / entry.name).symlink_to(entry)
    names = [name for name, _ in find_images(real)[0]]
    assert [name for name, _ in find_images(links)[0]] == names
    (tmp_path / "link").symlink_to(links)
    assert [name for name, _ in find_images(tmp_path / "link")[0]] == names


def test_links_that_lead_nowhere_or_round(tmp_path):
    save(tmp_path / "in" / "a.png", picture())
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    (tmp_path / "in" / "self").symlink_to(tmp_path / "in" / "self")
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    files, ignored = find_images(tmp_path)
    assert [name for name, _ in files] == ["broken.png", "in/a.png"]
    assert ignored == 2
    refused(tmp_path / "broken.png", "does not exist")


def test_hidden_files_and_non_images_are_ignored_and_counted(tmp_path):
    save(tmp_path / "a.png", picture())
    save(tmp_path / ".hidden.png", picture())
    save(tmp_path / ".thumbs" / "a.png", picture())
    (tmp_path / "labels.txt").write_text("a")
    (tmp_path / "png").write_text("a")
    assert find_images(tmp_path) == ([("a.png", tmp_path / "a.png")], 4)


def test_folders_that_cannot_be(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        find_images(tmp_path / "gone")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(UserError, match=r"holds no images .* 1 entries were ignored"):
        find_images(tmp_path)


@pytest.mark.parametrize("shape", [(90, 120), (121, 75), (64, 64), (50, 333), (40, 41)])
@pytest.mark.parametrize("side", [32, 40, 64])
def test_centre_square_agrees_with_torchvision(shape, side):
    image = picture(*shape)
    steps = v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(side)])
    expected = steps(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()
    square = centre_square(image, side)
    assert square.dtype == np.uint8
    assert np.abs(square.astype(int) - expected).max() <= 1


def test_centre_square_of_an_image_of_that_size_is_the_image():
    assert np.array_equal(centre_square(picture(40, 40), 40), picture(40, 40))


def test_centre_square_does_not_alias():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(centre_square(stripes, 32)[:, 1:-1].astype(int) - 127.5).max() < 3


def test_a_long_strip_does_not_fill_the_memory():
    strip = np.zeros((32, 400_000, 3), np.uint8)
    strip[:, 200_000:] = 255
    square = centre_square(strip, 640)  # all of it, enlarged, would be 15 GB
    assert square[:, :300].max() == 0
    assert square[:, 340:].min() == 255
