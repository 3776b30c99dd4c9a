"""The definition of a task: one YAML literal naming a network, a layer, images, perturbations, and their amounts."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, field_validator, model_validator

from tasks.common.errors import UserError
from tasks.perturbations.suites import load_suite

Pooling = Literal["mean", "max", "cls"]
Library = Literal["torchvision", "timm", "factory"]
Readout = Literal["channels", "dictionary", "directions"]
Truth = Literal["class_names", "best_concept", "planted"]
Item = TypeVar("Item")
Severity = Annotated[StrictInt, Field(ge=1, le=5)]

_NAME = r"^[a-z0-9][a-z0-9_]*$"
# A layer is looked up by this dotted name and never evaluated, so nothing but a name may pass.
_DOTTED = r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


def _count_or_all(value: object) -> object:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"must be a whole number from 1 or 'all', not {value!r}")


class Units(_Strict):
    """How many units the layer has, and how many of them a run labels.

    Attributes:
        total: Number of units; absent means "as many as the profile's model has".
        first: The first unit that a run labels by default; earlier ones are labelled only when requested by number.
        label: Number of units that a run labels by default, or ``all`` from ``first`` on.
        shown: Whether a sample of a classifier's outputs is first drawn from the classes present in the probing images,
            as far as known: a class that no image shows has no label that could be right.
    """

    total: Annotated[StrictInt, Field(ge=1)] | None = None
    first: Annotated[StrictInt, Field(ge=0)] = 0
    label: Annotated[StrictInt | Literal["all"], BeforeValidator(_count_or_all)] = 24
    shown: bool = Field(default=False, exclude_if=lambda value: not value)

    @model_validator(mode="after")
    def _enough(self) -> Units:
        if self.total is None:
            return self
        if self.first >= self.total:
            raise ValueError(f"units.first is {self.first}, but the layer has units 0 to {self.total - 1}")
        if self.label != "all" and self.label > self.total - self.first:
            after = f" from unit {self.first} on" if self.first else ""
            raise ValueError(f"units.label is {self.label}, but the layer has {self.total - self.first} units{after}")
        return self


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
_Similarity = Annotated[float, Field(ge=-1, le=1)]


class BottleneckThresholds(_Strict):
    """Thresholds of a concept set's filters; see ``benchmark.studies.bottleneck.lfcbm.concepts.Thresholds``."""

    longest: Annotated[StrictInt, Field(ge=1)] = 30
    class_similarity: _Similarity = 0.85
    pair_similarity: _Similarity = 0.90
    visible: _Similarity = 0.25
    learnable: _Similarity = 0.45


class Bottleneck(_Strict):
    """A task that trains and tests a concept bottleneck instead of labelling units (``docs/bottleneck.md``).

    Attributes:
        training_set: Labelled training images, by the name under which profiles offer them; the test images are the
            task's ``probing_set``.
        labels: What it predicts: the set's classes (for the miniature's scenes the kind of their single object), or
            class and background.
        groups: Class → the set's classes that are merged into it; a class in no group is excluded.
        held_out: Classes of the set that training never sees: genuine anomalies. The target network may have seen them.
        held_out_contexts: Backgrounds that training never sees, for a context change; only for the miniature's scenes.
        context_concepts: The concepts that describe where something is, not what it is.
        thresholds: Thresholds of the concept set's filters; defaults to the published values.
        penalty: ℓ1 weight λ of the sparse layer on the concepts.
        feature_penalty: The same for the sparse layer on the network's features.
    """

    training_set: Annotated[str, Field(pattern=_NAME)]
    training_images: Annotated[StrictInt, Field(ge=20)]
    labels: Literal["class", "class_and_context"] = "class"
    groups: dict[str, Names] = Field(default_factory=dict)
    held_out: Names = ()
    held_out_contexts: Names = ()
    context_concepts: Names = ()
    thresholds: BottleneckThresholds = BottleneckThresholds()
    penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.0007
    feature_penalty: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.0125


class Task(_Strict):
    """One task; ``python -m benchmark show NAME`` prints it.

    Attributes:
        name: The name used on the command line and in every result; also the name of its file.
        version: Raised whenever the same command may give a different number; a result always belongs to one version.
        description: One or two sentences for a reader who first sees the task in a table.
        model: The target network, by the name under which profiles offer it.
        library: The library of the model definition; ``factory`` for a user's function.
        weights: Tag of the published weights, for profiles that load those; the miniature trains its own.
        layer: Dotted name of the layer.
        pooling: How a spatial or token output is reduced to one value per unit.
        readout: What the units of the layer are: its channels, the latents of the ``dictionary`` that the profile's
            network has for it, or its ``directions`` (``docs/latents.md``).
        probing_set: The images, by the name under which profiles offer them.
        images: Number of images that a run uses by default.
        suites: Perturbation suites that a run applies by default.
        severities: Severities that a run applies by default.
        units: Number of units, and how many a run labels.
        concept_set: The concepts that label sets are drawn from, by the name under which profiles offer them.
        truth: The true concepts, where they are known: ``class_names`` for the units of a classifier's output;
            ``best_concept`` for hidden units on annotated images: the concept whose presence the clean activation
            predicts best, if it does so well (AUROC of at least 0.9; other units have no truth); ``planted`` for units
            that were planted to detect one concept or AND or OR of two.
        bottleneck: Present in a task that trains a concept bottleneck on the layer instead of labelling its units.
        licences: Part of the task → its licence.
        citation: What to cite, as BibTeX or plain text.
    """

    name: Annotated[str, Field(pattern=_NAME, max_length=60)]
    version: Annotated[StrictInt, Field(ge=1)]
    description: Annotated[str, Field(min_length=10)]
    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.]*$")]
    library: Library
    weights: str
    layer: Annotated[str, Field(pattern=_DOTTED)]
    pooling: Pooling
    readout: Readout = Field(default="channels", exclude_if=lambda value: value == "channels")
    probing_set: Annotated[str, Field(pattern=_NAME)]
    images: Annotated[StrictInt, Field(ge=2)]
    suites: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)]
    severities: Annotated[tuple[Severity, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (3,)
    units: Units = Units()
    concept_set: Annotated[str, Field(pattern=_NAME)]
    truth: Truth | None = None
    bottleneck: Bottleneck | None = None
    licences: Annotated[dict[str, str], Field(min_length=1)]
    citation: Annotated[str, Field(min_length=10)]

    @field_validator("suites")
    @classmethod
    def _known_suites(cls, suites: tuple[str, ...]) -> tuple[str, ...]:
        for suite in suites:
            try:
                load_suite(suite)
            except UserError as error:
                raise ValueError(str(error)) from None
        return _distinct(suites)

    @field_validator("severities")
    @classmethod
    def _distinct_severities(cls, severities: tuple[int, ...]) -> tuple[int, ...]:
        return _distinct(severities)


def _distinct(items: tuple[Item, ...]) -> tuple[Item, ...]:
    if len(set(items)) < len(items):
        raise ValueError(f"the same value is given twice: {', '.join(map(str, items))}")
    return items
