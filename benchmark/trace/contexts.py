"""The recorded trace of a unit labelled by ``clear``, and its page: top images, probes, and candidates."""

from __future__ import annotations

from typing import Final

from PIL import Image
from pydantic import model_validator

from baselines.contexts import SEEN, Context, Foreground
from benchmark.trace.images import Redrawn
from benchmark.trace.page import (
    CHOSEN,
    CHOSEN_FILL,
    Heading,
    begin_page,
    end_page,
    plain_number,
    section,
)
from benchmark.trace.record import Index, Record, Synthesis
from benchmark.trace.sheet import BODY, INK, MARGIN, SMALL, SOFT, WIDTH, Sheet, Thumb
from tasks.perturbations.settings import needs_foreground

_LEFT: Final = 300
"""Width of the name of a candidate; its terms are to the right."""


class SeenThere(Record):
    """The top images as given or in a probe: their captions, and the unit's activations."""

    context: str
    captions: tuple[str, ...]
    activations: tuple[float, ...]

    def parsed(self) -> Context:
        """The context."""
        name, _, severity = self.context.partition(":")
        return Context(name, int(severity or 0))


class Candidate(Record):
    """A shortlisted concept; see ``baselines.clear.method``."""

    concept: str
    seed: Index
    score: float
    activation: float
    evidence: float
    terms: dict[str, float]


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

    top_images: tuple[Index, ...]
    seen: tuple[SeenThere, ...]
    parts: tuple[str, ...]
    synthesis: Synthesis
    drawn: bool
    weights: dict[str, float]
    evidence_weight: float
    candidates: Index
    tested: tuple[Candidate, ...]
    dependence: Dependence

    @model_validator(mode="after")
    def _fits_together(self) -> ContextTrace:
        for there in self.seen:
            if not len(there.captions) == len(there.activations) == len(self.top_images):
                raise ValueError(f"captions, activations and top images differ in number in {there.context}")
            there.parsed()
        for one in self.tested:
            if set(one.terms) != set(self.weights):
                raise ValueError(f"the terms of {one.concept!r} are not those that have a weight")
        return self

    def images(self) -> tuple[int, ...]:
        """The probing images in the trace, without duplicates."""
        return tuple(dict.fromkeys(self.top_images))

    def needs_foreground(self) -> bool:
        """Whether a probe changes only a part of the image, so that a segmenter is needed to render it again."""
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
        return f"rank of drawn images + {self.evidence_weight:g} x evidence"


def draw_context_page(
    heading: Heading,
    trace: ContextTrace,
    pictures: Redrawn,
    foreground: Foreground | None = None,
) -> Image.Image:
    """Draw the page.

    Args:
        heading: Top and bottom of the page.
        foreground: Finds the foreground, for contexts that change only a part of the image.
    """
    sheet = begin_page(heading)
    _contexts(sheet, trace, pictures, foreground)
    _dependence(sheet, trace)
    _candidates(sheet, trace, pictures)
    return end_page(sheet, heading)


def _contexts(sheet: Sheet, trace: ContextTrace, pictures: Redrawn, foreground: Foreground | None) -> None:
    section(
        sheet,
        "Top images, as given and in probes",
        "With the unit's activation and the caption. Nothing is chosen by a probe: it only shows what the unit depends "
        "on.",
    )
    for there in trace.seen:
        context = there.parsed()
        shown = pictures.in_context(context, foreground)
        loss = trace.dependence.losses.get(there.context)
        lost = "" if loss is None else f" (probe): the unit loses {loss:.0%} of its excess activation"
        sheet.text(f"{_name(there.context)}{lost}", BODY + 1)
        sheet.gap(4)
        thumbs = []
        for number, image in enumerate(trace.top_images):
            under = ((plain_number(there.activations[number]), SOFT), (there.captions[number], INK))
            thumbs.append(Thumb(shown[image], under, str(number + 1)))
        sheet.thumbs(thumbs, most=4)
        sheet.gap(4)


def _dependence(sheet: Sheet, trace: ContextTrace) -> None:
    found = trace.dependence
    section(
        sheet,
        "What the unit depends on",
        "0 = nothing, 1 = all. Foreground, background: the largest loss of activation by a change of that part only; "
        "context: the mean loss over all probes. For a part of the label: the share of the captions that no longer "
        "contain it.",
    )
    whole = [("foreground", found.foreground), ("background", found.background), ("context", found.context)]
    sheet.columns([(f"the unit, {name}", plain_number(value)) for name, value in whole], 5)
    for part in found.parts:
        both = [("foreground", part.foreground), ("background", part.background)]
        sheet.columns([(f'"{part.part}", {name}', plain_number(value)) for name, value in both], 5)


def _candidates(sheet: Sheet, trace: ContextTrace, pictures: Redrawn) -> None:
    weights = ", ".join(f"{name} {weight:g}" for name, weight in trace.weights.items())
    drawn = f"{trace.synthesis.count} images per candidate, as generated" if trace.drawn else "No image is drawn"
    section(
        sheet,
        f"The {len(trace.tested)} of {trace.candidates} candidates with the most evidence",
        f"Candidates are the concept set and the parts of the captions ({'; '.join(trace.parts) or 'none'}). Evidence: "
        f"the sum of the standardised terms, weighted ({weights}). Score: mean rank of the drawn images by activation "
        f"(0 to 1) + {trace.evidence_weight:g} x evidence, standardised over these candidates - a penalty for further "
        f"parts. {drawn}.",
    )
    for place, tested in enumerate(trace.tested, start=1):
        best = place == 1
        with sheet.card(*((CHOSEN_FILL, CHOSEN) if best else ("white", "white"))):
            top = sheet.y
            if best:
                sheet.pill("chosen", CHOSEN)
            sheet.text(f"{place}. {tested.concept}", BODY + 3, CHOSEN if best else INK, width=_LEFT - 20, most=2)
            bottom = sheet.y
            sheet.y = top + (26 if best else 0)
            values = {"score": tested.score, "rank of drawn images": tested.activation, "evidence": tested.evidence}
            for name, value in (values | tested.terms).items():
                sheet.text(f"{name} {plain_number(value)}", SMALL, INK, MARGIN + _LEFT, WIDTH - 2 * MARGIN - _LEFT)
            sheet.y = max(bottom, sheet.y) + 4
            if trace.drawn:
                sheet.thumbs([Thumb(image) for image in pictures.synthetic(tested.concept, tested.seed)])
        sheet.gap(6)


def _name(context: str) -> str:
    if context == str(SEEN):
        return "as given"
    return context.replace("_", " ").replace(":", " ")
