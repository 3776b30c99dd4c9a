"""The chapters on studies: one chapter per study, with the tables and figures of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from leaderboard.board.build import Standings
from leaderboard.view.studies import VIEWS
from report.document.results import BARRIER, Figure, figure_environment
from report.document.tables import Set, called, table_set
from report.document.words import name
from report.latex import latex_text


def analysis_sets(chapter: Standings) -> dict[str, Set]:
    """Study → its tables for one group."""
    group = chapter.group
    made = {view.name: view.contents(group.tables, group.about_run) for view in VIEWS}
    return {key: table_set(tables, f"tab:{key}-{group.slug}") for key, tables in made.items() if tables}


def analyses(chapters: Sequence[Standings], sets: Mapping[str, Mapping[str, Set]], figures: Sequence[Figure]) -> str:
    """The chapters, each a section; empty where no run holds a study.

    Args:
        sets: Slug of a group → its tables, those of ``analysis_sets`` among them.
    """
    parts: list[str] = []
    for view in VIEWS:
        having = [chapter for chapter in chapters if view.name in sets[chapter.group.slug]]
        if having:
            parts += [f"\\section{{{latex_text(view.title)}}}", "", latex_text(view.question), ""]
        for chapter in having:
            slug = chapter.group.slug
            own = [figure for figure in figures if (figure.figure, figure.group) == (view.name, slug)]
            parts += [
                f"\\subsection{{{name(called(chapter, chapters))}}}",
                *map(figure_environment, own),
                rf"\input{{tables/{view.name}-{slug}}}",
                BARRIER,
                "",
            ]
    return "\n".join(parts)
