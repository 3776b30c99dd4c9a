"""The page of one trace: top images of the unit, captions, candidates, their tests, and the choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from baselines.dnd.scoring import best_first
from benchmark.trace.record import Boxed, Round, Tested, Trace
from benchmark.trace.sheet import BODY, INK, MARGIN, RULE, SMALL, SOFT, Box, Sheet, Thumb

COLOURS = ("#c62828", "#1565c0", "#6a1b9a", "#ef6c00", "#00838f", "#ad1457", "#4e342e", "#2e7d32")
"""Colours of the crops of a unit, in order."""

CHOSEN, CHOSEN_FILL = "#1b7f3b", "#ecf7ee"

_TITLE, _SECTION = 26, 18
_MEASURES = MARGIN + 450
"""Left edge of a candidate's measures, to the right of its name."""


class Pictures(Protocol):
    """The images of a trace, reproduced."""

    ids: Sequence[str]

    def original(self, image: int) -> UInt8[np.ndarray, "h w 3"]:
        """A probing image under the trace's condition."""
        ...

    def cut(self, image: int, box: tuple[int, int, int, int], crop_px: int) -> UInt8[np.ndarray, "size size 3"]:
        """A crop of the probing image."""
        ...

    def synthetic(self, concept: str, seed: int, reduced: bool = True) -> UInt8[np.ndarray, "count h w 3"]:
        """The synthetic images of a concept: reduced, as the unit saw them, or full size, as the captioner did."""
        ...


@dataclass(frozen=True)
class Heading:
    """Texts at the top and the bottom of the page.

    Attributes:
        title: The first line.
        facts: Names and values below the title.
        note: The sentence that every output of the profile carries.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    condition: str
    note: str


def draw_page(heading: Heading, trace: Trace, pictures: Pictures, activations: Mapping[int, float]) -> Image.Image:
    """Draw the page.

    Args:
        heading: Top and bottom of the page.
        activations: Probing image → the unit's activation, if known.
    """
    sheet = begin_page(heading)
    draw_top_images(sheet, heading, trace.top_images, trace.described, trace.crop_px, pictures, activations)
    if trace.described:
        _described(sheet, trace, pictures)
    _look_alikes(sheet, trace, pictures)
    if trace.rounds is None:
        _round(sheet, trace, _only_round(trace), pictures, frozenset())
    else:
        seen: set[tuple[str, int]] = set()
        for turn in trace.rounds:
            _round(sheet, trace, turn, pictures, frozenset(seen))
            seen |= {(tested.concept, tested.seed) for tested in turn.tested}
    return end_page(sheet, heading)


def begin_page(heading: Heading) -> Sheet:
    """Begin a page with its heading."""
    sheet = Sheet()
    sheet.text(heading.title, _TITLE, most=2)
    sheet.gap(6)
    sheet.columns(heading.facts, 5)
    return sheet


def end_page(sheet: Sheet, heading: Heading) -> Image.Image:
    """Finish a page with its footer."""
    sheet.gap(10)
    sheet.rule()
    sheet.gap(6)
    sheet.text(heading.note, SMALL, SOFT)
    return sheet.image()


def section(sheet: Sheet, title: str, explanation: str, ruled: bool = True) -> None:
    """Begin a section of the page."""
    sheet.gap(10)
    if ruled:
        sheet.rule()
        sheet.gap(10)
    sheet.text(title, _SECTION, most=2)
    sheet.gap(1)
    sheet.text(explanation, SMALL, SOFT)
    sheet.gap(6)


def draw_top_images(
    sheet: Sheet,
    heading: Heading,
    top_images: Sequence[int],
    described: Sequence[Boxed],
    crop_px: int,
    pictures: Pictures,
    activations: Mapping[int, float],
) -> None:
    """Add the unit's top images, with the boxes of the crops that are described."""
    boxes: dict[int, list[tuple[Box, str, str]]] = {}
    for number, (picture, colour) in enumerate(zip(described, colours(described), strict=True), start=1):
        if picture.box is not None and colour is not None:
            left, top, right, bottom = (edge / crop_px for edge in picture.box)
            boxes.setdefault(picture.image, []).append(((left, top, right, bottom), str(number), colour))
    section(
        sheet,
        "Top images",
        f"The probing images, {heading.condition}, that activate the unit most, best first."
        + (" Outlined: the attention crops that are described below, with their numbers there." if boxes else ""),
    )
    sheet.thumbs(
        [
            Thumb(
                pictures.original(image),
                ((pictures.ids[image], INK), (f"activation {plain_number(activations.get(image))}", SOFT)),
                boxes=tuple(boxes.get(image, ())),
            )
            for image in top_images
        ]
    )


def _described(sheet: Sheet, trace: Trace, pictures: Pictures) -> None:
    section(
        sheet,
        "Described images",
        "The top images and attention crops that activate the unit most, best first, with their captions"
        + ("." if trace.simplified == trace.captions else "; in grey after simplification."),
    )
    thumbs = []
    for number, (picture, colour) in enumerate(zip(trace.described, colours(trace.described), strict=True), start=1):
        said, short = trace.captions[number - 1], trace.simplified[number - 1]
        lines = [(said, INK)] if said == short else [(said, INK), (short, SOFT)]
        what = "image" if picture.box is None else "crop"
        pixels = (
            pictures.original(picture.image)
            if picture.box is None
            else pictures.cut(picture.image, picture.box, trace.crop_px)
        )
        under = ((f"{what}, {plain_number(picture.activation)}", SOFT), *lines)
        thumbs.append(Thumb(pixels, under, str(number), colour or RULE))
    sheet.thumbs(thumbs, most=6)


def _look_alikes(sheet: Sheet, trace: Trace, pictures: Pictures) -> None:
    if trace.no_contrast:
        sheet.text(f"No look-alikes were shown as contrast: {trace.no_contrast}.")
    if not trace.look_alikes:
        return
    section(
        sheet,
        "Look-alikes",
        "Shown as contrast, in the order of the described images: for each the most similar image that activates the "
        "unit less than its mean.",
    )
    sheet.thumbs([Thumb(pictures.original(image), ((pictures.ids[image], INK),)) for image in trace.look_alikes])


def _round(sheet: Sheet, trace: Trace, turn: Round, pictures: Pictures, before: frozenset[tuple[str, int]]) -> None:
    if trace.rounds is not None:
        sheet.gap(14)
        sheet.banner(f"Round {turn.round} of {len(trace.rounds)}", 20)
    if turn.synthetic:
        section(
            sheet,
            "Captioned synthetic images",
            "The synthetic images of the previous rounds that activate the unit most; their captions join those above.",
            ruled=False,
        )
        sheet.thumbs(
            [
                Thumb(
                    pictures.synthetic(image.concept, image.seed, reduced=False)[image.number],
                    ((f"of: {image.concept}", SOFT), (image.caption, INK)),
                )
                for image in turn.synthetic
            ],
            most=6,
        )
    section(
        sheet,
        "Replies and candidates",
        "Each reply, and the candidates in the replies.",
        ruled=trace.rounds is None or bool(turn.synthetic),
    )
    sheet.columns([(f"reply {i}", reply or "(nothing)") for i, reply in enumerate(turn.replies, start=1)], 5, most=4)
    sheet.text("Candidates: " + ("; ".join(turn.candidates) or "none"), most=3)
    if turn.tested:
        section(sheet, "Candidates on synthetic images", _explained(trace, turn))
        for place, tested in enumerate(turn.tested, start=1):
            shown_before = (tested.concept, tested.seed) in before
            _candidate(sheet, trace, turn, tested, place, pictures, shown_before=shown_before)
            sheet.gap(6)
    elif turn.candidates:
        why = "a single candidate" if trace.synthesis.draw == "adaptive" else "without a selection the first candidate"
        if trace.scoring == "csp":
            why = f"the candidate that is nearest by CSP, {trace.chosen},"
        sheet.text(f"No synthetic images were generated: {why} is the label.")
    if turn.threshold is not None:
        sheet.gap(4)
        sheet.text(_outcome(turn))


def _candidate(
    sheet: Sheet, trace: Trace, turn: Round, tested: Tested, place: int, pictures: Pictures, shown_before: bool
) -> None:
    best = tested.concept == turn.best
    # The best of a round that was continued is not the label yet.
    verdict = "" if not best else "chosen" if turn.stopped or trace.rounds is None else "best so far"
    with sheet.card(*((CHOSEN_FILL, CHOSEN) if best else ("white", "white"))):
        top = sheet.y
        if verdict:
            sheet.pill(verdict, CHOSEN)
        sheet.text(
            f"{place}. {tested.concept}", BODY + 3, CHOSEN if best else INK, width=_MEASURES - MARGIN - 10, most=2
        )
        bottom = sheet.y
        sheet.y = top
        sheet.columns(_measures(tested), 5, _MEASURES)
        sheet.y = max(bottom, sheet.y)
        if shown_before:
            return
        if tested.image_ranks is None and tested.ranks is not None:
            sheet.text("ranks of its images: " + ", ".join(map(str, tested.ranks)), SMALL, SOFT)
            sheet.gap(3)
        images = pictures.synthetic(tested.concept, tested.seed)[: tested.images]
        # A damaged list of ranks must not be shown below other images.
        ranks = tested.image_ranks if tested.image_ranks and len(tested.image_ranks) == len(images) else None
        sheet.thumbs(
            [Thumb(image, () if ranks is None else ((f"rank {ranks[i]}", INK),)) for i, image in enumerate(images)]
        )


def _explained(trace: Trace, turn: Round) -> str:
    words = [f"Best first, by {trace.scoring}: {trace.synthesis.count} images per candidate."]
    if trace.synthesis.draw == "adaptive":
        words = [
            f"Best first, by {trace.scoring}: up to {trace.synthesis.count} images per candidate, fewer where it could "
            "hardly win any more. Ranks are among the images of the candidates in its last test, 0 = strongest."
        ]
    elif any(tested.ranks or tested.image_ranks for tested in turn.tested):
        total = trace.synthesis.count * len(turn.tested)
        words.append(f"Ranks are among the unit's {total} synthetic images, 0 = strongest.")
    if trace.synthesis.synth_px is not None:
        words.append(f"Shown as seen by the unit, reduced to {trace.synthesis.synth_px} px.")
    if turn.round > 1:
        words.append("Candidates without images have theirs in an earlier round.")
    return " ".join(words)


def _outcome(turn: Round) -> str:
    best = next((tested for tested in turn.tested if tested.concept == turn.best), None)
    if best is None or turn.threshold is None:
        return "No candidate was named, so the search ended."
    verdict = "enough" if turn.passed else "too little"
    end = "the search continued" if turn.stopped is None else f"the search ended ({turn.stopped})"
    return (
        f"Mean activation of the best candidate's images: {plain_number(best.mean_activation)}, "
        f"needed: {plain_number(turn.threshold)}, which is {verdict}; {end}."
    )


def _measures(tested: Tested) -> list[tuple[str, str]]:
    names = {
        "topk-sq-mean": tested.topk_sq_mean,
        "image similarity": tested.image_similarity,
        "activation": tested.activation,
        "specificity": tested.specificity,
        "consistency": tested.consistency,
        "score": tested.score,
    }
    return [(name, plain_number(value)) for name, value in names.items() if value is not None]


def _only_round(trace: Trace) -> Round:
    scores = [-math.inf if tested.score is None else tested.score for tested in trace.tested]
    # A candidate with more images was dropped later; a stable sort keeps the rest.
    order = sorted(best_first(scores), key=lambda i: -(trace.tested[i].images or 0))
    return Round(
        round=1,
        replies=trace.replies,
        candidates=trace.candidates,
        tested=tuple(trace.tested[i] for i in order),
        best=trace.chosen,
    )


def colours(described: Sequence[Boxed]) -> list[str | None]:
    """Colours of the crops in order; None for whole images."""
    found: list[str | None] = []
    crops = 0
    for picture in described:
        found.append(None if picture.box is None else COLOURS[crops % len(COLOURS)])
        crops += picture.box is not None
    return found


def plain_number(value: float | None) -> str:
    """A short form for readers."""
    if value is None:
        return "unknown"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"
