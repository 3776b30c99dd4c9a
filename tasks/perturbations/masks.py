"""Changes of one part of the image, foreground or background, that leave every pixel of the other part unchanged.

Blurring the whole image and pasting one part back would bleed the colour of the object into a halo on the background.
Normalised convolution takes the mean over the changed part alone: ``G(x·w) / G(w)`` with the weight ``w`` 1 inside and
0 outside (Knutsson and Westin 1993, Normalized and Differential Convolution).

The part is the foreground mask or its complement. An empty part changes nothing.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from tasks.perturbations.arithmetic import convolve, gaussian_weights, whole_weights
from tasks.perturbations.context import Context
from tasks.perturbations.noise import normal
from tasks.perturbations.spatter import distance_to

_BITS = 20  # of a weight: 8 + 2 · 20 bits are exact in float64
_GREY = 127.5

Images = UInt8[Tensor, "n 3 h w"]
Part = Bool[Tensor, "n h w"]


def foreground_blur(images: Images, sigma: float, context: Context) -> Images:
    """Blur the foreground with a Gaussian truncated at 4 sigma; sigma in pixels at 224 px."""
    return _blurred(images, sigma, _foreground(context), context)


def background_blur(images: Images, sigma: float, context: Context) -> Images:
    """Blur the background with a Gaussian truncated at 4 sigma; sigma in pixels at 224 px."""
    return _blurred(images, sigma, _background(context), context)


def random_mask_blur(images: Images, sigma: float, context: Context) -> Images:
    """Blur inside the foreground mask after moving it to a random position, wrapped around the border."""
    part = moved(_foreground(context), context.draws.number(0, 1), context.draws.number(0, 1))
    return _blurred(images, sigma, part, context)


def foreground_blur_matched(images: Images, sigma: float, context: Context) -> Images:
    """As ``foreground_blur``, faded so that ‖x′ − x‖₂ is that of the weaker of foreground and background blur."""
    return _matched(images, _foreground(context), _background(context), sigma, context)


def background_blur_matched(images: Images, sigma: float, context: Context) -> Images:
    """As ``background_blur``, faded so that ‖x′ − x‖₂ is that of the weaker of foreground and background blur."""
    return _matched(images, _background(context), _foreground(context), sigma, context)


def foreground_grey(images: Images, share: float, context: Context) -> Images:
    """Fade the foreground to mid-grey; share 1 removes it completely."""
    return _faded(images, _GREY, share, _foreground(context), context)


def background_grey(images: Images, share: float, context: Context) -> Images:
    """Fade the background to mid-grey; share 1 removes it completely."""
    return _faded(images, _GREY, share, _background(context), context)


def foreground_mean(images: Images, share: float, context: Context) -> Images:
    """Fade the foreground to its mean colour."""
    return _faded(images, mean_inside(images, _foreground(context)), share, _foreground(context), context)


def background_mean(images: Images, share: float, context: Context) -> Images:
    """Fade the background to its mean colour."""
    return _faded(images, mean_inside(images, _background(context)), share, _background(context), context)


def foreground_noise(images: Images, sigma: float, context: Context) -> Images:
    """Add Gaussian noise to the foreground; sigma on the scale 0 to 1."""
    return _noisy(images, sigma, _foreground(context), context)


def background_noise(images: Images, sigma: float, context: Context) -> Images:
    """Add Gaussian noise to the background; sigma on the scale 0 to 1."""
    return _noisy(images, sigma, _background(context), context)


def blurred_inside(images: Images, part: Part, sigma: float) -> Float[Tensor, "n 3 h w"]:
    """Blur by normalised convolution; values outside the part are meaningless.

    Args:
        images: 0 to 255.
        part: The region to blur, over which means are taken.
        sigma: In pixels of these images. The kernel is truncated at 4 sigma, the border mirrored.

    Returns:
        float64, 0 to 255.
    """
    inside = part[:, None].double()
    layers = torch.cat([images.double().mul_(inside), inside], 1)
    weights = whole_weights(gaussian_weights(sigma), _BITS)
    blurred = convolve(convolve(layers, weights, -2, "symmetric"), weights, -1, "symmetric")
    return blurred[:, :3] / blurred[:, 3:].clamp(min=1)


def mean_inside(images: Images, part: Part) -> Float[Tensor, "n 3 1 1"]:
    """The mean colour of a part; 0 if it is empty."""
    inside = part[:, None]
    total = images.mul(inside).sum((2, 3), keepdim=True, dtype=torch.int64)
    return total.double() / inside.sum((2, 3), keepdim=True).clamp(min=1)


def moved(mask: Part, down: list[float], right: list[float]) -> Part:
    """Each mask moved by a share of the sides, wrapped around the border: same area, same shape but for the wrap."""
    height, width = mask.shape[1:]
    steps = [(int(y * height), int(x * width)) for y, x in zip(down, right, strict=True)]
    return torch.stack([one.roll(step, (0, 1)) for one, step in zip(mask, steps, strict=True)])


def _foreground(context: Context) -> Part:
    assert context.foreground is not None  # noqa: S101 checked with the request
    return context.foreground


def _background(context: Context) -> Part:
    return ~_foreground(context)


def blend(images: Images, changed: Float[Tensor, "n 3 h w"], part: Part, context: Context) -> Images:
    """The changed values inside the part, rounded; over the feather the change sets in gradually."""
    if context.feather > 0:
        depth = distance_to(~part, int(context.feather) + 1).double().div_(context.feather + 1).clamp_(max=1)
        changed = (changed - images).mul_(depth[:, None]).add_(images)
    return torch.where(part[:, None], changed.add(0.5).clamp_(0, 255).to(torch.uint8), images)


def _blurred(images: Images, sigma: float, part: Part, context: Context) -> Images:
    return blend(images, blurred_inside(images, part, sigma * context.scale), part, context)


def _faded(
    images: Images, target: float | Float[Tensor, "n 3 1 1"], share: float, part: Part, context: Context
) -> Images:
    return blend(images, images.double().mul_(1 - share).add_(target * share), part, context)


def _noisy(images: Images, sigma: float, part: Part, context: Context) -> Images:
    added = normal(context.draws.uniform16(*images.shape[1:]), 0.0, 255.0 * sigma)
    return blend(images, added.double().add_(images), part, context)


def _matched(images: Images, part: Part, other: Part, sigma: float, context: Context) -> Images:
    own, its = (_blurred(images, sigma, where, context) for where in (part, other))
    change, its_change = (after.double() - images for after in (own, its))
    energy, its_energy = (squares.square().sum((1, 2, 3), keepdim=True) for squares in (change, its_change))
    # The change is linear in the fading, so its norm is too.
    kept = (its_energy / energy.clamp(min=1)).sqrt().clamp(max=1)
    return torch.where(part[:, None], change.mul_(kept).add_(images).add_(0.5).floor_().to(torch.uint8), images)
