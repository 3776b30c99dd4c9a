"""The results of each group: its answer, then tables and figures; details go to the appendix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from leaderboard.board.build import Standings
from leaderboard.view.findings import findings
from leaderboard.view.studies import VIEWS
from report.document.tables import Set
from report.document.words import name, paragraphs, sentences
from report.latex import latex_text

_TABLES_OF_APPENDIX: Final = (
    "stability", "accuracy", "right_and_stable", "accuracy_by_truth", "pairs", "conditions", "faithfulness",
)  # fmt: skip
_FIGURES: Final = ("right_and_stable", "critical_difference_stability", "heat_map", "stability_curves", "gallery")
"""Figures of the text; the others stand in the appendix."""
_SCALES: Final = {"right_and_stable": 0.87}
"""Of the figure that shares a page with the text."""
BARRIER: Final = r"\ifdefined\FloatBarrier\FloatBarrier\fi"
"""Floats stay in their subsection where the package placeins is loaded."""


@dataclass(frozen=True)
class Figure:
    """A figure of the manifest.

    Attributes:
        figure: Which one, e.g. ``heat_map``.
        group: Slug of the group.
        file: Path of the PDF from the report's folder.
        caption: Plain text, not escaped.
        alternative: Plain text, not escaped.
    """

    figure: str
    group: str
    file: str
    caption: str
    alternative: str


def results(chapter: Standings, title: str, tables: Mapping[str, Set], figures: Sequence[Figure]) -> str:
    """One group as a subsection: its answer, each paragraph with the table or figure that shows it."""
    slug = chapter.group.slug
    found = findings(chapter)
    own = {figure.figure: figure for figure in figures if figure.group == slug}
    standings = "standings" in tables
    shown = [
        [latex_text(str(chapter.group.about.get("description") or ""))],
        [
            sentences(found.stability),
            rf"Table~\ref{{tab:standings-{slug}}} has the standings." if standings else "",
            _see(own, "critical_difference_stability", "shows which methods differ significantly."),
        ],
        [rf"\input{{tables/standings-{slug}}}" if standings else ""],
        [sentences(found.accuracy), _see(own, "right_and_stable", "shows both at once.")],
        [_environment(own, "right_and_stable")],
        [
            sentences(found.perturbations),
            _see(own, "heat_map", "has every perturbation."),
            _see(own, "stability_curves", "follows the severities."),
        ],
        [sentences((*found.noise, *found.baselines)), _see(own, "gallery", "shows two of the units.")],
        [_further(tables)],
        # In an order that fills the pages.
        *([_environment(own, which)] for which in _FIGURES if which != "right_and_stable"),
        [BARRIER],
    ]
    return f"\\subsection{{{name(title)}}}\n\\label{{sec:{slug}}}\n" + paragraphs(shown)


def answer(chapter: Standings) -> str:
    """What one group shows, as LaTeX paragraphs."""
    found = findings(chapter)
    last = (*found.noise, *found.baselines)
    parts = (found.stability, found.accuracy, found.perturbations, last)
    return paragraphs([[sentences(part)] for part in parts])


def appendix(chapter: Standings, title: str, tables: Mapping[str, Set], figures: Sequence[Figure]) -> str:
    """The tables and figures of a group that its subsection has no room for; empty if there are none."""
    elsewhere = {*_FIGURES, *(view.name for view in VIEWS)}
    own = [figure for figure in figures if figure.group == chapter.group.slug and figure.figure not in elsewhere]
    present = [key for key in _TABLES_OF_APPENDIX if key in tables]
    if not own and not present:
        return ""
    parts = [
        f"\\subsection{{{name(title)}}}",
        *(rf"\input{{tables/{key}-{chapter.group.slug}}}" for key in present),
        *map(figure_environment, own),
        BARRIER,
    ]
    return "\n".join(parts) + "\n"


def figure_environment(figure: Figure) -> str:
    r"""A figure with its caption, and with its alternative text in the PDF; needs ``graphicx``.

    The figure is no wider than the text. The alternative text is written as hexadecimal UTF-16, which nothing can break
    out of.
    """
    spoken = figure.alternative.encode("utf-16-be", "replace").hex().upper()
    return "\n".join(
        [
            r"\begin{figure}",
            r"\centering",
            rf"\sbox0{{\includegraphics[scale={_SCALES.get(figure.figure, 1)}]{{{figure.file}}}}}%",
            rf"\ifdefined\pdfliteral\leavevmode\pdfliteral page{{/Span <</Alt <FEFF{spoken}>>> BDC}}\fi",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
            r"\ifdefined\pdfliteral\pdfliteral page{EMC}\fi",
            rf"\caption{{{latex_text(figure.caption)}}}",
            rf"\label{{fig:{figure.figure}-{figure.group}}}",
            r"\end{figure}",
        ]
    )


def _environment(own: Mapping[str, Figure], which: str) -> str:
    return figure_environment(own[which]) if which in own else ""


def _see(own: Mapping[str, Figure], which: str, what: str) -> str:
    return rf"Figure~\ref{{fig:{which}-{own[which].group}}} {what}" if which in own else ""


def _further(tables: Mapping[str, Set]) -> str:
    labels = [label for key in _TABLES_OF_APPENDIX if key in tables for label in tables[key].labels]
    if not labels:
        return ""
    which = rf"Tables~\ref{{{labels[0]}}} to~\ref{{{labels[-1]}}}" if len(labels) > 1 else rf"Table~\ref{{{labels[0]}}}"
    return f"{which} in the appendix {'have' if len(labels) > 1 else 'has'} the numbers behind these sentences."
