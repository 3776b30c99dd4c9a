"""Tuning by image sets: what the tables say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task
from leaderboard.board.names import SIGNIFICANT
from leaderboard.view.content import Cell, Row, Section, Table

PROBING: Final = "probing set"
NETWORK: Final = "network"
CLEAN: Final = "clean"
TUNED_ON: Final = "tuned on"
HELD_OUT: Final = "held out"
GROUPS: Final = (CLEAN, TUNED_ON, HELD_OUT)

_OF_LABELS: Final = (("accuracy", CLEAN), ("accuracy", HELD_OUT), ("stability", HELD_OUT), ("kept", CLEAN))
_OF_NETWORK: Final = (
    ("auroc", CLEAN), ("auroc", TUNED_ON), ("auroc", HELD_OUT),
    ("error", CLEAN), ("error_ratio", TUNED_ON), ("error_ratio", HELD_OUT),
)  # fmt: skip
_FIRST: Final = ("untuned", "clean images")
_WORDS: Final = {"auroc": "AUROC", "error_ratio": "error ratio", "kept": "labels kept"}


@dataclass(frozen=True)
class Study:
    """One of the two studies of one task.

    Attributes:
        arms: Shares of perturbed images as text, or ways to tune, in order.
        subjects: The network, where it is one, then the labelling methods.
        rows: (arm, subject, measure, conditions) → the row of ``leaderboard.store.analysis_schema.TUNING``.
    """

    task: str
    profile: str
    arms: tuple[str, ...]
    subjects: tuple[str, ...]
    rows: Mapping[tuple[str, str, str, str], Mapping[str, Any]]

    @property
    def methods(self) -> tuple[str, ...]:
        """The labelling methods."""
        return tuple(subject for subject in self.subjects if subject != NETWORK)

    def cell(self, arm: str, subject: str, measure: str, conditions: str) -> Cell:
        """A value with its interval; marked where it differs from the untuned network or the plain set."""
        row = self.rows.get((arm, subject, measure, conditions))
        if row is None:
            return Cell()
        corrected = row["p_corrected"]
        marked = bool(pd.notna(corrected) and corrected < SIGNIFICANT)
        digits = 3 if measure in ("auroc", "error") else 2
        return Cell(row["value"], row["low"], row["high"], marked=marked, digits=digits)

    def conditions(self, subject: str, measure: str) -> tuple[str, ...]:
        """The single conditions of a subject's measure."""
        found = (key[3] for key in self.rows if key[1:3] == (subject, measure))
        return tuple(dict.fromkeys(one for one in found if one not in GROUPS))

    def count(self, subject: str, measure: str, conditions: str) -> str:
        """How many units, concepts or images a row rests on."""
        numbers = [int(row["n"]) for key, row in self.rows.items() if key[1:] == (subject, measure, conditions)]
        return "–".join(map(str, sorted({min(numbers), max(numbers)}))) if numbers else "0"


def studies(table: pd.DataFrame, study: str) -> Iterator[Study]:
    """One study of each task and profile that has it."""
    own = table.loc[(table["study"] == study).to_numpy()]
    for task, profile, rows in by_task(own):
        arms = tuple(dict.fromkeys(rows["arm"]))
        # Stored rows are sorted by name; the control belongs beside what it controls.
        arms = tuple(sorted(arms, key=lambda arm: (_FIRST.index(arm) if arm in _FIRST else len(_FIRST), arm == "both")))
        subjects = sorted(set(rows["subject"]), key=lambda name: (name != NETWORK, name))
        named = {
            (row["arm"], row["subject"], row["measure"], row["conditions"]): row for row in rows.to_dict("records")
        }
        yield Study(task, profile, arms, tuple(subjects), named)


def tuning_contents(table: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """All tables: for each task the shares, the networks before and after, and these condition by condition.

    Args:
        table: Rows of ``leaderboard.store.analysis_schema.TUNING``.
    """
    found = [_shares(study, facts) for study in studies(table, PROBING)]
    for study in studies(table, NETWORK):
        found += [_networks(study, facts), _conditions(study, facts)]
    return found


def _shares(study: Study, facts: RunFacts) -> Table:
    sections = tuple(_section(study, method, _OF_LABELS) for method in study.methods)
    held_out = ", ".join(study.conditions(study.methods[0], "stability")) if study.methods else ""
    return Table(
        "tuning_shares",
        study.task,
        study.profile,
        "Labels found with partly perturbed probing sets",
        "by the share of perturbed images",
        True,
        "Share",
        study.arms,
        sections,
        (
            f"A share of the images is replaced by perturbed versions, the same under every condition. Held out: mean "
            f"over {held_out}, none of which was used on purpose. Stability: against the labels of the same share on "
            "otherwise clean images.",
            "95 % bootstrap intervals over units. * differs from share 0 (sign-flip permutation test, p < "
            f"{SIGNIFICANT:g} after Holm's correction over this study).",
            *facts.notes,
        ),
    )


def _networks(study: Study, facts: RunFacts) -> Table:
    sections = (
        _section(study, NETWORK, _OF_NETWORK),
        *(_section(study, method, _OF_LABELS) for method in study.methods),
    )
    images, concepts = study.count(NETWORK, "error", CLEAN), study.count(NETWORK, "auroc", CLEAN)
    return Table(
        "tuning",
        study.task,
        study.profile,
        "Networks tuned on image sets, and the labels of their units",
        "before and after",
        None,
        "Tuned on",
        study.arms,
        sections,
        (
            f"Network: mean AUROC over {concepts} concepts, share of wrong decisions at one half over {images} test "
            "scenes, and this error by that of the untuned network, in the mean over conditions as mCE (below 1 is "
            "better). Clean images: as many further steps without perturbed images. Labels kept: stability of a unit's "
            "label relative to that of the same unit of the untuned network, not tested.",
            "95 % bootstrap intervals over units, of AUROC over concepts, of errors over scenes. * differs from the "
            f"untuned network (sign-flip permutation test, p < {SIGNIFICANT:g} after Holm's correction over this "
            "study); ratios are not tested, for the errors are.",
            *facts.notes,
        ),
    )


def _conditions(study: Study, facts: RunFacts) -> Table:
    held_out = {name for method in study.methods for name in study.conditions(method, "stability")}
    sections = []
    for title, inside in ((TUNED_ON, False), (HELD_OUT, True)):
        rows = [
            Row(name, tuple(study.cell(arm, NETWORK, "error_ratio", name) for arm in study.arms))
            for name in study.conditions(NETWORK, "error_ratio")
            if (name in held_out) is inside
        ]
        sections.append(Section(tuple(rows), title))
    return Table(
        "tuning_conditions",
        study.task,
        study.profile,
        "Error by that of the untuned network",
        "condition by condition",
        False,
        "Tuned on",
        study.arms,
        tuple(section for section in sections if section.rows),
        ("Below 1, the tuned network errs less. 95 % bootstrap intervals over scenes.", *facts.notes),
    )


def _section(study: Study, subject: str, measures: Sequence[tuple[str, str]]) -> Section:
    rows = []
    for measure, group in measures:
        cells = tuple(study.cell(arm, subject, measure, group) for arm in study.arms)
        if not all(np.isnan(cell.value) for cell in cells):
            rows.append(Row(f"{_WORDS.get(measure, measure)}, {group}", cells))
    counted = "" if subject == NETWORK else f", {study.count(subject, 'accuracy', CLEAN)} units of known truth"
    return Section(tuple(rows), subject + counted)
