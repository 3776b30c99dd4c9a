"""Every random draw has an address: the run seed and what is drawn, for which unit or image, condition and repeat.

So nothing depends on batch size, worker count, order, ``PYTHONHASHSEED`` or a global generator.
"""

from __future__ import annotations

import hashlib
from numbers import Integral

import numpy as np


def seed_sequence(seed: int, *address: str | int) -> np.random.SeedSequence:
    """The seed sequence of one address; different addresses have different sequences.

    Args:
        seed: The run's (or the synthetic world's) seed, at least 0.
        address: Words and numbers that name the draw, e.g. ``"perturb", "scene-000017", "snow", 3``; a number and its
            text are different addresses, a Python and a NumPy integer are the same.

    Raises:
        TypeError: A part is neither a string nor an integer.
    """
    text = "\x1f".join(_part(part) for part in address)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return np.random.SeedSequence([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])


def generator(seed: int, *address: str | int) -> np.random.Generator:
    """A NumPy generator for one address."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, *address)))


def integer_seed(seed: int, *address: str | int) -> int:
    """A seed in [0, 2³²) for libraries that want one integer."""
    return int(seed_sequence(seed, *address).generate_state(1, dtype=np.uint32)[0])


def _part(part: str | int) -> str:
    if isinstance(part, str):
        # The separator may occur in model-written text; escaped, it cannot end the part.
        return "str:" + part.replace("\x1e", "\x1e0").replace("\x1f", "\x1e1")
    if isinstance(part, Integral):
        return f"int:{int(part)}"
    raise TypeError(f"an address is made of texts and whole numbers, not {part!r}")
