"""Finds a requested trace in a run, with the facts around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmark.trace.contexts import ContextTrace
from benchmark.trace.record import RunIdentity, TaskFacts, Trace, conditions_of
from leaderboard.board.facts import run_facts
from leaderboard.board.names import methods_in_order
from leaderboard.store.run_folder import OBSERVATION, CellKey, RunFolder
from tasks.common.errors import UserError, unknown_name
from tasks.common.validation import parse
from tasks.observe import CLEAN, Condition


@dataclass(frozen=True)
class Question:
    """The requested trace; ``None`` means the only or the default one.

    Attributes:
        condition: ``clean`` or a perturbation's name.
    """

    unit: int
    task: str | None = None
    method: str | None = None
    condition: str = CLEAN.name
    severity: int | None = None
    repeat: int = 0


@dataclass(frozen=True)
class Recorded:
    """One trace and the facts around it.

    Attributes:
        task: Facts of the trace's task.
        truth: The unit's true concept as text; None if unknown.
        activations: Image id → the unit's activation, for the unit's top images.
        left_out: Ids of the images to which the condition does not apply.
        note: The sentence that every output of the profile carries.
    """

    identity: RunIdentity
    task: TaskFacts
    key: CellKey
    unit: int
    trace: Trace | ContextTrace
    truth: str | None
    activations: Mapping[str, float]
    left_out: frozenset[str]
    note: str

    @property
    def condition(self) -> Condition:
        """The trace's condition."""
        return Condition(self.key.condition, self.key.severity)


def find_trace(folder: RunFolder, identity: RunIdentity, profile: str, question: Question) -> Recorded:
    """Find a trace in a run folder.

    Raises:
        UserError: One sentence on what the run lacks, and what it has instead.
    """
    task = _task(identity, question)
    facts = identity.content.tasks[task]
    about = run_facts(folder.info())
    forms = {name: form for name in methods_in_order(identity.methods) if (form := about.method(name).trace)}
    method = _method(identity, question, forms)
    condition = _condition(conditions_of(identity, task), question)
    _check_repeat(identity, condition, question.repeat)
    key = CellKey(task, profile, method, condition.name, condition.severity, question.repeat)
    cell = f"{method} on {task}, {condition}, repeat {question.repeat}"
    marker = folder.marker(key)
    if marker is None or not folder.is_done(key):
        raise UserError(f"{folder.path} has not finished {cell}: run its command again, then draw the trace.")
    units = marker.extra.get("units", {})
    found = units.get(str(question.unit))
    if found is None:
        raise UserError(
            f"Unit {question.unit} is not in {folder.path}; its units are {_listed(sorted(map(int, units)))}."
        )
    if found.get("dead"):
        raise UserError(f"Unit {question.unit} is dead under {condition}: nothing activates it, so there is no trace.")
    if "trace" not in found and method in forms:
        raise UserError(f"{folder.path} was made before {method} recorded traces: run it again in another folder.")
    if "trace" not in found:
        raise UserError(f"The method {method} records no traces; {_tracing(forms)}.")
    trace = _parsed(forms.get(method, ""), found, f"the trace of unit {question.unit}, {cell}, in {folder.path}")
    return Recorded(
        identity,
        facts,
        key,
        question.unit,
        trace,
        _truth(folder, key, question.unit),
        _activations(folder, key, question.unit),
        _left_out(folder, key),
        about.note,
    )


def _parsed(form: str, found: Mapping[str, Any], what: str) -> Trace | ContextTrace:
    if form != "contexts":
        return parse(Trace, found["trace"], what)
    beside = {name: found[name] for name in ("candidates", "tested", "dependence") if name in found}
    whole = {**found["trace"], **beside} if isinstance(found["trace"], dict) else found["trace"]
    return parse(ContextTrace, whole, what)


def _task(identity: RunIdentity, question: Question) -> str:
    names = list(identity.content.tasks)
    if question.task is None:
        if len(names) > 1:
            raise UserError(f"The run has several tasks; choose one with --task: {', '.join(names)}.")
        return names[0]
    if question.task not in names:
        raise unknown_name("task (in this run)", question.task, names)
    return question.task


def _method(identity: RunIdentity, question: Question, forms: Mapping[str, str]) -> str:
    if question.method is not None:
        if question.method not in identity.methods:
            raise UserError(
                f"The method {question.method} is not part of this run; its methods are {', '.join(identity.methods)}."
            )
        return question.method
    if not forms:
        raise UserError(f"No method of this run records traces; its methods are {', '.join(identity.methods)}.")
    return next(iter(forms))


def _tracing(forms: Mapping[str, str]) -> str:
    return f"of this run's methods {', '.join(forms)} do" if forms else "no method of this run does"


def _condition(conditions: Mapping[str, Sequence[int]], question: Question) -> Condition:
    if question.condition not in conditions:
        raise unknown_name("condition (in this run)", question.condition, conditions)
    severities = conditions[question.condition]
    if question.severity is None and len(severities) > 1:
        raise UserError(
            f"{question.condition} ran at several severities; choose one with --severity: {_listed(severities)}."
        )
    severity = severities[0] if question.severity is None else question.severity
    if severity not in severities:
        raise UserError(f"{question.condition} did not run at severity {severity}; it ran at {_listed(severities)}.")
    return Condition(question.condition, severity)


def _check_repeat(identity: RunIdentity, condition: Condition, repeat: int) -> None:
    repeats = identity.repeats if condition == CLEAN else 1
    if not 0 <= repeat < repeats:
        raise UserError(f"Repeat {repeat} does not exist: {condition} ran with repeats 0 to {repeats - 1}.")


def _observation(key: CellKey, condition: Condition) -> CellKey:
    return CellKey(key.task, key.profile, OBSERVATION, condition.name, condition.severity, 0)


def _truth(folder: RunFolder, key: CellKey, unit: int) -> str | None:
    marker = folder.marker(_observation(key, CLEAN), "evidence")
    truth = {} if marker is None else marker.extra.get("truth", {}).get(str(unit), {})
    if "concept" not in truth:
        return None
    return f"{truth['concept']} (AUROC {truth['auroc']})" if "auroc" in truth else str(truth["concept"])


def _left_out(folder: RunFolder, key: CellKey) -> frozenset[str]:
    # Older runs, from before there was one list for all conditions, have it in the marker.
    marker = folder.marker(_observation(key, Condition(key.condition, key.severity)), "evidence")
    own = () if marker is None else marker.extra.get("left_out", ())
    return frozenset(map(str, (*own, *folder.info()["facts"].get("left_out", {}).get(key.task, ()))))


def _activations(folder: RunFolder, key: CellKey, unit: int) -> dict[str, float]:
    observation = _observation(key, Condition(key.condition, key.severity))
    if not folder.is_done(observation, "evidence"):
        return {}
    rows = folder.read_cell(observation, "evidence")
    rows = rows[rows["unit"] == unit]
    return dict(zip(rows["image"].astype(str), rows["activation"].astype(float), strict=True))


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:40]))
    return f"{shown}, ... ({len(numbers)} in all)" if len(numbers) > 40 else shown
