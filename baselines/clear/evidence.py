"""CLEAR's evidence: captions and embeddings of a unit's images and of control images, in every context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from baselines.contexts import Context, Viewer
from baselines.dnd.describe import DescribedImage, Pictures, Place
from baselines.dnd.study import Roles
from tasks.common.seeding import generator
from tasks.models.counting_summariser import caption_background
from tasks.observation import Observation


@dataclass(frozen=True)
class Control:
    """Control images (a random sample of the probing set) in one context: what is said of any unit's images there.

    Attributes:
        observation: The images in the context.
        captions: One per image.
        embeddings: Unit-norm CLIP embeddings.
        base_rates: Word → share of the captions that contain it.
    """

    context: Context
    observation: Observation
    indices: tuple[int, ...]
    captions: tuple[str, ...]
    embeddings: Float[np.ndarray, "control d"]
    base_rates: Mapping[str, float]


@dataclass(frozen=True)
class Sight:
    """One unit's described images in one context, in descending order of activation on the images as given.

    Attributes:
        captions: One per image.
        embeddings: Unit-norm CLIP embeddings.
    """

    captions: tuple[str, ...]
    embeddings: Float[np.ndarray, "pictures d"]
    activations: Float[np.ndarray, " pictures"]


def control_images(images: int, count: int, seed: int) -> tuple[int, ...]:
    """A random sample of the probing images that is the same for all units, conditions and repeats.

    Args:
        images: Number of probing images.
        count: Maximum sample size.
        seed: The run's seed.
    """
    return tuple(sorted(generator(seed, "clear", "control").permutation(images)[:count].tolist()))


def look_around(view: Viewer, context: Context, indices: tuple[int, ...], roles: Roles, batch_size: int) -> Control:
    """Caption and embed the control images in a context.

    Args:
        roles: Provides the captioner and CLIP.
        batch_size: Images per batch.
    """
    seen = view(context)
    pictures = Pictures(seen, indices, 1, batch_size)
    places: list[Place] = [(index, None) for index in indices]
    captions = pictures.apply(roles.captioner.caption, places, batch_size)
    embedded = pictures.apply(roles.clip.encode_images, places, batch_size)
    said = tuple(captions[place] for place in places)
    vectors = np.stack([embedded[place].float().cpu().numpy() for place in places])
    return Control(context, seen, indices, said, vectors, caption_background(said))


def look(
    seen: Observation,
    described: Mapping[int, Sequence[DescribedImage]],
    roles: Roles,
    crop_px: int,
    batch_size: int,
) -> dict[int, Sight]:
    """Caption, embed and activate the units' described images in a context; crops are cut from the images in it.

    Args:
        seen: The images in the context; see ``Viewer``.
        described: Unit → its described images.
        roles: Provides the captioner, CLIP and the target network.
        crop_px: Edge of a crop in pixels.
        batch_size: Images per batch.

    Returns:
        Unit → its evidence.
    """
    places = [picture.place for of_unit in described.values() for picture in of_unit]
    pictures = Pictures(seen, {index for index, _ in places}, crop_px, batch_size)
    captions = pictures.apply(roles.captioner.caption, places, batch_size)
    embedded = pictures.apply(roles.clip.encode_images, places, batch_size)
    columns = {unit: place for place, unit in enumerate(described)}
    activated = pictures.apply(lambda images: roles.tools.activate(images)[:, list(columns)], places, batch_size)
    return {
        unit: Sight(
            tuple(captions[picture.place] for picture in of_unit),
            np.stack([embedded[picture.place].float().cpu().numpy() for picture in of_unit]),
            np.array([float(activated[picture.place][columns[unit]]) for picture in of_unit]),
        )
        for unit, of_unit in described.items()
    }
