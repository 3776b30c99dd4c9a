"""The chapter on concept bottlenecks: what each one decides by, what takes it away, and its single decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from leaderboard.board.bottlenecks import BottleneckGroup
from leaderboard.view.bottleneck import bottleneck_contents
from leaderboard.view.bottleneck_findings import findings
from report.document.results import BARRIER, Figure, figure_environment
from report.document.tables import Set, table_set
from report.document.words import name, paragraphs
from report.latex import latex_figures, latex_text

KEY: Final = "bottleneck"
"""Name of the tables and of the figure."""

LABEL: Final = "sec:bottlenecks"

_QUESTION: Final = (
    "A concept bottleneck explains each decision as a short sum over named concepts (label-free concept bottleneck "
    "models, Oikarinen et al., ICLR 2023). Does it lose more than the network below it when the images change, which "
    "concepts flip its decisions, and do its concepts distinguish a changed context from an unseen object?"
)


def bottleneck_set(group: BottleneckGroup) -> Set:
    """The tables of one bottleneck."""
    heads, drift, apart = (group.tables[table] for table in ("bottleneck", "concept_drift", "context_anomaly"))
    made = bottleneck_contents(heads, drift, apart, group.about_run, {group.task: group.facts})
    return table_set(made, f"tab:{KEY}-{group.slug}")


def bottlenecks(groups: Sequence[BottleneckGroup], figures: Sequence[Figure]) -> str:
    """The chapter as a section with a subsection per bottleneck; empty without any.

    Args:
        groups: The bottlenecks.
    """
    if not groups:
        return ""
    parts = [r"\section{Concept bottlenecks}", rf"\label{{{LABEL}}}", "", latex_text(_QUESTION), ""]
    for group in groups:
        own = [figure for figure in figures if (figure.figure, figure.group) == (KEY, group.slug)]
        said = [[latex_text(str(group.about.get("description") or ""))], map(latex_figures, findings(group))]
        parts += [
            f"\\subsection{{{name(called(group, groups))}}}",
            paragraphs(said),
            *map(figure_environment, own),
            rf"\input{{tables/{KEY}-{group.slug}}}",
            BARRIER,
            "",
        ]
    return "\n".join(parts)


def abstract_sentences(groups: Sequence[BottleneckGroup]) -> list[str]:
    """The first finding of each bottleneck, as LaTeX."""
    return [f"{name(group.task)}: {latex_figures(found[0])}" for group in groups if (found := findings(group))]


def called(group: BottleneckGroup, groups: Sequence[BottleneckGroup]) -> str:
    """The task's name, or the group's where several groups are of one task."""
    alike = [other for other in groups if other.task == group.task]
    return group.task if len(alike) == 1 else group.slug
