"""What a board says, in sentences: who leads, who cannot be told from it, who does no better than a floor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pandas as pd

from leaderboard.board.build import Row, Standings, Value
from leaderboard.pages.frame import interval, number, percent, spaced

_WORDS: Final = {"stability": "stability", "accuracy": "accuracy on perturbed images"}


def findings(standings: Standings) -> tuple[str, ...]:
    """What a reader should take from one group, the most important first; plain text.

    Args:
        standings: Of the group.

    Returns:
        At least one sentence. Where nothing is complete, or nothing can be told apart, it says so.
    """
    rows = standings.of_suite()
    real = [row for row in rows if not row.floor and "stability" in row.values]
    if not real:
        return (_nothing(rows),)
    found = [*_stability(standings, real), *_accuracy(real), *_extremes(standings, real[0]), *_floors(rows, real)]
    gaps = [f"{row.method} ({row.missing[0]})" for row in rows if not row.complete and not row.floor]
    return (*found, f"Without a rank, as incomplete: {listed(gaps)}.") if gaps else tuple(found)


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def with_interval(value: Value) -> str:
    """``0.84 [0.80, 0.88]``."""
    return f"{number(value.mean)} {interval(value)}".strip()


def tied(one: Row, other: Row, measure: str) -> bool:
    """Whether the data cannot tell two rows of one suite apart."""
    if measure not in one.standings or measure not in other.standings:
        return True
    return bool(set(one.standings[measure].letters) & set(other.standings[measure].letters))


def places(row: Row, rows: Sequence[Row], measure: str = "stability") -> str:
    """The places that a row may hold: ``1``, or ``1–3`` if the data cannot order it among three; empty without rank.

    Args:
        row: One of ``rows``.
        rows: All rows of its suite.
        measure: By which.
    """
    if measure not in row.standings or measure not in row.values:
        return ""
    first = row.standings[measure].rank
    others = [other for other in rows if measure in other.standings and measure in other.values]
    mean = row.values[measure].mean
    worse = sum(not tied(row, other, measure) and other.values[measure].mean < mean for other in others)
    last = max(first, len(others) - worse)
    return f"{first}" if last == first else f"{first}–{last}"


def _nothing(rows: Sequence[Row]) -> str:
    real = [row for row in rows if not row.floor] or rows
    gaps = list(dict.fromkeys(gap for row in real for gap in row.missing))
    if not gaps:
        return "No label has a stability here: every unit is dead, or no method named one."
    shown = [*gaps[:3], f"{len(gaps) - 3} more gaps"] if len(gaps) > 4 else gaps
    return f"No method has a complete result here yet, so none has a mean or a rank: {listed(shown)}."


def _stability(standings: Standings, real: Sequence[Row]) -> Iterator[str]:
    lead, others = real[0], real[1:]
    mean = with_interval(lead.values["stability"])
    units = lead.counts["units"]
    if not others:
        yield f"{lead.method} is the only method with a complete result: stability {mean} over {units} units."
        return
    peers = [row for row in others if tied(lead, row, "stability")]
    behind = [row for row in others if row not in peers]
    if peers:
        names = listed([f"{row.method} ({number(row.values['stability'].mean)})" for row in peers])
        unseen = _smallest(standings.comparisons, lead, peers)
        limit = f", where differences under about {number(unseen)} can go unseen" if unseen else ""
        told = f"but cannot be told from {names} over {units} units{limit}"
        yield f"{lead.method} has the highest stability, {mean}, {told}."
    if behind:
        following = behind[0]
        by = with_interval(_difference(standings.comparisons, lead, following))
        if peers:
            yield f"{_followed(behind)} behind: {following.method} is {by} below {lead.method}."
        else:
            alone = "the other method" if len(others) == 1 else "every other method"
            yield (
                f"{lead.method} has the most stable labels, {mean}, told apart from {alone}: {by} above "
                f"{following.method} ({number(following.values['stability'].mean)}) over {units} units."
            )


def _followed(behind: Sequence[Row]) -> str:
    names = listed([f"{row.method} ({number(row.values['stability'].mean)})" for row in behind])
    return f"{names} {'is' if len(behind) == 1 else 'are'}"


def _accuracy(real: Sequence[Row]) -> Iterator[str]:
    known = [row for row in real if "accuracy" in row.values and "accuracy_clean" in row.values]
    if not known:
        return
    best = max(known, key=lambda row: row.values["accuracy"].mean)
    peers = [row.method for row in known if row is not best and tied(best, row, "accuracy")]
    also = f", not told apart from {listed(peers)}" if peers else ""
    said = f"names the truth for {_shares(best)} on perturbed ones"
    if len(real) == 1:
        yield f"It {said}."
    elif best is real[0] or real[0] not in known:
        yield f"{best.method} is right most often{also}: it {said}."
    else:
        yield f"{best.method} is right most often{also}: it {said}; {real[0].method} for {_shares(real[0], False)}."


def _shares(row: Row, whole: bool = True) -> str:
    clean, perturbed = (percent(row.values[name].mean) for name in ("accuracy_clean", "accuracy"))
    return f"{clean} of the units on clean images and {perturbed}" if whole else f"{clean} and {perturbed}"


def _floors(rows: Sequence[Row], real: Sequence[Row]) -> Iterator[str]:
    floors = [row for row in rows if row.floor]
    for measure, words in _WORDS.items():
        for floor in floors:
            if measure not in floor.standings or measure not in floor.values:
                continue
            level = floor.values[measure].mean
            compared = [row for row in real if measure in row.standings and measure in row.values]
            alike = [row.method for row in compared if tied(row, floor, measure)]
            below = [row.method for row in compared if row.values[measure].mean < level and row.method not in alike]
            if alike:
                yield f"By {words}, {listed(alike)} cannot be told from the floor {floor.method} ({number(level)})."
            if below:
                lie = "lies" if len(below) == 1 else "lie"
                yield f"By {words}, {listed(below)} {lie} below the floor {floor.method} ({number(level)})."


def _extremes(standings: Standings, lead: Row) -> Iterator[str]:
    """Where the leader's labels hold best and worst, among the task's own conditions."""
    own = {(name, str(severity)) for name, severity in standings.group.conditions}
    rows = standings.summary.loc[standings.summary["method"].to_numpy() == lead.method]
    found = [
        (float(row["stability"]), f"{spaced(str(row['perturbation']))} at severity {row['severity']}")
        for row in rows.to_dict("records")
        if (row["perturbation"], row["severity"]) in own and row["stability"] == row["stability"]
    ]
    if len(found) > 1:
        (low, worst), (high, best) = min(found), max(found)
        yield f"{lead.method} holds best under {best} ({number(high)}) and worst under {worst} ({number(low)})."


def _pair(comparisons: pd.DataFrame, one: Row, other: Row) -> tuple[dict[str, Any], int] | None:
    """The test of a pair by stability, and 1 or -1: which way round its difference stands."""
    rows = comparisons.loc[comparisons["kind"].eq("pair") & comparisons["measure"].eq("stability")]
    for row in rows.to_dict("records"):
        names = row["first"], row["second"]
        if names in ((one.method, other.method), (other.method, one.method)):
            return {str(key): value for key, value in row.items()}, 1 if names[0] == one.method else -1
    return None


def _difference(comparisons: pd.DataFrame, one: Row, other: Row) -> Value:
    """How much the first of two rows is above the second."""
    found = _pair(comparisons, one, other)
    if found is None:
        return Value(one.values["stability"].mean - other.values["stability"].mean)
    row, sign = found
    ends = sorted((sign * float(row["low"]), sign * float(row["high"])))
    known = ends[0] == ends[0] and ends[1] == ends[1]
    return Value(sign * float(row["difference"]), *(ends if known else (None, None)))


def _smallest(comparisons: pd.DataFrame, lead: Row, peers: Sequence[Row]) -> float | None:
    """The largest of the smallest differences that the tests of the leader and its peers could have seen."""
    pairs = [_pair(comparisons, lead, row) for row in peers]
    found = [float(pair[0]["smallest_detectable"]) for pair in pairs if pair]
    known = [value for value in found if value == value]
    return max(known, default=None)
