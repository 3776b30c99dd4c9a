"""All tables of one group, as LaTeX for the report's page and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from leaderboard.board.build import RANKED, Row, Value, measures
from leaderboard.board.facts import merged
from leaderboard.board.names import SIGNIFICANT
from leaderboard.view.comparisons import Lines, sections
from leaderboard.view.content import ABSENT, Table, printed
from leaderboard.view.faithfulness import faithfulness_contents, faithfulness_tables
from leaderboard.view.ties import ties_from
from report.document.chapter import Chapter
from report.document.lines import TextTable, latex_text_table, markdown_text_table
from report.latex import Sheet, latex_labels, latex_tables, preamble
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
        markdown: As Markdown.
        labels: What LaTeX refers to them by.
    """

    latex: str
    markdown: str
    labels: tuple[str, ...]


def tables(chapter: Chapter) -> dict[str, Set]:
    """The tables of a group by name; names without any are left out.

    Returns:
        ``standings``, ``stability``, ``accuracy``, ``right_and_stable``, ``accuracy_by_truth``, ``pairs``,
        ``conditions`` and ``faithfulness``.
    """
    slug, facts = chapter.group.slug, chapter.group.about_run
    found = {"standings": text_set(standings_table(chapter))} if chapter.complete else {}
    ties = ties_from(chapter.standings.comparisons) if len(chapter.standings.comparisons) else None
    contents = document_tables(chapter.summary, facts, chapter.scores, ties)
    # Shares over all conditions are means too, which an incomplete method does not get.
    of_complete = document_tables(chapter.summary, facts, chapter.complete_scores, ties)
    contents |= {name: of_complete.get(name, []) for name in ("right_and_stable", "accuracy_by_truth")}
    gaps = incomplete_notes(chapter)
    for name, made in contents.items():
        notes = gaps if name in ("stability", "accuracy") else ()
        if made:
            found[name] = table_set(
                [replace(table, notes=(*table.notes, *notes)) for table in made], f"tab:{name}-{slug}"
            )
    found |= {name: text_set(table) for name, table in _comparisons(chapter)}
    faithful = faithfulness_contents(faithfulness_tables(chapter.faithfulness, facts))
    if faithful:
        found["faithfulness"] = table_set(faithful, f"tab:faithfulness-{slug}")
    return found


def text_set(table: TextTable) -> Set:
    """A table of text as a set of its own."""
    return Set(preamble(SHEET) + latex_text_table(table), markdown_text_table(table), (table.label,))


def incomplete_notes(chapter: Chapter) -> tuple[str, ...]:
    """What keeps methods from a mean and a rank, methods of one reason together; nothing if all are complete."""
    reasons: dict[tuple[str, ...], list[str]] = {}
    for row in chapter.rows:
        if not row.complete:
            reasons.setdefault(row.missing, []).append(row.method)
    everyone = len(chapter.complete) == 0
    return tuple(
        f"Incomplete, hence without a mean and a rank: {'all methods' if everyone and len(reasons) == 1 else who} "
        f"({'; '.join(missing)})."
        for missing, methods in reasons.items()
        for who in [", ".join(methods)]
    )


def standings_table(chapter: Chapter) -> TextTable:
    """Rank, mean and interval of each method for each measure that methods are ranked by."""
    group = chapter.group
    shown = [name for name in RANKED if any(name in row.values for row in chapter.rows)]
    with_mlce = any("mlce" in row.values for row in chapter.rows)
    heads = ["Method"]
    for name in shown:
        arrow = {True: " ↑", False: " ↓", None: ""}[measures()[name].higher_is_better]
        heads += [f"{_COLUMNS[name]}{arrow}", "rank"]
    rows = tuple(_standing(row, shown, with_mlce) for row in chapter.rows)
    lines = Lines((*heads, *(["mLCE ↓"] if with_mlce else [])), rows)
    return TextTable(
        f"tab:standings-{group.slug}",
        f"Standings on {group.task}, version {group.version}, profile {group.profile}",
        (("", lines),),
        (*_standing_notes(chapter, shown), *incomplete_notes(chapter)),
    )


def _standing(row: Row, shown: Sequence[str], with_mlce: bool) -> tuple[str, ...]:
    cells = [f"{row.method} (floor)" if row.floor else row.method]
    for name in shown:
        standing = row.standings.get(name)
        cells += [with_interval(row.values.get(name)), f"{standing.rank} {standing.letters}" if standing else ABSENT]
    if with_mlce:
        found = row.values.get("mlce")
        cells.append(printed(found.mean) if found else ABSENT)
    return tuple(cells)


def with_interval(value: Value | None) -> str:
    """A mean with its interval as plain text."""
    if value is None:
        return ABSENT
    ends = "" if value.low is None or value.high is None else f" [{printed(value.low)}, {printed(value.high)}]"
    return printed(value.mean) + ends


def _standing_notes(chapter: Chapter, shown: Sequence[str]) -> Iterator[str]:
    if not chapter.complete:
        return
    yield "Means over units with 95 % intervals."
    if any(row.standings for row in chapter.rows):
        yield (
            "Methods with a letter in common cannot be told apart by the paired test (Holm-corrected, "
            f"p > {SIGNIFICANT:g}). Rank: one more than the number of methods that are better and told apart."
        )
    known = {row.counts["known"] for row in chapter.rows if row.complete}
    if len(shown) > 1 and known:
        yield f"Right: share of the {max(known)} units of known truth whose label names it."


def _comparisons(chapter: Chapter) -> Iterator[tuple[str, TextTable]]:
    """Pairs of methods over all measures in one table; what each perturbation does to right labels in another."""
    group, comparisons = chapter.group, chapter.standings.comparisons
    pairs, conditions, notes = [], [], []
    for section in sections(comparisons, group.about_run) if len(comparisons) else []:
        measure = section.title.split(": ")[1]
        for found in section.tables:
            lines = replace(found, heads=(found.heads[0].capitalize(), *found.heads[1:]))
            if lines.heads[0] == "Pair":
                pairs.append((measure, lines))
                notes += [note for note in section.notes if note.startswith("Smallest detectable")]
            elif "conditions" in lines.heads:
                conditions.append(("", lines))
    where = f"on {group.task}, version {group.version}, profile {group.profile}"
    if pairs:
        test = "Sign-flip permutation test of the mean, for clean images McNemar's; paired by unit, floors left out"
        corrected = "Holm's correction runs over all pairs, those with floors too."
        yield (
            "pairs",
            TextTable(
                f"tab:pairs-{group.slug}",
                f"Differences between methods {where}",
                tuple(pairs),
                (f"{test}. {corrected}", *list(dict.fromkeys(notes))[:1]),
            ),
        )
    if conditions:
        at = f"severity {chapter.severities[0]}" if len(chapter.severities) == 1 else "name, severity"
        yield (
            "conditions",
            TextTable(
                f"tab:conditions-{group.slug}",
                f"Conditions that change the number of right labels {where}",
                tuple(conditions),
                (f"McNemar's test against clean images, Holm-corrected for each method, p < {SIGNIFICANT:g}; {at}.",),
            ),
        )


def overview_table(chapters: Sequence[Chapter]) -> TextTable | None:
    """Methods by tasks: stability and, where the truth is known, accuracy; None if nothing is ranked."""
    shown = [chapter for chapter in chapters if chapter.complete]
    methods = merged([chapter.group.about_run for chapter in shown]).ordered(
        {method for chapter in shown for method in chapter.group.methods}
    )
    if not shown:
        return None
    heads = ("Method", *(called(chapter, chapters) for chapter in shown))
    blocks = []
    for measure, title in (("stability", "Stability"), ("accuracy", "Right under perturbation")):
        rows = [(method, *(_overview_cell(chapter, method, measure) for chapter in shown)) for method in methods]
        if any(cell != ABSENT for row in rows for cell in row[1:]):
            blocks.append((title, Lines(heads, tuple(rows))))
    note = "In brackets the rank, which methods share that the paired test cannot tell apart."
    return TextTable("tab:overview", "Mean over units and perturbed conditions, by task", tuple(blocks), (note,))


def called(chapter: Chapter, chapters: Sequence[Chapter]) -> str:
    """The task's name, or the group's where several groups are of one task."""
    alike = [other for other in chapters if other.group.task == chapter.group.task]
    return chapter.group.task if len(alike) == 1 else chapter.group.slug


def _overview_cell(chapter: Chapter, method: str, measure: str) -> str:
    row: Mapping[str, Row] = {row.method: row for row in chapter.rows}
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
