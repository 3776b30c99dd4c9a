"""The abstract: what all groups show together, each sentence from a number or a test of the board; plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leaderboard.board.build import Standings
from leaderboard.view.words import count_in_words, in_words, listed, printed, severities_in_words


def abstract(chapters: Sequence[Standings]) -> Iterator[str]:
    """What all groups show together, in a few sentences."""
    if not chapters:
        yield "When the images change, what becomes of a network that explains its decisions in words?"
        return
    ranked = [chapter for chapter in chapters if chapter.rivals]
    units = sum(len(chapter.group.units) for chapter in chapters)
    methods = {row.method: row.floor for chapter in chapters for row in chapter.of_suite()}
    own = [method for method, trivial in methods.items() if not trivial]
    baselines = count_in_words(len(methods) - len(own), "trivial baseline")
    yield (
        "Words that explain the hidden units of a vision network are read off images. "
        "When the images change, do the words stay the same, and do they stay right?"
    )
    yield (
        f"We ask this of {count_in_words(len(own), 'labelling method')} and {baselines} on "
        f"{count_in_words(len(chapters), 'task')} with {units:,} units in all{_range(chapters)}."
    )
    if not ranked:
        yield "No method covers all that any task asks for, so none is ranked yet."
    for measure, words in (("stability", "Labels move least"), ("accuracy", "Labels are most often right")):
        yield from _tally(ranked, measure, words)
    yield from _losses(ranked)


def _range(chapters: Sequence[Standings]) -> str:
    severities = sorted({severity for chapter in chapters for severity in chapter.severities})
    perturbations = {condition for chapter in chapters for condition, _ in chapter.group.conditions}
    if not severities:
        return ""
    return f" under {count_in_words(len(perturbations), 'perturbation')} at {severities_in_words(severities)}"


def _tally(chapters: Sequence[Standings], measure: str, words: str) -> Iterator[str]:
    """On how many tasks each method has rank 1, ties included."""
    ranked = [
        [row.method for row in chapter.rivals if (found := row.standings.get(measure)) and found.rank == 1]
        for chapter in chapters
    ]
    ranked = [first for first in ranked if first]
    if not ranked:
        return
    times = {method: sum(method in first for first in ranked) for first in ranked for method in first}
    order = sorted(times, key=lambda method: (-times[method], method))
    if len(ranked) == 1:
        tied = ", which are not significantly different" if len(order) > 1 else ""
        yield f"{words} with {listed(order)}{tied}."
        return
    shares = listed(f"with {method} on {in_words(times[method])}" for method in order)
    known = " with known truth" if measure == "accuracy" else ""
    yield f"{words} {shares} of the {count_in_words(len(ranked), 'task')}{known}, ties included."


def _losses(chapters: Sequence[Standings]) -> Iterator[str]:
    """How far accuracy falls for the best method of each task."""
    drops = []
    for chapter in chapters:
        rows = [row for row in chapter.rivals if "accuracy" in row.values]
        best = max(rows, key=lambda row: row.values["accuracy"].mean, default=None)
        if best is not None and "accuracy_clean" in best.values:
            drops.append((best.values["accuracy_clean"].mean, best.values["accuracy"].mean))
    if drops:
        before, after = (sum(column) / len(column) for column in zip(*drops, strict=True))
        whose = "the method that is most often right" if len(drops) == 1 else "each task's best method"
        yield (
            f"The share of right labels of {whose} falls from {printed(before)} on clean images to {printed(after)} on "
            f"perturbed ones{' on average' if len(drops) > 1 else ''}."
        )
