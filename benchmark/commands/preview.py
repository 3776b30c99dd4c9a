"""``preview``: one image under perturbations at all severities, on one page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmark.trace.sheet import COLUMNS, INK, SMALL, SOFT, Sheet, Thumb
from leaderboard.store import atomic
from tasks.common.errors import UserError
from tasks.common.image_files import centre_square, load_image
from tasks.common.images import to_array, to_tensor
from tasks.common.seeding import integer_seed
from tasks.perturbations.registry import SEVERITIES
from tasks.perturbations.settings import Settings, needs_foreground
from tasks.perturbations.suites import load_suite, perturbations_of
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

SIDE = 224


def write_preview(
    image: Path, suites: Sequence[str], settings: Settings, seed: int, out: Path, profile: str | None = None
) -> Path:
    """Draw an image under every perturbation of some suites.

    The centre square at 224 px is perturbed.

    Args:
        suites: Names of suites or perturbations, or YAML files.
        out: The PNG file to write.
        profile: Profile whose segmenter finds the foreground, if a perturbation needs it.

    Raises:
        UserError: No such image or suite, or a mask is needed and none is found.
        StoreError: The file cannot be written.
    """
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: previews are PNG files, so the name must end in .png.")
    names = perturbations_of([load_suite(suite) for suite in suites])
    square = to_tensor(centre_square(load_image(image), SIDE)[None].copy()).contiguous()
    masked = next((name for name in names if needs_foreground(name)), None)
    foreground = None if masked is None else _foreground(image, square, masked, profile)
    sheet = Sheet()
    sheet.banner(f"{image.name} under {len(names)} perturbations", 18)
    sheet.gap(8)
    sheet.text(
        f"Severities 1 to 5, seed {seed}, corruptions {settings.corruptions}, lengths {settings.lengths}; "
        f"centre square of 224 px{f', foreground by the segmenter of {profile}' if masked else ''}.",
        SMALL,
        SOFT,
    )
    sheet.gap(12)
    thumbs = []
    for name in names:
        for severity in SEVERITIES:
            seeds = [integer_seed(seed, "preview", name)]
            drawn = settings.apply(square, name, severity, seeds, foreground if needs_foreground(name) else None)
            thumbs.append(Thumb(to_array(drawn)[0], ((name, INK),) if severity == 1 else (), str(severity)))
    for start in range(0, len(thumbs), COLUMNS):
        sheet.thumbs(thumbs[start : start + COLUMNS])
    data = io.BytesIO()
    sheet.image().save(data, "PNG")
    atomic.write_bytes(out, data.getvalue())
    return out


def _foreground(image: Path, square: torch.Tensor, masked: str, profile: str | None) -> torch.Tensor:
    if profile is None:
        raise UserError(f"{masked} needs the foreground of {image.name}: give --profile with a segmenter.")
    mask = Roles(load_profile(profile), torch.device("cpu")).segmenter.foreground(square)
    if not mask.any():
        raise UserError(
            f"No foreground was found in {image}: leave out the perturbations that need one, for example by "
            "--suites imagenet_c."
        )
    return mask
