"""One pass over the images of a condition for all layers of one network; cached results are not computed again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final, cast, get_args

import torch
from torch import Tensor

from baselines.base import Method
from benchmark.core.work import Work
from tasks.activations.capture import Pooling
from tasks.activations.maps import LateMaps, Maps, MemoryMaps, TopMaps
from tasks.activations.sparse import SparseColumns
from tasks.activations.spool import blocks
from tasks.cache.keys import canonical, device_kind, embeddings_identity, images_identity, pass_identity
from tasks.observation import LayerKind, Observation
from tasks.observe import (
    IMAGES_AT_ONCE,
    Condition,
    Images,
    Probe,
    as_shown,
    late_maps,
    late_top_maps,
    observe,
    perturbed,
)
from tasks.perturbations.engine import VERSION as ENGINE_VERSION
from tasks.perturbations.registry import PERTURBATIONS
from tasks.perturbations.settings import Settings, needs_foreground
from tasks.profiles.build import Roles

_KINDS: Final = get_args(LayerKind)
_LARGEST: Final = 2**28
"""Bytes of maps kept for other runs: larger ones are cheaper to recompute."""

Units = Mapping[str, Sequence[int]]
"""Layer → the units whose maps are read by methods."""


@dataclass(frozen=True)
class Passes:
    """The passes of one network over one probing set.

    Attributes:
        roles: The profile's models; their cache keeps the results of a pass.
        model: Name of the network.
        probe: All images, before exclusions.
        digest: ``ProbingSet.digest`` of ``probe``.
        mapped: Number of a unit's top images whose maps methods read, see ``mapped_images``; None for all images.
    """

    roles: Roles
    model: str
    probe: Probe
    digest: str
    settings: Settings
    seed: int
    mapped: int | None = None

    def of_tasks(self, works: Sequence[Work], condition: Condition) -> dict[str, Observation]:
        """Layer → its observation under a condition, with the annotation of the images then.

        Args:
            works: The tasks; methods read the maps of the units that they label, no others.
            condition: The condition; its images are perturbed only where the cache lacks their pass.
        """
        layers: dict[str, Pooling] = {work.task.layer: work.task.pooling for work in works}
        units = {
            layer: sorted({unit for work in works if work.task.layer == layer for unit in work.units})
            for layer in layers
        }
        images = perturbed(self.probe, condition, self.seed, self.settings, self.roles.device)
        return self.observe(as_shown(self.probe, condition, self.seed), condition, images, layers, units)

    def observe(
        self, probe: Probe, condition: Condition, images: Images, layers: Mapping[str, Pooling], units: Units
    ) -> dict[str, Observation]:
        """Observations of the layers and CLIP under a condition; see ``tasks.observe.observe``.

        Args:
            probe: The images available under the condition.
            images: Those images under the condition.
            layers: Dotted layer name → pooling.
            units: Layer → the units whose maps are available.
        """
        made: dict[str, Observation] = {}

        def seen() -> dict[str, Observation]:
            if not made:
                target, clip = self.roles.target(self.model), self.roles.plain_clip
                made.update(observe(target, layers, probe, condition, images, clip, maps=units, mapped=self.mapped))
            return made

        network = self.roles.network_identity(self.model) if self.roles.cache.keeps else None
        if network is None or (encoder := self.roles.clip_identity) is None:
            return seen()
        about = self._images_identity(probe, condition)
        kept = self.roles.cache.blob(
            embeddings_identity(encoder=encoder, images=about),
            lambda: {"embeddings": next(iter(seen().values())).clip_embeddings},
        )
        found = {}
        for layer, pooling in layers.items():
            identity = pass_identity(
                network=network,
                layer=layer,
                pooling=pooling,
                precision="float32",
                device=device_kind(self.roles.device),
                images=about,
            )
            shown = self.roles.cache.blob(identity, lambda layer=layer: _as_tensors(seen()[layer]))
            pooled = _pooled(shown)
            found[layer] = Observation(
                layer=layer,
                kind=_KINDS[int(shown["kind"])],
                condition=condition.name,
                severity=condition.severity,
                repeat=0,
                image_ids=probe.ids,
                activations=pooled,
                maps=self._maps(identity, units[layer], shown, images, made[layer].maps if made else None),
                clip_embeddings=kept["embeddings"],
                images=images,
                segmentation=probe.segmentation,
                presence=probe.presence,
            )
        return found

    def _images_identity(self, probe: Probe, condition: Condition) -> dict[str, Any]:
        masked = needs_foreground(condition.name)
        entry = PERTURBATIONS.get(condition.name)
        return images_identity(
            images=hashlib.sha256(canonical([self.digest, list(probe.ids)]).encode()).hexdigest(),
            condition=condition.name,
            severity=condition.severity,
            perturbation=entry and entry.form(self.settings.corruptions).facts(),
            engine=ENGINE_VERSION,
            settings=asdict(self.settings),
            masks=self._masks_digest if masked else None,
            seed=self.seed,
        )

    @cached_property
    def _masks_digest(self) -> str | None:
        """SHA-256 of all foreground masks; they may come from a segmenter, which the images' digest does not cover."""
        if self.probe.masks is None:
            return None
        digest = hashlib.sha256()
        for part in blocks(len(self.probe.ids), IMAGES_AT_ONCE):
            digest.update(self.probe.masks(part).numpy().tobytes())
        return digest.hexdigest()

    def _maps(
        self,
        identity: Mapping[str, Any],
        units: Sequence[int],
        shown: Mapping[str, Tensor],
        images: Images,
        made: Maps | None,
    ) -> Maps | None:
        """Maps of the pass that was just made, or else read from the cache or computed when a method requests them.

        Args:
            identity: Of the layer's activations.
            shown: The layer's blob.
            made: The maps of the pass, if it was just made.

        Returns:
            None if the layer has none.
        """
        if not len(shown["map_size"]):
            return None
        pooled, (height, width), layer = _pooled(shown), shown["map_size"].tolist(), identity["layer"]
        shape = (len(pooled), pooled.shape[1], height, width)

        def others() -> Maps:
            return late_maps(self.roles.target(self.model), layer, units, shape, images)

        def computed() -> Maps:
            if not self.mapped:
                return others()
            return late_top_maps(self.roles.target(self.model), layer, units, shape, images, self.mapped, pooled)

        def restored() -> Maps:
            found = self.roles.cache.blob(key, lambda: _map_tensors(computed(), units))
            if self.mapped is None:
                return MemoryMaps(found["maps"], units, shape[1])
            top = TopMaps(shape, units, self.mapped, LateMaps(others))
            top.images, top.maps = found["images"], found["maps"]
            return top

        count = len(pooled) if self.mapped is None else self.mapped
        if not 0 < 2 * count * len(units) * height * width <= _LARGEST:
            return LateMaps(computed) if made is None else made
        key = {**identity, "what": "maps", "units": list(units)}
        if self.mapped is not None:
            key["top"] = self.mapped
        if made is None:
            return LateMaps(restored)
        self.roles.cache.blob(key, lambda: _map_tensors(made, units))
        return made


def mapped_images(methods: Iterable[Method]) -> int | None:
    """The number of a unit's top images whose maps the methods read; None for all images."""
    stated = [getattr(method, "top_images", None if "maps" in method.needs else 0) for method in methods]
    counts = [count for count in stated if isinstance(count, int)]
    return max([0, *counts]) if len(counts) == len(stated) else None


def _as_tensors(observation: Observation) -> dict[str, Tensor]:
    size = observation.maps.shape[2:] if observation.maps is not None else ()
    pooled = observation.activations
    stored = pooled.tensors() if isinstance(pooled, SparseColumns) else {"pooled": pooled}
    return {
        **stored,
        "kind": torch.tensor(_KINDS.index(observation.kind)),
        "map_size": torch.tensor(size, dtype=torch.int64),
    }


def _pooled(stored: Mapping[str, Tensor]) -> Tensor:
    return stored["pooled"] if "pooled" in stored else cast(Tensor, SparseColumns.restored(stored))


def _map_tensors(maps: Maps, units: Sequence[int]) -> dict[str, Tensor]:
    if isinstance(maps, TopMaps):
        return {"images": maps.images, "maps": maps.maps}
    return {"maps": torch.cat([block for _, block in maps.blocks(units)])}
