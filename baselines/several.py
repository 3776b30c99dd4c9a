"""Several labels per unit: one for each cluster of its top images, by any method.

After PRISM (Kopf et al., NeurIPS 2025), which clusters the texts that activate a language model's feature and describes
each cluster: here the images are clustered, and any method describes them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2

from baselines.base import Label, Method, UnitLabels
from baselines.checks import check_labels
from baselines.evidence import EVIDENCE_SIZE, check_units, dead_units, order_among_ties, top_images
from baselines.wrapper import Wrapper
from metrics.clarity import polysemanticity
from tasks.activations.maps import MutedMaps
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.observation import Observation, Toolbox

FEWEST = 3
"""Images of a cluster; smaller ones join the nearest."""

_STARTS, _STEPS = 20, 10
_EACH, _SHARE, _MOST = 10, 0.01, 0.05
"""Clustered are 10 images per cluster or 1 % of the images, whichever is more, but at most 5 %."""


class Several(Wrapper):
    """Names a unit once for each cluster of its top images.

    The top images are clustered by k-means in CLIP's space. For each cluster the inner method sees the observation with
    the unit's smallest activation on the images of the other clusters; all other units, which a prior may read, stay as
    they are. Labels are ranked by their clusters' share of the activation above the unit's smallest, which is also
    their score; clusters with the same label, apart from case, are one.

    Args:
        inner: Labels each cluster.
        clusters: Number of clusters, at most.
    """

    wrapper: ClassVar[str] = "several"
    about: ClassVar[str] = "Several labels per unit: one for each cluster of its top images, by {}."
    own_version: ClassVar[str] = "1"
    own_citation: ClassVar[tuple[str, ...]] = ("prism",)

    def __init__(self, inner: Method, clusters: int = 5) -> None:
        super().__init__(inner)
        if clusters < 1:
            raise UserError(f"The option clusters of {self.name} must be at least 1, not {clusters}.")
        self.clusters = self.labellings = clusters
        self.split = "units"  # the inner method labels one unit at a time

    def seconds(self, cell: float, unit: float) -> tuple[float, float]:
        """Every unit and cluster is a call of its own."""
        return 0.0, (cell + unit) * self.labellings

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units, each for itself.

        Returns:
            For each unit one label per cluster; none for a dead unit. ``extra`` holds ``labels`` (how many),
            ``clusters`` (of each: ``label``, ``images``, ``share`` of the activation, ``score`` of the inner method),
            ``polysemanticity`` of the clustered images and ``label_cosine``, the mean CLIP cosine of all pairs of
            labels.

        Raises:
            UserError: A unit number out of range, or what the inner method raises.
        """
        check_units(units, observation.activations.shape[1])
        dead, ties = dead_units(observation.activations), order_among_ties(observation.activations)
        return [
            UnitLabels(unit, (), extra={"dead": True}) if dead[unit] else self._unit(observation, unit, ties, tools)
            for unit in units
        ]

    def _unit(
        self, observation: Observation, unit: int, ties: Float[np.ndarray, " images"], tools: Toolbox
    ) -> UnitLabels:
        activations = observation.activations[:, unit].double().cpu().numpy()
        count = len(activations)
        most = min(max(_EACH * self.clusters, round(_SHARE * count)), int(_MOST * count))
        top = np.array(top_images(activations, max(1, most), among_ties=ties))
        embeddings = observation.clip_embeddings[top].double().cpu().numpy()
        random = generator(tools.seed, self.wrapper, observation.layer, unit, observation.repeat)
        assigned = clustered(embeddings, self.clusters, random)
        excess = activations[top] - activations.min()
        shares = np.bincount(assigned, excess) / excess.sum()
        found: dict[str, Label] = {}
        facts = []
        for cluster in np.argsort(-shares, kind="stable").tolist():
            others = top[assigned != cluster]
            answer = self.inner.label(_muted(observation, unit, others), [unit], tools)
            (named,) = check_labels(self.inner.name, answer, [unit], count)
            if named.ranked:
                best, share = named.ranked[0], float(shares[cluster])
                before = found.setdefault(best.text.casefold(), Label(best.text, 0.0))
                found[best.text.casefold()] = Label(before.text, before.score + share)
                size, score = int((assigned == cluster).sum()), None if math.isnan(best.score) else float(best.score)
                facts.append({"label": best.text, "images": size, "share": share, "score": score})
        ranked = tuple(sorted(found.values(), key=lambda label: -label.score))
        extra = {
            "labels": len(ranked),
            "clusters": facts,
            "polysemanticity": _polysemanticity(embeddings, tools.seed),
            "label_cosine": _mean_cosine([label.text for label in ranked], tools),
        }
        return UnitLabels(unit, ranked, tuple(top_images(activations, EVIDENCE_SIZE, among_ties=ties)), extra)


def clustered(
    embeddings: Float[np.ndarray, "images d"], clusters: int, random: np.random.Generator
) -> Int[np.ndarray, " images"]:
    """The cluster of each image: the best of several starts of k-means, small clusters joined to the nearest.

    Args:
        clusters: Number of clusters, at most.

    Returns:
        Numbers from 0 without gaps; every cluster has at least ``FEWEST`` images unless it is the only one.
    """
    assigned = _kmeans(embeddings, clusters, random)
    while True:
        _, assigned, sizes = np.unique(assigned, return_inverse=True, return_counts=True)
        small = int(sizes.argmin())
        if len(sizes) == 1 or sizes[small] >= FEWEST:
            return assigned
        centres = np.stack([embeddings[assigned == cluster].mean(axis=0) for cluster in range(len(sizes))])
        apart = np.linalg.norm(centres - centres[small], axis=1)
        apart[small] = np.inf
        assigned[assigned == small] = int(apart.argmin())


def _kmeans(
    points: Float[np.ndarray, "images d"], clusters: int, random: np.random.Generator
) -> Int[np.ndarray, " images"]:
    """The cluster of each point, of the start with the smallest inertia."""
    count = min(clusters, len(np.unique(points, axis=0)))
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an empty cluster: another start, or fewer clusters
        for _ in range(_STARTS):
            centres, assigned = kmeans2(points, count, iter=_STEPS, minit="++", rng=random)
            found.append((float(((points - centres[assigned]) ** 2).sum()), assigned))
    return min(found, key=lambda one: one[0])[1]


def _polysemanticity(embeddings: Float[np.ndarray, "images d"], seed: int) -> float | None:
    found = float(polysemanticity(embeddings[None], seed=seed)[0]) if len(embeddings) > 1 else math.nan
    return None if math.isnan(found) else found


def _muted(observation: Observation, unit: int, images: Int[np.ndarray, " some"]) -> Observation:
    """The observation with the unit's smallest activation on some images."""
    if not len(images):
        return observation
    activations = observation.activations.clone()
    least = float(activations[:, unit].min())
    activations[torch.from_numpy(images), unit] = least
    maps = observation.maps and MutedMaps(observation.maps, unit, images.tolist(), least)
    return replace(observation, activations=activations, maps=maps)


def _mean_cosine(texts: Sequence[str], tools: Toolbox) -> float | None:
    if len(texts) < 2 or tools.clip is None:
        return None
    vectors = tools.clip.encode_text(texts).double()
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    first, second = torch.triu_indices(len(texts), len(texts), 1)
    return float((vectors @ vectors.T)[first, second].mean())
