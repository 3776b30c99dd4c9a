"""INVERT: the logical formula of annotated concepts whose images the unit tells best from the others.

Bykov et al., NeurIPS 2023, arXiv 2311.13594.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import expit, ndtr
from scipy.stats import rankdata
from torch import Tensor

from baselines.base import Label, Mode, UnitLabels
from baselines.costs import pass_alone
from baselines.evidence import EVIDENCE_SIZE, check_units, dead_units, order_among_ties, top_images
from tasks.common.errors import UserError, unknown_name
from tasks.observation import Observation, Toolbox

Operation = Literal["and", "or"]

_SIGNS = {"and": " ∧ ", "or": " ∨ "}
_AT_ONCE = 4096
_MIN_SHARE = 0.01


class Part(NamedTuple):
    """A concept, or its negation, and how it is joined to what stands before it."""

    concept: int
    negated: bool
    joined: Operation


@dataclass(frozen=True)
class Formula:
    """Concepts joined by AND and OR from left to right, each possibly negated.

    Attributes:
        literals: In the order of joining; how the first is joined means nothing.
        auroc: Probability that an image where it holds activates the unit more than another; ties count half.
        share: Of the images where it holds.
        p_value: Mann-Whitney, two-sided, of this formula alone: not corrected for the search.
    """

    literals: tuple[Part, ...]
    auroc: float
    share: float
    p_value: float

    def holds(self, presence: Bool[np.ndarray, "images concepts"]) -> Bool[np.ndarray, " images"]:
        """Where it holds."""
        shown = np.asarray(presence, np.bool_)
        first, *others = self.literals
        found = shown[:, first.concept] ^ first.negated
        for one in others:
            column = shown[:, one.concept] ^ one.negated
            found = found & column if one.joined == "and" else found | column
        return found

    def text(self, names: Sequence[str]) -> str:
        """The concepts that are not negated, separated by a space; empty if all are."""
        return " ".join(dict.fromkeys(names[one.concept] for one in self.literals if not one.negated))

    def written(self, names: Sequence[str]) -> str:
        """The formula with its signs, in parentheses where AND and OR mix."""
        out = ""
        for place, one in enumerate(self.literals):
            name = f"{'¬' if one.negated else ''}{names[one.concept]}"
            if not place:
                out = name
                continue
            mixed = place > 1 and one.joined != self.literals[place - 1].joined
            out = f"{f'({out})' if mixed else out}{_SIGNS[one.joined]}{name}"
        return out


def best_formulas(
    activations: Float[np.ndarray | Tensor, " images"],
    presence: Bool[np.ndarray, "images concepts"],
    *,
    length: int = 3,
    beam: int = 3,
    min_share: float = _MIN_SHARE,
    max_share: float = 0.5,
    min_gain: float = 0.002,
    mode: Mode = "fixed",
) -> list[Formula]:
    """Search for the formulas of largest AUROC, literal by literal.

    Args:
        activations: Of one unit.
        presence: Which concepts each image shows.
        length: Maximum number of literals.
        beam: Number of formulas that are kept at each length, and returned.
        min_share: Least share of the images where a formula holds.
        max_share: Largest.
        min_gain: A longer formula counts only if its AUROC is larger by more than this, than that of the formula that
            it extends and than that of the best shorter one.
        mode: ``fixed``: formulas that hold on the same images count once. ``code``: they do not, activations outside
            [0, 1] pass a float32 logistic function, which ties large ones, and ``min_gain`` is 0.

    Returns:
        Best first; none for a constant unit or if no concept has an admissible share.
    """
    values = np.asarray(activations.detach().cpu() if isinstance(activations, Tensor) else activations)
    shown = np.asarray(presence, np.bool_)
    if dead_units(torch.from_numpy(np.ascontiguousarray(values))[:, None])[0]:
        return []
    if mode == "code" and (values.min() < 0 or values.max() > 1):
        values = expit(values.astype(np.float32))
    search = _Search(values, shown, min_share, max_share, min_gain if mode == "fixed" else 0.0, mode)
    kept = search.first(beam)
    if not kept:
        return []
    winner = kept[0]
    for _ in range(length - 1):
        kept = search.longer(kept, beam)
        if kept[0].auroc > winner.auroc + search.min_gain:
            winner = kept[0]
    # Longer formulas that are better than the winner by less than that are left out.
    others = [one for one in kept if one is not winner and one.auroc <= winner.auroc]
    kept = [winner, *others][:beam]
    ties = np.unique(search.ranks, return_counts=True)[1].astype(np.float64)
    return [search.formula(one, ties) for one in kept]


class _Candidate(NamedTuple):
    literals: tuple[Part, ...]
    mask: Bool[np.ndarray, " images"]
    auroc: float


_Trial = tuple[_Candidate | None, int, Operation, float]


class _Search:
    """The formulas of one unit.

    AUROC follows from the number of images where a formula holds and the sum of their ranks, and both are additive: the
    products of a mask with all concepts give those of every AND, and the rest by subtraction.
    """

    def __init__(
        self,
        values: Float[np.ndarray, " images"],
        shown: Bool[np.ndarray, "images concepts"],
        min_share: float,
        max_share: float,
        min_gain: float,
        mode: Mode,
    ) -> None:
        self.shown = shown
        self.ranks = rankdata(values)
        self.bounds = min_share, max_share
        self.min_gain, self.mode = min_gain, mode
        self.images = len(values)
        ((counts, sums),) = self._sums([np.ones(len(values), np.bool_)])
        # Every concept, then every negation.
        self.counts = np.concatenate([counts, self.images - counts])
        self.sums = np.concatenate([sums, self.ranks.sum() - sums])

    def _sums(
        self, masks: Sequence[Bool[np.ndarray, " images"]]
    ) -> list[tuple[Float[np.ndarray, " concepts"], Float[np.ndarray, " concepts"]]]:
        """Of the images of each mask that show a concept: their number, and the sum of their ranks, both exact."""
        weights = np.array([row for mask in masks for row in (mask.astype(np.float64), np.where(mask, self.ranks, 0))])
        found = np.zeros((len(weights), self.shown.shape[1]))
        for start in range(0, self.images, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            found += weights[:, part] @ self.shown[part].astype(np.float64)
        return list(zip(found[::2], found[1::2], strict=True))

    def _auroc(self, counts: np.ndarray, sums: np.ndarray) -> Float[np.ndarray, " k"]:
        """-1 where the share is out of bounds."""
        least, most = self.bounds
        fits = (counts > 0) & (counts < self.images) & (counts >= least * self.images) & (counts <= most * self.images)
        pairs = np.where(fits, counts * (self.images - counts), 1)
        return np.where(fits, (sums - counts * (counts + 1) / 2) / pairs, -1.0)

    def first(self, beam: int) -> list[_Candidate]:
        """The best single concepts and negations."""
        auroc = self._auroc(self.counts, self.sums)
        order = [int(place) for place in np.argsort(-auroc, kind="stable") if auroc[place] >= 0]
        return self._best([], [(None, place, "and", float(auroc[place])) for place in order], beam)

    def longer(self, kept: list[_Candidate], beam: int) -> list[_Candidate]:
        """The best of the given formulas and of all that extend one of them by one literal."""
        tried: list[tuple[_Candidate, int, Operation, float]] = []
        for own, (counts, sums) in zip(kept, self._sums([one.mask for one in kept]), strict=True):
            inside, ranks = int(own.mask.sum()), float(self.ranks[own.mask].sum())
            counts, sums = np.concatenate([counts, inside - counts]), np.concatenate([sums, ranks - sums])
            either = self.counts + inside - counts, self.sums + ranks - sums
            joins: tuple[tuple[Operation, tuple[np.ndarray, np.ndarray]], ...] = (
                ("and", (counts, sums)),
                ("or", either),
            )
            for joined, of_all in joins:
                auroc = self._auroc(*of_all)
                least = own.auroc + self.min_gain if self.mode == "fixed" else -0.5
                for place in np.flatnonzero(auroc > least).tolist():
                    tried.append((own, place, joined, float(auroc[place])))
        return self._best(kept, sorted(tried, key=lambda trial: -trial[3]), beam)

    def _best(self, kept: Sequence[_Candidate], tried: Sequence[_Trial], beam: int) -> list[_Candidate]:
        """Of equal ones those found first.

        Args:
            tried: Best first.
        """
        found = [*kept]
        for added, trial in enumerate(tried):
            if added >= beam and len(found) >= beam and trial[3] < sorted(one.auroc for one in found)[-beam]:
                break
            new = self._joined(*trial)
            if self.mode == "code" or not any(np.array_equal(new.mask, one.mask) for one in found):
                found.append(new)
        return sorted(found, key=lambda one: -one.auroc)[:beam]

    def _joined(self, own: _Candidate | None, place: int, joined: Operation, auroc: float) -> _Candidate:
        concepts = self.shown.shape[1]
        literal = Part(place % concepts, place >= concepts, joined)
        column = self.shown[:, literal.concept] ^ literal.negated
        if own is None:
            return _Candidate((literal,), column, auroc)
        mask = own.mask & column if joined == "and" else own.mask | column
        return _Candidate((*own.literals, literal), mask, auroc)

    def formula(self, found: _Candidate, ties: Float[np.ndarray, " groups"]) -> Formula:
        """With the normal approximation of the Mann-Whitney statistic, corrected for ties and for continuity."""
        inside, images = int(found.mask.sum()), self.images
        outside = images - inside
        tied = float((ties**3 - ties).sum()) / (images * (images - 1))
        deviation = np.sqrt(inside * outside / 12 * (images + 1 - tied))
        away = abs(found.auroc - 0.5) * inside * outside - 0.5
        p_value = float(min(1.0, 2 * ndtr(-max(away, 0.0) / deviation))) if deviation else 1.0
        return Formula(found.literals, found.auroc, inside / images, p_value)


class Invert:
    """Names a unit by the logical formula of annotated concepts that its activation predicts best.

    Annotation is that of the unperturbed images under every condition but the background swap. Deterministic.

    The label joins the concepts that are not negated: "striped red" for striped AND red, and "red fish" for red OR
    fish. ``extra`` holds the formula with its signs, ``auroc``, ``share`` of the images, ``p_value``, which is not
    corrected for the many formulas tried, and ``single_auroc``, that of the best single concept.

    Args:
        length: Maximum number of concepts; 3 in the authors' notebook.
        beam: Number of formulas kept at each length; 3 there.
        min_share: Least share of the images where a formula holds; 0.002 there, which lets a handful of images win.
        max_share: Largest.
        min_gain: Least gain in AUROC for which a formula is extended.
        mode: ``fixed`` or ``code``, see ``best_formulas``. Under ``code`` ``min_share`` is 0 unless given.
    """

    name: ClassVar[str] = "invert"
    summary: ClassVar[str] = (
        "INVERT: the formula of annotated concepts with AND, OR and NOT whose images the unit's activation tells best "
        "from the others."
    )
    citation: ClassVar[tuple[str, ...]] = ("invert",)
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[str]] = frozenset({"presence"})

    def __init__(
        self,
        length: int = 3,
        beam: int = 3,
        min_share: float | None = None,
        max_share: float = 0.5,
        min_gain: float = 0.002,
        mode: Mode = "fixed",
    ) -> None:
        if mode not in get_args(Mode):
            raise unknown_name("mode", mode, get_args(Mode))
        for option, value in (("length", length), ("beam", beam)):
            if value < 1:
                raise UserError(f"The option {option} of invert must be at least 1, not {value}.")
        least = min_share if min_share is not None else 0.0 if mode == "code" else _MIN_SHARE
        if not 0 <= least < max_share <= 1:
            raise UserError(f"The shares of invert must rise from 0 to 1, but are {least} and {max_share}.")
        self.mode: Mode = mode
        self._options: dict[str, Any] = {
            "length": length,
            "beam": beam,
            "min_share": least,
            "max_share": max_share,
            "min_gain": min_gain,
            "mode": mode,
        }

    cost = pass_alone

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        """Search a formula for each requested unit, each for itself.

        Returns:
            The label of each formula of the beam with its AUROC as score; none for a dead unit, and none of a formula
            whose concepts are all negated.

        Raises:
            UserError: No annotation, or a unit number out of range.
        """
        del tools
        if observation.presence is None:
            raise UserError("The method invert needs images with concept annotation, which these do not have.")
        check_units(units, observation.activations.shape[1])
        names, shown = observation.presence.concepts, observation.presence.shown
        dead, ties = dead_units(observation.activations), order_among_ties(observation.activations)
        return [
            UnitLabels(unit=unit, ranked=(), extra={"dead": True})
            if dead[unit]
            else self._labelled(unit, observation.activations[:, unit], ties, shown, names)
            for unit in units
        ]

    def _labelled(
        self,
        unit: int,
        activations: Tensor,
        ties: Float[np.ndarray, " images"],
        shown: Bool[np.ndarray, "images concepts"],
        names: tuple[str, ...],
    ) -> UnitLabels:
        formulas = best_formulas(activations, shown, **self._options)
        texts = {formula.text(names): formula for formula in reversed(formulas)}
        ranked = [Label(text, formula.auroc) for text, formula in reversed(texts.items()) if text]
        # A best formula without a name is no label, and the next best is not what the unit responds to.
        named = bool(formulas) and bool(formulas[0].text(names))
        return UnitLabels(
            unit=unit,
            ranked=tuple(sorted(ranked, key=lambda label: -label.score)) if named else (),
            evidence=tuple(top_images(activations, EVIDENCE_SIZE, among_ties=ties)) if named else (),
            extra={"mode": self.mode, **self._facts(formulas, activations, shown, names)},
        )

    def _facts(
        self, formulas: Sequence[Formula], activations: Tensor, shown: np.ndarray, names: tuple[str, ...]
    ) -> dict[str, Any]:
        if not formulas:
            return {"formula": None}
        best = formulas[0]
        single = best_formulas(activations, shown, **{**self._options, "length": 1})[0]
        return {
            "formula": best.written(names),
            "auroc": best.auroc,
            "share": best.share,
            "p_value": best.p_value,
            "single_auroc": single.auroc,
        }
