"""A content-addressed disk cache: whatever changes an answer changes its key. Imports nothing heavy."""

from __future__ import annotations

from tasks.cache.store import Cache, open_cache

__all__ = ["Cache", "open_cache"]
