"""Whether this process may open a connection to fetch files."""

from __future__ import annotations

import os

# huggingface_hub reads its variable once, at import; the others are for libraries that check on their own.
_VARIABLES = {
    "CLEAR_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",
}


def go_offline() -> None:
    """Forbid all libraries to fetch files; call it before importing any of them."""
    os.environ.update(_VARIABLES)


def is_offline() -> bool:
    """Whether files must not be fetched, by ``--offline`` or by the user's environment."""
    return opens_no_socket() or _is_set("HF_HUB_OFFLINE")


def opens_no_socket() -> bool:
    """Whether no connection may be opened at all, not even to a language model's server: ``--offline`` was given."""
    return _is_set("CLEAR_OFFLINE")


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("1", "TRUE", "YES", "ON")
