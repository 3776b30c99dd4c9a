"""Every random draw has an address: the run seed and what is drawn, for which unit or image, condition and repeat.

Nothing then depends on batch size, worker count, order, ``PYTHONHASHSEED`` or a global generator.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_sequence(seed: int, *address: str | int) -> np.random.SeedSequence:
    """The seed sequence of one address.

    Args:
        seed: The run's (or the world's) seed.
        address: Words and numbers that name the draw, e.g. ``"perturb", "scene-000017", "snow", 3``.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in address)
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.SeedSequence([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])


def generator(seed: int, *address: str | int) -> np.random.Generator:
    """A NumPy generator of its own for one address."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, *address)))


def integer_seed(seed: int, *address: str | int) -> int:
    """A seed in [0, 2³²) for libraries that want one integer."""
    return int(seed_sequence(seed, *address).generate_state(1, dtype=np.uint32)[0])
