"""One pass over the images of a condition for all layers of one network; cached results are not computed again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from tasks.activations.capture import Pooling
from tasks.activations.maps import LateMaps, Maps, MemoryMaps
from tasks.activations.spool import blocks
from tasks.cache.keys import canonical, device_kind, embeddings_identity, images_identity, pass_identity
from tasks.observation import LayerKind, Observation
from tasks.observe import IMAGES_AT_ONCE, Condition, Images, Probe, late_maps, observe
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
        settings: How images are perturbed.
    """

    roles: Roles
    model: str
    probe: Probe
    digest: str
    settings: Settings
    seed: int

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
                made.update(observe(target, layers, probe, condition, images, clip, maps=units))
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
            found[layer] = Observation(
                layer=layer,
                kind=_KINDS[int(shown["kind"])],
                condition=condition.name,
                severity=condition.severity,
                repeat=0,
                image_ids=probe.ids,
                activations=shown["pooled"],
                maps=self._late_maps({**identity, "what": "maps"}, layer, units[layer], shown, probe, images),
                clip_embeddings=kept["embeddings"],
                images=images,
                segmentation=probe.segmentation,
                presence=probe.presence,
            )
            maps = made[layer].maps if made else None
            # Maps of a pass that was just made are available and need not be recomputed later.
            if maps is not None:
                if _bytes(shown, units[layer]) <= _LARGEST:
                    self._keep({**identity, "what": "maps"}, units[layer], maps)
                found[layer] = replace(found[layer], maps=maps)
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

    def _late_maps(
        self,
        identity: Mapping[str, Any],
        layer: str,
        units: Sequence[int],
        shown: Mapping[str, Tensor],
        probe: Probe,
        images: Images,
    ) -> Maps | None:
        """Maps read from the cache or computed when a method requests them; None if there are none."""
        if not len(shown["map_size"]):
            return None

        def late() -> Maps:
            return late_maps(self.roles.target(self.model), layer, units, probe, images)

        if _bytes(shown, units) > _LARGEST:
            return LateMaps(late)
        complete = shown["pooled"].shape[1]
        return LateMaps(lambda: MemoryMaps(self._keep(identity, units, LateMaps(late)), units, complete))

    def _keep(self, identity: Mapping[str, Any], units: Sequence[int], maps: Maps) -> Float[Tensor, "images units h w"]:
        def whole() -> dict[str, Tensor]:
            return {"maps": torch.cat([block for _, block in maps.blocks(units)])}

        return self.roles.cache.blob({**identity, "units": list(units)}, whole)["maps"]


def _as_tensors(observation: Observation) -> dict[str, Tensor]:
    size = observation.maps.shape[2:] if observation.maps is not None else ()
    return {
        "pooled": observation.activations,
        "kind": torch.tensor(_KINDS.index(observation.kind)),
        "map_size": torch.tensor(size, dtype=torch.int64),
    }


def _bytes(shown: Mapping[str, Tensor], units: Sequence[int]) -> int:
    """Size of the maps of some units in float16."""
    return 2 * len(shown["pooled"]) * len(units) * int(shown["map_size"].prod())
