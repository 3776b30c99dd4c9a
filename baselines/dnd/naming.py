"""Step 2 of Describe-and-Dissect: from a unit's described images to the summariser's replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float

from baselines.dnd.candidates import clean_reply
from baselines.dnd.describe import DescribedImage, Pictures
from baselines.dnd.study import Roles, address
from tasks.common.errors import UserError
from tasks.common.seeding import generator, integer_seed
from tasks.observation import Observation

Describe = Literal["captions", "words", "vision"]
"""The source of descriptions: the captioner, CLIP's nearest word, or a vision-language model for all images at once."""


def captions_of(
    described: Mapping[int, Sequence[DescribedImage]], pictures: Pictures, roles: Roles, batch_size: int
) -> dict[int, tuple[str, ...]]:
    """The captions of every unit's described images; each distinct image is captioned once, in batches."""
    places = [picture.place for of_unit in described.values() for picture in of_unit]
    said = pictures.apply(roles.captioner.caption, places, batch_size)
    return {unit: tuple(said[picture.place] for picture in of_unit) for unit, of_unit in described.items()}


def words_of(embeddings: Mapping[int, Float[np.ndarray, "pictures d"]], roles: Roles) -> dict[int, tuple[str, ...]]:
    """For each unit's described images, the nearest concepts of the concept set by CLIP.

    Args:
        embeddings: Unit → unit-norm CLIP embeddings of its described images.
        roles: Provides CLIP and the concept set.

    Raises:
        UserError: There is no concept set.
    """
    concepts = roles.tools.concepts
    if not concepts:
        raise UserError("Describe-and-Dissect with describe=words needs a concept set; this task has none.")
    texts = roles.clip.encode_text(concepts).double().cpu()
    nearest = {unit: (torch.from_numpy(rows).double() @ texts.T).argmax(dim=1) for unit, rows in embeddings.items()}
    return {unit: tuple(concepts[number] for number in numbers.tolist()) for unit, numbers in nearest.items()}


def simplified_captions(
    captions: Sequence[str], observation: Observation, unit: int, roles: Roles, turn: int
) -> tuple[str, ...]:
    """Each caption shortened by the summariser, each with its own seed."""
    where = (*address(observation, unit), turn)
    seeds = [integer_seed(roles.tools.seed, "dnd", "simplify", *where, i) for i in range(len(captions))]
    return tuple(roles.summariser.simplify(caption, seed) for caption, seed in zip(captions, seeds, strict=True))


def summaries(
    captions: Sequence[str], observation: Observation, unit: int, roles: Roles, count: int, turn: int
) -> list[str]:
    """Summarise the captions several times, each time shuffled and with its own seed."""
    summariser = roles.summariser

    def summarise(order: Sequence[int], first: int, again: int) -> str:
        reply = summariser.summarise([captions[i] for i in order], first, roles.background)
        # A language model's summariser cuts and asks again itself; repeating that would deviate from the release.
        if summariser.cleans_replies:
            return reply
        return clean_reply(reply, lambda pieces: summariser.summarise(pieces, again, roles.background))

    return _in_turns(summarise, len(captions), observation, unit, roles, count, turn)


def descriptions(
    described: Sequence[DescribedImage],
    pictures: Pictures,
    observation: Observation,
    unit: int,
    roles: Roles,
    count: int,
    look_alikes: Sequence[int] = (),
) -> list[str]:
    """Let a vision-language model name what the images have in common, several times, each shuffled and seeded.

    Args:
        look_alikes: One image per described image, shown as contrast and shuffled alike; or none.
    """
    shown = [pictures.pixels(picture.place) for picture in described]
    beside = [pictures.pixels((image, None)) for image in look_alikes]

    def describe(order: Sequence[int], first: int, again: int) -> str:
        del again  # it retries on its own
        ordered = [shown[i] for i in order]
        if not beside:  # a describer that uses no contrast need not take the argument
            return roles.describer.describe(ordered, first)
        return roles.describer.describe(ordered, first, [beside[i] for i in order])

    return _in_turns(describe, len(shown), observation, unit, roles, count, 1)


def _in_turns(
    say: Callable[[Sequence[int], int, int], str],
    size: int,
    observation: Observation,
    unit: int,
    roles: Roles,
    count: int,
    turn: int,
) -> list[str]:
    replies: list[str] = []
    seed = roles.tools.seed
    for number in range(count):
        where = (*address(observation, unit), turn, number)
        order: list[int] = generator(seed, "dnd", "shuffle", *where).permutation(size).tolist()
        first, again = (integer_seed(seed, "dnd", "summarise", *where, part) for part in ("first", "again"))
        replies.append(say(order, first, again))
    return replies
