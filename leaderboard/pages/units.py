"""What a unit's page says: its labels, what became of them under each condition, and the images behind them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from leaderboard.board.build import FAITHFULNESS_MEANS
from leaderboard.board.merge import Condition, Group
from leaderboard.store.escape import plain

IMAGES: Final = 5
"""So many top images are shown at most: those that the run keeps small pictures of."""

RANKS: Final = 3
"""The clean label and its runners-up."""

_OF_UNITS: Final = ("scores", "labels", "faithfulness", "dependence")
_DEPENDENCE: Final = ("foreground", "background", "context")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A label that a method gave on clean images, as a reader sees it; the score is the method's own."""

    label: str
    score: float | None


@dataclass(frozen=True)
class Naming:
    """What one method called the unit under one condition.

    Attributes:
        label: As a reader sees it; empty if the method gave none.
        stability: None where a label is missing.
        right: Whether the label names the truth; None where that is not known or there is no label.
        moved: Whether it is another label than on clean images, or there is one on one side only.
    """

    method: str
    label: str
    stability: float | None
    right: bool | None
    moved: bool


@dataclass(frozen=True)
class Picture:
    """One of the unit's top images.

    Attributes:
        image: Its identifier.
        rank: 1 activates the unit most.
        activation: None where it is not finite.
        uri: ``data:`` address of the picture; empty without one.
        clean_rank: Its rank on clean images; None if it was not among the top images there.
    """

    image: str
    rank: int
    activation: float | None
    uri: str
    clean_rank: int | None


@dataclass(frozen=True)
class View:
    """The unit under one condition.

    Attributes:
        severity: 0 for clean.
        shown: Whether it stands for its perturbation: it is open at first, and has pictures if the run kept some.
        pictures: The top images, best first; nothing where the run kept no evidence of the unit.
        namings: One per method that labelled the unit here.
        overlap: Jaccard index of the top images, clean and here.
        rank_overlap: Rank-biased overlap of the same.
        correlation: Of the unit's activations on all probing images, clean and here.
    """

    perturbation: str
    severity: int
    shown: bool
    pictures: tuple[Picture, ...]
    namings: tuple[Naming, ...]
    overlap: float | None
    rank_overlap: float | None
    correlation: float | None


@dataclass(frozen=True)
class Verdict:
    """One method on the unit, clean and over the task's conditions.

    Attributes:
        floor: It is a trivial baseline.
        candidates: Its clean labels; nothing if it gave none.
        stability: Mean over the task's conditions that have one; None if none has.
        stable_over: How many conditions that mean rests on.
        right_clean: Whether the clean label names the truth; None where that is not known.
        right: Under how many of the task's conditions the label does; a missing label does not.
        judged: Under how many conditions that was asked.
        detector: Whether the method itself calls the unit a detector of its clean label; None if it does not say.
        faithfulness: Measure → value of the clean label.
        dependence: Foreground, background, context → what the unit loses with it, where the method says so.
    """

    method: str
    floor: bool
    candidates: tuple[Candidate, ...]
    stability: float | None
    stable_over: int
    right_clean: bool | None
    right: int
    judged: int
    detector: bool | None
    faithfulness: Mapping[str, float]
    dependence: Mapping[str, float]


@dataclass(frozen=True)
class Unit:
    """Everything that a page says of one unit.

    Attributes:
        truth: The true concept; empty where it is not known.
        truth_op: ``single``, ``and`` or ``or``; empty where the truth is not known.
        dead: Dead or constant on clean images.
        before: The unit labelled before it, if any.
        after: The unit labelled after it, if any.
        again: Labels from the clean images with other seeds, where methods were repeated.
        views: Perturbation → its severities that ran, ascending; the perturbations in the order of the tables.
        ranked: Of how many clean top images the rank is known; a packed run keeps fewer than were compared.
    """

    number: int
    truth: str
    truth_op: str
    dead: bool
    before: int | None
    after: int | None
    verdicts: tuple[Verdict, ...]
    clean: View
    again: tuple[View, ...]
    views: Mapping[str, tuple[View, ...]]
    ranked: int


def units_of(group: Group) -> Iterator[Unit]:
    """All units of a group, in the order of their numbers."""
    maker = _Maker(group)
    for place, number in enumerate(group.units):
        before = group.units[place - 1] if place else None
        after = group.units[place + 1] if place + 1 < len(group.units) else None
        yield maker.unit(number, before, after)


def shown_conditions(conditions: Sequence[Condition], standard: Sequence[Condition]) -> frozenset[Condition]:
    """The conditions whose pictures a page holds: the clean one, and one severity per perturbation.

    A page with the pictures of every severity would be too heavy. Where several severities of a perturbation are the
    task's own, or none is, the middle one is chosen.
    """
    chosen = {("clean", 0)}
    for name in {name for name, severity in conditions if severity}:
        ran = sorted(severity for other, severity in conditions if other == name)
        own = [severity for severity in ran if (name, severity) in standard] or ran
        chosen.add((name, own[(len(own) - 1) // 2]))
    return frozenset(chosen)


class _Maker:
    """Looks everything up once for all units of a group."""

    def __init__(self, group: Group) -> None:
        tables = group.tables
        self.group = group
        self.tables = {name: _by_unit(tables[name]) for name in (*_OF_UNITS, "evidence")}
        scores = group.scores
        ran = set(zip(scores["perturbation"].tolist(), (int(s) for s in scores["severity"]), strict=True))
        names = self.group.about_run.in_order({name for name, severity in ran if severity})
        self.conditions = [(name, s) for name in names for s in sorted(s for other, s in ran if other == name)]
        self.shown = shown_conditions(self.conditions, group.conditions)
        thumbnails = tables["thumbnails"]
        places = zip(*(thumbnails[name] for name in ("perturbation", "severity", "image", "webp")), strict=True)
        self.webp = {(str(n), int(s), str(i)): webp for n, s, i, webp in places if (str(n), int(s)) in self.shown}
        self.images = self._images()

    def unit(self, number: int, before: int | None, after: int | None) -> Unit:
        rows = {name: table(number) for name, table in self.tables.items()}
        scores = {(r["method"], r["perturbation"], r["severity"], r["repeat"]): r for r in rows["scores"]}
        evidence = _evidence(rows["evidence"])
        repeats = sorted({key[3] for key in scores if key[1] == "clean"})
        views: dict[str, list[View]] = {}
        for name, severity in self.conditions:
            views.setdefault(name, []).append(self._view(scores, evidence, name, severity))
        first = rows["scores"][0]
        return Unit(
            number,
            plain(_text(first["truth"])),
            _text(first["truth_op"]),
            bool(first["dead"]),
            before,
            after,
            tuple(self._verdict(method, scores, rows) for method in self.group.methods),
            self._view(scores, evidence, "clean", 0),
            tuple(self._view(scores, {}, "clean", 0, repeat) for repeat in repeats if repeat),
            {name: tuple(parts) for name, parts in views.items()},
            len(evidence.get(("clean", 0), ())),
        )

    def _view(
        self,
        scores: Mapping[tuple[str, str, int, int], Row],
        evidence: Mapping[Condition, Sequence[Row]],
        name: str,
        severity: int,
        repeat: int = 0,
    ) -> View:
        found = [row for m in self.group.methods if (row := scores.get((m, name, severity, repeat)))]
        clean = {row["image"]: int(row["rank"]) for row in evidence.get(("clean", 0), ())}
        pictures = tuple(
            Picture(
                str(row["image"]),
                int(row["rank"]),
                _number(row["activation"]),
                self._uri(name, severity, str(row["image"])),
                clean.get(row["image"]),
            )
            for row in evidence.get((name, severity), ())[: self.images]
        )
        # The evidence is the same for all methods.
        shared = found[0] if found else {}
        return View(
            name,
            severity,
            (name, severity) in self.shown,
            pictures,
            tuple(_naming(row) for row in found),
            *(_number(shared.get(n)) for n in ("evidence_overlap", "rank_biased_overlap", "activation_correlation")),
        )

    def _images(self) -> int:
        """How many top images every unit has a picture of, on clean images."""
        evidence = self.group.tables["evidence"]
        clean = evidence.loc[(evidence["perturbation"] == "clean") & (evidence["repeat"] == 0)]
        ranks = zip(clean["image"], clean["rank"], strict=True)
        lacking = [int(rank) for image, rank in ranks if ("clean", 0, str(image)) not in self.webp]
        # Without any picture the first few images are named.
        return min(IMAGES, min(lacking, default=IMAGES + 1) - 1) or IMAGES

    def _uri(self, name: str, severity: int, image: str) -> str:
        webp = self.webp.get((name, severity, image))
        return f"data:image/webp;base64,{base64.b64encode(webp).decode()}" if webp else ""

    def _verdict(
        self, method: str, scores: Mapping[tuple[str, str, int, int], Row], rows: Mapping[str, Sequence[Row]]
    ) -> Verdict:
        clean = scores.get((method, "clean", 0, 0), {})
        here = [row for c in self.group.conditions if (row := scores.get((method, *c, 0)))]
        stable = [value for row in here if (value := _number(row["stability"])) is not None]
        judged = [row for row in here if _text(row["truth"]) and not row["dead"]]
        own = [row for row in rows["labels"] if row["method"] == method and _is_clean(row) and not clean.get("dead")]
        best = sorted((row for row in own if row["rank"] <= RANKS), key=lambda row: row["rank"])
        faithful = next((r for r in rows["faithfulness"] if r["method"] == method and _is_clean(r)), {})
        measured = {name: _number(faithful.get(name)) for name in FAITHFULNESS_MEANS}
        said = (row for row in rows["dependence"] if row["method"] == method and _is_clean(row) and not row["part"])
        depends = {name: _number(value) for name, value in next(said, {}).items() if name in _DEPENDENCE}
        return Verdict(
            method,
            self.group.about_run.is_floor(method),
            tuple(Candidate(plain(str(row["label"])), _number(row["score"])) for row in best),
            float(np.mean(stable)) if stable else None,
            len(stable),
            _flag(clean.get("right_clean")),
            sum(_flag(row["right"]) is True for row in judged),
            len(judged),
            _flag(clean.get("detector")),
            {name: value for name, value in measured.items() if value is not None},
            {name: value for name, value in depends.items() if value is not None},
        )


def _by_unit(table: pd.DataFrame) -> Callable[[int], list[Row]]:
    # Without a frame for each unit, which would take longer than the unit's page.
    order = np.argsort(table["unit"].to_numpy(), kind="stable")
    units, starts = np.unique(table["unit"].to_numpy()[order], return_index=True)
    places = dict(zip(units.tolist(), np.split(order, starts[1:]), strict=True)) if len(table) else {}
    nullable = table.dtypes == "boolean"
    columns = {name: table[name].to_numpy(object if nullable[name] else None) for name in table}

    def rows(unit: int) -> list[Row]:
        if unit not in places:
            return []
        values = (column[places[unit]].tolist() for column in columns.values())
        return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]

    return rows


def _evidence(rows: Sequence[Row]) -> dict[Condition, list[Row]]:
    found: dict[Condition, list[Row]] = {}
    for row in rows:
        if row["repeat"] == 0:
            found.setdefault((str(row["perturbation"]), int(row["severity"])), []).append(row)
    return {condition: sorted(part, key=lambda row: row["rank"]) for condition, part in found.items()}


def _naming(row: Row) -> Naming:
    label, clean = plain(_text(row["label"])), plain(_text(row["clean_label"]))
    moved = _flag(row["exact"]) is False or bool(label) != bool(clean)
    return Naming(str(row["method"]), label, _number(row["stability"]), _flag(row["right"]), moved)


def _is_clean(row: Row) -> bool:
    return row["perturbation"] == "clean" and row["repeat"] == 0


def _text(value: Any) -> str:
    return "" if value is None or value is pd.NA or value != value else str(value)


def _number(value: Any) -> float | None:
    return None if value is None or value is pd.NA or value != value else float(value)


def _flag(value: Any) -> bool | None:
    return None if value is None or value is pd.NA or value != value else bool(value)
