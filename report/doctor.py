"""What a profile needs and what of it is there, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table as RichTable
from rich.text import Text

from leaderboard.store.escape import terminal
from leaderboard.view.content import text_section, text_table
from leaderboard.view.terminal import terminal_table

_HEADS = ("role", "source", "state", "size", "licence", "commit, or how to get it")
_UNKNOWN = "unknown"


def terminal_doctor(facts: Mapping[str, Any]) -> list[RichTable | Text]:
    """One table of all parts; how to get a missing one stands below under its number, whole, so that it can be copied.

    Args:
        facts: As ``benchmark.commands.doctor.diagnose`` gives them.
    """
    rows, needed = [], []
    for part in facts["resources"]:
        how, size = part["commit"] or "", readable(part["size"])
        if part["state"] in ("missing", "hash differs"):
            # Two roles may need the same thing.
            if part["get"] not in needed:
                needed.append(part["get"])
            how, size = f"see {needed.index(part['get']) + 1}", size or _UNKNOWN
        rows.append((part["role"], part["source"], part["state"], size, part["licence"] or _UNKNOWN, how))
    needed += [package["get"] for package in facts["packages"] if not package["installed"]]
    needed += [f"Set the environment variable {key['variable']}." for key in facts["keys"] if not key["set"]]
    numbered = [Text(terminal(f"{number}. {how}")) for number, how in enumerate(needed, start=1)]
    table = text_table("doctor", "", _HEADS, [text_section(rows)])
    return [terminal_table(table), *_lines(facts), *([Text("To get what is missing:"), *numbered] if numbered else [])]


def readable(size: int | None) -> str:
    """Bytes for a reader: ``102.5 MB``; empty where unknown."""
    if size is None:
        return ""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _lines(facts: Mapping[str, Any]) -> list[Text]:
    lines = [f"packages: {_told(facts['packages'], 'module', 'installed', 'missing')}"] if facts["packages"] else []
    if facts["keys"]:
        lines.append(f"keys: {_told(facts['keys'], 'variable', 'set', 'not set')}")
    lines.append(f"devices: {', '.join(facts['devices'])}")
    if facts["cache"]:
        lines.append(f"cache {_shared(facts['cache'], 'answers')}")
    if "out" in facts:
        at = facts["out"]
        held = f"leases, which a dead one holds for 30 s, because {at['no_locks']}" if at["no_locks"] else "file locks"
        lines.append(f"run folders in {_shared(at, 'replies')}; they take turns by {held}")
    parts = facts["resources"]
    absent = sum(part["state"] in ("missing", "hash differs") for part in parts)
    state = "complete" if facts["complete"] else "not complete"
    lines.append(f"profile {facts['profile']}: {state}; {absent} of {len(parts)} parts are not on this machine")
    lines += [f"{one['method']} cannot run with it: {one['reason'].rstrip('.')}." for one in facts["excluded"]]
    return [Text(terminal(line)) for line in lines]


def _shared(at: Mapping[str, Any], what: str) -> str:
    where = f"{at['folder']} ({at['file_system'] or 'file system unknown'})"
    if at["tier"] is None:
        return f"{where}: {what} in an SQLite file there, for processes of this machine"
    return f"{where}: {what} as segments there, for processes of all machines, and in an SQLite file below {at['tier']}"


def _told(rows: list[Mapping[str, Any]], name: str, state: str, otherwise: str) -> str:
    return ", ".join(f"{row[name]} ({state if row[state] else otherwise})" for row in rows)
