"""Which methods differ significantly: ranks with ties, groups, differences of pairs, and changes by condition."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pandas as pd

from leaderboard.board.comparison.between import SUBJECTS, Measure
from leaderboard.board.facts import RunFacts
from leaderboard.board.names import SIGNIFICANT
from leaderboard.view.content import Cell, Row, Section, Table, count_cell, number_cell, text_cell
from leaderboard.view.words import ABSENT, brackets, listed, p_equals, p_value, printed

Record = dict[str, Any]
_Measured = dict[Measure, list[Record]]
"""Measure → its records."""


def comparison_tables(comparisons: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """For each task the standings, the pairs of methods, and what each condition does to right labels.

    Measures without a value, such as accuracy without a known truth, are left out, and so are tables without rows but
    the standings, which say why.

    Args:
        comparisons: Rows of ``leaderboard.store.schema.COMPARISONS``.
    """
    records: list[Record] = [{str(k): v for k, v in row.items()} for row in comparisons.to_dict("records")]
    records.sort(key=lambda row: (row["first"], row["second"] or ""))
    found: list[Table] = []
    for task, profile in sorted({(row["task"], row["profile"]) for row in records}):
        own: _Measured = {}
        for measure in SUBJECTS:
            rows = [row for row in records if (row["task"], row["profile"], row["measure"]) == (task, profile, measure)]
            if measure == "stability" or any(row["kind"] == "method" for row in rows):
                own[measure] = rows
        pairs, conditions = _pairs(task, profile, own, facts), _conditions(task, profile, own, facts)
        found += [_standings(task, profile, own, facts), *(table for table in (pairs, conditions) if table.sections)]
    return found


def _of_kind(rows: Sequence[Record], kind: str) -> list[Record]:
    return [row for row in rows if row["kind"] == kind]


def _ranked(rows: Sequence[Record]) -> list[Record]:
    """The methods, best first."""
    return sorted(_of_kind(rows, "method"), key=lambda row: (-_number(row["value_first"], -math.inf), row["first"]))


def _shown_pairs(rows: Sequence[Record]) -> list[Record]:
    """The pairs, the better method first, in the order of the methods; those with a trivial baseline only if no other.

    The letters show what differs from a trivial baseline; among methods the size of a difference matters.
    """
    order = {row["first"]: place for place, row in enumerate(_ranked(rows))}
    pairs = sorted(
        map(_best_first, _of_kind(rows, "pair")), key=lambda row: (order[row["first"]], order[row["second"]])
    )
    return [row for row in pairs if not row["floor"]] or pairs


def _best_first(row: Record) -> Record:
    if not _number(row["difference"]) < 0:
        return row
    turned = {"first": row["second"], "second": row["first"], "difference": -row["difference"]}
    return row | turned | {"low": -row["high"], "high": -row["low"]}


def _standings(task: str, profile: str, own: _Measured, facts: RunFacts) -> Table:
    sections = []
    groups = facts.by_knowledge(dict.fromkeys(row["first"] for rows in own.values() for row in _ranked(rows)))
    for measure, rows in own.items():
        ranked = []
        for row in _ranked(rows):
            cells = [_cell(row, "value_first"), *_rank_cells(row, rows, groups), text_cell(row["letters"] or ABSENT)]
            ranked.append(Row(f"{row['first']} (trivial baseline)" if row["floor"] else row["first"], tuple(cells)))
        if ranked:
            sections.append(Section(tuple(ranked), SUBJECTS[measure]))
    notes = [note for measure, rows in own.items() for note in _standing_notes(measure, rows, facts)]
    alike = len(groups) > 1
    if alike:
        reading, others = map(listed, groups)
        notes.append(
            f"Among like methods: {reading} read{'s' if len(groups[0]) == 1 else ''} the annotation of the probing "
            f"images, {others} {'does' if len(groups[1]) == 1 else 'do'} not, and each is ranked among its own kind."
        )
    return Table(
        "comparisons",
        task,
        profile,
        "Standings",
        "of the methods",
        None,
        "Method",
        ("mean", "rank", *(("among like methods",) if alike else ()), "group"),
        tuple(sections),
        (*dict.fromkeys(notes), *facts.notes),
    )


def _rank_cells(row: Record, rows: Sequence[Record], groups: Sequence[Collection[str]]) -> Iterator[Cell]:
    """The rank among all methods and, where methods know different things, among those that know the same."""
    ranked = not pd.isna(row["rank"])
    yield count_cell(row["rank"]) if ranked else Cell()
    if len(groups) > 1:
        own: Collection[str] = next((group for group in groups if row["first"] in group), ())
        better = [
            other
            for other in _of_kind(rows, "method")
            if other["first"] in own
            and _number(other["value_first"]) > _number(row["value_first"])
            and not set(other["letters"] or "") & set(row["letters"] or "")
        ]
        yield count_cell(1 + len(better)) if ranked and own else Cell()


def _pairs(task: str, profile: str, own: _Measured, facts: RunFacts) -> Table:
    sections: list[Section] = []
    notes: list[str] = []
    for measure, rows in own.items():
        shown = _shown_pairs(rows)
        if shown:
            lines = tuple(Row(f"{row['first']} − {row['second']}", _pair_cells(row)) for row in shown)
            sections.append(Section(lines, SUBJECTS[measure]))
        notes += _pair_notes(measure, rows, shown)
    return Table(
        "pairs",
        task,
        profile,
        "Differences",
        "between methods",
        None,
        "Pair",
        ("difference", "p", "significant", "minimum detectable"),
        tuple(sections),
        (*dict.fromkeys(notes), *facts.notes),
    )


def _pair_notes(measure: Measure, rows: Sequence[Record], shown: Sequence[Record]) -> Iterator[str]:
    pairs = _of_kind(rows, "pair")
    if shown:
        left_out = "; pairs with a trivial baseline are not shown" if len(shown) < len(pairs) else ""
        yield f"{SUBJECTS[measure].capitalize()}: {_test_of(pairs)}, significant at p ≤ {SIGNIFICANT:g}{left_out}."
    if any(not pd.isna(row["p_corrected"]) for row in pairs):
        yield (
            "Minimum detectable: the difference that the test finds with 80 % power for this number of units, at "
            f"{SIGNIFICANT:g} / {len(pairs)} for the correction."
        )


def _test_of(pairs: Sequence[Record]) -> str:
    names = dict.fromkeys(str(row["test"]).partition(",")[0] for row in pairs if row["test"])
    corrections = dict.fromkeys(row["correction"] for row in pairs if row["correction"])
    return ", ".join([" or ".join(names) or "no test", "paired by unit", *corrections])


def _pair_cells(row: Record) -> tuple[Cell, ...]:
    words = (p_value(row["p_corrected"]), "yes" if _significant(row) else "no")
    return _cell(row, "difference"), *map(text_cell, words), number_cell(row["smallest_detectable"])


def _conditions(task: str, profile: str, own: _Measured, facts: RunFacts) -> Table:
    rows = _of_kind(own.get("accuracy", ()), "condition")
    single = len({row["second"].rpartition(", ")[2] for row in rows}) == 1
    order = {row["first"]: place for place, row in enumerate(_ranked(own.get("accuracy", ())))}
    lines = []
    for method in sorted({row["first"] for row in rows}, key=lambda name: order.get(name, len(order))):
        tested = [row for row in rows if row["first"] == method]
        changed = [row for row in tested if _significant(row)]
        worse = [_place(row, single) for row in changed if row["difference"] > 0]
        better = [_place(row, single) for row in changed if row["difference"] < 0]
        words = (text_cell("; ".join(places) or "none") for places in (worse, better))
        lines.append(Row(method, (count_cell(len(tested)), *words)))
    at = rows[0]["second"].rpartition(", ")[2] if single else "name, severity"
    return Table(
        "conditions",
        task,
        profile,
        "Conditions that change",
        "the number of right labels",
        None,
        "Method",
        ("conditions", "fewer right labels than clean", "more"),
        (Section(tuple(lines)),) if lines else (),
        (
            f"McNemar's test against clean images, Holm-corrected per method, p < {SIGNIFICANT:g}; {at}.",
            *facts.notes,
        ),
    )


def _place(row: Record, single_severity: bool) -> str:
    return row["second"].rpartition(", ")[0] if single_severity else row["second"]


# ---- notes ----


def _standing_notes(measure: Measure, rows: Sequence[Record], facts: RunFacts) -> Iterator[str]:
    ranked, pairs = _ranked(rows), _of_kind(rows, "pair")
    counted = [row for row in ranked if row["n"]]
    title = SUBJECTS[measure].capitalize()
    if counted:
        row = counted[0]
        yield f"{title}: {row['n']} units, {row['left_out']} left out; {row['test']}."
    yield from _tested(pairs)
    for said in dict.fromkeys((*_omnibus(_of_kind(rows, "omnibus")), *_against_trivial(pairs, facts))):
        yield f"{title}: {said}"
    yield from _severity(rows)
    for said in _reasons(ranked, _shown_pairs(rows)):
        yield f"{title}: {said}"


def _tested(pairs: Sequence[Record]) -> Iterator[str]:
    corrected = [row for row in pairs if not pd.isna(row["p_corrected"])]
    if corrected:
        yield (
            f"Methods with a letter in common are not significantly different ({_test_of(corrected)}, "
            f"p > {SIGNIFICANT:g}); ties share a rank. Intervals are not corrected."
        )


def _omnibus(rows: Sequence[Record]) -> Iterator[str]:
    for row in sorted(rows, key=lambda row: bool(row["floor"])):
        if not pd.isna(row["p_value"]):
            which = f"{row['test']}, {'with' if row['floor'] else 'without'} trivial baselines"
            yield f"{which}: {p_equals(row['p_value'])}, effect {row['effect']:.2f} ({row['effect_name']})."
        elif row["reason"]:
            yield f"not compared: {row['reason']}."


def _against_trivial(pairs: Sequence[Record], facts: RunFacts) -> Iterator[str]:
    tested = [_best_first(row) for row in pairs if not pd.isna(row["p_corrected"])]
    against = [row for row in tested if facts.is_floor(row["first"]) != facts.is_floor(row["second"])]
    alike = [
        f"{row['first']} and {row['second']} ({p_equals(row['p_corrected'])})"
        for row in against
        if not _significant(row)
    ]
    if alike:
        yield f"not significantly different from a trivial baseline: {'; '.join(alike)}."
    elif against:
        yield "every method is significantly different from the trivial baselines."


def _severity(rows: Sequence[Record]) -> Iterator[str]:
    effects = _of_kind(rows, "effect")
    tested = [row for row in effects if not pd.isna(row["p_value"])]
    if tested:
        terms = ", ".join(f"{row['first']} {p_equals(row['p_corrected'])}" for row in tested)
        slopes = (
            f"{row['first']} {printed(row['difference'])} {brackets(row['low'], row['high'])}"
            for row in _of_kind(rows, "slope")
        )
        yield f"Mixed model over severities, {tested[0]['n']} units, without trivial baselines, Holm: {terms}."
        yield f"Change of stability per severity step: {'; '.join(slopes)}."
    reasons = "; ".join(dict.fromkeys(row["reason"] for row in effects if row["reason"]))
    if reasons:
        yield f"{'Mixed' if tested else 'No mixed'} model over severities: {reasons}."


def _reasons(standings: Sequence[Record], pairs: Sequence[Record]) -> Iterator[str]:
    """What holds for all methods once, then what holds for one method or pair."""
    said = [(row["reason"] or "").split("; ") for row in standings if row["test"]]
    common = [part for part in (said[0] if said else ()) if part and all(part in parts for parts in said)]
    if common:
        yield f"all methods: {'; '.join(common)}."
    # That a trivial baseline never changes needs no saying.
    single = [(row["first"], row) for row in standings if not (row["floor"] and row["test"])]
    single += [(f"{row['first']} − {row['second']}", row) for row in pairs]
    for name, row in single:
        own = [part for part in (row["reason"] or "").split("; ") if part and part not in common]
        if own:
            yield f"{name}: {'; '.join(own)}."


def _significant(row: Record) -> bool:
    return _number(row["p_corrected"]) <= SIGNIFICANT


def _number(value: Any, absent: float = math.nan) -> float:
    return absent if pd.isna(value) else float(value)


def _cell(row: Record, name: str) -> Cell:
    return number_cell(row[name], row["low"], row["high"])
