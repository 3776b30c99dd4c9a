"""What ``cache`` prints, and the sizes that it parses. Identities contain text from models, so all is escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from leaderboard.store.escape import terminal
from tasks.common.errors import UserError

if TYPE_CHECKING:
    from tasks.cache.inventory import Pruned
    from tasks.cache.keys import Entry

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.IGNORECASE)
# What distinguishes entries of one kind, most distinctive first.
_TELLING = ("layer", "condition", "severity", "concept", "seed", "loader", "name", "architecture", "model", "sha256")
_KEY_SHOWN, _DETAIL_SHOWN = 12, 60


def size_of(text: str) -> int:
    """Bytes of a size such as ``5GB``, ``500 MB`` or ``1.5GiB``.

    Raises:
        UserError: The text is not a size.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{text!r} is not a size; write it as in 5GB, 500MB or 1.5GiB.")
    return int(float(found[1]) * _UNITS[(found[2] or "").lower()])


def size_text(count: int) -> str:
    """A readable size, e.g. ``1.9 MB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def as_row(entry: Entry) -> dict[str, Any]:
    """An entry as JSON."""
    return {
        "key": entry.key,
        "what": entry.identity.get("what"),
        "kind": entry.kind,
        "count": entry.count,
        "bytes": entry.size,
        "used": datetime.fromtimestamp(entry.used, UTC).isoformat(),
        "identity": entry.identity,
    }


def listed(entries: Sequence[Entry], folder: object, on_disk: int) -> str:
    """One line per entry, and the total."""
    head = ("key", "what", "number", "size", "last used (UTC)", "of")
    rows = [
        (
            one.key[:_KEY_SHOWN],
            str(one.identity.get("what", "unreadable")),
            str(one.count),
            size_text(one.size),
            _time(one.used),
            _detail(one.identity),
        )
        for one in entries
    ]
    lines = []
    if rows:
        safe = [tuple(terminal(cell, _DETAIL_SHOWN) for cell in row) for row in [head, *rows]]
        widths = [max(len(row[column]) for row in safe) for column in range(len(head))]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in safe
        ]
    lines.append(terminal(f"{len(rows)} entries, {size_text(on_disk)} on disk in {folder}"))
    return "\n".join(lines)


def explained(entry: Entry) -> str:
    """The fields from which a key was computed."""
    head = [
        f"key: {entry.key}",
        f"{'tensors' if entry.kind == 'blob' else 'answers'}: {entry.count}",
        f"size: {size_text(entry.size)}",
        f"last used: {_time(entry.used)} UTC",
        "the key is the SHA-256 of these fields:",
    ]
    fields = json.dumps(entry.identity, indent=2, sort_keys=True, ensure_ascii=False).splitlines()
    return "\n".join(line[: len(line) - len(line.lstrip(" "))] + terminal(line.lstrip(" ")) for line in head + fields)


def pruned_text(done: Pruned) -> str:
    """What was removed."""
    lines = [
        terminal(f"removed {one.key[:_KEY_SHOWN]}  {size_text(one.size)}  {one.identity.get('what', 'unreadable')}")
        for one in done.removed
    ]
    also = f" and {done.leftovers} damaged or unfinished files" if done.leftovers else ""
    freed = size_text(max(done.freed, 0))
    return "\n".join(
        [*lines, f"{len(done.removed)} entries{also} removed, {freed} freed, {size_text(done.left)} left."]
    )


def _detail(identity: Mapping[str, Any]) -> str:
    flat = _flat(identity)
    found = [f"{name} {str(flat[name])[:24]}" for name in _TELLING if flat.get(name) is not None]
    return ", ".join(found[:4])


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    """Scalars of all depths by their innermost name; outer ones count before inner ones."""
    found = {name: part for name, part in value.items() if isinstance(part, str | int | float)}
    for part in value.values():
        if isinstance(part, Mapping):
            found = {**_flat(part), **found}
    return found


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
