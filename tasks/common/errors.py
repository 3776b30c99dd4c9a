"""The error for user mistakes: one clear sentence, exit code 1, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can fix; the message says what, where and what to do."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for an unknown name, with close matches and all known names.

    Args:
        kind: Kind of name, e.g. ``"task"``.
    """
    names = sorted(known)
    written = {_folded(one): one for one in names}
    near = [written[match] for match in difflib.get_close_matches(_folded(name), written, n=2, cutoff=0.6)]
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    shown = ", ".join(names[:40]) + (", …" if len(names) > 40 else "")
    return UserError(f"Unknown {kind} {name!r}.{hint} Available: {shown}.")


def _folded(name: str) -> str:
    """A name normalised for the most common mistakes: capitals, and hyphens for underscores."""
    return name.lower().replace("-", "_")
