"""What signals that need no truth are worth: how well each tells right labels from wrong ones, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import by_task, of_task
from leaderboard.board.trust import (
    KINDS,
    KNOWN_BEFORE,
    SIGNALS,
    Labels,
    Trust,
    foretold,
    labels_with_signals,
    trust,
)
from leaderboard.store.schema import UNIT_MEASURES
from leaderboard.view.content import Cell, Row, Section, Table, cell_of, text_cell
from leaderboard.view.words import ABSENT, condition_name, count
from metrics.statistics import Interval
from metrics.trust import FEW, FEWEST, STABLE

_CLEAN: Final = (
    "AUROC of “the clean label is right” by the signal: 0.5 is chance, 1 means that every right label has more of it "
    "than any wrong one, below 0.5 the wrong ones have more. Brackets: 95 % bootstrap interval over units; it has no "
    f"width where the signal separates the two completely. “< {FEWEST}”: fewer than {FEWEST} right or wrong labels; "
    f"“{ABSENT}”: no value, or the same one for all labels."
)
_SIGNALS: Final = (
    "Stability, identical label, evidence overlap and activation correlation are means over the perturbed conditions. "
    "Own score: the method’s score of its label. Agreement: word overlap with the other methods’ labels. CoSy, DMA and "
    "activation rate rest on images drawn of the label; F1 to AUPRC compare the label’s presence with the unit’s "
    "activations (F1 and IoU rank alike); clarity and what follows it know the unit’s top images only. None uses the "
    "truth."
)
_PERTURBED: Final = (
    "The same for labels under a perturbation, each with its signals under that condition, as mean over the conditions "
    "with enough right and wrong labels."
)
_FORETOLD: Final = (
    f"AUROC of “the clean label’s mean stability is above {STABLE}” by what is known before any image is perturbed, "
    "over all units that have a label, whether or not their truth is known: 0.5 is chance, below it the unstable "
    "labels have more of the signal. Brackets: 95 % bootstrap interval over units. "
    f"“< {FEWEST}”: fewer than {FEWEST} stable or unstable labels."
)
_OF_UNITS: Final = tuple(column.name for column in UNIT_MEASURES)
_COUNTED: Final = "A missing label is neither right nor wrong. AND, OR: units of two concepts."


def trust_contents(tables: Mapping[str, pd.DataFrame], facts: RunFacts) -> list[Table]:
    """The tables of each task and profile; none where no signal can be judged.

    Args:
        tables: ``scores``, ``labels`` and ``faithfulness`` of a run or a group.
    """
    found = []
    for task, profile, scores in by_task(tables["scores"]):
        rest = {name: of_task(tables[name], task, profile) for name in ("labels", "faithfulness")}
        labels = labels_with_signals({"scores": scores, **rest}, facts)
        found += [*trust_tables(labels, trust(labels), task, profile), *foretold_tables(labels, task, profile)]
    return found


def foretold_tables(labels: Labels, task: str, profile: str) -> list[Table]:
    """What signals foretell of a clean label's stability; none where they cannot be judged.

    Args:
        task: Name of the task, or of several.
    """
    found = foretold(labels)
    names = [name for name in KNOWN_BEFORE if any(not own[name].reason for own in found.values())]
    if not names:
        return []
    stable = {
        method: labels.every.loc[labels.every["method"].eq(method).to_numpy(), "stability"].dropna() > STABLE
        for method in found
    }
    counts = tuple(text_cell(f"{int(own.sum())} / {int((~own).sum())}") for own in stable.values())
    sections = (
        Section(tuple(_rows(names, list(found.values())))),
        Section((Row("stable / unstable labels", counts),)),
    )
    notes = (_FORETOLD, *labels.facts.notes)
    title = "What foretells stability"
    return [
        Table("trust_stable", task, profile, title, "of clean labels", None, "Signal", tuple(found), sections, notes)
    ]


def trust_tables(labels: Labels, found: Sequence[Trust], task: str, profile: str) -> list[Table]:
    """What signals are worth for clean labels by kind of truth, for perturbed labels, and what pairs are worth.

    Args:
        found: Everything from ``leaderboard.board.trust.trust``.
        task: Name of the task, or of several.
    """
    judged = [one for one in found if any(not each.reason for each in (*one.clean.values(), *one.perturbed.values()))]
    if not judged:
        return []
    methods = tuple(dict.fromkeys(one.method for one in found))
    by_kind = {kind: [one for one in found if one.kind == kind] for kind in labels.kinds}
    signals = [name for name in SIGNALS if any(_measured(one.clean[name]) for one in judged)]
    heads = [KINDS[kind] if len(by_kind) > 1 else "" for kind in by_kind]
    sections = [
        Section((*_rows(signals, [one.clean for one in own]), *_counts(own)), head)
        for head, own in zip(heads, by_kind.values(), strict=True)
        if own
    ]
    place, notes = (task, profile), (_CLEAN, _SIGNALS, _COUNTED, *labels.facts.notes)
    title = "What signals are worth"
    tables = [
        Table("trust", *place, title, "for clean labels", None, "Signal", methods, tuple(sections), notes),
    ]
    every = by_kind[""]
    moved = [name for name in every[0].perturbed if any(_measured(one.perturbed[name]) for one in every)]
    if moved:
        conditions = (f"{_PERTURBED} {count(len(labels.conditions), 'condition')}.", *labels.facts.notes)
        rows = (Section(tuple(_rows(moved, [one.perturbed for one in every]))),)
        tables.append(
            Table("trust_perturbed", *place, title, "for perturbed labels", None, "Signal", methods, rows, conditions)
        )
    return [*tables, *_pairs(judged, place), *_conditions(every, place)]


def worth_sentences(found: Sequence[Trust]) -> Iterator[str]:
    """What each method's stability is worth, in words; plain text."""
    for one in found:
        stability = one.clean["stability"]
        if one.kind or stability.reason:
            continue
        verdict = "tells right from wrong labels" if stability.low > 0.5 else "may say nothing about right and wrong"
        if stability.high < 0.5:
            verdict = "is higher for wrong labels than for right ones"
        yield (
            f"The stability of {one.method}’s labels {verdict}: AUROC {stability.estimate:.2f} "
            f"[{stability.low:.2f}, {stability.high:.2f}]; {100 * one.stable_wrong.estimate:.0f} % of its wrong labels "
            f"are stable above {STABLE}."
        )


def _rows(names: Sequence[str], found: Sequence[Mapping[str, Interval]]) -> Iterator[Row]:
    for name in names:
        yield Row(SIGNALS[name], tuple(worth_cell(one[name]) for one in found))


def worth_cell(found: Interval) -> Cell:
    """An AUROC, or why there is none."""
    if found.reason == FEW:
        return text_cell(f"< {FEWEST}")
    return Cell() if np.isnan(found.estimate) else cell_of(found)


def _counts(found: Sequence[Trust]) -> Iterator[Row]:
    yield Row("right / wrong labels", tuple(text_cell(f"{one.right} / {one.wrong}") for one in found))
    if any(one.wrong for one in found):
        yield Row(f"wrong labels stable above {STABLE}", tuple(cell_of(one.stable_wrong) for one in found))


def _measured(found: Interval) -> bool:
    return bool(not np.isnan(found.estimate) or found.reason == FEW)


def _pairs(found: Sequence[Trust], place: tuple[str, str]) -> Iterator[Table]:
    rows = []
    for one in found:
        if one.pair is not None and not one.pair.worth.reason:
            (first, second), folds = next(iter(one.pair.chosen.items()))
            single = max(
                (name for name in one.clean if not one.clean[name].reason), key=lambda n: one.clean[n].estimate
            )
            words = f"{SIGNALS[first]} and {SIGNALS[second]} ({folds} of {sum(one.pair.chosen.values())} folds)"
            name = f"{one.method}, {KINDS[one.kind]}"
            cells = (cell_of(one.pair.worth.interval), text_cell(words), cell_of(one.clean[single]))
            rows.append(Row(name, (*cells, text_cell(SIGNALS[single]))))
    if rows:
        columns = ("pair", "chosen most often", "best single", "which")
        notes = (
            "Pair: logistic regression on the two signals that separate four fifths of the units best, judged on the "
            "remaining fifth, in turn. Best single: the largest of all signals on the same units, so it is optimistic.",
        )
        yield Table("trust_pairs", *place, "Best pair of signals", "for clean labels", None, "Method, truth", columns,
                    (Section(tuple(rows)),), notes)  # fmt: skip


def _conditions(found: Sequence[Trust], place: tuple[str, str]) -> Iterator[Table]:
    for one in found:
        # The unit's own measures would make it too wide; the table of means has them, and the JSON each of them.
        asked = [name for name in one.perturbed if name not in _OF_UNITS]
        names = [name for name in asked if any(_measured(own[name]) for own in one.by_condition.values())]
        rows = tuple(
            Row(condition_name(*condition), tuple(worth_cell(own[name]) for name in names))
            for condition, own in one.by_condition.items()
        )
        if rows and names:
            subject = f"for labels of {one.method} under each condition"
            heads = tuple(SIGNALS[name] for name in names)
            yield Table(f"trust_{one.method}", *place, "What signals are worth", subject, None, "Condition", heads,
                        (Section(rows),), (_PERTURBED,))  # fmt: skip
