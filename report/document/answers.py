"""The answer of a group in sentences, each of which follows from a number or a test of the board."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import pandas as pd

from leaderboard.board.build import RANKED, Row
from leaderboard.board.names import SIGNIFICANT
from report.document.chapter import Chapter
from report.document.words import count, in_words, listed, name, names, number, paragraphs, value

_MEASURES: Final = {
    "stability": "stability",
    "accuracy": "accuracy when perturbed",
    "accuracy_clean": "accuracy on clean images",
}
_NOTHING_LEFT: Final = 0.1
"""Mean stability up to which a perturbation is said to leave nothing of the clean label."""
_EXTREMES: Final = 3


@dataclass(frozen=True)
class Answer:
    """What one group shows, as LaTeX paragraphs; each may be empty.

    Attributes:
        steady: Whose labels move least, and who can be told apart.
        right: Whose labels are most often right.
        perturbations: What moves labels most and least.
        noise: Held against the methods' own noise, and against the floors.
    """

    steady: str
    right: str
    perturbations: str
    noise: str

    @property
    def whole(self) -> str:
        """All paragraphs."""
        return paragraphs([[part] for part in (self.steady, self.right, self.perturbations, self.noise)])


def answer(chapter: Chapter) -> Answer:
    """What one group shows."""
    if not chapter.complete:
        return Answer(" ".join(_unanswered()), "", "", "")
    noise = [*_noise(chapter), *_floors(chapter), *_incomplete(chapter)]
    return Answer(
        *(" ".join(part) for part in (_steadiest(chapter), _right(chapter), _by_perturbation(chapter), noise))
    )


def abstract(chapters: Sequence[Chapter], beside: Sequence[str] = ()) -> str:
    """What all groups show together, in a few sentences.

    Args:
        chapters: The groups.
        beside: Sentences, as LaTeX, on what was measured beside labels.
    """
    if not chapters:
        question = "When the images change, what becomes of a network that says its decisions in words?"
        return paragraphs([[question, *beside]])
    told = [chapter for chapter in chapters if chapter.rivals]
    units = sum(len(chapter.group.units) for chapter in chapters)
    methods = {row.method: row.floor for chapter in chapters for row in chapter.rows}
    own = [method for method, floor in methods.items() if not floor]
    yields = [
        "Words that explain the hidden units of a vision network are read off images. "
        "When the images change, do the words stay the same, and do they stay right?",
        f"We ask this of {count(len(own), 'labelling method')} and {count(len(methods) - len(own), 'floor')} on "
        f"{count(len(chapters), 'task')} with {units:,} units in all{_range(chapters)}.",
    ]
    if not told:
        yields.append("No method covers all that any task asks for, so none is ranked yet.")
    for measure, words in (("stability", "Labels move least"), ("accuracy", "Labels are most often right")):
        yields += _tally(told, measure, words)
    yields += _losses(told)
    return paragraphs([yields, beside])


def _range(chapters: Sequence[Chapter]) -> str:
    severities = sorted({severity for chapter in chapters for severity in chapter.severities})
    perturbations = {condition for chapter in chapters for condition, _ in chapter.group.conditions}
    if not severities:
        return ""
    at = f"severit{'y' if len(severities) == 1 else 'ies'} {listed(map(str, severities))}"
    return f" under {count(len(perturbations), 'perturbation')} at {at}"


def _tally(told: Sequence[Chapter], measure: str, words: str) -> Iterator[str]:
    """On how many tasks each method has rank 1, ties included."""
    ranked = [
        [row.method for row in chapter.rivals if (found := row.standings.get(measure)) and found.rank == 1]
        for chapter in told
    ]
    ranked = [first for first in ranked if first]
    if not ranked:
        return
    times = {method: sum(method in first for first in ranked) for first in ranked for method in first}
    order = sorted(times, key=lambda method: (-times[method], method))
    if len(ranked) == 1:
        yield f"{words} with {names(order)}{', which the test cannot tell apart' if len(order) > 1 else ''}."
        return
    shares = listed(f"with {name(method)} on {in_words(times[method])}" for method in order)
    known = " with known truth" if measure == "accuracy" else ""
    yield f"{words} {shares} of the {count(len(ranked), 'task')}{known}, ties included."


def _losses(told: Sequence[Chapter]) -> Iterator[str]:
    """How far accuracy falls for the best method of each task."""
    drops = []
    for chapter in told:
        best = _best(chapter, "accuracy")
        if best is not None and "accuracy_clean" in best.values:
            drops.append((best.values["accuracy_clean"].mean, best.values["accuracy"].mean))
    if drops:
        before, after = (sum(column) / len(column) for column in zip(*drops, strict=True))
        whose = "the method that is most often right" if len(drops) == 1 else "each task's best method"
        yield (
            f"The share of right labels of {whose} falls from {number(before)} on clean images to {number(after)} on "
            f"perturbed ones{' on average' if len(drops) > 1 else ''}."
        )


# ---- one group ----


def _steadiest(chapter: Chapter) -> Iterator[str]:
    best = _best(chapter, "stability")
    if best is None:
        yield "No method has a mean stability here."
        return
    conditions = len(chapter.group.conditions)
    yield (
        f"Under the {count(conditions, 'condition')} of this task{_at(chapter)}, the labels of {name(best.method)} "
        f"move least: their mean stability is {value(best.values['stability'])}."
    )
    yield _told_apart(chapter, best, "stability")


def _right(chapter: Chapter) -> Iterator[str]:
    best = _best(chapter, "accuracy")
    known = best.counts["known"] if best else 0
    if best is None or not known:
        yield "No unit's truth is known on this task, so labels can be steady here, but not right or wrong."
        return
    everyone = len(chapter.group.units)
    some = f"the {known} units (of {everyone}) whose truth is known" if known < everyone else f"all {known} units"
    yield (
        f"Most often right under perturbation is {name(best.method)}: its label names the truth for "
        f"{value(best.values['accuracy'])} of {some}, after {value(best.values['accuracy_clean'])} on clean images."
    )
    yield _told_apart(chapter, best, "accuracy")
    steady = _best(chapter, "stability")
    apart = steady is not None and not _alike(steady, best, "accuracy") and "accuracy" in steady.values
    if apart and steady is not None and steady.method != best.method:
        yield (
            f"Steady is not the same as right: {name(steady.method)}, whose labels move least, is right for "
            f"{number(steady.values['accuracy'].mean)}."
        )


def _told_apart(chapter: Chapter, best: Row, measure: str) -> str:
    others = [row for row in chapter.rows if row.method != best.method and measure in row.standings]
    if not others or measure not in best.standings:
        return "It is the only method that covers this task, so there is nothing to tell it apart from."
    alike = [row for row in others if _alike(best, row, measure)]
    rivals = [row for row in alike if not row.floor]
    if not alike:
        return "The paired test tells it apart from every other method."
    said = listed(f"{name(row.method)} ({number(row.values[measure].mean)})" for row in rivals)
    if len(alike) == len(others):
        return f"No test tells it apart from any other method{', floors included' if len(rivals) < len(alike) else ''}."
    if not rivals:
        return f"It cannot be told apart from a floor, {names([row.method for row in alike])}."
    floor = f", nor from {names([row.method for row in alike if row.floor])}" if len(rivals) < len(alike) else ""
    return f"The paired test cannot tell it apart from {said}{floor}; it can from all others."


def _by_perturbation(chapter: Chapter) -> Iterator[str]:
    """Which perturbations move labels most and least, averaged over the complete methods that are no floors."""
    means = _condition_means(chapter)
    if len(means) < 2 * _EXTREMES:
        return
    worst, mildest = means[:_EXTREMES], means[-_EXTREMES:][::-1]
    of = "Averaged over the methods that are no floors" if len(chapter.rivals) > 1 else "Among the perturbations"
    yield (f"{of}, labels suffer most from {_with_means(worst)} and least from {_with_means(mildest)}.")
    gone = [perturbation for perturbation, mean in means if mean <= _NOTHING_LEFT]
    if gone:
        yield (
            f"Under {names(gone)} next to nothing of the clean label is left: another unit's label would be about as "
            "close."
        )


def _condition_means(chapter: Chapter) -> list[tuple[str, float]]:
    """Perturbation and mean stability over methods and severities, lowest first."""
    methods = [row.method for row in chapter.rivals]
    rows = _perturbed(chapter, methods)
    means = cast(pd.Series, rows.groupby("perturbation")["stability"].mean()).dropna()
    found = zip(means.index.tolist(), means.tolist(), strict=True)
    return sorted(((str(key), float(mean)) for key, mean in found), key=lambda pair: (pair[1], pair[0]))


def _with_means(pairs: Sequence[tuple[str, float]]) -> str:
    return listed(f"{name(perturbation)} ({number(mean)})" for perturbation, mean in pairs)


def _noise(chapter: Chapter) -> Iterator[str]:
    methods = [row.method for row in chapter.rivals]
    rows = _perturbed(chapter, methods)
    tested = rows.loc[rows["p_adjusted"].notna()]
    if not len(tested):
        yield "Without clean repeats, nothing here can be held against the methods' own noise."
        return
    said = []
    for method in methods:
        own = tested.loc[tested["method"] == method, "p_adjusted"]
        if len(own):
            said.append(f"{int((own < SIGNIFICANT).sum())} of {len(own)} for {name(method)}")
    yield f"Perturbations under which labels move unlike the method's own noise: {listed(said)}."


def _floors(chapter: Chapter) -> Iterator[str]:
    floors = [row for row in chapter.rows if row.floor and row.complete]
    if not floors or not chapter.rivals:
        return
    unbeaten = []
    for measure, words in _MEASURES.items():
        methods = [row.method for row in chapter.rivals if any(_alike(row, floor, measure) for floor in floors)]
        if methods:
            unbeaten.append(f"{names(methods)} in {words}")
    tested = any(measure in row.standings for row in chapter.rivals for measure in RANKED)
    if unbeaten:
        yield f"Not told apart from a floor: {'; '.join(unbeaten)}."
    elif tested:
        yield f"Every method is told apart from the {'floors' if len(floors) > 1 else 'floor'} in each measure."


def _incomplete(chapter: Chapter) -> Iterator[str]:
    gaps = [row.method for row in chapter.rows if not row.complete]
    if gaps:
        yield f"{names(gaps)} {'has' if len(gaps) == 1 else 'have'} no rank, for something is missing (see the limits)."


def _unanswered() -> Iterator[str]:
    yield (
        "No method covers all that this task asks for, so none has a mean or a rank; the tables show what was "
        "measured, and the limits say what is missing."
    )


# ---- helpers ----


def _best(chapter: Chapter, measure: str) -> Row | None:
    rows = [row for row in chapter.rivals if measure in row.values]
    return max(rows, key=lambda row: row.values[measure].mean, default=None)


def _alike(one: Row, other: Row, measure: str) -> bool:
    """Whether the test could not tell two methods apart."""
    first, second = one.standings.get(measure), other.standings.get(measure)
    return bool(first and second and set(first.letters) & set(second.letters))


def _perturbed(chapter: Chapter, methods: Sequence[str]) -> pd.DataFrame:
    """The summary's rows of single perturbations, over severities where there are several."""
    rows = chapter.summary
    rows = rows.loc[rows["method"].isin(methods) & ~rows["perturbation"].isin(["clean", "all"])]
    over_all = rows["severity"].eq("all")
    several = set(rows.loc[over_all, "perturbation"])
    return rows.loc[over_all | ~rows["perturbation"].isin(several)]


def _at(chapter: Chapter) -> str:
    severities = chapter.severities
    if not severities or not all(map(math.isfinite, severities)):
        return ""
    return f" at severit{'y' if len(severities) == 1 else 'ies'} {listed(map(str, severities))}"
