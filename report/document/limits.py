"""Limits that are found in the data: what is missing, what was left out, what so few units could have shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from leaderboard.board.build import Standings
from leaderboard.board.merge import LeftOut
from leaderboard.view.words import listed
from report.document.tables import called, incomplete_notes
from report.document.words import description, name, number
from report.latex import latex_text


def limits(chapters: Sequence[Standings], left_out: Sequence[LeftOut]) -> str:
    """A description list: what holds for all tasks, task by task, then the runs that are not in the report."""
    found = {called(chapter, chapters): list(_of(chapter)) for chapter in chapters}
    common = [said for said in next(iter(found.values()), []) if all(said in other for other in found.values())]
    items = [("All tasks", " ".join(common))] if len(found) > 1 else []
    apart = common if len(found) > 1 else []
    items += [(name(task), " ".join(said for said in own if said not in apart)) for task, own in found.items()]
    items += [(f"Left out: {name(left.run)}", latex_text(left.reason)) for left in left_out]
    return description((term, said) for term, said in items if said)


def _of(chapter: Standings) -> Iterator[str]:
    yield from map(latex_text, incomplete_notes(chapter))
    yield from _units(chapter)
    yield from _missing(chapter)
    yield from _few_labels(chapter)
    yield from _power(chapter)
    if chapter.extra_conditions:
        yield (
            f"{chapter.extra_conditions} more conditions ran than the task asks for; they are in the curves, and in no "
            "mean, rank or table."
        )
    if not (
        chapter.own_scores["repeat"].to_numpy()[chapter.own_scores["perturbation"].to_numpy() == "clean"] > 0
    ).any():
        yield "Clean images were labelled once only, so the methods' own noise is not known."


def _units(chapter: Standings) -> Iterator[str]:
    units = len(chapter.group.units)
    dead = max((row.counts["dead"] for row in chapter.of_suite()), default=0)
    if dead:
        verb = "is" if dead == 1 else "are"
        yield f"{dead} of {units} units {verb} dead or constant on the clean images: counted, and in no mean."
    known = max((row.counts["known"] for row in chapter.of_suite()), default=0)
    if 0 < known < units - dead:
        yield f"The truth is known of {known} of {units} units; right and wrong are said of those alone."


def _missing(chapter: Standings) -> Iterator[str]:
    lacking = {row.method: row.counts["unnamed"] for row in chapter.of_suite() if row.counts["unnamed"]}
    if lacking:
        said = listed(f"{number(units, 0)} of {name(method)}" for method, units in lacking.items())
        yield f"Units without a label under some condition: {said}."


def _few_labels(chapter: Standings) -> Iterator[str]:
    """Where few different labels stand behind many units, another unit's label is often the same."""
    few = [
        f"{row.counts['distinct']} by {name(row.method)}"
        for row in chapter.of_suite()
        if not row.floor and 0 < 2 * row.counts["distinct"] < row.counts["units"]
    ]
    if few:
        yield (
            f"Few different labels stand behind the units: {listed(few)}. Another unit's label is then often the same, "
            "so that chance is high and small changes weigh much."
        )


def _power(chapter: Standings) -> Iterator[str]:
    pairs = chapter.comparisons
    if not len(pairs):
        return
    pairs = pairs.loc[(pairs["kind"] == "pair") & ~pairs["floor"].astype(bool)]
    said = []
    for measure, words in (("stability", "stability"), ("accuracy", "accuracy when perturbed")):
        found = pairs.loc[(pairs["measure"] == measure), "smallest_detectable"].dropna()
        if len(found):
            low, high = float(found.min()), float(found.max())
            size = number(low) if round(low, 2) == round(high, 2) else f"{number(low)} to {number(high)}"
            said.append(f"{size} in {words}")
    if said:
        yield (
            f"With so many units, 80~\\% power begins at differences between two methods of {listed(said)}; a "
            "smaller one may have been missed."
        )
