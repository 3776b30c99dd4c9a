"""A finished run as an object: its tables as data frames, and what readers are shown, in notebooks and terminals."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Console

from leaderboard.board.build import Board, Standings, build_board
from leaderboard.board.merge import Group, conditions_of, merge_runs
from leaderboard.pages.frame import environment
from leaderboard.store.errors import StoreError
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.comparisons import comparison_tables
from leaderboard.view.content import Row, Section, Table, text_cell
from leaderboard.view.faithfulness import faithfulness_tables
from leaderboard.view.findings import findings
from leaderboard.view.studies import VIEWS
from leaderboard.view.terminal import terminal_tables
from leaderboard.view.ties import ties_from
from leaderboard.view.words import ABSENT, condition_name
from report.latex import latex_tables
from report.markdown import markdown_tables
from report.tables import document_tables
from tasks.common.errors import UserError, unknown_name

if TYPE_CHECKING:
    from report.figures.drawing import Drawing


@dataclass(frozen=True)
class Shown:
    """Tables that a notebook shows as HTML, escaped, and everything else as text.

    Attributes:
        tables: One or more, usually one per task.
    """

    tables: tuple[Table, ...]

    def __repr__(self) -> str:
        stream = io.StringIO()
        console = Console(
            file=stream,
            width=120,
            force_jupyter=False,
            force_terminal=False,
            highlight=False,
            markup=False,
            emoji=False,
        )
        for part in terminal_tables(list(self.tables), console.width):
            console.print(part)
        return stream.getvalue().rstrip("\n")

    def latex(self) -> str:
        """LaTeX ``table`` environments for ``article``; they need booktabs and siunitx. Labels are escaped."""
        return latex_tables(self.tables)

    def markdown(self) -> str:
        """Tables of GitHub's Markdown. Labels are escaped."""
        return markdown_tables(self.tables)

    def _repr_html_(self) -> str:
        macros = environment().get_template("tables.jinja").module
        shown = "\n".join(str(macros.view_table(table)) for table in self.tables)  # type: ignore[attr-defined]
        return shown.replace('class="visually-hidden"', "hidden")  # a notebook has none of the site's style


class Run:
    """One run folder: a finished run, or the packed copy of one; read when asked.

    Raises:
        StoreError: It is no run folder, or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._folder = RunFolder(self.path)
        self._folder.info()

    # ---- data ----

    @property
    def info(self) -> Mapping[str, Any]:
        """What the run is, what it was made with, and its sessions, from ``run.json``."""
        return self._folder.info()

    @property
    def labels(self) -> pd.DataFrame:
        """One row per unit, method, condition and rank; columns of ``leaderboard.store.schema.LABELS``."""
        return self._read("labels")

    @property
    def scores(self) -> pd.DataFrame:
        """One row per unit, method and condition; columns of ``leaderboard.store.schema.SCORES``."""
        return self._read("scores")

    @property
    def summary(self) -> pd.DataFrame:
        """Means over units with intervals; columns of ``leaderboard.store.schema.SUMMARY``."""
        return self._read("summary")

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Tests between methods and conditions; columns of ``leaderboard.store.schema.COMPARISONS``."""
        return pd.concat([one.comparisons for one in self._board.standings], ignore_index=True)

    def _read(self, name: str) -> pd.DataFrame:
        return pd.concat([one.group.tables[name] for one in self._board.standings], ignore_index=True)

    @cached_property
    def _board(self) -> Board:
        runs = merge_runs(self.path)
        board = build_board(runs)
        if not all(one.complete for one in board.standings):
            groups = (one.group if one.complete else _as_it_ran(one.group) for one in board.standings)
            board = build_board(replace(runs, groups=tuple(groups)))
        if not board.standings:
            why = "; ".join(left.reason for left in board.runs.left_out) or "it has no labels"
            raise UserError(f"{self.path} cannot be shown: {why}")
        return board

    # ---- what readers are shown ----

    @property
    def findings(self) -> tuple[str, ...]:
        """What the numbers show, in sentences; each rests on a test or an interval."""
        return tuple(f"{one.group.task}: {said}" for one in self._board.standings for said in findings(one).sentences)

    @cached_property
    def _tables(self) -> dict[str, list[Table]]:
        found: dict[str, list[Table]] = {}
        for one in self._board.standings:
            group, facts, ties = one.group, one.group.about_run, ties_from(one.comparisons)
            own = document_tables(one.own_summary, facts, one.complete_scores, ties)
            for table in comparison_tables(one.comparisons, facts):
                own.setdefault(table.kind, []).append(table)
            own["faithfulness"] = faithfulness_tables(group.tables["faithfulness"], facts, None)
            own |= {view.name: view.contents(group.tables, facts) for view in VIEWS}
            for name, tables in own.items():
                found[name] = found.get(name, []) + tables
        return {name: tables for name, tables in found.items() if tables}

    def table(self, name: str = "stability") -> Shown:
        """One of the results tables.

        Args:
            name: ``stability``, ``accuracy``, ``comparisons``, ``faithfulness``, the name of a study, …

        Raises:
            UserError: The run has no such table.
        """
        if name not in self._tables:
            raise unknown_name("table of this run", name, list(self._tables))
        return Shown(tuple(self._tables[name]))

    def figure(self, name: str = "stability_curves", task: str | None = None) -> Drawing:
        """One of the report's figures; needs ``pip install 'clear-benchmark[report]'``.

        Args:
            name: ``stability_curves``, ``accuracy_curves``, ``heat_map``, ``gallery``, the name of a study, …; see
                ``report.figures.write.FIGURES``.
            task: Of which task; the run's first by default.

        Raises:
            UserError: No such figure, or nothing to draw.
        """
        from report.figures.write import FIGURES

        if name not in FIGURES:
            raise unknown_name("figure", name, FIGURES)
        drawing = FIGURES[name](self._of_task(task))
        if drawing is None:
            raise UserError(f"The run has no numbers for the figure {name!r}.")
        return drawing

    def unit(self, number: int, task: str | None = None) -> Shown:
        """One unit's labels: a row per condition, a column per method.

        Args:
            number: The unit's index in its layer.
            task: Of which task; the run's first by default.

        Raises:
            UserError: The run did not label it.
        """
        group = self._of_task(task).group
        own = group.scores.loc[group.scores["unit"].eq(number).to_numpy()]
        if not len(own):
            raise UserError(f"{self.path} has no unit {number} of {group.task}; it has {_some(group.units)}.")
        places = own[["perturbation", "severity", "repeat"]].drop_duplicates().itertuples(index=False, name=None)
        rows = []
        names = ("clean", *group.about_run.in_order(set(own["perturbation"]) - {"clean"}))
        for name, severity, repeat in sorted(places, key=lambda place: (names.index(place[0]), *place[1:])):
            at = own.loc[
                (own["perturbation"].eq(name) & own["severity"].eq(severity) & own["repeat"].eq(repeat)).to_numpy()
            ].set_index("method")
            said = [at["label"].get(method) for method in group.methods]
            heading = "clean" if name == "clean" else condition_name(name, int(severity))
            cells = tuple(text_cell(text if isinstance(text, str) else ABSENT) for text in said)
            rows.append(Row(heading if not repeat else f"{heading}, repeat {repeat}", cells))
        truth = next(iter(own["truth"].dropna()), None)
        note = f"Truth: {truth}." if truth else "Its truth is not known."
        about = (f"Unit {number}", "under each condition", None, "Condition", group.methods)
        return Shown((Table("unit", group.task, group.profile, *about, (Section(tuple(rows)),), (note,)),))

    def _of_task(self, task: str | None) -> Standings:
        for one in self._board.standings:
            if task in (None, one.group.task):
                return one
        raise unknown_name("task of this run", str(task), [one.group.task for one in self._board.standings])

    def _first(self) -> list[str]:
        """What each task says of stability and of accuracy."""
        found = [(one.group.task, findings(one)) for one in self._board.standings]
        return [f"{task}: {said}" for task, own in found for said in (*own.stability[:1], *own.accuracy[:1])]

    def __repr__(self) -> str:
        return "\n".join([f"Run({str(self.path)!r})", *self._first()])

    def _repr_html_(self) -> str:
        said = environment().from_string("{% for one in sentences %}<p>{{ one|minus }}</p>\n{% endfor %}")
        return said.render(sentences=self._first()) + self.table()._repr_html_()


def _as_it_ran(group: Group) -> Group:
    """A group whose task asks for no more than ran: a run is shown by what it was asked for, unlike on the board."""
    ran = [[name, severity] for name, severity in conditions_of(group.scores) if severity]
    units = {**group.about["units"], "label": len(group.units)}
    about = {**group.about, "suites": {"run": ran}, "images": group.settings["images"], "units": units}
    return replace(group, about=about)


def _some(units: Sequence[int]) -> str:
    shown = ", ".join(map(str, units[:8]))
    return f"{shown} and {len(units) - 8} more" if len(units) > 8 else shown


def load(path: str | os.PathLike[str]) -> Run:
    """Open a run folder, finished here or elsewhere.

    Raises:
        UserError: It is no run folder, or damaged.
    """
    try:
        return Run(path)
    except StoreError as error:
        raise UserError(str(error)) from error
