"""Weather: snow, frost, fog, brightness."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tasks.common.errors import UserError
from tasks.perturbations.arithmetic import pieces, to_uint8
from tasks.perturbations.blur import smear
from tasks.perturbations.context import Context
from tasks.perturbations.draws import Draws
from tasks.perturbations.noise import look_up, normal

_TEXTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg", "frost6.jpg")
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def snow(
    images: UInt8[Tensor, "n 3 h w"],
    parameters: tuple[float, float, float, float, float, float, float],
    context: Context,
) -> UInt8[Tensor, "n 3 h w"]:
    """Flakes from noise, enlarged and smeared downwards, laid over a whitened image twice, once rotated by 180 degrees.

    Args:
        images: 0 to 255.
        parameters: Mean and deviation of the noise, size of a flake in pixels at 224 px, threshold, blur radius and
            sigma in pixels at 224 px, share of the image that is not whitened.
    """
    mean, deviation, zoom, threshold, radius, sigma, kept = parameters
    height, width = images.shape[-2:]
    zoom = max(1.0, zoom * context.scale)
    few = math.ceil(height / zoom), math.ceil(width / zoom)
    grains = normal(context.draws.uniform16(*few), mean, deviation)
    flakes = _enlarge(grains, zoom, height, width)
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp_(0, 1).mul_(255).round_()
    layer = smear(flakes[:, None], radius, sigma, context.draws.number(-135, -45), context.scale).round_()
    pixels = images.float()
    red, green, blue = pixels.unbind(1)
    luma = (red * _LUMA[0]).add_(green * _LUMA[1]).add_(blue * _LUMA[2])
    white = torch.maximum(pixels, luma.mul_(1.5).add_(127.5)[:, None])
    return to_uint8(pixels.mul_(kept).add_(white.mul_(1 - kept)).add_(layer).add_(layer.flip(2, 3)))


def _enlarge(grains: Float[Tensor, "n a b"], zoom: float, height: int, width: int) -> Float[Tensor, "n h w"]:
    return _enlarge_rows(_enlarge_rows(grains, zoom, height).transpose(1, 2), zoom, width).transpose(1, 2)


def _enlarge_rows(grains: Float[Tensor, "n a b"], zoom: float, length: int) -> Float[Tensor, "n length b"]:
    count = grains.shape[1]
    enlarged = max(round(count * zoom), length)
    places = np.arange(enlarged)[:length] * ((count - 1) / (enlarged - 1))
    low = np.minimum(places.astype(np.int64), count - 2)
    share = torch.from_numpy((places - low).astype(np.float32))[:, None].to(grains.device)
    index = torch.from_numpy(low).to(grains.device)
    below = grains.index_select(1, index)
    return grains.index_select(1, index + 1).sub_(below).mul_(share).add_(below)


def frost(
    images: UInt8[Tensor, "n 3 h w"], parameters: tuple[float, float], context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Lay a random crop of a photograph of frost over the image.

    The six photographs are those of the installed package imagecorruptions. The released code never draws the sixth;
    ``repaired`` does. A 224-px image gets a crop of a photograph at its own size (``package``: enlarged 1.1 times), any
    other the same crop, rescaled, unless raw lengths are requested.

    Args:
        images: 0 to 255.
        parameters: Weight of the image, weight of the frost.
    """
    kept, laid = parameters
    height, width = images.shape[-2:]
    numbers = context.draws.integer(len(_TEXTURES) if context.mode == "repaired" else len(_TEXTURES) - 1)
    enlarged = 1.1 if context.mode == "package" else 1.0
    down, right = context.draws.number(0, 1), context.draws.number(0, 1)
    out = images.float().mul_(kept)
    for index, number in enumerate(numbers):
        rows, columns = _photograph(number).shape[:2]
        scale = enlarged * max(context.scale, height / rows, width / columns)
        texture = _scaled(number, scale, images.device)
        top = int(down[index] * (texture.shape[1] - height))
        left = int(right[index] * (texture.shape[2] - width))
        out[index] += texture[:, top : top + height, left : left + width] * laid
    return to_uint8(out)


@lru_cache(maxsize=2 * len(_TEXTURES))
def _scaled(number: int, scale: float, device: torch.device) -> Float[Tensor, "3 a b"]:
    import cv2

    photograph = _photograph(number)
    size = math.ceil(photograph.shape[1] * scale), math.ceil(photograph.shape[0] * scale)
    texture = cv2.resize(photograph, dsize=size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return torch.from_numpy(texture[..., ::-1].transpose(2, 0, 1).copy()).float().to(device)


@lru_cache(maxsize=len(_TEXTURES))
def _photograph(number: int) -> UInt8[np.ndarray, "a b 3"]:
    import cv2

    from tasks.perturbations import package

    path = package.folder() / "frost" / _TEXTURES[number]
    photograph = cv2.imread(str(path))
    if photograph is None:
        raise UserError(f"The frost texture {path} is missing: reinstall imagecorruptions.")
    return photograph.astype(np.uint8)


def fog(
    images: UInt8[Tensor, "n 3 h w"], parameters: tuple[float, float], context: Context
) -> UInt8[Tensor, "n 3 h w"]:
    """Add a cloudy map and keep the brightest value; the map is as large as the image, so it scales with it.

    Args:
        images: 0 to 255.
        parameters: Amplitude, and the factor by which each finer level of the map is weaker than the one before.
    """
    strength, decay = parameters
    height, width = images.shape[-2:]
    clouds = plasma(context.draws, len(images), 1 << (max(height, width) - 1).bit_length(), decay)
    out = torch.empty_like(images)
    for piece in pieces(images):
        brightest = images[piece].amax((1, 2, 3), keepdim=True).float()
        share = brightest / (brightest + 255.0 * strength)
        added = clouds[piece, None, :height, :width] * (255.0 * strength)
        out[piece] = to_uint8(images[piece].float().add_(added).mul_(share))
    return out


def plasma(draws: Draws, count: int, side: int, decay: float) -> Float[Tensor, "n side side"]:
    """Diamond-square height maps, wrapped around at the border, from 0 to 1 (Fournier, Fussell and Carpenter 1982).

    Args:
        side: A power of two.
        decay: Each level's noise is divided by it; the noise itself is the square of this factor.
    """
    heights = torch.zeros((count, side, side), device=draws.device)
    step, wibble = side, 100.0

    def noisy(total: Tensor) -> Tensor:
        drawn = draws.uniform16(*total.shape[1:]).to(torch.float32).add_(0.5 - 32768).mul_(wibble**2 / 32768)
        return total.mul_(0.25).add_(drawn)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        across = corners + corners.roll(-1, 2)
        down = corners + corners.roll(-1, 1)
        centres = noisy(across + across.roll(-1, 1))
        heights[:, half::step, half::step] = centres
        heights[:, ::step, half::step] = noisy(across.add_(centres).add_(centres.roll(1, 1)))
        heights[:, half::step, ::step] = noisy(down.add_(centres).add_(centres.roll(1, 2)))
        step, wibble = half, wibble / decay
    heights -= heights.amin((1, 2), keepdim=True)
    return heights.div_(heights.amax((1, 2), keepdim=True))


def brightness(images: UInt8[Tensor, "n 3 h w"], added: float, context: Context) -> UInt8[Tensor, "n 3 h w"]:
    """Add to the value of HSV, the largest channel: all channels grow by one factor; black turns grey.

    Args:
        images: 0 to 255.
        added: On the scale 0 to 1.
    """
    value = images.amax(1, keepdim=True).to(torch.int32)
    place = (value << 8).add(images)
    return look_up(_brightness_table(added, images.device), place)


@lru_cache(maxsize=5)
def _brightness_table(added: float, device: torch.device) -> UInt8[Tensor, " 65536"]:
    """The new pixel for each largest channel and old pixel."""
    value = np.arange(256)[:, None] / 255
    pixel = np.arange(256)[None] / 255
    grown = np.minimum(value + added, 1)
    scaled = np.divide(pixel * grown, value, out=np.full((256, 256), added), where=value > 0)
    # Slightly above, since the published float arithmetic rarely falls below an integer that it should reach.
    return torch.from_numpy((scaled.clip(0, 1) * 255 + 1e-6).astype(np.uint8).ravel()).to(device)
