"""Counter-based random numbers: one stream per image, the same bits on every device, in every batch and thread.

A draw is a function of (seed, position) alone. Positions are hashed in 32-bit integer arithmetic, which is exact on
every device, so there is no generator whose state could be shared, advanced or forgotten.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class Draws:
    """The random numbers of some images. Each call continues the streams; no call reads or changes a global generator.

    Args:
        seeds: One non-negative integer per image, of any size.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._digests = [_digest(seed, "image") for seed in seeds]
        keys = np.array([np.frombuffer(digest[:8], dtype="<i4") for digest in self._digests], dtype=np.int32)
        self._keys = torch.from_numpy(keys.reshape(-1, 2)).to(device)
        self._position = 0
        self._numbers = 0

    def each(self) -> list[Draws]:
        """The same streams, one object per image."""
        parts = []
        for index, digest in enumerate(self._digests):
            part = copy.copy(self)
            part._digests, part._keys = [digest], self._keys[index : index + 1]
            parts.append(part)
        return parts

    @property
    def device(self) -> torch.device:
        """The device on which the numbers are generated."""
        return self._keys.device

    def uniform16(self, *shape: int) -> Int[Tensor, "n ..."]:
        """Integers from 0 to 65535, all equally likely, as int32."""
        count = math.prod(shape)
        words = self._words((count + 1) // 2)
        halves = words.view(torch.int16).to(torch.int32).add_(32768)
        return halves[:, :count].reshape(-1, *shape)

    def below(self, bound: int, *shape: int) -> Int[Tensor, "n ..."]:
        """Integers from 0 to ``bound`` - 1, as int32; equally likely up to 1 part in 65,536.

        Args:
            bound: At most 32768, so that the product fits an int32.
            shape: Shape of one image's numbers.
        """
        return self.uniform16(*shape).mul_(bound).bitwise_right_shift_(16)

    def number(self, low: float, high: float) -> list[float]:
        """One number per image, uniform between ``low`` and ``high``; generated on the host, whatever the device."""
        self._numbers += 1
        shares = [int.from_bytes(_digest_of(digest, self._numbers)[:6], "little") / 2**48 for digest in self._digests]
        return [low + (high - low) * share for share in shares]

    def integer(self, bound: int) -> list[int]:
        """One integer per image from 0 to ``bound`` - 1; generated on the host, whatever the device."""
        self._numbers += 1
        return [int.from_bytes(_digest_of(digest, self._numbers), "little") % bound for digest in self._digests]

    def _words(self, count: int) -> Int[Tensor, "n count"]:
        """32 random bits each: Wellons' triple32 of the position, with half of the key before and half inside it."""
        start, self._position = self._position, self._position + count
        x = torch.arange(start, start + count, dtype=torch.int32, device=self._keys.device) + self._keys[:, :1]
        _mix(x, 17, 0xED5AD4BB)
        _mix(x, 11, 0xAC4C1B51)
        # Without it two images would draw shifted parts of one sequence.
        x.bitwise_xor_(self._keys[:, 1:])
        _mix(x, 15, 0x31848BAB)
        return x.bitwise_xor_((x >> 14).bitwise_and_((1 << 18) - 1))


def _mix(x: Tensor, shift: int, factor: int) -> None:
    # torch's int32 shift keeps the sign, so the copies of the sign are masked off.
    x.bitwise_xor_((x >> shift).bitwise_and_((1 << (32 - shift)) - 1))
    x.mul_(factor - (1 << 32) if factor >= 1 << 31 else factor)


def _digest(seed: int, purpose: str) -> bytes:
    return hashlib.blake2b(f"{purpose} {seed}".encode(), digest_size=16).digest()


def _digest_of(digest: bytes, number: int) -> bytes:
    return hashlib.blake2b(digest + number.to_bytes(4, "little"), digest_size=8).digest()


def normal_quantiles() -> Float[np.ndarray, " 65536"]:
    """The standard normal number of each value of ``uniform16``: the quantile at the middle of its share.

    A table makes a normal draw exact on every device; the largest is 4.32, beyond which 8-bit images show no
    difference.
    """
    from scipy.special import ndtri

    return ndtri((np.arange(65536) + 0.5) / 65536)
