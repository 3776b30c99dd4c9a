"""The recorded trace of a unit labelled by ``clear``, and its page: every context, term by term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from pydantic import model_validator

from baselines.contexts import SEEN, Context, Foreground
from benchmark.trace.images import Redrawn
from benchmark.trace.page import (
    CHOSEN,
    CHOSEN_FILL,
    Heading,
    begin_page,
    colours,
    draw_top_images,
    end_page,
    plain_number,
    section,
)
from benchmark.trace.record import Boxed, Count, Index, Record, Synthesis, fits
from benchmark.trace.sheet import BODY, INK, MARGIN, RULE, SMALL, SOFT, WIDTH, Sheet, Thumb
from tasks.perturbations.settings import needs_foreground

_LEFT: Final = 300
"""Width of the name of a candidate; its terms are to the right."""

Terms = Mapping[str, float]
Cut = UInt8[np.ndarray, "h w 3"]


class SeenThere(Record):
    """The described images in one context: their captions, and their activations of the unit."""

    context: str
    captions: tuple[str, ...]
    activations: tuple[float, ...]

    def parsed(self) -> Context:
        """The context."""
        name, _, severity = self.context.partition(":")
        return Context(name, int(severity or 0))


class Candidate(Record):
    """A tested candidate; see ``baselines.clear.record``."""

    concept: str
    seed: Index
    proposed: tuple[str, ...]
    score: float
    contexts: dict[str, dict[str, float]]
    distinctness: float
    specificity: float
    cost: float
    images: Count | None = None


class LostPart(Record):
    """A part of the label, and the share of its captions that lose it; None if unknown."""

    part: str
    foreground: float | None
    background: float | None


class Dependence(Record):
    """What the unit depends on; see ``baselines.clear.dependence``."""

    foreground: float | None
    background: float | None
    context: float | None
    losses: dict[str, float]
    parts: tuple[LostPart, ...]


class ContextTrace(Record):
    """How ``clear`` arrived at one unit's label; see ``baselines.clear.record``."""

    crop_px: int
    top_images: tuple[Index, ...]
    described: tuple[Boxed, ...]
    seen: tuple[SeenThere, ...]
    replies: dict[str, tuple[str, ...]]
    parts: tuple[str, ...]
    joined: tuple[str, ...]
    synthesis: Synthesis
    weights: dict[str, float]
    aggregate: str
    spread: float
    candidates: Index
    tested: tuple[Candidate, ...]
    dependence: Dependence | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> ContextTrace:
        fits(self.described, self.crop_px)
        for there in self.seen:
            if not len(there.captions) == len(there.activations) == len(self.described):
                raise ValueError(f"captions, activations and described differ in length in {there.context}")
            there.parsed()
        for one in self.tested:
            same = all(set(terms) == set(self.weights) for terms in one.contexts.values())
            if not same or set(one.contexts) != set(self.contexts()):
                raise ValueError(f"the terms of {one.concept!r} are not those of the contexts")
        return self

    def images(self) -> tuple[int, ...]:
        """The probing images in the trace, without duplicates."""
        return tuple(dict.fromkeys((*self.top_images, *(picture.image for picture in self.described))))

    def contexts(self) -> list[str]:
        """The contexts in which candidates are scored, in order."""
        return [there.context for there in self.seen if there.context in self.replies]

    def needs_foreground(self) -> bool:
        """Whether a context changes only a part of the image, so that a segmenter is needed to render it again."""
        return any(needs_foreground(there.parsed().name) for there in self.seen)

    @property
    def chosen(self) -> str | None:
        """The label."""
        return self.tested[0].concept if self.tested else None

    @property
    def mode(self) -> str:
        """``clear`` has a single mode."""
        return "fixed"

    @property
    def scoring(self) -> str:
        """The scoring rule as text."""
        return "worst context" if self.aggregate == "worst" else f"mean - {self.spread:g} x standard deviation"


def draw_context_page(
    heading: Heading,
    trace: ContextTrace,
    pictures: Redrawn,
    activations: Mapping[int, float],
    foreground: Foreground | None = None,
) -> Image.Image:
    """Draw the page.

    Args:
        heading: Top and bottom of the page.
        trace: Recorded trace.
        pictures: Its images.
        activations: Probing image → the unit's activation, if known.
        foreground: Finds the foreground, for contexts that change only a part of the image.
    """
    sheet = begin_page(heading)
    draw_top_images(sheet, heading, trace.top_images, trace.described, trace.crop_px, pictures, activations)
    _contexts(sheet, trace, pictures, foreground)
    _dependence(sheet, trace)
    _proposals(sheet, trace)
    _candidates(sheet, trace, pictures)
    return end_page(sheet, heading)


def _contexts(sheet: Sheet, trace: ContextTrace, pictures: Redrawn, foreground: Foreground | None) -> None:
    section(
        sheet,
        "Described images in every context",
        "The top images and attention crops that activate the unit most, unchanged and in each context, "
        "with the unit's activation and the caption. Nothing is proposed or scored in a probe: it only shows what the "
        "unit depends on.",
    )
    marks = colours(trace.described)
    for there in trace.seen:
        context = there.parsed()
        shown = pictures.in_context(context, foreground)
        probe = "" if there.context in trace.replies else " (probe)"
        loss = None if trace.dependence is None else trace.dependence.losses.get(there.context)
        lost = "" if loss is None else f": the unit loses {loss:.0%} of its excess activation"
        sheet.text(f"{_name(there.context)}{probe}{lost}", BODY + 1)
        sheet.gap(4)
        thumbs = []
        for number, picture in enumerate(trace.described):
            whole = shown[picture.image]
            pixels = whole if picture.box is None else pictures.cut_from(whole, picture.box)
            under = ((plain_number(there.activations[number]), SOFT), (there.captions[number], INK))
            thumbs.append(Thumb(pixels, under, str(number + 1), marks[number] or RULE))
        sheet.thumbs(thumbs, most=4)
        sheet.gap(4)


def _dependence(sheet: Sheet, trace: ContextTrace) -> None:
    found = trace.dependence
    if found is None:
        return
    section(
        sheet,
        "What the unit depends on",
        "0 = nothing, 1 = all. Foreground, background: the largest loss of activation by a change of that part only; "
        "context: the mean loss over all contexts and probes. For a part of the label: the share of the captions that "
        "no longer contain it.",
    )
    whole = [("foreground", found.foreground), ("background", found.background), ("context", found.context)]
    sheet.columns([(f"the unit, {name}", plain_number(value)) for name, value in whole], 5)
    for part in found.parts:
        both = [("foreground", part.foreground), ("background", part.background)]
        sheet.columns([(f'"{part.part}", {name}', plain_number(value)) for name, value in both], 5)


def _proposals(sheet: Sheet, trace: ContextTrace) -> None:
    section(
        sheet,
        "Candidates",
        "The summaries of each context's shuffled captions; the parts of all captions, most frequent first, "
        "then those of control images; and pairs of the best parts.",
    )
    for context in trace.contexts():
        said = trace.replies[context]
        sheet.text(f"{_name(context)}: " + ("; ".join(reply or "(nothing)" for reply in said) or "nothing"), most=3)
    sheet.text("Parts: " + ("; ".join(trace.parts) or "none"), most=4)
    sheet.text("Pairs: " + ("; ".join(trace.joined) or "none"), most=3)


def _candidates(sheet: Sheet, trace: ContextTrace, pictures: Redrawn) -> None:
    if not trace.tested:
        return
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in trace.weights.items())
    section(
        sheet,
        f"The best {len(trace.tested)} of {trace.candidates} candidates, on synthetic images",
        f"In every context three chances that a true concept wins against others, weighted ({weights}). Score: "
        f"{trace.scoring} of the sums over the contexts, minus penalties for a lack of distinctness or specificity and "
        f"for further parts. {_images(trace.synthesis)}, as generated.",
    )
    for place, tested in enumerate(trace.tested, start=1):
        best = place == 1
        with sheet.card(*((CHOSEN_FILL, CHOSEN) if best else ("white", "white"))):
            top = sheet.y
            if best:
                sheet.pill("chosen", CHOSEN)
            sheet.text(f"{place}. {tested.concept}", BODY + 3, CHOSEN if best else INK, width=_LEFT - 20, most=2)
            sheet.text(_origin(tested.proposed), SMALL, SOFT, width=_LEFT - 20, most=3)
            costs = {"distinctness": tested.distinctness, "specificity": tested.specificity, "cost": tested.cost}
            for name, value in (costs | {"score": tested.score}).items():
                sheet.text(f"{name} {plain_number(value)}", SMALL, INK, width=_LEFT - 20)
            bottom = sheet.y
            sheet.y = top + (26 if best else 0)
            _grid(sheet, {name: tested.contexts[name] for name in trace.contexts()}, trace.weights)
            sheet.y = max(bottom, sheet.y) + 4
            sheet.thumbs([Thumb(image) for image in pictures.synthetic(tested.concept, tested.seed)[: tested.images]])
        sheet.gap(6)


def _grid(sheet: Sheet, contexts: Mapping[str, Terms], weights: Terms) -> None:
    """Terms down, contexts across, and their weighted sums."""
    left = MARGIN + _LEFT
    each = (WIDTH - MARGIN - left) // (len(contexts) + 1)

    def row(cells: Sequence[str], colour: str) -> None:
        top = sheet.y
        ends = []
        for place, cell in enumerate(cells):
            sheet.y = top
            sheet.text(cell, SMALL, SOFT if place == 0 else colour, left + place * each, each - 6, 2)
            ends.append(sheet.y)
        sheet.y = max(ends)

    row(["", *map(_name, contexts)], SOFT)
    for term in weights:
        row([term, *(plain_number(terms[term]) for terms in contexts.values())], INK)
    row(["sum", *(plain_number(sum(w * terms[t] for t, w in weights.items())) for terms in contexts.values())], INK)


def _images(how: Synthesis) -> str:
    if how.draw == "full":
        return f"{how.count} images per candidate"
    return f"{how.count} images of each finalist and fewer of the others"


def _origin(proposed: Sequence[str]) -> str:
    words = {"part": "part of captions", "joined": "two parts"}
    summed_up = [_name(by) for by in proposed if by not in words]
    said = [words[by] for by in proposed if by in words]
    return "; ".join([*said, *([f"summary of {', '.join(summed_up)}"] if summed_up else [])])


def _name(context: str) -> str:
    if context == str(SEEN):
        return "as given"
    return context.replace("_", " ").replace(":", " ")
