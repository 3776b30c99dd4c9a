"""State dicts from third-party files: safetensors, or PyTorch files read without ever running code from them."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tasks.common.errors import UserError
from tasks.models.weights import check_file, load_weights

log = logging.getLogger(__name__)

_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_checkpoint(path: Path, sha256: str | None = None, strip_prefix: str = "") -> dict[str, Tensor]:
    """Read a state dict.

    Args:
        path: ``.safetensors``, or anything written by ``torch.save`` (``.pt``, ``.pth``, ``.pth.tar``, ``.bin``): a
            state dict, at the top level or under ``state_dict``, ``model_state_dict`` or ``model``.
        sha256: See ``check_file``.
        strip_prefix: Removed from the front of names, e.g. ``module.`` of networks saved from ``DataParallel``. Tensors
            under other names, such as those of a wrapper, are left out with a warning.

    Raises:
        UserError: The file is missing, differs from its hash, is damaged, contains more than tensors (it is then not
            read), contains no state dict, or has no name with the prefix.
    """
    if path.suffix.lower() == ".safetensors":
        weights = load_weights(path, sha256)
    else:
        check_file(path, sha256)
        weights = _state_dict(path, _read_pickled(path))
    if not strip_prefix:
        return weights
    others = [name for name in weights if not name.startswith(strip_prefix)]
    if len(others) == len(weights):
        raise UserError(
            f"In {path} no name starts with {strip_prefix!r} (the first is {next(iter(others), '')!r}); correct "
            "strip_prefix."
        )
    if others:
        log.warning(
            "%s: %d tensors without the prefix %r are left out, such as %r.", path, len(others), strip_prefix, others[0]
        )
    return {name.removeprefix(strip_prefix): tensor for name, tensor in weights.items() if name not in others}


def _read_pickled(path: Path) -> Any:
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except UnicodeDecodeError:  # written by Python 2, as the networks of Places365 were
            return torch.load(path, map_location="cpu", weights_only=True, encoding="latin1")
    except pickle.UnpicklingError as error:
        if "global" not in str(error).lower():
            raise UserError(f"{path} cannot be read as a PyTorch file; restore it.") from error
        raise UserError(
            f"{path} holds more than tensors, and reading it could run code, so it was not read. If you trust it, "
            "save its state dict alone, best as safetensors."
        ) from error
    # On garbage, such as a text file, torch's unpickler raises exceptions of any type.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise UserError(f"{path} cannot be read as a PyTorch file of tensors ({reason}).") from error


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), content)
        if inner and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in inner.items()):
            # Returned as it is: it carries the module versions by which torch converts older weights.
            return inner if isinstance(inner, dict) else dict(inner)
    raise UserError(f"{path} holds no state dict (names → tensors, alone or under {', '.join(_WRAPPERS)}).")
