"""How faithful each method's labels are: means over units with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task
from leaderboard.board.summary import faithfulness_mean
from leaderboard.store.schema import FAITHFULNESS
from leaderboard.view.content import Cell, Row, Section, Table, cell_of, count_cell
from leaderboard.view.words import listed

MEASURES: Final = ("cosy_auc", "cosy_mad", "f1", "iou", "correlation", "cosine", "auprc")
LATER: Final = ("dma", "activation_rate", "simulation_correlation", "simulation_by_annotation")
"""Measures that older runs do not have, and some profiles cannot have."""


def faithfulness_tables(table: pd.DataFrame, facts: RunFacts, measured: Mapping[str, Any] | None = None) -> list[Table]:
    """The tables of a run: for each task and profile its clean labels, then its perturbed ones where they are measured.

    The unit is the statistical unit: of perturbed labels, each unit's mean over the conditions comes first.

    Args:
        table: Rows of ``leaderboard.store.schema.FAITHFULNESS``.
        measured: ``facts["faithfulness"]`` of ``run.json``: images drawn of each label, why CoSy is absent.
    """
    tables = []
    for task, profile, rows in by_task(table):
        clean = rows["perturbation"].to_numpy() == "clean"
        first = rows.loc[clean & (rows["repeat"].to_numpy() == 0)]
        for images, part in (("clean", first), ("perturbed", rows.loc[~clean])):
            if len(part):
                tables.append(_table(task, profile, images, part, facts, measured or {}))
    return tables


def _table(
    task: str, profile: str, images: str, rows: pd.DataFrame, facts: RunFacts, measured: Mapping[str, Any]
) -> Table:
    methods = facts.ordered(set(rows["method"]))
    own = [rows.loc[(rows["method"] == method).to_numpy()] for method in methods]
    means = [
        Row(_heading(measure), tuple(cell_of(faithfulness_mean(part, measure, facts.seed)) for part in own))
        for measure in (*MEASURES, *(name for name in LATER if rows[name].notna().to_numpy().any()))
    ]
    units = Row("units", tuple(count_cell(len(set(part["unit"]))) for part in own))
    annotated = [float((part["presence"] == "annotation").to_numpy().mean()) for part in own]
    return Table(
        "faithfulness",
        task,
        profile,
        "Faithfulness",
        f"of labels given on {images} images",
        None,
        "Measure",
        methods,
        (Section(tuple(means)), Section((units, Row("annotated", tuple(map(Cell, annotated)))))),
        tuple(_notes(rows, facts, measured)),
    )


def _heading(measure: str) -> str:
    column = FAITHFULNESS.column(measure)
    return column.title + {True: " ↑", False: " ↓", None: ""}[column.higher_is_better]


def _notes(rows: pd.DataFrame, facts: RunFacts, measured: Mapping[str, Any]) -> Iterator[str]:
    trivial = facts.floors(set(rows["method"]))
    rest = f"; for the rest see {listed(trivial)}" if trivial else ""
    yield (
        "Mean over the units that have a label; brackets: 95 % bootstrap interval. Each label is compared with its "
        f"unit's activations on clean images. AUC 0.5, MAD 0 and correlation 0 are chance{rest}."
    )
    yield "Annotated: share of the labels whose presence in the probing images is known; CLIP judges that of the rest."
    if rows[list(LATER[2:])].notna().to_numpy().any():
        yield (
            "Simulation: Pearson’s r of activation and what the label (or its weighted sum) predicts, on a fifth "
            "of the images. By annotation it is the mean over the labels that the annotation covers."
        )
    reason = measured.get("without_cosy")
    if reason:
        yield f"No CoSy: {reason}"
    elif rows["cosy_auc"].notna().to_numpy().any():
        drawn = f"{measured['images_per_label']} images drawn of each label. " if "images_per_label" in measured else ""
        yield f"{drawn}CoSy's AUC cannot see that a label is too wide, its MAD that one is too narrow: read both."
    yield from facts.notes
