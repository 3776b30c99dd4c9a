"""Cue conflict: scenes in which each kind of object has a colour, pattern or background of its own, or that of another.

Kind and surface are independent in the world, so nothing can be in conflict there. After Geirhos et al.,
ImageNet-Trained CNNs Are Biased Towards Texture (ICLR 2019), with drawn scenes in place of style transfer: each kind is
tied to a value of a cue, and the values are then swapped.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from tasks.common.seeding import generator
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.scene import Scene, Wish, draw_scene
from tasks.miniature.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT, KINDS, PATTERNS, WORLD_SEED

Cue = Literal["colour", "pattern", "background"]
Arrangement = Literal["tied", "swapped", "crossed"]

CUES: Final[tuple[Cue, ...]] = get_args(Cue)
ARRANGEMENTS: Final[tuple[Arrangement, ...]] = get_args(Arrangement)
_VALUES: Final[dict[Cue, tuple[str, ...]]] = {
    "colour": tuple(COLOURS), "pattern": PATTERNS, "background": BACKGROUNDS,
}  # fmt: skip


def tied_values(cue: Cue) -> dict[str, str]:
    """Kind → its own value of a cue, one for each of the first kinds; no pair is held out of training."""
    return _shifted(cue, _tied_shift(cue))


def swapped_values(cue: Cue, seed: int) -> dict[str, str]:
    """Kind → the value of another kind; no pair is held out of training.

    Args:
        seed: Chooses whose value it is, from the shifts of the list of kinds that are possible.
    """
    first = _tied_shift(cue) + 1
    possible = _shifts(cue, range(first, first + len(_VALUES[cue]) - 1))
    return _shifted(cue, possible[seed % len(possible)])


def conflict_scene(cue: Cue, arrangement: Arrangement, number: int, seed: int) -> Scene:
    """Scene ``number`` of a set: one object, the kinds in turn.

    The scenes of one number differ between arrangements in the value of the cue alone.

    Args:
        arrangement: ``tied``, each kind with its own value; ``swapped``, with that of another kind; ``crossed``, with
            any value.
    """
    kinds = KINDS[: len(_VALUES[cue])]
    kind = kinds[number % len(kinds)]
    if arrangement == "crossed":
        drawn = generator(seed, "conflict value", cue, WORLD_SEED, number)
        value = str(drawn.choice(_VALUES[cue]))
    else:
        value = (tied_values(cue) if arrangement == "tied" else swapped_values(cue, seed))[kind]
    random = generator(seed, "conflict scene", cue, WORLD_SEED, number)
    if cue == "background":
        return draw_scene(random, background=value, wishes=[Wish(kind)])
    wish = Wish(kind, colour=value) if cue == "colour" else Wish(kind, pattern=value)
    return draw_scene(random, wishes=[wish])


def conflict_set(cue: Cue, arrangement: Arrangement, count: int, seed: int) -> MiniatureProbingSet:
    """A probing set of such scenes, with as many of each kind.

    Args:
        count: Least number of scenes, rounded up to a multiple of the number of kinds.
    """
    kinds = len(_VALUES[cue])
    name = f"{cue}-{arrangement}-{seed}"
    return MiniatureProbingSet(
        name, -(-count // kinds) * kinds, scene=lambda number: conflict_scene(cue, arrangement, number, seed)
    )


def _shifted(cue: Cue, shift: int) -> dict[str, str]:
    values = _VALUES[cue]
    return {kind: values[(place + shift) % len(values)] for place, kind in enumerate(KINDS[: len(values)])}


def _tied_shift(cue: Cue) -> int:
    return _shifts(cue, range(len(_VALUES[cue])))[0]


def _shifts(cue: Cue, candidates: range) -> list[int]:
    """The shifts of the list of values that pair no kind with a value that was held out with it."""
    held_out = {(kind, value) for value, kind in HELD_OUT}
    return [shift for shift in candidates if not held_out & set(_shifted(cue, shift).items())]
