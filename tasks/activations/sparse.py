"""Pooled activations of many latents, most of them 0: only the others are in memory, sorted by latent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tasks.common.errors import UserError

if TYPE_CHECKING:
    from scipy import sparse

_LARGEST: Final = 2**31
"""Values of the largest layer that is ever made dense: 8 GB."""


class SparseColumns:
    """Activations [images, units] of which the values other than 0 are stored, 8 bytes each.

    It answers what methods ask of a tensor: ``shape``, columns (dense tensors), rows (again sparse) and ``split``.
    Anything else is asked of the dense tensor, see ``to_dense``.

    Args:
        matrix: [images, units], float32, in compressed columns.
    """

    def __init__(self, matrix: sparse.csc_array) -> None:
        matrix.sort_indices()
        self._matrix = matrix
        self.device, self.dtype = torch.device("cpu"), torch.float32

    @classmethod
    def stacked(cls, parts: Sequence[sparse.csr_array]) -> SparseColumns:
        """The activations of several groups of images, in order."""
        from scipy import sparse

        return cls(sparse.csc_array(sparse.vstack(parts, format="csc")))

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor]) -> SparseColumns:
        """What ``tensors`` stored."""
        from scipy import sparse

        shape = tuple(tensors["shape"].tolist())
        parts = tuple(tensors[name].numpy() for name in ("values", "images", "starts"))
        return cls(sparse.csc_array(parts, shape=shape))

    def tensors(self) -> dict[str, Tensor]:
        """The same as tensors, for a cache."""
        found = {"values": self._matrix.data, "images": self._matrix.indices, "starts": self._matrix.indptr}
        return {name: torch.from_numpy(array) for name, array in found.items()} | {"shape": torch.tensor(self.shape)}

    @property
    def shape(self) -> tuple[int, int]:
        """(images, units)."""
        shape: Any = self._matrix.shape
        return int(shape[0]), int(shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        """``[:, units]`` and ``[images, units]`` as tensors; ``[images]`` as sparse columns."""
        if not isinstance(index, tuple):
            return SparseColumns(self._matrix[_places(index)].tocsc())
        rows, columns = index
        alone = isinstance(columns, int | np.integer)
        found = self._matrix[:, [int(columns)] if alone else _places(columns)].toarray(order="F")
        dense = torch.from_numpy(found)
        return (dense[:, 0] if alone else dense)[rows]

    def split(self, size: int, dim: int = 1) -> Iterator[Float[Tensor, "images some"]]:
        """Dense blocks of that many units."""
        assert dim == 1  # noqa: S101 - activations are never split by images
        return (self[:, start : start + size] for start in range(0, self.shape[1], size))

    def to_dense(self) -> Float[Tensor, "images units"]:
        """All values.

        Raises:
            UserError: They would not fit.
        """
        images, units = self.shape
        if images * units > _LARGEST:
            raise UserError(
                f"This method or study compares a unit with all {units} latents on all {images} images, which would "
                f"take {images * units * 4 // 2**30} GB: use fewer images, or methods that look at each unit alone."
            )
        return torch.from_numpy(self._matrix.toarray(order="C"))

    def detach(self) -> SparseColumns:
        """Itself: it has no gradient."""
        return self

    def cpu(self) -> SparseColumns:
        """Itself."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.to_dense(), name)

    def finite(self) -> Bool[Tensor, " units"]:
        """Which units have finite values only."""
        bad = ~np.isfinite(self._matrix.data)
        found = np.ones(self.shape[1], np.bool_)
        found[np.searchsorted(self._matrix.indptr, np.flatnonzero(bad), side="right") - 1] = False
        return torch.from_numpy(found)

    def extremes(self) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"]]:
        """The smallest and the largest value of each unit."""
        found = (part.toarray().reshape(-1) for part in (self._matrix.min(axis=0), self._matrix.max(axis=0)))
        low, high = (torch.from_numpy(part.astype(np.float32)) for part in found)
        return low, high

    def image_sums(self) -> Float[np.ndarray, " images"]:
        """Sum of each image's finite values, in double precision."""
        values = np.nan_to_num(self._matrix.data.astype(np.float64), nan=0, posinf=0, neginf=0)
        return np.bincount(self._matrix.indices, values, minlength=len(self))

    def shares(self) -> Float[np.ndarray, " units"]:
        """Share of the images on which each unit is not 0."""
        return np.diff(self._matrix.indptr) / max(1, len(self))


def _places(index: Any) -> Any:
    """An index as scipy takes it."""
    if isinstance(index, slice):
        return index
    places = np.asarray(index)
    return np.flatnonzero(places) if places.dtype == np.bool_ else places.astype(np.int64)


def sparse_rows(pooled: Float[Tensor, "images units"]) -> sparse.csr_array:
    """A few images' activations without the zeros."""
    from scipy import sparse

    return sparse.csr_array(pooled.numpy())
