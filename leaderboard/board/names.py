"""What readers know by name: the order of all tables, and what runs that are too old to say it would say of themselves.

Runs state the facts of their methods, perturbations and profile in ``run.json`` (see ``leaderboard.board.facts``).
Nothing else in ``leaderboard`` and ``report`` knows a method or a profile by its name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Final


@dataclasses.dataclass(frozen=True)
class AboutMethod:
    """What a method states of itself.

    Attributes:
        summary: What it does, in a sentence; empty where it is not known.
        citation: Keys of ``report/references.bib``, or whole references in words.
        trivial: It looks at no unit, so that every other method must beat it.
        uses_perturbations: The perturbations that it uses itself, with the options of the run: on them it is not tested
            on held-out images.
        trace: Form of the traces that it writes down, see ``benchmark.trace``; empty without any.
        annotation: It reads what the probing images show, which other methods must find out.
        tuned_on: The perturbations on which its options were chosen, which are not held out for it either.
        validation: Of a submitted run: ``verified`` or ``self-reported``; empty for runs that nobody submitted.
    """

    summary: str = ""
    citation: tuple[str, ...] = ()
    trivial: bool = False
    uses_perturbations: tuple[str, ...] = ()
    trace: str = ""
    annotation: bool = False
    tuned_on: tuple[str, ...] = ()
    validation: str = ""


_METHODS: Final[Mapping[str, AboutMethod]] = {
    "clip_dissect": AboutMethod(),
    "dnd": AboutMethod(trace="candidates"),
    "dnd_refined": AboutMethod(trace="candidates"),
    "dnd_vision": AboutMethod(trace="candidates"),
    "clear": AboutMethod(
        uses_perturbations=("foreground_blur", "background_blur", "gaussian_blur"),
        trace="contexts",
        tuned_on=("gaussian_noise", "frost", "fog", "contrast"),
    ),
    "semantic_lens": AboutMethod(),
    "csp": AboutMethod(),
    "linear": AboutMethod(annotation=True),
    "invert": AboutMethod(annotation=True),
    "line": AboutMethod(trace="candidates"),
    "network_dissection": AboutMethod(annotation=True),
    "random_label": AboutMethod(trivial=True),
    "constant_label": AboutMethod(trivial=True),
}
"""CLEAR's own methods in the order of figures, and what numbers of runs from before ``run.json`` held it depend on."""

REFERENCE: Final = "clip_dissect"
"""The method that mLCE is relative to."""

COLOURS: Final = {"clip_dissect": 0, "dnd": 1, "network_dissection": 2, "dnd_refined": 3}
"""Method → its colour in every figure, by number; other methods get one of the rest by their name."""

FLOOR_MARKS: Final = {"random_label": 0, "constant_label": 1}
"""The same for the marks of trivial baselines, which are all grey."""

PREDICTING: Final = "miniature"
"""The profile whose numbers are held against those of every other."""

GROUPS: tuple[tuple[str, ...], ...] = (
    ("gaussian_blur", "foreground_blur", "background_blur"),
    ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "faint_noise"),
    ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    ("snow", "frost", "fog", "brightness", "spatter"),
    ("contrast", "elastic_transform", "pixelate", "jpeg_compression", "saturate"),
    ("foreground_grey", "background_grey", "foreground_mean", "background_mean"),
    ("foreground_noise", "background_noise"),
    ("random_mask_blur", "foreground_blur_matched", "background_blur_matched", "gaussian_blur_5x5", "reencode"),
)
"""Perturbations in the order of the tables: the blurs, ImageNet-C's noise, blur, weather and digital, then controls."""

ORDER: Final[Mapping[str, int]] = {name: place for place, name in enumerate(sum(GROUPS, ()))}
"""Place of a perturbation in this order."""

GROUP_NAMES = ("blur", "noise", "blur", "weather", "digital", "mask", "mask", "control")
"""One name for each of the groups; groups of one name are summed up together."""

SIGNIFICANT = 0.05

TUNED_ON: Final = "tuned on"
USED: Final = "used by the method"
NEVER_SEEN: Final = "never seen"


def bare(method: str) -> str:
    """A method's name without the options that boards put behind it.

    Example:
        >>> bare("clear (contexts=fog:3)")
        'clear'
    """
    return method.partition(" (")[0]


def unstated(method: str, options: Collection[str] = ()) -> AboutMethod:
    """What is known of a method that its run does not describe.

    Args:
        options: Names of the options that were set. What they make of the perturbations that it uses, nobody knows.
    """
    known = _METHODS.get(bare(method), AboutMethod())
    return dataclasses.replace(known, uses_perturbations=()) if options or bare(method) != method else known


def methods_in_order(methods: Collection[str]) -> tuple[str, ...]:
    """CLEAR's own in the order above, then others by name."""
    order = list(_METHODS)
    return tuple(sorted(methods, key=lambda name: (order.index(name) if name in order else len(order), name)))
