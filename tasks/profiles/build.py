"""From names to objects: builds the roles of a profile when they are first asked for, and checks every file's hash."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
import torchvision
from torch import nn

from tasks.errors import UserError, unknown_name
from tasks.miniature.generator import RenderingGenerator
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.vocabulary import CATEGORIES, CATEGORY_OF, CONCEPTS, SYNONYMS
from tasks.models.blip_captioner import BlipCaptioner
from tasks.models.clip_encoder import OpenClipEncoder
from tasks.models.counting_summariser import CountingSummariser
from tasks.models.grabcut import GrabCutSegmenter
from tasks.models.planted import plant
from tasks.models.segmenter import ForegroundSegmenter
from tasks.models.sentence_encoder import MiniLmEncoder
from tasks.models.target import Preprocessing, TargetModel
from tasks.models.weights import check_file, load_weights
from tasks.profiles.planted import PlantedUnit, read_planted
from tasks.profiles.schema import Folder, Profile, Target
from tasks.roles import Captioner, ImageGenerator, ImageTextEncoder, Segmenter, SentenceEncoder, Summariser


class Roles:
    """The models and data behind a profile, each built once and only if it is used.

    Args:
        profile: As read from its file.
        device: Where models run.
        batch_size: Images a forward pass of the target.
    """

    def __init__(self, profile: Profile, device: torch.device, batch_size: int = 64) -> None:
        self.profile = profile
        self.device = device
        self.batch_size = batch_size
        self._targets: dict[str, TargetModel] = {}
        self._probing: dict[tuple[str, int], MiniatureProbingSet] = {}

    def target(self, name: str) -> TargetModel:
        """The target network of that name.

        Raises:
            UserError: for an unknown name, a missing or wrong file.
        """
        if name not in self._targets:
            entry = self.profile.target(name)
            network = _network(entry)
            steps = Preprocessing(entry.input.resize, entry.input.crop, entry.input.mean, entry.input.std)
            self._targets[name] = TargetModel(network, steps, self.device, self.batch_size)
        return self._targets[name]

    def unit_count(self, name: str, layer: str) -> int:
        """How many units a layer of a target has, read by a pass over one grey image.

        Raises:
            UserError: for an unknown model or layer.
        """
        target = self.target(name)
        grey = torch.full((1, 3, 64, 64), 127, dtype=torch.uint8)
        return target.read(grey, {layer: "mean"})[layer].pooled.shape[1]

    def planted(self, name: str) -> Mapping[int, PlantedUnit]:
        """The planted units of a target: number in its ``layer4`` → what the unit detects, and how well.

        Raises:
            UserError: for an unknown name, a target without planted units, a missing or wrong file.
        """
        entry = self.profile.target(name).planted
        if entry is None:
            raise UserError(
                f"The model {name!r} of profile {self.profile.name!r} has no planted units, so a task with "
                "'truth: planted' cannot use it."
            )
        check_file(entry.weights, entry.sha256)
        planted = read_planted(entry.weights)
        return dict(enumerate(planted.units, start=planted.first))

    def unknown_texts(self) -> int:
        """How many different concepts the generator could not read and drew as random images."""
        generator = self.__dict__.get("generator")
        return generator.unknown if isinstance(generator, RenderingGenerator) else 0

    def probing_set(self, name: str, count: int) -> MiniatureProbingSet:
        """The first ``count`` images of a probing set.

        Raises:
            UserError: for an unknown name, or if it holds fewer images.
        """
        source = self.profile.probing_set(name)
        if count > source.limit:
            raise UserError(f"The probing set {name!r} holds {source.limit} images; --images {count} is too many.")
        key = (name, count)
        if key not in self._probing:
            self._probing[key] = MiniatureProbingSet(source.split, count)
        return self._probing[key]

    def class_names(self) -> tuple[str, ...] | None:
        """The names of the final layer's units, which are also the concepts of the truth; None where unknown."""
        return CONCEPTS if self.profile.vocabulary else None

    def rivals(self, concept: str) -> tuple[str, ...]:
        """The other concepts of a concept's category, which a label that is right must not name."""
        return tuple(name for name in CATEGORIES[CATEGORY_OF[concept]] if name != concept)

    def synonyms(self) -> Mapping[str, tuple[str, ...]]:
        """Concept → other names for it."""
        return SYNONYMS if self.profile.vocabulary else {}

    @cached_property
    def clip(self) -> ImageTextEncoder:
        """The image-text encoder."""
        return OpenClipEncoder(_checked(self.profile.clip), self.device)

    @cached_property
    def sentence_encoder(self) -> SentenceEncoder | None:
        """The sentence encoder, if the profile has one."""
        return MiniLmEncoder(str(self.device)) if self.profile.sentence_encoder else None

    @cached_property
    def captioner(self) -> Captioner | None:
        """The captioner, if the profile has one."""
        return BlipCaptioner(_checked(self.profile.captioner), self.device) if self.profile.captioner else None

    @cached_property
    def summariser(self) -> Summariser | None:
        """The summariser, if the profile has one."""
        return CountingSummariser() if self.profile.summariser else None

    @cached_property
    def generator(self) -> ImageGenerator | None:
        """The image generator, if the profile has one."""
        return RenderingGenerator() if self.profile.generator else None

    @cached_property
    def segmenter(self) -> Segmenter:
        """The profile's segmenter; GrabCut if it names none."""
        entry = self.profile.segmenter
        if entry is None:
            return GrabCutSegmenter()
        return ForegroundSegmenter(load_weights(entry.weights, entry.sha256), entry.side, self.device)


def _network(entry: Target) -> nn.Module:
    if entry.architecture not in torchvision.models.list_models():
        raise unknown_name("architecture", entry.architecture, torchvision.models.list_models())
    network = torchvision.models.get_model(entry.architecture, weights=None, num_classes=entry.classes)
    try:
        network.load_state_dict(load_weights(entry.weights, entry.sha256))
    except RuntimeError as error:
        raise UserError(
            f"{entry.weights} does not fit {entry.architecture} with {entry.classes} classes "
            f"({str(error).splitlines()[-1].strip()}); correct the profile."
        ) from error
    if entry.planted:
        return plant(network, entry.planted.weights, entry.planted.sha256, entry.sha256)
    return network


def _checked(entry: Folder) -> Path:
    check_file(entry.path / entry.weights, entry.sha256)
    return entry.path
