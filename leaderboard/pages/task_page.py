"""One page per task: which methods differ significantly, where and how fast labels stop holding, and its units."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from leaderboard.board.build import EVERY_SUITE, RANKED, Row, Standings, Value, measures
from leaderboard.board.comparison.between import SUBJECTS
from leaderboard.board.merge import Group
from leaderboard.board.names import SIGNIFICANT
from leaderboard.pages.board_page import places, reads, rows_like, settings_of, used_runs
from leaderboard.pages.charts import Bar, bar, marker, scale_from, styles_of
from leaderboard.pages.cost import cost_panel
from leaderboard.pages.curves import curve_panels
from leaderboard.pages.frame import Page
from leaderboard.pages.heat import heat_maps
from leaderboard.pages.outcomes import outcomes
from leaderboard.pages.unit_pages import TRUTHS
from leaderboard.view.findings import findings
from leaderboard.view.studies import VIEWS
from leaderboard.view.truth import OUTCOMES
from leaderboard.view.words import count, p_equals


@dataclass(frozen=True)
class Ranked:
    """A method in the standings by one measure.

    Attributes:
        place: Rank, or the ranks that the data cannot decide between.
        letters: Its groups.
        value: Mean and interval.
        bar: The same for a chart.
        reads: Whether it reads the annotation of the probing images, which others of the group do not.
    """

    row: Row
    place: str
    letters: str
    value: Value
    bar: Bar
    reads: bool


@dataclass(frozen=True)
class Pair:
    """Two methods compared.

    Attributes:
        difference: First less second, with its interval.
        p: Corrected; None without a test.
        significant: Whether they differ significantly.
        minimum: The minimum detectable difference; None where it is not known.
        reason: Why numbers are missing or mean little.
    """

    first: str
    second: str
    difference: Value
    p: float | None
    significant: bool
    minimum: float | None
    reason: str


@dataclass(frozen=True)
class Comparison:
    """The standings by one measure.

    Attributes:
        ranked: Best first, trivial baselines last.
        pairs: Of all methods.
        omnibus: One sentence per test of all methods at once.
        correction: How p values were corrected; empty without any.
    """

    measure: str
    title: str
    ranked: tuple[Ranked, ...]
    pairs: tuple[Pair, ...]
    omnibus: tuple[str, ...]
    correction: str


@dataclass(frozen=True)
class UnitLink:
    """A unit and its page.

    Attributes:
        truth: What it should be called; empty where that is not known.
        path: Of its page, from the site's folder; empty if it has none.
    """

    unit: int
    truth: str
    path: str


def task_page(standings: Standings, which: str, written: Collection[str]) -> Page:
    """``tasks/<slug>.html``.

    Args:
        which: What distinguishes the group from others of its task, if there are any.
        written: Paths of all unit pages; units without a page are named without a link.
    """
    group = standings.group
    styles = styles_of(group.methods, group.about_run.floors(group.methods))
    low = scale_from([value for row in standings.rows if (value := row.values.get("stability"))])
    units = _units(group, written)
    context: dict[str, Any] = {
        "group": group,
        "which": which,
        "about": group.about,
        "note": str(group.about_profile.get("note", "")),
        "sentences": findings(standings).sentences,
        "facts": tuple(_facts(group)),
        "settings": tuple(settings_of(group)),
        "measures": measures(),
        "comparisons": tuple(_comparisons(standings, low)),
        "incomplete": [row for row in standings.of_suite() if not row.complete],
        "suites": tuple(dict.fromkeys(row.suite for row in standings.rows)),
        "by_suite": _by_suite(standings),
        "samples": [(style, marker(style.number, 20, 6)) for style in styles],
        "curves": [(name, curve_panels(standings, styles, name)) for name in ("stability", "accuracy")],
        "maps": heat_maps(group),
        "outcomes": outcomes(standings),
        "kinds": OUTCOMES,
        "cost": cost_panel(group, styles),
        "analyses": [(view.name, view.title, view.contents(group.tables, group.about_run)) for view in VIEWS],
        "units": units,
        "unit_list": overview if (overview := f"units/{group.slug}/index.html") in written else "",
        "truths": any(link.truth for link in units),
        "runs": used_runs([group]),
    }
    return Page(f"tasks/{group.slug}.html", "task.html.jinja", context)


def _facts(group: Group) -> Iterator[tuple[str, str]]:
    """What the task is, in the order in which a reader asks."""
    about, settings = group.about, group.settings
    if about:
        # The task names published weights; a profile may stand others in for them.
        yield "Network", f"{about['model']} ({about['library']}) as the profile {group.profile} provides it"
        yield "Published weights", str(about["weights"])
        kinds = {"dictionary": "latents of a dictionary on ", "directions": "directions of "}
        units = kinds.get(str(about.get("readout")), "")
        yield "Layer", f"{units}{about['layer']}, pooled by {about['pooling']}"
        asked = about["units"]["total"]
        of = f" of {asked:,}" if asked else ""
        yield "Units", f"{len(group.units):,} labelled{of}"
        yield "Images", f"{settings['images']:,} of the probing set {about['probing_set']}"
        yield "Concepts", str(about["concept_set"])
        yield "Truth", TRUTHS.get(about["truth"], str(about["truth"]))
    else:
        yield "Units", f"{len(group.units):,} labelled"
        yield "Images", f"{settings['images']:,}"
    conditions = group.conditions
    severities = sorted({severity for _, severity in conditions})
    names = count(len({name for name, _ in conditions}), "perturbation")
    yield "Ranked on", f"{names} at severity {', '.join(map(str, severities))}"
    profile = group.about_profile
    yield "Profile", f"{group.profile}. {profile.get('description', '')}".strip()
    if about:
        yield "Cite", str(about["citation"])


def _comparisons(standings: Standings, low: float) -> Iterator[Comparison]:
    rows = standings.of_suite()
    table = standings.comparisons
    for measure in RANKED:
        ranked = [
            Ranked(
                row,
                places(row, rows_like(standings, row), measure),
                _letters(row, measure),
                row.values[measure],
                bar(row.values[measure], low),
                reads(standings, row),
            )
            for row in rows
            if measure in row.values
        ]
        if not ranked:
            continue
        ranked.sort(key=lambda found: (found.row.floor, -found.value.mean, found.row.method))
        records = table.loc[table["measure"].eq(measure).to_numpy()].to_dict("records") if len(table) else []
        pairs = [row for row in records if row["kind"] == "pair"]
        corrections = {str(row["correction"]) for row in pairs if row["correction"]}
        yield Comparison(
            measure,
            SUBJECTS[measure].capitalize(),
            tuple(ranked),
            tuple(map(_pair, pairs)),
            tuple(_omnibus(row) for row in records if row["kind"] == "omnibus" and row["p_value"] == row["p_value"]),
            ", ".join(sorted(corrections)),
        )


def _letters(row: Row, measure: str) -> str:
    return row.standings[measure].letters if measure in row.standings else ""


def _pair(row: Mapping[Any, Any]) -> Pair:
    ends = (None if row[end] != row[end] else float(row[end]) for end in ("low", "high"))
    p, minimum = (
        None if row[name] != row[name] else float(row[name]) for name in ("p_corrected", "smallest_detectable")
    )
    significant = p is not None and p <= SIGNIFICANT
    difference = Value(float(row["difference"]), *ends)
    return Pair(str(row["first"]), str(row["second"]), difference, p, significant, minimum, str(row["reason"] or ""))


def _omnibus(row: Mapping[Any, Any]) -> str:
    which = f"{'with' if row['floor'] else 'without'} trivial baselines"
    return f"All at once, {which}: {row['test']}, {p_equals(row['p_value'])} over {row['n']:,} units."


def _by_suite(standings: Standings) -> tuple[tuple[Row, tuple[Row | None, ...]], ...]:
    """Method by method, in the order of the board: its row of each suite."""
    suites = tuple(dict.fromkeys(row.suite for row in standings.rows))
    found = {(row.method, row.suite): row for row in standings.rows}
    return tuple(
        (row, tuple(found.get((row.method, suite)) for suite in suites)) for row in standings.of_suite(EVERY_SUITE)
    )


def _units(group: Group, written: Collection[str]) -> tuple[UnitLink, ...]:
    known = group.scores.loc[group.scores["truth"].notna().to_numpy(), ["unit", "truth"]].drop_duplicates("unit")
    truths = {int(unit): str(truth) for unit, truth in zip(known["unit"], known["truth"], strict=True)}
    paths = {unit: f"units/{group.slug}/{unit}.html" for unit in group.units}
    return tuple(UnitLink(unit, truths.get(unit, ""), path if path in written else "") for unit, path in paths.items())
