"""What CLEAR knows of concepts before anything is drawn: similarities, captions, and what a unit loses in contexts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float

from baselines.clear.choice import Follower
from baselines.clear.words import Mentions, collocations
from baselines.dnd.describe import Pictures
from baselines.dnd.study import Roles
from baselines.evidence import order_among_ties
from baselines.semantic_lens import CSP_IMAGES, GAMMA, TopImages, double, unit_length
from tasks.common.seeding import generator
from tasks.observation import Observation

TERMS: Final[tuple[str, ...]] = ("follows", "contrast", "captions")
"""What is known of a concept before images are drawn of it; see ``Texts.terms``."""


@dataclass(frozen=True)
class Sight:
    """A unit's top images in one context, in descending order of activation on the images as given.

    Attributes:
        captions: One per image.
    """

    captions: tuple[str, ...]
    activations: Float[np.ndarray, " images"]


def look(seen: Observation, tops: Mapping[int, Sequence[int]], roles: Roles, batch_size: int) -> dict[int, Sight]:
    """Caption the units' top images in a context, and measure their activations there.

    Args:
        seen: The images in the context; see ``baselines.contexts.Viewer``.
        tops: Unit → its top images.
        roles: Provides the captioner and the target network.
    """
    pictures, columns = Pictures(seen, (i for top in tops.values() for i in top), 1, batch_size), list(tops)
    places = [(i, None) for top in tops.values() for i in top]
    captions = pictures.apply(roles.captioner.caption, places, batch_size)
    activated = pictures.apply(lambda images: roles.tools.activate(images)[:, columns], places, batch_size)
    return {
        unit: Sight(
            tuple(captions[i, None] for i in top),
            np.array([float(activated[i, None][place]) for i in top]),
        )
        for place, (unit, top) in enumerate(tops.items())
    }


def control_images(images: int, count: int, seed: int) -> tuple[int, ...]:
    """A random sample of the probing images that is the same for all units, conditions and repeats.

    Args:
        images: Number of probing images.
        count: Maximum sample size.
    """
    return tuple(sorted(generator(seed, "clear", "control").permutation(images)[:count].tolist()))


class Texts:
    """The candidates' text embeddings, and what the probing images of one condition say of each.

    Args:
        roles: Provides the captioner, CLIP and the concept set.
        control: Captions of control images: what is said of any image, because of the fog for example.

    Attributes:
        together: Pairs of words that form one part; see ``baselines.clear.words.collocations``.
        ties: See ``baselines.evidence.order_among_ties``.
    """

    def __init__(self, observation: Observation, roles: Roles, control: Sequence[str]) -> None:
        self._images = unit_length(double(observation.clip_embeddings))
        self._layer = observation.activations
        self.ties = order_among_ties(observation.activations)
        self._follower = Follower(self._images)
        self._roles = roles
        self._control = control
        self.together = collocations(control)
        self.concepts = roles.tools.concepts
        self._set = self._describe(self.concepts, self._embedded(self.concepts))

    def _embedded(self, texts: Sequence[str]) -> Float[np.ndarray, "texts d"]:
        """Unit-norm text embeddings, each computed once per run."""
        known = self._roles.tools.remembered(Texts, dict[str, np.ndarray])
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            known.update(zip(missing, unit_length(double(self._roles.clip.encode_text(missing))), strict=True))
        return np.stack([known[text] for text in texts])

    def _describe(self, texts: Sequence[str], embedded: Float[np.ndarray, "texts d"]) -> _Described:
        mentions = Mentions(texts)
        return _Described(embedded, self._follower.spread(embedded), mentions, mentions.share(self._control))

    def prepare(self, texts: Sequence[str]) -> None:
        """Embed texts that ``terms`` will be asked for, all at once."""
        if texts:
            self._embedded(texts)

    def known(self, unit: int, captions: Sequence[str]) -> Known:
        """What is known of one unit, whose label then depends on no other unit."""
        activations = double(self._layer[:, unit])
        top = TopImages(activations, self._images, CSP_IMAGES, self.ties, contrast=True)
        return Known(activations, top.vector(GAMMA, "fixed"), tuple(captions))

    def terms(self, known: Known, more: Sequence[str] | None = None) -> dict[str, Float[np.ndarray, " concepts"]]:
        """The terms of each concept for one unit.

        * ``follows``: the correlation of its activations with the images' CLIP similarity to the concept, in [-1, 1].
        * ``contrast``: the cosine of the concept with what its top images do not share with similar images that leave
          it inactive, in [-1, 1] (Contrastive Semantic Projection, ``baselines.semantic_lens``).
        * ``captions``: the share of its top images' captions that contain the concept, minus that of the control
          images' captions, in [-1, 1].

        Args:
            more: Concepts; the concept set by default.
        """
        what = self._set if more is None else self._describe(more, self._embedded(more))
        return {
            "follows": self._follower.correlation(known.activations, what.embedded, what.spread),
            "contrast": what.embedded @ known.direction,
            "captions": what.mentions.share(known.captions) - what.said,
        }


@dataclass(frozen=True)
class Known:
    """What is known of one unit; see ``Texts.known``.

    Attributes:
        activations: On all probing images, float64.
        direction: What its top images do not share with look-alikes, of unit length.
        captions: Those of its top images.
    """

    activations: Float[np.ndarray, " images"]
    direction: Float[np.ndarray, " d"]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class _Described:
    embedded: Float[np.ndarray, "texts d"]
    spread: Float[np.ndarray, " texts"]
    mentions: Mentions
    said: Float[np.ndarray, " texts"]


def captions_of(observation: Observation, indices: Sequence[int], roles: Roles, batch_size: int) -> dict[int, str]:
    """Image → its caption.

    Args:
        indices: The images; duplicates are captioned once.
        roles: Provides the captioner.
    """
    pictures = Pictures(observation, indices, 1, batch_size)
    found = pictures.apply(roles.captioner.caption, [(index, None) for index in indices], batch_size)
    return {index: caption for (index, _), caption in found.items()}


def medians(layer: torch.Tensor, units: Sequence[int]) -> dict[int, float]:
    """Unit → its median activation on the probing images."""
    values = np.median(double(layer[:, list(units)]), axis=0)
    return dict(zip(units, values.tolist(), strict=True))
