"""SemanticLens and CSP: the concept nearest to the unit's top images in the space of a CLIP model.

SemanticLens: Dreyer et al., Nature Machine Intelligence 2025, arXiv 2501.05398. Contrastive Semantic Projection (CSP):
Bouanani et al., arXiv 2604.22477, which takes away what a top image shares with an image that does not activate the
unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from baselines.base import Label, Mode, UnitLabels
from baselines.costs import pass_alone
from baselines.evidence import EVIDENCE_SIZE, check_units, dead_units, order_among_ties
from baselines.evidence import top_images as strongest
from tasks.common.errors import UserError, unknown_name
from tasks.observation import Observation, Toolbox

_RANKED = 5
GAMMA, CSP_IMAGES = 0.5, 30
"""The defaults of CSP: share of the look-alike that is taken away, and number of top images."""

_BETWEEN = "|"

Array = Tensor | np.ndarray


def similarity(
    activations: Float[Array, "images units"],
    embeddings: Float[Array, "images d"],
    text: Float[Array, "concepts d"],
    *,
    top_images: int = 30,
    gamma: float | None = None,
    mode: Mode = "fixed",
) -> Float[np.ndarray, "units concepts"]:
    """The cosine of each unit with each text.

    Args:
        activations: Pooled activations.
        embeddings: Of the same images.
        text: Embeddings of the concepts.
        top_images: Number of images that stand for a unit.
        gamma: How much of its look-alike is taken from each image, 0 to 1 (CSP); None for SemanticLens.
        mode: ``fixed``: unit-length embeddings and texts, and weights from the unit's smallest activation on if that is
            negative. ``code``: embeddings and texts as given, and raw activations as weights, so that the most negative
            of a negative unit's images count most.

    Returns:
        float64; NaN for a dead unit.
    """
    units, images, texts = double(activations), double(embeddings), double(text)
    if mode == "fixed":
        images, texts = unit_length(images), unit_length(texts)
    scores = np.full((units.shape[1], len(texts)), np.nan)
    layer = torch.from_numpy(units)
    ties = order_among_ties(layer)
    for unit in (~dead_units(layer)).nonzero().flatten().tolist():
        found = TopImages(units[:, unit], images, top_images, ties, contrast=gamma is not None)
        scores[unit] = texts @ found.vector(gamma, mode)
    return scores


def contrastive_images(
    activations: Float[Array, "images units"], embeddings: Float[Array, "images d"], *, top_images: int = 30
) -> tuple[Int[np.ndarray, "units k"], Int[np.ndarray, "units k"]]:
    """The top images of each unit, strongest first, and the look-alike of each.

    A look-alike is the image of largest cosine among those that activate the unit less than its mean over all images.
    One image may be that of several.

    Args:
        activations: Pooled activations.
        embeddings: Of the same images.
        top_images: k; fewer if there are fewer images.

    Returns:
        Image numbers; -1 where there is none, as everywhere for a dead unit.
    """
    units, images = double(activations), unit_length(double(embeddings))
    shape = (units.shape[1], min(top_images, len(units)))
    top, alike = np.full(shape, -1), np.full(shape, -1)
    layer = torch.from_numpy(units)
    ties = order_among_ties(layer)
    for unit in (~dead_units(layer)).nonzero().flatten().tolist():
        found = TopImages(units[:, unit], images, top_images, ties, contrast=True)
        top[unit, : len(found.top)], alike[unit, : len(found.top)] = found.top, found.alike
    return top, alike


def look_alikes(
    activations: Float[np.ndarray, " images"], embeddings: Float[np.ndarray, "images d"], top: Int[np.ndarray, " k"]
) -> Int[np.ndarray, " k"]:
    """The look-alike of each of one unit's top images; see ``contrastive_images``.

    Args:
        activations: The unit's, float64.
        embeddings: Of all images, float64.
        top: Image numbers.

    Returns:
        Image numbers; -1 if no image activates the unit less than its mean.
    """
    below = np.flatnonzero(activations < activations.mean())
    if not len(below):
        return np.full(len(top), -1)
    return below[(unit_length(embeddings[top]) @ unit_length(embeddings[below]).T).argmax(axis=1)]


class TopImages:
    """The top images of one unit, which is not dead, and their look-alikes.

    Args:
        activations: float64.
        images: Embeddings of all images, float64.
        count: Number of top images.
        ties: See ``baselines.evidence.order_among_ties``.
        contrast: Whether to find the look-alikes.
    """

    def __init__(
        self,
        activations: Float[np.ndarray, " images"],
        images: Float[np.ndarray, "images d"],
        count: int,
        ties: Float[np.ndarray, " images"],
        *,
        contrast: bool,
    ) -> None:
        self.top = np.array(strongest(activations, count, among_ties=ties))
        self._activations, self._images = activations, images
        self.alike = look_alikes(activations, images, self.top) if contrast else np.full(len(self.top), -1)

    def vector(self, gamma: float | None, mode: Mode) -> Float[np.ndarray, " d"]:
        """The unit's own embedding, of unit length."""
        shown = self._images[self.top]
        if gamma is None:
            return unit_length(shown.mean(axis=0))
        others = np.where(self.alike[:, None] < 0, 0, self._images[self.alike])
        rest = shown - gamma * self.shared[:, None] * others
        weights = self._activations[self.top]
        if mode == "fixed":
            weights = weights - min(0.0, self._activations.min())
        return unit_length((weights / (weights.sum() + 1e-8)) @ rest)

    @property
    def shared(self) -> Float[np.ndarray, " k"]:
        """The dot product of each top image with its look-alike; 0 without one."""
        return np.where(self.alike < 0, 0, (self._images[self.top] * self._images[self.alike]).sum(axis=1))


class SemanticLens:
    """Names a unit by the concept nearest to the mean CLIP embedding of its top images.

    Deterministic. Unlike in the release, activations are not rounded to bfloat16, and a unit that is never positive is
    named by its own images.

    Args:
        top_images: Number of top images; 20 in the authors' tutorials.
        templates: Sentences with ``{}`` in place of the concept, separated by ``|``; a concept's embedding is then the
            mean over the sentences, each minus the same sentence without a concept. None embeds the bare concept.
    """

    name: ClassVar[str] = "semantic_lens"
    summary: ClassVar[str] = "SemanticLens: the concept nearest to the mean CLIP embedding of the unit's top images."
    citation: ClassVar[tuple[str, ...]] = ("semanticlens",)
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[str]] = frozenset({"clip", "concepts"})
    _gamma: float | None = None
    _mode: Mode = "fixed"

    def __init__(self, top_images: int = 20, templates: str | None = None) -> None:
        if top_images < 1:
            raise UserError(f"The option top_images of {self.name} must be at least 1, not {top_images}.")
        self.top_images = top_images
        self.templates = tuple(templates.split(_BETWEEN)) if templates else ()
        for template in self.templates:
            if template.count("{}") != 1:
                raise UserError(
                    f"The template {template!r} of {self.name} must contain {{}} once, where the concept stands."
                )

    cost = pass_alone

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Label the requested units, each for itself.

        Returns:
            The five nearest concepts of each unit with their cosine; none for a dead unit.

        Raises:
            UserError: No CLIP or concepts, or a unit number out of range.
        """
        check_units(units, observation.activations.shape[1])
        dead, ties = dead_units(observation.activations), order_among_ties(observation.activations)
        texts, images = self._texts(tools), unit_length(double(observation.clip_embeddings))
        labels = []
        for unit in units:
            if dead[unit]:
                labels.append(UnitLabels(unit=unit, ranked=(), extra={"dead": True}))
                continue
            activations = double(observation.activations[:, unit])
            found = TopImages(activations, images, self.top_images, ties, contrast=self._gamma is not None)
            scores = texts @ found.vector(self._gamma, self._mode)
            best = np.argsort(-scores, kind="stable")[:_RANKED]
            ranked = tuple(Label(tools.concepts[concept], float(scores[concept])) for concept in best)
            evidence = tuple(strongest(activations, EVIDENCE_SIZE, among_ties=ties))
            labels.append(UnitLabels(unit=unit, ranked=ranked, evidence=evidence, extra=self._extra(found)))
        return labels

    def _extra(self, found: TopImages) -> Mapping[str, Any]:
        return {"top_images": len(found.top)}

    def _texts(self, tools: Toolbox) -> Float[np.ndarray, "concepts d"]:
        clip, concepts = tools.clip, tools.concepts
        if clip is None or not concepts:
            missing = "a CLIP model (clip)" if clip is None else "a concept set (concepts)"
            raise UserError(f"The method {self.name} needs {missing}, which the profile does not have.")

        def embedded() -> Float[np.ndarray, "concepts d"]:
            if not self.templates:
                return unit_length(double(clip.encode_text(concepts)))
            filled = [
                double(clip.encode_text([template.replace("{}", concept) for concept in concepts]))
                - double(clip.encode_text([template.replace("{}", "")]))
                for template in self.templates
            ]
            return unit_length(np.mean(filled, axis=0))

        return tools.remembered((SemanticLens, self.templates), embedded)


class Csp(SemanticLens):
    """Names a unit by the concept nearest to what its top images do not share with look-alikes.

    The look-alike of a top image is the image nearest to it in CLIP's space among those that activate the unit less
    than average. Deterministic.

    Args:
        gamma: Share of the look-alike that is taken away, 0 to 1. The authors' notebook uses 0.5 and 1; single concepts
            suffer from 1.
        top_images: Number of top images, weighted by their activation.
        mode: ``fixed``: weights from the unit's smallest activation on if that is negative; ``code``: raw activations.
    """

    name: ClassVar[str] = "csp"
    summary: ClassVar[str] = (
        "Contrastive Semantic Projection: the concept nearest to what the unit's top images do not share with similar "
        "images that leave the unit inactive."
    )
    citation: ClassVar[tuple[str, ...]] = ("csp",)

    def __init__(self, gamma: float = GAMMA, top_images: int = CSP_IMAGES, mode: Mode = "fixed") -> None:
        if not 0 <= gamma <= 1:
            raise UserError(f"The option gamma of csp must lie between 0 and 1, not {gamma}.")
        if mode not in get_args(Mode):
            raise unknown_name("mode", mode, get_args(Mode))
        super().__init__(top_images)
        self._gamma, self._mode = gamma, mode

    def _extra(self, found: TopImages) -> Mapping[str, Any]:
        used = found.alike >= 0
        # A small mean: there were no real look-alikes.
        cosine = float(found.shared[used].mean()) if used.any() else None
        return {"gamma": self._gamma, "mode": self._mode, "look_alikes": int(used.sum()), "mean_cosine": cosine}


def double(values: Array) -> np.ndarray:
    """A tensor or array as float64."""
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64)


def unit_length(vectors: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
    """Vectors divided by their length; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
