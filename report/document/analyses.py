"""The chapters on analyses: one chapter an analysis, with the tables and figures of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from leaderboard.board.build import Standings as Chapter
from leaderboard.view.content import Table
from leaderboard.view.dependence import dependence_contents
from leaderboard.view.robustness import robustness_contents
from leaderboard.view.sensitivity import sensitivity_contents
from leaderboard.view.tuning import tuning_contents
from report.document.results import BARRIER, Figure, figure_environment
from report.document.tables import Set, called, table_set
from report.document.words import name
from report.latex import latex_text


@dataclass(frozen=True)
class Analysis:
    """An analysis that runs may hold.

    Attributes:
        key: Name of its table set and of its figure.
        title: Of its chapter.
        question: What it asks, for the beginning of the chapter; plain text.
        contents: Its tables for one group; none if no run of the group holds it.
    """

    key: str
    title: str
    question: str
    contents: Callable[[Chapter], list[Table]]


def _sensitivity(chapter: Chapter) -> list[Table]:
    group = chapter.group
    units, detectors, labels = (group.tables[name] for name in ("sensitivity", "detectors", "labels"))
    return sensitivity_contents(units, detectors, labels, group.about_run, {"planted_from": group.planted_from})


def _dependence(chapter: Chapter) -> list[Table]:
    group = chapter.group
    return dependence_contents(
        *(group.tables[key] for key in ("dependence", "labels", "scores")), facts=group.about_run
    )


ANALYSES: Final = (
    Analysis(
        "dependence",
        "What units depend on",
        "How much of what excites a unit lies in the foreground of its images, how much in their background, and how "
        "far does it depend on the context at all? A method that sees the same images in several contexts says so.",
        _dependence,
    ),
    Analysis(
        "sensitivity",
        "Units that feel a perturbation",
        "Can a unit's activation alone tell a perturbed image from the same image, clean? Which units single out one "
        "family of perturbations, and do they find degraded images of a kind that they were not chosen on?",
        _sensitivity,
    ),
    Analysis(
        "robustness",
        "Accuracy kept",
        "How much of its accuracy on clean images does the network keep under each condition, and how much does the "
        "image-text encoder that methods rest on?",
        lambda chapter: robustness_contents(chapter.group.tables["robustness"], chapter.group.about_run),
    ),
    Analysis(
        "tuning",
        "Tuning by image sets",
        "Are labels better, or do they move less, if a share of the probing images is perturbed on purpose? And if the "
        "network itself is tuned on perturbed images?",
        lambda chapter: tuning_contents(chapter.group.tables["tuning"], chapter.group.about_run),
    ),
)


def analysis_sets(chapter: Chapter) -> dict[str, Set]:
    """Analysis → its tables for one group."""
    made = {analysis.key: analysis.contents(chapter) for analysis in ANALYSES}
    return {key: table_set(tables, f"tab:{key}-{chapter.group.slug}") for key, tables in made.items() if tables}


def analyses(chapters: Sequence[Chapter], sets: Mapping[str, Mapping[str, Set]], figures: Sequence[Figure]) -> str:
    """The chapters, each a section; empty where no run holds an analysis.

    Args:
        chapters: The groups.
        sets: Slug of a group → its tables, those of ``analysis_sets`` among them.
        figures: Those that were drawn.
    """
    parts: list[str] = []
    for analysis in ANALYSES:
        having = [chapter for chapter in chapters if analysis.key in sets[chapter.group.slug]]
        if having:
            parts += [f"\\section{{{latex_text(analysis.title)}}}", "", latex_text(analysis.question), ""]
        for chapter in having:
            slug = chapter.group.slug
            own = [figure for figure in figures if (figure.figure, figure.group) == (analysis.key, slug)]
            parts += [
                f"\\subsection{{{name(called(chapter, chapters))}}}",
                *map(figure_environment, own),
                rf"\input{{tables/{analysis.key}-{slug}}}",
                BARRIER,
                "",
            ]
    return "\n".join(parts)
