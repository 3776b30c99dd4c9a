"""Variance components of labels in a crossed design: seed, draw of the images, perturbation, severity, concept set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from baselines import registry
from baselines.base import Method
from baselines.checks import check_labels
from baselines.costs import NOTHING, Amount
from baselines.evidence import dead_units
from benchmark.core.display import Stage
from benchmark.core.passes import Passes, mapped_images
from benchmark.core.prepare import asked_roles
from benchmark.core.scoring import LabelEmbeddings
from benchmark.core.toolbox import background_words, make_toolbox
from benchmark.core.work import Work, all_conditions
from benchmark.studies.base import Groups, StudyCost, StudyInput
from metrics.variance import Effect, Shares, mean_squares, variance_shares
from tasks.activations.capture import Pooling
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.observation import Observation, Toolbox
from tasks.observe import CLEAN, Condition, Probe, perturbed
from tasks.perturbations.registry import PERTURBATIONS
from tasks.profiles.build import Roles

SEVERITIES: Final = (0, 3, 5)
"""Levels of the severity; at 0 the images are clean."""

MOST_PERTURBATIONS: Final = 3
FEWEST_CONCEPTS: Final = 4

SEED, IMAGES, PERTURBATION, SEVERITY, CONCEPTS = "seed", "images", "perturbation", "severity", "concepts"
FACTORS: Final = (SEED, IMAGES, PERTURBATION, SEVERITY, CONCEPTS)

TWO, MORE, PERTURBED, WHOLE = "other pairs", "three and more", "perturbation or severity", "all"
"""Effects in the table besides factors and perturbation × severity: sums of interactions, the total of two factors, and
everything."""

_HALVES: Final = 2
_SEEDS: Final = 2
_PART: Final = "mask"
_DRAWING: Final = "generator"
_VERSION: Final = 1


class Cell(NamedTuple):
    """One labelling of the design; every field is the number of a level."""

    seed: int
    images: int
    perturbation: int
    severity: int
    concepts: int


@dataclass(frozen=True)
class Variance:
    """Labels units in every cell of the design; see ``benchmark.studies.base.Study``.

    Methods that need drawn images take no part: they would cost hours. The levels are two seeds, of the methods and of
    the perturbations; two halves of the probing images, which have no image in common; up to three perturbations of the
    run; three severities, the first of which is clean; and, for methods that choose from a concept set, two halves of
    it, drawn independently.
    """

    name: str = "variance"
    masked: bool = False

    def check(self, groups: Groups, roles: Roles) -> None:
        """Refuse tasks with fewer than two perturbations, or without a method that takes part."""
        for group in groups:
            perturbations_of(group)
            for work in group:
                if all(_DRAWING in registry.entry(name).needs for name in work.methods):
                    raise _no_method(work)

    def costs(self, groups: Groups, roles: Roles) -> Iterator[StudyCost]:
        """Both halves of the images under every condition and seed; labellings as of a method with all factors."""
        for group in groups:
            conditions = 1 + _SEEDS * (len(SEVERITIES) - 1) * len(perturbations_of(group))
            seen = Amount.of(conditions * _HALVES * (group[0].images // _HALVES))
            for place, work in enumerate(group):
                own = seen if place == 0 else NOTHING
                needs = {name: registry.entry(name).needs for name in work.methods}
                methods = tuple(name for name in work.methods if _DRAWING not in needs[name])
                draws = 2 if any("concepts" in needs[name] for name in methods) else 1
                # Clean images are the same for both seeds, which label them twice.
                labellings = (conditions + _SEEDS - 1) * _HALVES * draws
                yield StudyCost(replace(work, methods=methods), read=own, embedded=own, labellings=(labellings, 1))

    def facts(self, given: StudyInput) -> dict[str, Any]:
        """Methods, units, and the levels of the design."""
        return {
            "version": _VERSION,
            "seed": given.seed,
            "severities": [*SEVERITIES],
            "methods": {name: method.version for name, method in _taking_part(given.methods).items()},
            "tasks": {
                work.task.name: {
                    "images": work.images, "units": [*work.units], "perturbations": [*perturbations_of(group)]
                }
                for group in given.groups
                for work in group
            },
        }  # fmt: skip

    def measure(self, given: StudyInput) -> dict[str, list[pd.DataFrame]]:
        """The table ``variance``."""
        return {"variance": [part for group in given.groups for part in _measured(group, given)]}


STUDY: Final = Variance()


def perturbations_of(group: Sequence[Work]) -> tuple[str, ...]:
    """The perturbations of the design: the first of each family of the run, those of the whole image before others.

    Raises:
        UserError: The run has fewer than two.
    """
    names = [one.name for one in all_conditions(group) if one != CLEAN]
    first = {PERTURBATIONS[name].family: name for name in reversed(names)}
    chosen = [name for name in dict.fromkeys(names) if name in first.values()]
    others = [name for name in dict.fromkeys(names) if name not in chosen]
    chosen.sort(key=lambda name: PERTURBATIONS[name].family == _PART)
    found = (*chosen, *others)[:MOST_PERTURBATIONS]
    if len(found) < 2:
        raise UserError(
            f"The study variance compares perturbations, and {group[0].task.name} has fewer than two: "
            "choose more --suites, or omit the study."
        )
    return found


def halves(probe: Probe, seed: int) -> list[Probe]:
    """Two draws of the images, of half their number each and without a common image.

    Raises:
        UserError: There are fewer than four images.
    """
    half = len(probe.ids) // _HALVES
    if half < 2:
        raise UserError(f"The study variance needs at least four images, not {len(probe.ids)}: raise --images.")
    order = generator(seed, "variance", "images").permutation(len(probe.ids)).tolist()
    return [probe.only(sorted(order[start : start + half])) for start in (0, half)]


def concept_draws(concepts: tuple[str, ...], seed: int) -> list[tuple[str, ...]]:
    """Two independent draws of half the concepts, in their order.

    Raises:
        UserError: There are too few concepts.
    """
    if len(concepts) < FEWEST_CONCEPTS:
        raise UserError(f"The study variance needs at least {FEWEST_CONCEPTS} concepts, not {len(concepts)}.")
    drawn = (
        generator(seed, "variance", "concepts", number).permutation(len(concepts))[: len(concepts) // 2]
        for number in range(2)
    )
    return [tuple(concepts[place] for place in sorted(places.tolist())) for places in drawn]


def _taking_part(methods: Mapping[str, Method]) -> dict[str, Method]:
    return {name: method for name, method in methods.items() if _DRAWING not in registry.used_parts(method)}


def _no_method(work: Work) -> UserError:
    return UserError(
        f"The study variance labels every unit many times, and all methods of the run on {work.task.name} draw images: "
        "add a method that draws none, such as clip_dissect, or omit the study."
    )


def _measured(group: Sequence[Work], given: StudyInput) -> Iterator[pd.DataFrame]:
    names, methods = perturbations_of(group), _taking_part(given.methods)
    if not methods:
        raise _no_method(group[0])
    mapped, parts = mapped_images(methods.values()), halves(given.probes[group[0].task.name][0], given.seed)
    conditions = [CLEAN, *(Condition(name, level) for name in names for level in SEVERITIES if level)]
    labels: dict[tuple[str, str], dict[Cell, list[str | None]]] = {}
    dead: dict[str, np.ndarray] = {work.task.name: np.zeros(len(work.units), np.bool_) for work in group}
    with given.display.stage("variance", len(parts) * (1 + _SEEDS * (len(conditions) - 1)), "passes") as stage:
        for half, own in enumerate(parts):
            tools = _tools(group, methods, own, given)
            for number, condition, observed in _observed(group, own, conditions, given, mapped, stage):
                for work in group:
                    seen = observed[work.task.layer]
                    if condition == CLEAN:
                        dead[work.task.name] |= np.asarray(dead_units(seen.activations))[list(work.units)]
                    for name, draw in _labellers(methods, seen):
                        cell = Cell(number, half, *_level(condition, names), draw)
                        found = _label(methods[name], seen, work.units, tools[work.task.name, number, draw])
                        labels.setdefault((work.task.name, name), {})[cell] = found
    for work in group:
        for name in methods:
            if found := labels.get((work.task.name, name)):
                yield _table(work, name, _coded(found, names, _chooses(methods[name])), dead[work.task.name], given)


def _observed(
    group: Sequence[Work],
    own: Probe,
    conditions: Sequence[Condition],
    given: StudyInput,
    mapped: int | None,
    stage: Stage,
) -> Iterator[tuple[int, Condition, dict[str, Observation]]]:
    """Level of the seed, condition, and the observations of one half of the images."""
    layers: dict[str, Pooling] = {work.task.layer: work.task.pooling for work in group}
    units = {work.task.layer: work.units for work in group}
    digest, model = given.probes[group[0].task.name][1].digest, group[0].task.model
    for condition in conditions:
        found: dict[str, Observation] = {}
        for number in range(_SEEDS):
            # Clean images do not depend on the seed; methods may.
            if condition != CLEAN or number == 0:
                seed = given.seed + number
                stage.note(f"{condition}, seed {seed}")
                images = perturbed(own, condition, seed, given.settings, given.roles.device)
                passes = Passes(given.roles, model, own, digest, given.settings, seed, mapped)
                found = passes.observe(own, condition, images, layers, units)
                stage.advance()
            yield number, condition, found


def _labellers(methods: Mapping[str, Method], seen: Observation) -> Iterator[tuple[str, int]]:
    """The methods that the layer allows, each with every level of the concept set that it uses."""
    for name, method in methods.items():
        if seen.maps is not None or "maps" not in method.needs:
            yield from ((name, draw) for draw in range(2 if _chooses(method) else 1))


def _label(method: Method, seen: Observation, units: Sequence[int], tools: Toolbox) -> list[str | None]:
    """The label of each unit; None where it is missing."""
    try:
        answer = method.label(seen, units, tools)
    except UserError as error:
        raise UserError(f"The study variance labels units with half of the images or concepts: {error}") from None
    ranked = check_labels(method.name, answer, units, len(seen.image_ids))
    return [one.ranked[0].text if one.ranked else None for one in ranked]


def _tools(
    group: Sequence[Work], methods: Mapping[str, Method], own: Probe, given: StudyInput
) -> dict[tuple[str, int, int], Toolbox]:
    """Task, level of the seed and level of the concept set → the tools for one half of the images."""

    def words() -> dict[str, float]:
        return background_words(given.roles.captioner, own.load, len(own.ids))

    return {
        (work.task.name, number, draw): make_toolbox(
            given.roles, work.task, concepts, given.seed + number, words, asked=asked_roles(methods)
        )
        for work in group
        for draw, concepts in enumerate(concept_draws(given.concepts[work.task.name], given.seed))
        for number in range(_SEEDS)
    }


def _chooses(method: Method) -> bool:
    """Whether it chooses its labels from the concept set."""
    return "concepts" in registry.used_parts(method)


def _level(condition: Condition, names: Sequence[str]) -> tuple[int, int]:
    return (names.index(condition.name) if condition != CLEAN else 0), SEVERITIES.index(condition.severity)


@dataclass(frozen=True)
class _Labels:
    """The labels of one method.

    Attributes:
        texts: Distinct labels.
        codes: Place of each label in ``texts``; -1 if missing. One axis per factor after the units.
        factors: Names of these axes.
        labellings: How often the method labelled all units.
    """

    texts: list[str]
    codes: Int[np.ndarray, "*units_and_levels"]
    factors: tuple[str, ...]
    labellings: int


def _coded(found: Mapping[Cell, Sequence[str | None]], names: Sequence[str], chooses: bool) -> _Labels:
    texts = list(dict.fromkeys(text for own in found.values() for text in own if text is not None))
    place = {text: number for number, text in enumerate(texts)} | {None: -1}
    factors = FACTORS if chooses else FACTORS[:-1]
    levels = (_SEEDS, _HALVES, len(names), len(SEVERITIES), 2)[: len(factors)]
    units = len(next(iter(found.values())))
    codes = np.empty((units, *levels), np.int64)
    for level in np.ndindex(*levels):
        cell = Cell(*level, *(() if chooses else (0,)))
        # Clean images are the same for all perturbations.
        own = found[cell if cell.severity else cell._replace(perturbation=0)]
        codes[(slice(None), *level)] = [place[text] for text in own]
    return _Labels(texts, codes, factors, len(found))


def _table(work: Work, method: str, labels: _Labels, dead: np.ndarray, given: StudyInput) -> pd.DataFrame:
    complete = (labels.codes >= 0).all(axis=tuple(range(1, labels.codes.ndim)))
    codes = labels.codes[complete & ~dead]
    embeddings = LabelEmbeddings(given.roles, labels.texts)
    spaces: dict[str, np.ndarray | None] = {"clip": embeddings.clip(labels.texts)}
    if embeddings.has_sentences:
        spaces["sentence"] = embeddings.sentence(labels.texts)
    spaces["string"] = None
    rows: list[dict[str, Any]] = []
    for space, vectors in spaces.items() if len(codes) else ():
        squares = np.stack([mean_squares(_vectors(own, vectors)) for own in codes])
        shares = variance_shares(squares, labels.factors, codes.shape[1:], seed=given.seed)
        rows += [{"space": space, **row} for row in _rows(shares, labels.factors)]
    counted = {"units": len(codes), "left_out": len(labels.codes) - len(codes), "labellings": labels.labellings}
    return pd.DataFrame(rows).assign(task=work.task.name, profile=work.profile, method=method, **counted)


def _vectors(codes: Int[np.ndarray, " *levels"], vectors: np.ndarray | None) -> Float[np.ndarray, "*levels d"]:
    """The labels of one unit as vectors of unit norm: embeddings, or one-hot for strings."""
    own, places = np.unique(codes, return_inverse=True)
    if vectors is None:
        return np.eye(len(own))[places.reshape(codes.shape)]
    texts = vectors[own].astype(np.float64)
    return (texts / np.linalg.norm(texts, axis=1, keepdims=True))[places.reshape(codes.shape)]


def _rows(shares: Shares, factors: Sequence[str]) -> Iterator[dict[str, Any]]:
    conditions = (PERTURBATION, SEVERITY)
    effects: dict[str, list[Effect]] = {factor: [(factor,)] for factor in factors}
    effects[" x ".join(conditions)] = [conditions]
    effects[TWO] = [effect for effect in shares.effects if len(effect) == 2 and effect != conditions]
    effects[MORE] = [effect for effect in shares.effects if len(effect) > 2]
    measured = [("share", name, shares.of(*own)) for name, own in effects.items()]
    measured += [("total", factor, shares.involving(factor)) for factor in factors]
    measured += [("total", PERTURBED, shares.involving(*conditions)), ("variance", WHOLE, shares.variance)]
    for measure, effect, found in measured:
        interval = {"value": found.estimate, "low": found.low, "high": found.high}
        yield {"measure": measure, "effect": effect, **interval}
