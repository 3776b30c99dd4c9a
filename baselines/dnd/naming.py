"""Step 2 of Describe-and-Dissect, from a unit's pictures to replies: who says what of them, and who sums it up."""

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
"""Who describes the pictures: the captioner, CLIP by the nearest word, or a vision-language model all at once."""


def captions_of(
    described: Mapping[int, Sequence[DescribedImage]], pictures: Pictures, roles: Roles, batch_size: int
) -> dict[int, tuple[str, ...]]:
    """The captions of every unit's pictures; each distinct picture is captioned once, in batches over all units."""
    places = [picture.place for of_unit in described.values() for picture in of_unit]
    said = pictures.apply(roles.captioner.caption, places, batch_size)
    return {unit: tuple(said[picture.place] for picture in of_unit) for unit, of_unit in described.items()}


def words_of(embeddings: Mapping[int, Float[np.ndarray, "pictures d"]], roles: Roles) -> dict[int, tuple[str, ...]]:
    """For each unit's pictures the concepts of the concept set that CLIP finds nearest.

    Args:
        embeddings: Unit → unit-norm CLIP embeddings of its pictures.
        roles: Gives CLIP and the concept set.

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
    """Each caption shortened by the summariser, with a seed of its own."""
    where = (*address(observation, unit), turn)
    seeds = [integer_seed(roles.tools.seed, "dnd", "simplify", *where, i) for i in range(len(captions))]
    return tuple(roles.summariser.simplify(caption, seed) for caption, seed in zip(captions, seeds, strict=True))


def summaries(
    captions: Sequence[str], observation: Observation, unit: int, roles: Roles, count: int, turn: int
) -> list[str]:
    """Summarise the captions several times, each time shuffled and with a seed of its own."""
    summariser = roles.summariser

    def summarise(order: Sequence[int], first: int, again: int) -> str:
        reply = summariser.summarise([captions[i] for i in order], first, roles.background)
        # A language model's summariser cuts and asks again itself; a second time would not be as released.
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
) -> list[str]:
    """Let a vision-language model name what the pictures share, several times, each time shuffled and with a seed."""
    shown = [pictures.pixels(picture.place) for picture in described]

    def describe(order: Sequence[int], first: int, again: int) -> str:
        del again  # it asks again by itself
        return roles.describer.describe([shown[i] for i in order], first)

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
