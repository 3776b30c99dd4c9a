"""Placing a network on a device, and the memory layout of its tensors."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def place(network: Network, device: torch.device | str, *, channels_last: bool) -> Network:
    """Move a network to a device; channels last is about an eighth faster for convolutions on a CPU."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return network.to(device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
