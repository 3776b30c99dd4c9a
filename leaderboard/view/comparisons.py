"""Which methods can be told apart: ranks with ties, groups and pairwise differences, for the terminal and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
from rich.table import Table
from rich.text import Text

from leaderboard.board.facts import RunFacts
from leaderboard.board.names import SIGNIFICANT
from leaderboard.store import escape

_ABSENT: Final = "–"
_TITLES: Final = {
    "stability": "stability ↑",
    "accuracy": "accuracy when perturbed ↑",
    "accuracy_clean": "accuracy on clean images ↑",
}
_ESCAPED_INTERVAL: Final = re.compile(r"\\\[(-?[\d.]+, -?[\d.]+)\\\](?![(\[:])")

Record = dict[str, Any]


@dataclass(frozen=True)
class Lines:
    """A table of plain text, not escaped yet.

    Attributes:
        heads: One a column.
        rows: One text a column.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """What there is to say of one measure of one task and profile, not escaped yet.

    Attributes:
        title: The heading.
        tables: Standings, pairs, and for accuracy what perturbations do to it.
        notes: Sentences that belong under the tables.
    """

    title: str
    tables: tuple[Lines, ...]
    notes: tuple[str, ...]


def sections(comparisons: pd.DataFrame, facts: RunFacts) -> list[Section]:
    """What the comparisons say; measures without a value, such as accuracy without a known truth, are left out.

    Args:
        comparisons: Rows of ``leaderboard.store.schema.COMPARISONS``.
        facts: Of their run.
    """
    records: list[Record] = [{str(k): v for k, v in row.items()} for row in comparisons.to_dict("records")]
    records.sort(key=lambda row: (row["first"], row["second"] or ""))
    found = []
    for task, profile in sorted({(row["task"], row["profile"]) for row in records}):
        own = [row for row in records if (row["task"], row["profile"]) == (task, profile)]
        for measure, title in _TITLES.items():
            rows = [row for row in own if row["measure"] == measure]
            if measure == "stability" or any(row["kind"] == "method" for row in rows):
                found.append(
                    _section(f"Which methods can be told apart: {title}: {task}, profile {profile}", rows, facts)
                )
    return found


def terminal_comparisons(comparisons: pd.DataFrame, facts: RunFacts) -> list[Table | Text]:
    """The sections for the terminal, of ``Text`` only, so that no name can be read as markup.

    Args:
        comparisons: Rows of ``leaderboard.store.schema.COMPARISONS``.
        facts: Of their run.
    """
    parts: list[Table | Text] = []
    for section in sections(comparisons, facts):
        parts.append(Text(escape.terminal(section.title), style="bold"))
        for lines in section.tables:
            parts += [_terminal_table(lines), Text()]
        parts += [Text(escape.terminal(note), style="dim") for note in section.notes]
        parts.append(Text())
    return parts


def markdown_comparisons(comparisons: pd.DataFrame, facts: RunFacts) -> str:
    """The sections as Markdown with pipe tables; empty if there are none.

    Args:
        comparisons: Rows of ``leaderboard.store.schema.COMPARISONS``.
        facts: Of their run.
    """
    blocks = []
    for section in sections(comparisons, facts):
        blocks.append(f"## {_markdown(section.title)}")
        blocks += [markdown_lines(lines) for lines in section.tables]
        blocks += [_markdown(note) for note in section.notes]
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _section(title: str, rows: Sequence[Record], facts: RunFacts) -> Section:
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in ("method", "pair", "omnibus", "condition")}
    standings = sorted(kinds["method"], key=lambda row: (-_number(row["value_first"], -math.inf), row["first"]))
    order = {row["first"]: place for place, row in enumerate(standings)}
    pairs = sorted(
        (_best_first(row) for row in kinds["pair"]), key=lambda row: (order[row["first"]], order[row["second"]])
    )
    # The letters show what is told apart from a floor; among methods the size of a difference matters.
    shown = [row for row in pairs if not row["floor"]] or pairs
    tables = [_standings(standings)] if standings else []
    tables += [_pairs(shown)] if shown else []
    tables += [_conditions(kinds["condition"], order)] if kinds["condition"] else []
    notes = [
        *_counted(standings),
        *_tested(pairs),
        *dict.fromkeys(_all_alike(kinds["omnibus"])),
        *_against_floors(pairs, facts),
        *_severity(rows),
        *_reasons(standings, shown),
        *facts.notes,
    ]
    return Section(title, tuple(tables), tuple(notes))


def _best_first(row: Record) -> Record:
    if not _number(row["difference"]) < 0:
        return row
    turned = {"first": row["second"], "second": row["first"], "difference": -row["difference"]}
    return row | turned | {"low": -row["high"], "high": -row["low"]}


# ---- tables ----


def _standings(rows: Sequence[Record]) -> Lines:
    body = [
        (
            f"{row['first']} (floor)" if row["floor"] else row["first"],
            _with_interval(row, "value_first"),
            _ABSENT if pd.isna(row["rank"]) else f"{row['rank']:.0f}",
            row["letters"] or _ABSENT,
        )
        for row in rows
    ]
    return Lines(("method", "mean [95 %]", "rank", "group"), tuple(body))


def _pairs(rows: Sequence[Record]) -> Lines:
    body = [
        (
            f"{row['first']} − {row['second']}",
            _with_interval(row, "difference"),
            _p(row["p_corrected"]),
            "yes" if _apart(row) else "no",
            _decimals(row["smallest_detectable"]),
        )
        for row in rows
    ]
    return Lines(("pair", "difference [95 %]", "p (Holm)", "told apart", "smallest detectable"), tuple(body))


def _conditions(rows: Sequence[Record], order: dict[str, int]) -> Lines:
    single = len({row["second"].rpartition(", ")[2] for row in rows}) == 1
    body = []
    for method in sorted({row["first"] for row in rows}, key=lambda name: order.get(name, len(order))):
        own = [row for row in rows if row["first"] == method]
        changed = [row for row in own if _apart(row)]
        worse = [_place(row, single) for row in changed if row["difference"] > 0]
        better = [_place(row, single) for row in changed if row["difference"] < 0]
        body.append((method, f"{len(own)}", "; ".join(worse) or "none", "; ".join(better) or "none"))
    return Lines(("method", "conditions", "fewer right labels than clean", "more"), tuple(body))


def _place(row: Record, single_severity: bool) -> str:
    return row["second"].rpartition(", ")[0] if single_severity else row["second"]


# ---- notes ----


def _counted(standings: Sequence[Record]) -> Iterator[str]:
    counted = [row for row in standings if row["n"]]
    if counted:
        row = counted[0]
        yield f"Units: {row['n']}, left out: {row['left_out']}; {row['test']}."


def _tested(pairs: Sequence[Record]) -> Iterator[str]:
    corrected = [row for row in pairs if not pd.isna(row["p_corrected"])]
    if corrected:
        names = dict.fromkeys(str(row["test"]).partition(",")[0] for row in corrected)
        yield (
            f"Methods with a letter in common cannot be told apart: {' or '.join(names)}, paired by unit, "
            f"{corrected[0]['correction']}, p > {SIGNIFICANT:g}; ties share a rank. Intervals are not corrected."
        )
        yield (
            f"Smallest detectable: the difference that so many units show with 80 % power, at {SIGNIFICANT:g} / "
            f"{len(pairs)} for the correction."
        )


def _all_alike(omnibus: Sequence[Record]) -> Iterator[str]:
    for row in sorted(omnibus, key=lambda row: bool(row["floor"])):
        if not pd.isna(row["p_value"]):
            which = f"{row['test']}, {'floors included' if row['floor'] else 'without floors'}"
            yield f"{which}: p {_p_sign(row['p_value'])}, effect {row['effect']:.2f} ({row['effect_name']})."
        elif row["reason"]:
            yield f"Not compared: {row['reason']}."


def _against_floors(pairs: Sequence[Record], facts: RunFacts) -> Iterator[str]:
    tested = [row for row in pairs if not pd.isna(row["p_corrected"])]
    against = [row for row in tested if facts.is_floor(row["first"]) != facts.is_floor(row["second"])]
    alike = [
        f"{row['first']} and {row['second']} (p {_p_sign(row['p_corrected'])})" for row in against if not _apart(row)
    ]
    if alike:
        yield f"Not told apart from a floor: {'; '.join(alike)}."
    elif against:
        yield "Every method is told apart from the floors."


def _severity(rows: Sequence[Record]) -> Iterator[str]:
    effects = [row for row in rows if row["kind"] == "effect"]
    tested = [row for row in effects if not pd.isna(row["p_value"])]
    if tested:
        terms = ", ".join(f"{row['first']} p {_p_sign(row['p_corrected'])}" for row in tested)
        slopes = (f"{row['first']} {_with_interval(row, 'difference')}" for row in rows if row["kind"] == "slope")
        yield f"Mixed model over severities, {tested[0]['n']} units, floors left out, Holm: {terms}."
        yield f"Change of stability for one severity step: {'; '.join(slopes)}."
    reasons = "; ".join(dict.fromkeys(row["reason"] for row in effects if row["reason"]))
    if reasons:
        yield f"{'Mixed' if tested else 'No mixed'} model over severities: {reasons}."


def _reasons(standings: Sequence[Record], pairs: Sequence[Record]) -> Iterator[str]:
    """What holds for all methods once, then what holds for one method or pair."""
    said = [(row["reason"] or "").split("; ") for row in standings if row["test"]]
    common = [part for part in (said[0] if said else ()) if part and all(part in parts for parts in said)]
    if common:
        yield f"All methods: {'; '.join(common)}."
    # That a floor never changes needs no saying.
    single = [(row["first"], row) for row in standings if not (row["floor"] and row["test"])]
    single += [(f"{row['first']} − {row['second']}", row) for row in pairs]
    for name, row in single:
        own = [part for part in (row["reason"] or "").split("; ") if part and part not in common]
        if own:
            yield f"{name}: {'; '.join(own)}."


# ---- text ----


def _apart(row: Record) -> bool:
    return _number(row["p_corrected"]) <= SIGNIFICANT


def _number(value: Any, absent: float = math.nan) -> float:
    return absent if pd.isna(value) else float(value)


def _decimals(value: Any) -> str:
    # Adding zero turns a rounded -0.0 into 0.0.
    return _ABSENT if pd.isna(value) else f"{round(float(value), 2) + 0.0:.2f}"


def _with_interval(row: Record, name: str) -> str:
    interval = "" if pd.isna(row["low"]) else f" [{_decimals(row['low'])}, {_decimals(row['high'])}]"
    return _decimals(row[name]) + interval


def _p(value: Any) -> str:
    if pd.isna(value):
        return _ABSENT
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _p_sign(value: Any) -> str:
    shown = _p(value)
    return shown if shown.startswith("<") else f"= {shown}"


def _terminal_table(lines: Lines) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for number, head in enumerate(lines.heads):
        table.add_column(Text(head), justify="right" if number and is_number(lines, number) else "left")
    for row in lines.rows:
        table.add_row(*(Text(escape.terminal(text, limit=1_000)) for text in row))
    return table


def is_number(lines: Lines, column: int) -> bool:
    """Whether a column holds figures only."""
    return all(re.fullmatch(r"[-–<\d][^a-z]*", row[column]) for row in lines.rows)


def markdown_lines(lines: Lines) -> str:
    """The table as Markdown, with figures to the right."""
    rule = ["---:" if number and is_number(lines, number) else "---" for number in range(len(lines.heads))]
    rows = [list(map(_markdown, lines.heads)), rule, *(list(map(_markdown, row)) for row in lines.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _markdown(text: str) -> str:
    """Escaped, but with the brackets of intervals as they are, which link to nothing."""
    return _ESCAPED_INTERVAL.sub(r"[\1]", escape.markdown(text))
