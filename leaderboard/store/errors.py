"""The store's error: one clear sentence that the command line shows unchanged."""

from __future__ import annotations


class StoreError(Exception):
    """A run folder cannot be used as requested; the message says what is wrong, where, and what to do."""
