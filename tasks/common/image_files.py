"""Image files read from disk as uint8, RGB, [0, 255].

Pillow decodes. The content of a file decides its format; its suffix only whether a file in a folder is considered.
"Refused" is a ``UserError`` of ``load_image``; a probing set leaves the file out and lists the reason.

=====================================  ================================================================================
File                                   Outcome
=====================================  ================================================================================
8-bit RGB                              as it is
grey (1, L, LA)                        three equal channels
palette, YCbCr, LAB                    converted to RGB (LAB as sRGB sees it)
alpha, transparent colour or index     composited on white, the page such images are drawn for. Dropping the
                                       alpha would show whatever colour is stored under transparent pixels
CMYK                                   Pillow's plain conversion, no ink profile; CMYK JPEGs are stored inverted, as
                                       Adobe writes them, and are read so
16 bits per channel, colour            the high byte
16-bit grey                            0..65535 scaled to 0..255 and rounded (Pillow's own conversion clips at 255); a
                                       transparent grey value becomes white
32-bit integers (also 16-bit PGM)      as 16-bit grey if the maximum is in 256..65535; others refused,
                                       because their white point is unknown
grey TIFF of 12 bits, or with 0 white  refused: Pillow returns its values as if they were 16-bit with 0 black
floating point                         0..1 scaled to 0..255 and rounded, without gamma; values outside or not finite
                                       are refused
EXIF orientation                       applied
embedded colour profile                not applied
animation, several pages               the first frame
truncated, broken, empty, other kind   refused (truncated ones, unless other code in the process has set Pillow's
                                       ``LOAD_TRUNCATED_IMAGES``)
a side under 32 px                     refused: corruptions are not defined there
more than 89,478,485 pixels            refused before decoding (Pillow's own threshold for a decompression bomb)
=====================================  ================================================================================

In a folder, hidden files and folders, files without an image suffix, and links to a parent folder are ignored and
counted.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.common.errors import UserError

# Pillow knows more formats; some of them run other programs (EPS) or hold no photographs.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
SUFFIXES = tuple(
    f".{word}"
    for word in "jpg jpeg jpe jfif png apng webp gif bmp tif tiff ppm pgm pbm pnm jp2 j2k jpx".split()  # noqa: SIM905
)

MIN_SIDE = 32
MAX_PIXELS = 89_478_485


class _Refused(Exception):
    """Why a file is refused, as the end of a sentence that starts with its name."""


def load_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """Read one image file; the table above says how each kind is handled.

    Raises:
        UserError: The file is refused.
    """
    try:
        return _read(Path(path))
    except _Refused as reason:
        raise UserError(f"{os.fspath(path)} {reason}.") from None


def find_images(folder: Path) -> tuple[list[tuple[str, Path]], int]:
    """The image files of a folder and its subfolders, following links; none is opened.

    The result depends on names alone: not on the listing order of the file system, nor on the locale.

    Returns:
        (identifier, path) of each file, sorted by identifier, which is the path below the folder, with ``/``; and the
        number of ignored entries: hidden, no image suffix, a link to a parent folder.

    Raises:
        UserError: The folder is missing, unreadable or contains no image.
    """
    if not os.path.isdir(folder):
        raise UserError(f"There is no folder {folder}.")
    found = list(_walk(folder, frozenset()))
    # The bytes of a name are the same in every locale; Python's decoding of them is not.
    files = [
        (os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace"), path)
        for path in found
        if path is not None
    ]
    ignored = len(found) - len(files)
    if not files:
        raise UserError(f"The folder {folder} holds no images ({', '.join(SUFFIXES)}); {ignored} entries were ignored.")
    return sorted(files), ignored


def centre_square(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "side side 3"]:
    """Resize the shorter side to ``side`` and crop the centre, as torchvision's ``Resize`` and ``CenterCrop`` do.

    Bilinear with anti-aliasing. Smaller images are enlarged.
    """
    height, width = image.shape[:2]
    shorter = min(height, width)
    tall, wide = side * height // shorter, side * width // shorter
    top, left = round((tall - side) / 2), round((wide - side) / 2)
    # Only the square is computed: a long strip, enlarged as a whole, might not fit into memory.
    box = (left * width / wide, top * height / tall, (left + side) * width / wide, (top + side) * height / tall)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box))


def _read(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    try:
        if path.exists() and not path.is_file():
            raise _Refused("is not a file")  # reading a pipe would block forever
        if path.stat().st_size == 0:
            raise _Refused("is empty")
        with warnings.catch_warnings():
            # Pillow warns at its limit and raises at twice that; our own limit below is where it warns.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path, formats=FORMATS)
        with opened as image:
            _check_size(image)
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except _Refused:
        raise
    except FileNotFoundError:
        raise _Refused("does not exist") from None
    except UnidentifiedImageError:
        raise _Refused(f"is not an image of a known format ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError:
        raise _Refused(f"has more than {MAX_PIXELS:,} pixels") from None
    # Pillow's decoders raise exceptions of any type on broken files.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise _Refused(f"cannot be read: {' '.join(reason.split()).rstrip('.')}") from None


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _Refused(f"has {image.width} × {image.height} pixels, more than {MAX_PIXELS:,} in all")
    if min(image.size) < MIN_SIDE:
        raise _Refused(f"has {image.width} × {image.height} px, but needs at least {MIN_SIDE} a side")


def _to_rgb(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_grey(image)[..., None], 3, axis=2)
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured)
    return np.array(image.convert("RGB"))


def _grey(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    """Scale the modes that hold more than 8 bits per pixel."""
    if image.format == "TIFF":
        bits, zero_is_black = image.tag_v2[258], image.tag_v2[262] == 1  # pyright: ignore[reportAttributeAccessIssue]
        if bits == (12,) or not zero_is_black:
            raise _Refused("is a grey TIFF of 12 bits or with 0 for white; save it with 8 or 16 bits and 0 for black")
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # NaN fails too
            raise _Refused(f"has floating-point values from {low:g} to {high:g}; only 0 to 1 has a defined scale")
        return _eight_bits(values, 1)
    if image.mode == "I" and not (low >= 0 and 256 <= high <= 65535):
        raise _Refused(f"has 32-bit values from {low} to {high}, whose scale nothing states; save it with 8 or 16 bits")
    grey = _eight_bits(values, 65535)
    clear = image.info.get("transparency")
    if clear is not None:
        grey[values == clear] = 255
    return grey


def _eight_bits(values: np.ndarray, white: int) -> UInt8[np.ndarray, "h w"]:
    scaled: Float[np.ndarray, "h w"] = values.astype(np.float32) * np.float32(255 / white)
    return np.rint(scaled).astype(np.uint8)


def _walk(folder: Path, around: frozenset[tuple[int, int]]) -> Iterator[Path | None]:
    """The files to consider, in any order; None for each ignored entry."""
    try:
        status = folder.stat()
        entries = list(folder.iterdir())
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be read: {error.strerror}.") from None
    here = (status.st_dev, status.st_ino)
    if here in around:
        yield None
        return
    for entry in entries:
        if entry.name.startswith("."):
            yield None
        elif os.path.isdir(entry):  # unlike Path.is_dir, no error for circular links
            yield from _walk(entry, around | {here})
        else:
            yield entry if entry.suffix.lower() in SUFFIXES else None
