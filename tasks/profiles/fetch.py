"""Downloading published weights through the libraries' own mechanisms, or one sentence on why it failed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tasks.common.errors import UserError
from tasks.common.offline import is_offline

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


@contextmanager
def fetching(what: str, local: str) -> Iterator[None]:
    """Turn any error of a library that downloads or reads files into one sentence with the local alternative.

    Args:
        what: What is being loaded, for the message.
        local: The profile line that names a local copy, e.g. ``path: FOLDER``.

    Raises:
        UserError: Replaces the library's error.
    """
    try:
        yield
    except (UserError, ImportError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        hint = "This run is offline" if is_offline() else "If this machine has no network"
        raise UserError(
            f"{what[:1].upper()}{what[1:]} could not be loaded: {reason.rstrip('.')}. {hint}: fetch it on "
            f"another machine and name it in a profile of your own ({local}); 'doctor' says how."
        ) from error


def torchvision_path(weights: WeightsEnum) -> Path:
    """Where torchvision stores the published file of those weights, whether or not it exists."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]


def torchvision_file(weights: WeightsEnum, what: str) -> Path:
    """The published file of those weights, downloaded if missing; its name contains the first digits of its hash.

    Raises:
        UserError: It is missing and cannot be downloaded.
    """
    path = torchvision_path(weights)
    if path.is_file():
        return path
    if is_offline():
        raise UserError(
            f"{what[:1].upper()}{what[1:]} are not on this machine and this run is offline: fetch {weights.url} "
            f"elsewhere and put it at {path}, or name it in a profile of your own (weights: FILE)."
        )
    with fetching(what, "weights: FILE"):
        os.makedirs(path.parent, exist_ok=True)
        digits = path.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=digits)
    return path
