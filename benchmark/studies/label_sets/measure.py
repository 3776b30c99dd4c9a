"""Found coverage of sets of labels against their nominal level: of further resampled probing sets, and of the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from baselines import registry
from baselines.base import Method
from baselines.costs import Amount
from baselines.evidence import dead_units
from baselines.set_of import COSTLY, SetOf, labels_of_draws
from benchmark.core.passes import Passes, mapped_images
from benchmark.core.prepare import asked_roles
from benchmark.core.toolbox import make_toolbox
from benchmark.core.truth import Truth, right_labels, unit_truth
from benchmark.core.work import Work, all_conditions
from benchmark.studies.base import Groups, StudyCost, StudyInput
from leaderboard.board.intervals import mean_interval, share_interval
from metrics.label_sets import coverage, frequencies
from metrics.statistics import Interval
from tasks.common.errors import UserError
from tasks.observation import Observation
from tasks.observe import CLEAN, Condition
from tasks.profiles.build import Roles

LEVELS: Final = (0.5, 0.8, 0.9, 0.95)
DRAWS: Final = (10, 25, 50, 100)
"""Numbers of resampled probing sets that make the sets; the first ones of the most."""

REDRAWS: Final = 50
"""Further ones, which the sets are tested on."""

_VERSION: Final = 1


@dataclass(frozen=True)
class LabelSets:
    """Labels resampled probing sets; see ``benchmark.studies.base.Study``.

    It leaves out ``set_of`` itself, and methods that caption or generate images or ask a language model.
    """

    name: str = "label_sets"
    masked: bool = False

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse a run whose methods are all left out.

        Raises:
            UserError: None of them can be resampled.
        """
        for work in (work for group in groups for work in group):
            if not _planned(work):
                raise UserError(
                    "The study label_sets repeats methods that only read activations, and the run has none: add one to "
                    "--methods, for example clip_dissect."
                )

    def costs(self, groups: Groups, roles: Roles) -> Iterator[StudyCost]:
        """Each image once per condition, and every labelling; the cached part is not known beforehand."""
        for group in groups:
            conditions = all_conditions(group)
            seen = Amount.of(len(conditions) * group[0].images)
            for number, work in enumerate(group):
                read = seen if number == 0 else Amount.of(0)
                times = (DRAWS[-1] + REDRAWS) * len(work.conditions)
                yield StudyCost(work, read=read, embedded=read, labellings=(times, 1), methods=_planned(work))

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """Levels, numbers of draws, methods, units and images."""
        return {
            "version": _VERSION,
            "seed": given.seed,
            "levels": [*LEVELS],
            "draws": [*DRAWS],
            "redraws": REDRAWS,
            "methods": {name: method.version for name, method in _subjects(given.methods).items()},
            "tasks": given.facts_of_tasks(),
        }

    def measure(self, given: StudyInput) -> dict[str, list[pd.DataFrame]]:
        """The table ``label_sets``."""
        left_out = sorted(set(given.methods) - set(_subjects(given.methods)))
        if left_out:
            given.display.message(f"The study label_sets does not repeat {', '.join(left_out)}: too costly, or a set.")
        return {"label_sets": [part for group in given.groups for part in _measured(group, given)]}


STUDY: Final = LabelSets()


@dataclass(frozen=True)
class _Measured:
    """One value per unit, of sets from some number of draws at one level.

    Attributes:
        coverage: Share of the further draws whose label is in the set.
        randomised: See ``metrics.label_sets.Coverage``.
        size: Number of labels.
        truth: 1 if the set holds a right label, else 0; NaN if the truth is unknown.
        first: The same of the most frequent label.
    """

    coverage: Float[np.ndarray, " units"]
    randomised: Float[np.ndarray, " units"]
    size: Float[np.ndarray, " units"]
    truth: Float[np.ndarray, " units"]
    first: Float[np.ndarray, " units"]

    def of(self, chosen: Bool[np.ndarray, " units"]) -> _Measured:
        """The same of some units."""
        return _Measured(*(getattr(self, one.name)[chosen] for one in fields(self)))


def _planned(work: Work) -> tuple[str, ...]:
    """Names of the methods that are resampled, as far as they are known before they are loaded."""
    return tuple(
        name
        for name in work.methods
        if not name.startswith(f"{SetOf.wrapper}(") and not COSTLY & set(registry.entry(name).needs)
    )


def _subjects(methods: Mapping[str, Method]) -> dict[str, Method]:
    return {
        name: method
        for name, method in methods.items()
        if not isinstance(method, SetOf) and not registry.used_parts(method) & COSTLY
    }


def _measured(group: Sequence[Work], given: StudyInput) -> Iterator[pd.DataFrame]:
    first, roles = group[0].task, given.roles
    probe, probing = given.probes[first.name]
    methods = _subjects(given.methods)
    passes = Passes(
        roles, first.model, probe, probing.digest, given.settings, given.seed, mapped_images(methods.values())
    )
    clean = passes.of_tasks(group, CLEAN)
    subjects = [
        _Subject(work, methods, clean[work.task.layer], (probing.concepts, probing.presence), given) for work in group
    ]
    conditions = all_conditions(group)
    labellings = sum(len(one.work.conditions) * len(one.methods) for one in subjects)
    with given.display.stage("label sets", labellings * (DRAWS[-1] + REDRAWS), "labellings") as stage:
        for condition in conditions:
            stage.note(str(condition))
            seen = clean if condition == CLEAN else passes.of_tasks(group, condition)
            for one in subjects:
                if condition in one.work.conditions:
                    yield one.rows(condition, seen[one.work.task.layer], stage.advance)


class _Subject:
    """One task: its units that are not dead, their truth, and the methods that can label them."""

    def __init__(
        self,
        work: Work,
        methods: Mapping[str, Method],
        clean: Observation,
        shown: tuple[Sequence[str], Bool[np.ndarray, "images shown"]],
        given: StudyInput,
    ) -> None:
        dead = np.asarray(dead_units(clean.activations))
        self.work, self._roles, self._seed = work, given.roles, given.seed
        self.methods = methods
        if clean.maps is None:
            self.methods = {name: one for name, one in methods.items() if "maps" not in registry.used_parts(one)}
        self._units = [unit for unit in work.units if not dead[unit]]
        truth: Truth = unit_truth(work.task, work.units, clean, dead, *shown, given.roles)
        self._known = [truth.get(unit) for unit in self._units]
        self._kinds = np.array([one.get("op", "single") if one else "unknown" for one in self._known])
        self._told: dict[Any, bool | None] = {}
        concepts = given.concepts[work.task.name]
        self._tools = make_toolbox(given.roles, work.task, concepts, given.seed, dict, asked=asked_roles(self.methods))

    def rows(self, condition: Condition, observation: Observation, advance: Callable[[int], None]) -> pd.DataFrame:
        """The rows of one condition."""
        rows: list[dict[str, Any]] = []
        for name, method in self.methods.items() if self._units else ():
            given = (method, observation, self._units, self._tools)
            draws = labels_of_draws(*given, range(DRAWS[-1]))
            further = labels_of_draws(*given, range(REDRAWS), purpose="redraw")
            advance(DRAWS[-1] + REDRAWS)
            for count in DRAWS:
                for level in LEVELS:
                    found = self._sets(draws[:count], further, level)
                    place = {"method": name, "draws": count, "level": level}
                    # Fewer draws are shown for all units together.
                    for kind, chosen in self._by_kind() if count == DRAWS[-1] else [self._all()]:
                        rows.append(place | {"kind": kind} | _summary(found.of(chosen), self._seed))
        about = {"task": self.work.task.name, "profile": self.work.profile}
        return pd.DataFrame(rows).assign(**about, perturbation=condition.name, severity=condition.severity)

    def _sets(
        self, draws: Sequence[Sequence[str | None]], further: Sequence[Sequence[str | None]], level: float
    ) -> _Measured:
        covered, right, first = [], [], []
        for place, known in enumerate(self._known):
            found = frequencies([draw[place] for draw in draws])
            covered.append(coverage(found, len(draws), level, [draw[place] for draw in further]))
            texts = [one.text for one in found[: covered[-1].size]]
            verdicts = right_labels(texts, [known] * len(texts), self._roles, self._told)
            right.append(np.nan if known is None else any(verdicts))
            first.append(np.nan if known is None else bool(verdicts and verdicts[0]))
        parts = ([one.found for one in covered], [one.randomised for one in covered], [one.size for one in covered])
        return _Measured(*(np.array(part, np.float64) for part in (*parts, right, first)))

    def _all(self) -> tuple[str, Bool[np.ndarray, " units"]]:
        return "all", np.ones(len(self._units), np.bool_)

    def _by_kind(self) -> list[tuple[str, Bool[np.ndarray, " units"]]]:
        """All units, then those of each kind of truth if there are several."""
        kinds = [kind for kind in ("single", "and", "or", "unknown") if (self._kinds == kind).any()]
        return [self._all(), *((kind, self._kinds == kind) for kind in (kinds if len(kinds) > 1 else ()))]


def _summary(found: _Measured, seed: int) -> dict[str, float | int]:
    """The means over units with their intervals."""
    known = ~np.isnan(found.truth)
    row: dict[str, float | int] = {"units": len(known), "known": int(known.sum())}
    row |= _interval("coverage", share_interval(found.coverage, seed))
    row |= _interval("randomised", share_interval(found.randomised, seed))
    row |= _interval("size", mean_interval(found.size, seed))
    if known.any():
        row |= _interval("truth", share_interval(found.truth[known], seed))
        row["first_right"] = float(found.first[known].mean())
    row["one_label"] = float((found.size == 1).mean())
    return row


def _interval(name: str, found: Interval) -> dict[str, float]:
    return {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
