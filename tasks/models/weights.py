"""Weights as safetensors: float16, or int8 with a scale for each output channel; SHA-256 is checked before reading."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tasks.common.errors import UserError

SCALE = ".int8_scale"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_LFS = b"version https://git-lfs"


def check_file(path: Path, sha256: str | None) -> None:
    """Check that a file exists and has the given hash.

    Args:
        sha256: Its hash in hex, in either case; if None, the content is not checked.

    Raises:
        UserError: The message gives the path and, for a wrong file, both hashes.
    """
    if not path.is_file():
        raise UserError(f"The weights {path} do not exist; restore the file or name another profile.")
    with path.open("rb") as file:
        if file.read(len(_LFS)) == _LFS:
            raise UserError(f"{path} is the pointer of Git LFS in place of the weights; fetch them by git lfs pull.")
    if sha256 and (found := file_sha256(path)) != sha256.lower():
        raise UserError(f"{path} has SHA-256 {found[:16]}…, but the profile expects {sha256[:16]}…; restore the file.")


def load_weights(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Read a safetensors file as float32 tensors (integer buffers are unchanged); nothing is ever unpickled.

    Args:
        path: Written by ``save_weights``, or any safetensors file of floats.
        sha256: See ``check_file``.

    Raises:
        UserError: The file is missing, differs from its hash or is not a safetensors file.
    """
    check_file(path, sha256)
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} cannot be read as safetensors ({error}); restore the file.") from error
    weights = {}
    for name, tensor in stored.items():
        if name.endswith(SCALE):
            continue
        scale = stored.get(name + SCALE)
        if scale is not None:
            weights[name] = tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
        else:
            weights[name] = tensor.float() if tensor.is_floating_point() else tensor
    return weights


def save_weights(path: Path, weights: Mapping[str, Tensor], *, int8: bool) -> None:
    """Write weights as float16, or matrices and kernels as int8 with a float32 scale per output channel.

    The error of an int8 weight is at most half its channel's scale, which is the channel's largest magnitude / 127.

    Args:
        path: The safetensors file to write.
        weights: A state dict.
        int8: Whether tensors of two or more dimensions are quantised.

    Raises:
        ValueError: A weight is not finite, or too large for float16 if stored in that form.
    """
    stored = {}
    for name, tensor in weights.items():
        if not tensor.is_floating_point():
            stored[name] = tensor.contiguous()
        elif int8 and tensor.ndim > 1:
            # The minimum scale only keeps channels of zeros from being divided by zero.
            scale = (_finite(name, tensor.float()).flatten(1).abs().amax(1) / 127).clamp(min=1e-30)
            rounded = (tensor.float() / scale.view(-1, *[1] * (tensor.ndim - 1))).round().clamp(-127, 127)
            stored[name], stored[name + SCALE] = rounded.to(torch.int8).contiguous(), scale
        else:
            stored[name] = _finite(name, tensor.half()).contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(stored, path)


def _finite(name: str, tensor: Tensor) -> Tensor:
    if not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} holds a value that is not finite in the form in which it would be stored")
    return tensor
