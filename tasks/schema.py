"""What a task is: one YAML literal that names a network, a layer, images, perturbations and how much of them to use."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, field_validator, model_validator

from tasks.common.errors import UserError
from tasks.perturbations.suites import load_suite

Pooling = Literal["mean", "max", "cls"]
Library = Literal["torchvision", "timm", "factory"]
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
        first: The first unit that a run labels unless told otherwise; those before it are labelled only when they are
            asked for by number.
        label: How many units a run labels unless told otherwise, or ``all`` from ``first`` on.
        shown: Whether a sample of a classifier's outputs is taken first from the classes that the probing images show,
            as far as it is known: what images do not show has no label to be right.
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
    """Where the filters of a concept set cut; see ``benchmark.studies.bottleneck.lfcbm.concepts.Thresholds``."""

    longest: Annotated[StrictInt, Field(ge=1)] = 30
    class_similarity: _Similarity = 0.85
    pair_similarity: _Similarity = 0.90
    visible: _Similarity = 0.25
    learnable: _Similarity = 0.45


class Bottleneck(_Strict):
    """A task that trains a concept bottleneck and tests it, in place of labelling units (``docs/bottleneck.md``).

    Attributes:
        training_set: Labelled images that it learns from, by the name under which profiles offer them; those that it is
            tested on are the task's ``probing_set``.
        training_images: How many.
        labels: What it decides: the set's classes (of the miniature's scenes the kind of their one object), or class
            and background.
        groups: Class → the set's classes that belong to it, where they are put together; a class in no group is left
            out.
        held_out: Classes of the set that training never sees: genuine anomalies. The target network may have seen them.
        held_out_contexts: Backgrounds that training never sees, for a context change; of the miniature's scenes alone.
        context_concepts: The concepts that say where something is, not what it is.
        thresholds: Where the concept set's filters cut; the published values unless given.
        penalty: ℓ1 weight λ of the sparse layer on the concepts.
        feature_penalty: That of the sparse layer on the network's features.
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
        version: Raised whenever the same command may give another number; a result always belongs to one version.
        description: One or two sentences for a reader who sees it first in a table.
        model: The target network, by the name under which profiles offer it.
        library: Whose model definition it is; ``factory`` for a function of the user's.
        weights: Tag of the published weights, for profiles that load those; the miniature trains its own.
        layer: Dotted name of the layer.
        pooling: How a spatial or token output becomes one number a unit.
        probing_set: The images, by the name under which profiles offer them.
        images: How many of them a run uses unless told otherwise.
        suites: Perturbation suites that a run applies unless told otherwise.
        severities: Strengths that a run applies unless told otherwise.
        units: How many units there are and how many a run labels.
        concept_set: The concepts that label sets are drawn from, by the name under which profiles offer them.
        truth: What the true concepts are, where they are known: ``class_names`` for the units of a classifier's output;
            ``best_concept`` for hidden units on annotated images: the concept whose presence the clean activation
            predicts best, where it does so well (AUROC of at least 0.9; other units have no truth); ``planted`` for
            units that were planted to detect one concept or AND or OR of two.
        bottleneck: Present in a task that trains a concept bottleneck on the layer in place of labelling its units.
        licences: What is under which licence: part of the task → licence.
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
