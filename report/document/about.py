"""What was measured and with what: methods, perturbations, tasks, licences, sources."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from leaderboard.board.build import Standings
from leaderboard.board.facts import RunFacts, merged
from leaderboard.board.groups import AnyGroup
from leaderboard.board.names import GROUPS, AboutMethod, bare
from leaderboard.view.content import Table, text_section, text_table
from leaderboard.view.words import ABSENT, listed
from leaderboard.view.words import count_in_words as count
from report.document.words import description, name, names, paragraphs
from report.latex import latex_text

_TRUTHS: Final = {"class_names": "class name", "best_concept": "best concept", "planted": "planted"}
_KINDS: Final = {
    "blur": "Blur", "noise": "Noise", "weather": "Weather", "digital": "Digital", "mask": "One side of a mask",
    "control": "Controls", "other": "Others",
}  # fmt: skip
_BUILT_IN: Final = frozenset(name for group in GROUPS for name in group)
_REFERENCES: Final = Path(__file__).parents[1] / "references.bib"
_HASH: Final = 16

CITATION: Final = """\
@software{clear_benchmark,
  author = {{The CLEAR maintainers}},
  title  = {CLEAR: how far can the labels of a vision network's units
            be trusted once the images change?},
  note   = {Version 0.1.0},
  year   = {2026},
}
"""
"""As in the README and ``CITATION.cff``."""


def note(groups: Sequence[AnyGroup]) -> str:
    """The profiles' own warnings in a frame; empty if there are none."""
    said = dict.fromkeys(str(group.about_profile.get("note") or "") for group in groups)
    shown = [latex_text(text) for text in said if text]
    if not shown:
        return ""
    box = r"\begin{center}\fbox{\parbox{0.9\linewidth}{\centering\bfseries %s}}\end{center}"
    return box % r"\par ".join(shown) + "\n"


def methods(chapters: Sequence[Standings]) -> str:
    """What each method does, with its papers."""
    facts = merged([chapter.group.about_run for chapter in chapters])
    ran = facts.ordered({method for chapter in chapters for method in chapter.group.methods})
    return description((name(method), _told(method, facts.method(method))) for method in ran)


def _told(method: str, about: AboutMethod) -> str:
    if not about.summary:
        return "Not described by its run."
    cited = [key for key in about.citation if key in _cited_works()]
    works = [latex_text(work.rstrip(".")) for work in about.citation if work not in cited]
    sources = " ".join([*([rf"\cite{{{','.join(cited)}}}"] if cited else []), *(f"({work})" for work in works)])
    said = latex_text(about.summary.rstrip("."))
    options = " Run with options of its own." if bare(method) != method else ""
    return f"{' '.join(filter(None, (said, sources)))}.{options}"


@cache
def _cited_works() -> frozenset[str]:
    """The keys of ``references.bib``."""
    return frozenset(re.findall(r"^@\w+\{(\w+),", _REFERENCES.read_text(encoding="utf-8"), re.MULTILINE))


def perturbations(present: Collection[str], facts: RunFacts) -> str:
    """Perturbations by kind; those that CLEAR does not bring with what they say of themselves.

    Args:
        present: The names of those that were tried.
    """
    kinds: dict[str, list[str]] = {}
    for perturbation in facts.in_order(present):
        kinds.setdefault(facts.kind(perturbation), []).append(perturbation)
    order = [kind for kind in dict.fromkeys((*_KINDS, *sorted(kinds))) if kind in kinds]
    titles = [_KINDS.get(kind) or latex_text(kind.capitalize()) for kind in order]
    return description(zip(titles, (" ".join(_named(kinds[kind], facts)) for kind in order), strict=True))


def _named(found: Sequence[str], facts: RunFacts) -> Iterator[str]:
    yield f"{names(found)}."
    for one in found:
        about = facts.perturbations.get(one)
        if about and about.description and one not in _BUILT_IN:
            yield f"{name(one)}: {latex_text(about.description.rstrip('.'))}."


def settings_table(chapters: Sequence[Standings]) -> Table:
    """One row per group: network, layer, units, images, conditions, truth, seed."""
    heads = ("Task", "Version", "Layer", "Units", "Images", "Conditions", "Severities", "Repeats", "Truth", "Seed")
    rows = (_settings(chapter, chapters) for chapter in chapters)
    notes = (
        "Units: labelled, of all in the layer. Conditions: pairs of perturbation and severity that the task asks for. "
        "Repeats: of the clean images, with other seeds. Truth: where the true labels come from.",
    )
    return text_table("settings", "The tasks of this report", heads, [text_section(rows)], notes)


def _settings(chapter: Standings, chapters: Sequence[Standings]) -> tuple[str, ...]:
    group, about = chapter.group, chapter.group.about
    scores = group.scores
    repeats = scores.loc[scores["perturbation"].eq("clean"), "repeat"].nunique()
    total = about.get("units", {}).get("total")
    return (
        group.task if len({chapter.group.profile for chapter in chapters}) == 1 else f"{group.task} ({group.profile})",
        str(group.version),
        str(about.get("layer", ABSENT)),
        f"{len(group.units)} of {total:,}" if total else str(len(group.units)),
        str(group.settings["images"]),
        str(len(group.conditions)),
        ", ".join(map(str, chapter.severities)) or ABSENT,
        str(repeats),
        _TRUTHS.get(str(about.get("truth")), "none"),
        str(group.settings["seed"]),
    )


def tasks(groups: Sequence[AnyGroup]) -> str:
    """What each task is, in its own words."""
    items = {group.task: str(group.about.get("description", "")) for group in groups}
    return description((name(task), latex_text(said)) for task, said in items.items() if said)


# ---- licences ----


def licences_text(groups: Sequence[AnyGroup]) -> str:
    """What stands under which licence, task by task."""
    parts: dict[tuple[str, str], list[str]] = {}
    for group in groups:
        for part, licence in group.about.get("licences", {}).items():
            parts.setdefault((str(part), str(licence)), []).append(group.task)
    own = "CLEAR itself, its checkpoints and the miniature world stand under the MIT licence."
    stated = "Of the networks that they are named after, the tasks state:" if parts else ""
    items = (
        (latex_text(part), f"{latex_text(licence)}; {names(sorted(set(of)))}.") for (part, licence), of in parts.items()
    )
    return paragraphs([[own, stated]]) + description(items)


def licences_tables(groups: Sequence[AnyGroup]) -> list[Table]:
    """Models and data of each profile, then packages with their versions."""
    tables, sections = [], []
    for profile, stated in {group.profile: group.about_profile for group in groups}.items():
        if stated.get("licences"):
            sections.append(text_section((tuple(map(str, row)) for row in stated["licences"]), f"profile {profile}"))
    if sections:
        heads = ("What it is for", "Loader and architecture", "Licence")
        tables.append(text_table("licences", "Models and data behind the names", heads, sections))
    packages = _packages(groups)
    if packages:
        heads = ("Package", "Version", "Licence")
        note = "As the packages' own metadata state them at the time of the runs."
        title = "Code that the results were made with"
        tables.append(text_table("packages", title, heads, [text_section(packages)], (note,)))
    return tables


def _packages(groups: Sequence[AnyGroup]) -> tuple[tuple[str, ...], ...]:
    versions: dict[str, dict[str, None]] = {}
    licences: dict[str, dict[str, None]] = {}
    for group in groups:
        for source in group.sources:
            for package, version in source.packages.items():
                versions.setdefault(package, {})[version] = None
                licences.setdefault(package, {})[source.licences.get(package, "not stated")] = None
    return tuple((package, ", ".join(versions[package]), "; ".join(licences[package])) for package in sorted(versions))


# ---- sources ----


def sources_tables(groups: Sequence[AnyGroup]) -> list[Table]:
    """The runs with their hashes, and the content that they share."""
    runs = {source.run: source for group in groups for source in group.sources}
    rows = (
        (run, _minute(source.finished), source.device, source.identity_hash[:_HASH])
        for run, source in sorted(runs.items())
    )
    used = (row for group in groups for row in _content(group))
    first = "Hashes are the first 16 hexadecimal digits of a SHA-256 that run.json holds in full."
    return [
        text_table(
            "runs",
            "Runs that this report is made from",
            ("Run folder", "Last session began (UTC)", "Device", "Settings"),
            [text_section(rows)],
            (first,),
        ),
        text_table(
            "content",
            "What the runs of a task share",
            ("Task", "Runs", "Images", "Concepts", "Profile", "Engine"),
            [text_section(used)],
            ("Runs are put together only where all of this, the seed and the units are the same.",),
        ),
    ]


def _minute(stamp: str) -> str:
    return stamp.replace("T", " ")[:16]


def _content(group: AnyGroup) -> Iterator[tuple[str, ...]]:
    content: Mapping[str, Any] = group.settings["content"]
    runs = ", ".join(source.run for source in group.sources)
    hashes = [_hash(content[key]) for key in ("images", "concepts", "profile")]
    yield group.task, runs, *hashes, str(content["engine"])


def _hash(value: Any) -> str:
    return str(value or ABSENT)[:_HASH]


def citation(groups: Sequence[AnyGroup]) -> str:
    """How to cite CLEAR, and what the tasks ask to be cited."""
    asked = dict.fromkeys(str(group.about.get("citation") or "").strip() for group in groups)
    said = [rf"\item {latex_text(text)}" for text in asked if text]
    also = ["The tasks ask for these works to be cited as well:", r"\begin{itemize}", *said, r"\end{itemize}"]
    verbatim = ["{\\footnotesize", r"\begin{verbatim}", CITATION.rstrip("\n"), r"\end{verbatim}", "}"]
    return "\n".join([r"\noindent Please cite CLEAR as", *verbatim, *(also if said else []), ""])


def runs_sentence(groups: Sequence[AnyGroup], newest: str) -> str:
    """How many runs there are, and how old the newest is."""
    sources = [source for group in groups for source in group.sources]
    runs = {source.run for source in sources}
    versions = sorted({source.packages.get("clear-benchmark", "not stated") for source in sources})
    return paragraphs(
        [
            [
                f"This report was made from {count(len(runs), 'run folder')} alone, with nothing else at hand; the "
                "same folders give the same report, byte for byte.",
                f"The newest session began on {latex_text(_minute(newest))} (UTC), under CLEAR "
                f"{listed(map(latex_text, versions))}.",
            ]
        ]
    )
