"""What readers know of a run besides its tables, read off its ``run.json``."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from leaderboard.board.names import GROUP_NAMES, GROUPS, AboutMethod, bare, methods_in_order, unstated

OTHER = "other"
"""The kind of a perturbation of which nothing is known but its name."""

_KINDS: Mapping[str, str] = {name: kind for kind, names in zip(GROUP_NAMES, GROUPS, strict=True) for name in names}


@dataclass(frozen=True)
class AboutPerturbation:
    """What a perturbation states of itself.

    Attributes:
        family: Its kind, e.g. ``noise``.
        description: What it does, in a line; empty where it is not known.
    """

    family: str = OTHER
    description: str = ""


@dataclass(frozen=True)
class RunFacts:
    """What tables, pages and figures must know of the run, or the group of runs, whose numbers they show.

    Attributes:
        seed: The run's own; its intervals and tests are drawn with it.
        note: The profile's sentence that everything made with it carries; empty without one.
        methods: Method, as the tables name it → what it states of itself.
        perturbations: Perturbation → the same.
        planted_from: Task → its first planted unit, where the units before it are the network's own.
        seconds: Task and method → measured seconds to label one unit once, where every cell was measured.
        usd: What language models cost; NaN if that is unknown.
    """

    seed: int = 0
    note: str = ""
    methods: Mapping[str, AboutMethod] = field(default_factory=dict)
    perturbations: Mapping[str, AboutPerturbation] = field(default_factory=dict)
    planted_from: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    usd: float = 0.0

    @property
    def notes(self) -> tuple[str, ...]:
        """The profile's note, for places that list notes."""
        return (self.note,) if self.note else ()

    # ---- methods ----

    def method(self, name: str) -> AboutMethod:
        """What is known of a method."""
        return self.methods.get(name) or unstated(name)

    def is_floor(self, name: str) -> bool:
        """Whether every other method must beat it; such methods stand last and never count as the best."""
        return self.method(name).trivial

    def floors(self, methods: Collection[str]) -> tuple[str, ...]:
        """The trivial baselines among the methods, in order."""
        return methods_in_order([name for name in methods if self.is_floor(name)])

    def rivals(self, methods: Iterable[str]) -> tuple[str, ...]:
        """The methods that are no trivial baselines, in the order given."""
        return tuple(name for name in methods if not self.is_floor(name))

    def by_knowledge(self, methods: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        """The methods that read the annotation of the probing images, and those that do not, if there are both.

        Trivial baselines are in neither; one group, of all, where they all know the same.
        """
        rivals = self.rivals(methods)
        groups = (tuple(name for name in rivals if self.method(name).annotation is reads) for reads in (True, False))
        return tuple(group for group in groups if group)

    def ordered(self, methods: Collection[str]) -> tuple[str, ...]:
        """By name, the trivial baselines last."""
        return (*sorted(self.rivals(methods)), *self.floors(methods))

    # ---- perturbations ----

    def kind(self, perturbation: str) -> str:
        """The kind that a perturbation is summed up with."""
        return _KINDS.get(perturbation) or self.perturbations.get(perturbation, AboutPerturbation()).family

    def in_groups(self, perturbations: Collection[str]) -> tuple[tuple[str, ...], ...]:
        """In the order and groups of all tables; one that CLEAR does not bring stands last in a group of its kind."""
        added = sorted(set(perturbations) - _KINDS.keys())
        found = [[name for name in group if name in perturbations] for group in GROUPS]
        last = {kind: place for place, kind in enumerate(GROUP_NAMES)}
        for name in added:
            if self.kind(name) in last:
                found[last[self.kind(name)]].append(name)
        found.append([name for name in added if self.kind(name) not in last])
        return tuple(tuple(group) for group in found if group)

    def in_order(self, perturbations: Collection[str]) -> tuple[str, ...]:
        """The same without groups."""
        return tuple(name for group in self.in_groups(perturbations) for name in group)


def run_facts(info: Mapping[str, Any], named: Callable[[str], str] = bare) -> RunFacts:
    """The facts of one run.

    Args:
        info: Its ``run.json``.
        named: Method → its name in the tables, where options are part of it.
    """
    identity, facts = info["identity"], info["facts"]
    options: Mapping[str, Mapping[str, Any]] = identity.get("method_options", {})
    ran: Collection[str] = identity.get("content", {}).get("methods", ())
    stated: Mapping[str, Mapping[str, Any]] = facts.get("methods", {})
    found = {
        name: _about_method(name, stated[name]) if name in stated else unstated(name, options.get(name, ()))
        for name in dict.fromkeys((*ran, *stated))
    }
    validated: Mapping[str, str] = facts.get("validation", {}).get("methods", {})
    methods = {named(name): replace(own, validation=validated.get(name, "")) for name, own in found.items()}
    perturbations = {
        name: AboutPerturbation(str(said.get("family", OTHER)), str(said.get("description", "")))
        for name, said in facts.get("perturbations", {}).items()
    }
    note = str(facts.get("profile", {}).get("note") or "")
    tasks = identity.get("content", {}).get("tasks", {})
    planted = {name: int(first) for name, task in tasks.items() if (first := task.get("units", {}).get("first", 0))}
    sessions = [session["actual"] for session in facts.get("plan", {}).get("sessions", ())]
    usd = sum((math.nan if one["usd"] is None else float(one["usd"]) for one in sessions), 0.0)
    spent = {(task, named(name)): own for (task, name), own in _seconds(identity, sessions).items()}
    return RunFacts(int(identity["seed"]), note, methods, perturbations, planted, spent, usd)


def merged(facts: Sequence[RunFacts]) -> RunFacts:
    """The facts of several runs together; seed, note and what several say are those of the first that has them."""
    first = facts[0] if facts else RunFacts()
    methods = {name: about for one in reversed(facts) for name, about in one.methods.items()}
    for name, about in methods.items():
        # What the rows of several runs are worth is what the least of them is.
        said = {one.methods[name].validation for one in facts if name in one.methods}
        methods[name] = replace(about, validation=min(said - {""}, default=""))
    perturbations = {name: about for one in reversed(facts) for name, about in one.perturbations.items()}
    planted = {task: unit for one in reversed(facts) for task, unit in one.planted_from.items()}
    seconds = {place: own for one in reversed(facts) for place, own in one.seconds.items()}
    usd = sum(one.usd for one in facts)
    return replace(first, methods=methods, perturbations=perturbations, planted_from=planted, seconds=seconds, usd=usd)


def _seconds(identity: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """Task and method → seconds per label; tasks of one pass share a stage, whose seconds go by labels.

    A stopped session states nothing, so that without all cells the time of some methods would be missing. Earlier
    versions cut the names of many tasks; whose seconds those are is not known.
    """
    content = identity.get("content", {})
    conditions: Mapping[str, Sequence[Any]] = content.get("conditions", {})
    methods: Collection[str] = content.get("methods", ())
    if not methods:  # bottlenecks label no units
        return {}
    cells = {task: len(own) + identity["repeats"] for task, own in conditions.items()}
    measured = sum(session["cells"] for session in sessions)
    often = measured / max(1, sum(cells.values()) * len(methods))
    if often < 1:
        return {}
    spent: dict[tuple[str, str], float] = {}
    for session in sessions:
        for stage, seconds in session["seconds"].items():
            title, _, method = stage.rpartition(": ")
            if title and method in methods:
                spent[title, method] = spent.get((title, method), 0.0) + seconds
    found = {}
    for (title, method), seconds in spent.items():
        tasks = title.split(" + ")
        if not content["tasks"].keys() >= {*tasks}:
            continue
        units = [_units(identity, content["tasks"][task]["units"]) for task in tasks]
        if all(units):
            labels = sum(cells[task] * own for task, own in zip(tasks, units, strict=True))
            found |= {(task, method): seconds / (often * labels) for task in tasks}
    return found


def _units(identity: Mapping[str, Any], asked: Mapping[str, Any]) -> int:
    """How many units of a task a run labels; 0 if all of a layer whose size the task does not state."""
    if identity["unit_ids"]:
        return len(set(identity["unit_ids"]))
    count = identity["units"] or asked["label"]
    if count == "all":
        return int(asked["total"] - asked["first"]) if asked["total"] else 0
    return int(count)


def _about_method(name: str, said: Mapping[str, Any]) -> AboutMethod:
    return AboutMethod(
        str(said.get("summary", "")),
        tuple(map(str, said.get("citation", ()))),
        bool(said.get("trivial", False)),
        tuple(map(str, said.get("uses_perturbations", ()))),
        str(said.get("trace", "")),
        bool(said.get("annotation", False)),
        # Runs stated everything else before this.
        tuple(map(str, said.get("tuned_on", unstated(name).tuned_on))),
    )
