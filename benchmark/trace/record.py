"""Records of a run from which traces are redrawn, validated when read: files can be damaged or edited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.perturbations.settings import Corruptions, Lengths, Settings
from tasks.view import View

Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """Base class of the records."""

    # A newer method may record more than the page shows.
    model_config = ConfigDict(extra="ignore", frozen=True)


class TaskFacts(Record):
    """Facts of one of the run's tasks; see ``tasks.schema.Task``."""

    layer: str
    probing_set: str
    images: Count


class Content(Record):
    """The content that the names in a run's options referred to when it ran."""

    tasks: dict[str, TaskFacts]
    images: dict[str, str]
    views: dict[str, View]
    conditions: dict[str, tuple[tuple[str, int], ...]]
    perturbations: dict[str, Any] = Field(default_factory=dict)


class RunIdentity(Record):
    """The part of ``run.json`` that determines every image; see ``benchmark.core.options.RunOptions``."""

    methods: tuple[str, ...]
    repeats: Count
    images: Count | None
    profile: str
    seed: Index
    masks: Literal["probing_set", "segmenter"]
    corruptions: Corruptions
    lengths: Lengths
    feather: float
    content: Content

    def perturbing(self) -> Settings:
        """How images were perturbed."""
        return Settings(self.corruptions, self.lengths, self.feather)


class Boxed(Record):
    """A described image: a probing image, or a crop of it."""

    image: Index
    box: tuple[Index, Index, Index, Index] | None


class Described(Boxed):
    """A described image with the unit's activation on it."""

    activation: float | None


class Tested(Record):
    """A candidate concept on its synthetic images; the available measures depend on the method.

    Attributes:
        seed: Seed of its synthetic images.
        score: Score by which candidates are ordered.
        ranks: Ranks of its images among the unit's synthetic images, ascending, 0 = strongest.
        image_ranks: Likewise, one per image in the order of generation.
        topk_sq_mean: Mean square of the best ranks.
        image_similarity: CLIP similarity of its images to the described images.
        activation: P(one of its images activates the unit more than a probing image).
        specificity: Share of the layer's other units that its images activate less.
        consistency: How consistently it recurs over the rounds.
        mean_activation: The unit's mean activation on its images.
        images: Number of its images when it was last tested, if the choice was adaptive.
    """

    concept: str
    seed: Index
    score: float | None
    ranks: tuple[Index, ...] | None = None
    image_ranks: tuple[Index, ...] | None = None
    topk_sq_mean: float | None = None
    image_similarity: float | None = None
    activation: float | None = None
    specificity: float | None = None
    consistency: float | None = None
    mean_activation: float | None = None
    images: Count | None = None


class Captioned(Record):
    """A synthetic image that a later round captioned: image ``number`` of a concept."""

    concept: str
    number: Index
    seed: Index
    caption: str


class Round(Record):
    """One round of a search, best candidate first.

    Attributes:
        round: Index of the round, from 1.
        synthetic: The synthetic images captioned for it.
        replies: Texts of the summaries.
        candidates: The concepts in the replies.
        tested: All candidates so far.
        threshold: Mean activation that the best one's images had to reach; None if a method has no such threshold.
        stopped: Why the search ended here; None if it went on.
    """

    round: Count
    synthetic: tuple[Captioned, ...] = ()
    replies: tuple[str, ...]
    candidates: tuple[str, ...]
    tested: tuple[Tested, ...]
    best: str | None
    threshold: float | None = None
    passed: bool | None = None
    stopped: str | None = None


class Synthesis(Record):
    """How synthetic images were made: prompt, images per concept, and the side to which they were reduced.

    Attributes:
        draw: Whether each candidate got that many images, or only as many as it took to decide.
    """

    template: str
    count: Count
    synth_px: Count | None = None
    draw: Literal["full", "adaptive"] = "full"


class Trace(Record):
    """How Describe-and-Dissect, or a loop of drawn candidates, arrived at one unit's label.

    See ``baselines.dnd.method``, ``baselines.dnd.refined`` and ``baselines.line``.

    Attributes:
        look_alikes: The images shown to a vision-language model as contrast, in the order of ``described``.
        no_contrast: Why it was shown none, if it should have been.
    """

    mode: str
    scoring: str
    crop_px: Count
    top_images: tuple[Index, ...]
    described: tuple[Described, ...]
    captions: tuple[str, ...]
    simplified: tuple[str, ...]
    replies: tuple[str, ...]
    candidates: tuple[str, ...]
    synthesis: Synthesis
    tested: tuple[Tested, ...]
    rounds: tuple[Round, ...] | None = None
    chosen: str | None
    look_alikes: tuple[Index, ...] = ()
    no_contrast: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Trace:
        if not len(self.described) == len(self.captions) == len(self.simplified):
            raise ValueError("described, captions and simplified differ in length")
        fits(self.described, self.crop_px)
        count = self.synthesis.count
        if any(image.number >= count for turn in self.rounds or () for image in turn.synthetic):
            raise ValueError(f"a captioned synthetic image has a number beyond the {count} of its concept")
        return self

    def images(self) -> tuple[int, ...]:
        """The probing images in the trace, without duplicates."""
        described = (picture.image for picture in self.described)
        return tuple(dict.fromkeys((*self.top_images, *described, *self.look_alikes)))


def fits(described: Sequence[Boxed], crop_px: int) -> None:
    """Refuse boxes outside the image that they refer to.

    Raises:
        ValueError: For the first such box.
    """
    for picture in described:
        if picture.box is not None:
            left, top, right, bottom = picture.box
            if not (left < right <= crop_px and top < bottom <= crop_px):
                raise ValueError(f"the box {picture.box} is not inside an image of {crop_px} px")


def conditions_of(identity: RunIdentity, task: str) -> dict[str, list[int]]:
    """Condition → severities of one task in a run, ``clean`` first."""
    found: dict[str, list[int]] = {"clean": [0]}
    for name, severity in identity.content.conditions.get(task, ()):
        found.setdefault(name, []).append(severity)
    return found
