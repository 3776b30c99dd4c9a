"""All tables of one group, as LaTeX for the report's page and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from leaderboard.board.build import RANKED, Row, Standings, Value
from leaderboard.board.facts import merged
from leaderboard.board.names import SIGNIFICANT
from leaderboard.view.comparisons import comparison_tables
from leaderboard.view.content import Cell, Section, Table, number_cell, text_cell, text_section, text_table
from leaderboard.view.content import Row as TableRow
from leaderboard.view.faithfulness import faithfulness_tables
from leaderboard.view.ties import ties_from
from leaderboard.view.words import ABSENT, printed
from report.latex import Sheet, latex_labels, latex_tables
from report.markdown import markdown_tables
from report.tables import document_tables

SHEET: Final = Sheet(469, 7, 34, siunitx=False)
"""The report's page: A4 with a text width of 6.5 inches, which the figures are drawn for."""

_COLUMNS: Final = {
    "stability": "Stability",
    "accuracy": "Right, perturbed",
    "accuracy_clean": "Right, clean",
}


@dataclass(frozen=True)
class Set:
    """One file of tables.

    Attributes:
        latex: As LaTeX, with a comment on what it needs.
        labels: What LaTeX refers to them by.
    """

    latex: str
    markdown: str
    labels: tuple[str, ...]


def tables(chapter: Standings) -> dict[str, Set]:
    """The tables of a group by name; names without any are left out.

    Returns:
        ``standings``, ``stability``, ``accuracy``, ``right_and_stable``, ``accuracy_by_truth``, ``pairs``,
        ``conditions`` and ``faithfulness``.
    """
    facts, comparisons = chapter.group.about_run, chapter.comparisons
    ties = ties_from(comparisons) if len(comparisons) else None
    found = {"standings": [standings_table(chapter)] if chapter.complete else []}
    found |= document_tables(chapter.own_summary, facts, chapter.own_scores, ties)
    # Shares over all conditions are means too, which an incomplete method does not get.
    of_complete = document_tables(chapter.own_summary, facts, chapter.complete_scores, ties)
    found |= {name: of_complete.get(name, []) for name in ("right_and_stable", "accuracy_by_truth")}
    gaps = incomplete_notes(chapter)
    for name in ("stability", "accuracy"):
        found[name] = [replace(table, notes=(*table.notes, *gaps)) for table in found.get(name, ())]
    for table in comparison_tables(comparisons, facts) if len(comparisons) else ():
        if table.kind != "comparisons":
            found[table.kind] = [table]
    found["faithfulness"] = faithfulness_tables(chapter.faithfulness, facts)
    return {name: table_set(made, f"tab:{name}-{chapter.group.slug}") for name, made in found.items() if made}


def incomplete_notes(chapter: Standings) -> tuple[str, ...]:
    """What keeps methods from a mean and a rank, methods of one reason together; nothing if all are complete."""
    reasons: dict[tuple[str, ...], list[str]] = {}
    for row in chapter.of_suite():
        if not row.complete:
            reasons.setdefault(row.missing, []).append(row.method)
    everyone = len(chapter.complete) == 0
    return tuple(
        f"Incomplete, hence without a mean and a rank: {'all methods' if everyone and len(reasons) == 1 else who} "
        f"({'; '.join(missing)})."
        for missing, methods in reasons.items()
        for who in [", ".join(methods)]
    )


def standings_table(chapter: Standings) -> Table:
    """Rank, mean and interval of each method for each measure that methods are ranked by."""
    group = chapter.group
    shown = [name for name in RANKED if any(name in row.values for row in chapter.of_suite())]
    with_mlce = any("mlce" in row.values for row in chapter.of_suite())
    columns = [part for name in shown for part in (f"{_COLUMNS[name]} ↑", "rank")]
    return Table(
        "standings",
        group.task,
        group.profile,
        "Standings",
        "",
        None,
        "Method",
        (*columns, *(["mLCE ↓"] if with_mlce else [])),
        (Section(tuple(_standing(row, shown, with_mlce) for row in chapter.of_suite())),),
        (*_standing_notes(chapter, shown), *incomplete_notes(chapter)),
    )


def _standing(row: Row, shown: Sequence[str], with_mlce: bool) -> TableRow:
    cells = []
    for name in shown:
        standing = row.standings.get(name)
        ranked = f"{standing.rank} {standing.letters}" if standing else ABSENT
        cells += [_cell(row.values.get(name)), text_cell(ranked)]
    if with_mlce:
        cells.append(_cell(row.values.get("mlce")))
    return TableRow(f"{row.method} (trivial baseline)" if row.floor else row.method, tuple(cells))


def _cell(value: Value | None) -> Cell:
    return number_cell(value.mean, value.low, value.high) if value else Cell()


def _standing_notes(chapter: Standings, shown: Sequence[str]) -> Iterator[str]:
    if not chapter.complete:
        return
    yield "Means over units with 95 % intervals."
    if any(row.standings for row in chapter.of_suite()):
        yield (
            "Methods with a letter in common are not significantly different (paired test, Holm-corrected, "
            f"p > {SIGNIFICANT:g}). Rank: one more than the number of methods that are significantly better."
        )
    known = {row.counts["known"] for row in chapter.of_suite() if row.complete}
    if len(shown) > 1 and known:
        yield f"Right: share of the {max(known)} units of known truth whose label names it."


def overview_table(chapters: Sequence[Standings]) -> Table | None:
    """Methods by tasks: stability and, where the truth is known, accuracy; None if nothing is ranked."""
    shown = [chapter for chapter in chapters if chapter.complete]
    methods = merged([chapter.group.about_run for chapter in shown]).ordered(
        {method for chapter in shown for method in chapter.group.methods}
    )
    if not shown:
        return None
    sections = []
    for measure, title in (("stability", "Stability"), ("accuracy", "Right, perturbed")):
        rows = [(method, *(_overview_cell(chapter, method, measure) for chapter in shown)) for method in methods]
        if any(cell != ABSENT for row in rows for cell in row[1:]):
            sections.append(text_section(rows, title))
    heads = ("Method", *(called(chapter, chapters) for chapter in shown))
    note = "In brackets the rank; methods that are not significantly different share it."
    return text_table("overview", "Mean over units and perturbed conditions, by task", heads, sections, (note,))


def called(chapter: Standings, chapters: Sequence[Standings]) -> str:
    """The task's name, or the group's where several groups are of one task."""
    alike = [other for other in chapters if other.group.task == chapter.group.task]
    return chapter.group.task if len(alike) == 1 else chapter.group.slug


def _overview_cell(chapter: Standings, method: str, measure: str) -> str:
    row: Mapping[str, Row] = {row.method: row for row in chapter.of_suite()}
    found = row[method].values.get(measure) if method in row else None
    if found is None:
        return ABSENT
    standing = row[method].standings.get(measure)
    return printed(found.mean) + (f" ({standing.rank})" if standing else "")


def table_set(made: Sequence[Table], label: str) -> Set:
    """Tables as one set, each with a label of its own."""
    named = [replace(table, label=f"{label}-{number + 1}" if number else label) for number, table in enumerate(made)]
    labels = tuple(label for table in named for label in latex_labels(table, SHEET))
    return Set(latex_tables(named, sheet=SHEET), markdown_tables(named), labels)
