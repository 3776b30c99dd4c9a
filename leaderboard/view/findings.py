"""What the labels of one task show, in sentences for pages, report and terminal; each rests on a number or a test.

Plain text, not escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, cast

import pandas as pd

from leaderboard.board.build import RANKED, Row, Standings, Value, row_of, standings_in
from leaderboard.board.comparison.between import SUBJECTS
from leaderboard.board.facts import RunFacts
from leaderboard.board.groups import Condition
from leaderboard.board.names import SIGNIFICANT
from leaderboard.view.words import condition_name, count, listed, printed, severities_in_words, with_interval

_NOTHING_LEFT: Final = 0.1
"""Mean stability up to which a perturbation is said to leave nothing of the clean label."""
_EXTREMES: Final = 3


@dataclass(frozen=True)
class Findings:
    """What one task shows; each part may be empty.

    Attributes:
        stability: Whose labels move least, and from which methods that differs significantly.
        accuracy: Whose labels are most often right.
        perturbations: What moves labels most and least.
        noise: Compared with the methods' own noise.
        baselines: Compared with the trivial baselines; what is incomplete.
    """

    stability: tuple[str, ...] = ()
    accuracy: tuple[str, ...] = ()
    perturbations: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()

    @property
    def sentences(self) -> tuple[str, ...]:
        """All parts, the most important first."""
        return tuple(sentence for part in fields(self) for sentence in getattr(self, part.name))


@dataclass(frozen=True)
class _Results:
    """What the sentences rest on: rows of methods, best first, the summary, comparisons and conditions of one task."""

    rows: Sequence[Row]
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    conditions: Sequence[Condition]
    units: int
    facts: RunFacts

    @property
    def methods(self) -> list[Row]:
        """The rows that have a stability and are no trivial baselines."""
        return [row for row in self.rows if not row.floor and "stability" in row.values]


def findings(standings: Standings) -> Findings:
    """What a reader should take from one group of the board.

    Returns:
        At least one sentence. Where nothing is complete, or no difference is significant, it says so.
    """
    group = standings.group
    return _findings(
        _Results(
            standings.of_suite(),
            standings.own_summary,
            standings.comparisons,
            group.conditions,
            len(group.units),
            group.about_run,
        )
    )


def findings_of_run(summary: pd.DataFrame, comparisons: pd.DataFrame, facts: RunFacts) -> dict[str, Findings]:
    """The same from the tables of one run, over all conditions that ran; nothing without a perturbation.

    Args:
        summary: Rows of ``leaderboard.store.schema.SUMMARY``.
        comparisons: Rows of ``leaderboard.store.schema.COMPARISONS``.

    Returns:
        Task → findings.
    """
    found = {}
    for names, own in summary.groupby(["task", "profile"]):
        task, profile = cast(tuple[str, str], names)
        compared = comparisons.loc[(comparisons["task"].eq(task) & comparisons["profile"].eq(profile)).to_numpy()]
        standings = standings_in(compared)
        single = own.loc[(~own["perturbation"].isin(["clean", "all"]) & own["severity"].ne("all")).to_numpy()]
        done: dict[str, set[Condition]] = {}
        for method, name, severity in single[["method", "perturbation", "severity"]].to_numpy():
            done.setdefault(str(method), set()).add((str(name), int(severity)))
        conditions: list[Condition] = sorted(set[Condition]().union(*done.values()))
        rows = []
        for one in own.loc[(own["perturbation"].eq("all") & own["severity"].eq("all")).to_numpy()].to_dict("records"):
            method = str(one["method"])
            # As in the tables, a mean over fewer conditions than the others' does not stand beside theirs.
            gaps = tuple(f"no {condition_name(*place)}" for place in conditions if place not in done[method])
            rows.append(row_of(method, facts, one, standings.get(method, {}), missing=gaps))
        rows.sort(key=lambda row: -row.values["stability"].mean if "stability" in row.values else 1.0)
        units = int(max((own["units"] + own["missing"] + own["dead"]).tolist()))
        if rows:
            found[str(task)] = _findings(_Results(rows, own, compared, conditions, units, facts))
    return found


def _findings(results: _Results) -> Findings:
    if not results.methods:
        return Findings((_nothing(results.rows),))
    parts = (_stability, _accuracy, _perturbations, _noise, _baselines)
    return Findings(*(tuple(part(results)) for part in parts))


def _nothing(rows: Sequence[Row]) -> str:
    real = [row for row in rows if not row.floor] or rows
    gaps = list(dict.fromkeys(gap for row in real for gap in row.missing))
    if not gaps:
        return (
            "No label has a stability here: every unit is dead or without a label, or it is the only one, so that the "
            "level of chance is not known."
        )
    shown = [*gaps[:3], f"{len(gaps) - 3} more gaps"] if len(gaps) > 4 else gaps
    return f"No method has a complete result here yet, so none has a mean or a rank: {listed(shown)}."


def _stability(results: _Results) -> Iterator[str]:
    lead, *others = results.methods
    mean, units = with_interval(lead.values["stability"]), count(lead.counts["units"], "unit")
    severities = sorted({severity for _, severity in results.conditions})
    under = f"under {count(len(results.conditions), 'condition')} at {severities_in_words(severities)}"
    start = f"{lead.method} has the highest mean stability {under}: {mean} over {units}"
    if not others:
        yield f"{start}; no other method can be compared with it."
        return
    peers = [row for row in others if lead.tied_with(row, "stability")]
    behind = [row for row in others if row not in peers]
    if peers:
        unseen = _minimum_detectable(results.comparisons, lead, peers)
        limit = f"; the minimum detectable difference is about {printed(unseen)}" if unseen else ""
        yield f"{start}, but does not differ significantly from {_with_means(peers, 'stability')}{limit}."
    else:
        yield f"{start}, significantly above {_all_others(others)}."
    yield from _of_like_methods(results, lead, results.methods, "stability")
    if behind:
        by = with_interval(_difference(results.comparisons, lead, behind[0]))
        first = f"; {behind[0].method} by {by}" if len(behind) > 1 else f", by {by}"
        yield f"Significantly lower: {_with_means(behind, 'stability')}{first}."


def _of_like_methods(results: _Results, best: Row, rows: Sequence[Row], measure: str) -> Iterator[str]:
    """The best of the methods that do not read annotation, where the best of all does."""
    groups = results.facts.by_knowledge(row.method for row in rows)
    if len(groups) == 2 and best.method in groups[0]:
        like = max((row for row in rows if row.method in groups[1]), key=lambda row: row.values[measure].mean)
        yield (
            f"{best.method} reads the annotation of the probing images; of the methods that do not, {like.method} has "
            f"the highest mean: {with_interval(like.values[measure])}."
        )


def _all_others(others: Sequence[Row]) -> str:
    return "the other method" if len(others) == 1 else "every other method"


def _with_means(rows: Sequence[Row], measure: str) -> str:
    return listed(f"{row.method} ({printed(row.values[measure].mean)})" for row in rows)


def _accuracy(results: _Results) -> Iterator[str]:
    known = [row for row in results.methods if "accuracy" in row.values and "accuracy_clean" in row.values]
    if not known:
        yield "No unit's truth is known on this task, so labels can be stable here, but not right or wrong."
        return
    best, lead = max(known, key=lambda row: row.values["accuracy"].mean), results.methods[0]
    many = best.counts["known"]
    some = f"the {many} of {results.units} units whose truth is known" if many < results.units else f"all {many} units"
    yield (
        f"{best.method} is right most often on perturbed images: its label names the truth for "
        f"{with_interval(best.values['accuracy'])} of {some}, after {with_interval(best.values['accuracy_clean'])} on "
        "clean images."
    )
    yield from _of_like_methods(results, best, known, "accuracy")
    others = [row for row in known if row is not best]
    peers = [row for row in others if best.tied_with(row, "accuracy")]
    if peers:
        rest = " It differs from all other methods." if len(peers) < len(others) else ""
        yield f"In this it does not differ significantly from {_with_means(peers, 'accuracy')}.{rest}"
    elif others:
        yield f"In this it differs significantly from {_all_others(others)}."
    if lead in known and not lead.tied_with(best, "accuracy") and lead is not best:
        yield (
            f"Stable is not the same as right: {lead.method}, whose labels are the most stable, is right for "
            f"{printed(lead.values['accuracy'].mean)}, after {printed(lead.values['accuracy_clean'].mean)}."
        )


def _perturbations(results: _Results) -> Iterator[str]:
    """Which perturbations move labels most and least, averaged over the methods that are no trivial baselines."""
    methods = results.methods
    means = _condition_means(results)
    shown = min(_EXTREMES, len(means) // 2)
    if not shown:
        return
    worst, mildest = (
        listed(f"{name} ({printed(mean)})" for name, mean in part) for part in (means[:shown], means[::-1][:shown])
    )
    of = f"Averaged over {listed(row.method for row in methods)}, labels" if len(methods) > 1 else "Labels"
    yield f"{of} suffer most from {worst} and least from {mildest}."
    gone = [name for name, mean in means if mean <= _NOTHING_LEFT]
    if gone:
        yield (
            f"Under {listed(gone)} next to nothing of the clean label is left: another unit's label would be about as "
            "close."
        )


def _condition_means(results: _Results) -> list[tuple[str, float]]:
    """Perturbation and mean stability over methods and severities, lowest first."""
    means = cast(pd.Series, _by_perturbation(results).groupby("perturbation")["stability"].mean()).dropna()
    found = zip(means.index.tolist(), means.tolist(), strict=True)
    return sorted(((str(name), float(mean)) for name, mean in found), key=lambda pair: (pair[1], pair[0]))


def _by_perturbation(results: _Results) -> pd.DataFrame:
    """The summary's rows of single perturbations and these methods, over severities where there are several."""
    rows = results.summary
    methods = [row.method for row in results.methods]
    rows = rows.loc[rows["method"].isin(methods) & ~rows["perturbation"].isin(["clean", "all"])]
    over_all = rows["severity"].eq("all")
    several = set(rows.loc[over_all, "perturbation"])
    return rows.loc[over_all | ~rows["perturbation"].isin(several)]


def _noise(results: _Results) -> Iterator[str]:
    rows = _by_perturbation(results)
    tested = rows.loc[rows["p_adjusted"].notna()]
    if not len(tested):
        yield "Without clean repeats, labels cannot be compared with the methods' own noise."
        return
    said = []
    for row in results.methods:
        own = tested.loc[tested["method"].eq(row.method), "p_adjusted"]
        if len(own):
            said.append(f"{int((own < SIGNIFICANT).sum())} of {len(own)} for {row.method}")
    yield f"Perturbations under which labels move beyond the method's own noise: {listed(said)}."


def _baselines(results: _Results) -> Iterator[str]:
    """Which methods are no better than a trivial baseline, measure by measure, and which have no rank."""
    baselines = [row for row in results.rows if row.floor]
    beaten = []
    for measure in RANKED:
        compared = [row for row in results.methods if measure in row.standings and measure in row.values]
        against = [row for row in baselines if measure in row.standings and measure in row.values]
        unbeaten = False
        for baseline in against:
            level = baseline.values[measure].mean
            alike = [row.method for row in compared if row.tied_with(baseline, measure)]
            below = [row.method for row in compared if row.values[measure].mean < level and row.method not in alike]
            for methods, how in ((alike, "not significantly different from"), (below, "significantly below")):
                if methods:
                    unbeaten = True
                    verb = "is" if len(methods) == 1 else "are"
                    which = f"the trivial baseline {baseline.method} ({printed(level)})"
                    yield f"By {SUBJECTS[measure]}, {listed(methods)} {verb} {how} {which}."
        if compared and against and not unbeaten:
            beaten.append(SUBJECTS[measure])
    if beaten:
        everyone = "every method is" if len(results.methods) > 1 else f"{results.methods[0].method} is"
        which = "the trivial baseline" if len(baselines) == 1 else "every trivial baseline"
        yield f"By {listed(beaten)}, {everyone} significantly above {which}."
    gaps = [f"{row.method} ({row.missing[0]})" for row in results.rows if not row.complete and not row.floor]
    if gaps:
        yield f"Without a rank, as incomplete: {listed(gaps)}."


def _pair(comparisons: pd.DataFrame, one: Row, other: Row) -> tuple[dict[str, Any], int] | None:
    """The test of a pair by stability, and 1 or -1: which way round its difference stands."""
    rows = comparisons.loc[comparisons["kind"].eq("pair") & comparisons["measure"].eq("stability")]
    for row in rows.to_dict("records"):
        names = row["first"], row["second"]
        if names in ((one.method, other.method), (other.method, one.method)):
            return {str(key): value for key, value in row.items()}, 1 if names[0] == one.method else -1
    return None


def _difference(comparisons: pd.DataFrame, one: Row, other: Row) -> Value:
    """How much the first of two rows is above the second."""
    found = _pair(comparisons, one, other)
    if found is None:
        return Value(one.values["stability"].mean - other.values["stability"].mean)
    row, sign = found
    return Value(sign * float(row["difference"]), *sorted((sign * float(row["low"]), sign * float(row["high"]))))


def _minimum_detectable(comparisons: pd.DataFrame, lead: Row, peers: Sequence[Row]) -> float | None:
    """The largest of the differences that the tests of the leader and its peers detect with 80 % power."""
    pairs = [_pair(comparisons, lead, row) for row in peers]
    found = [float(pair[0]["smallest_detectable"]) for pair in pairs if pair]
    return max((value for value in found if value == value), default=None)
