"""What the analyses measured of a task, as sections of its page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from leaderboard.board.bottleneck_findings import spoken
from leaderboard.board.bottlenecks import conditions_in_order
from leaderboard.board.build import Value
from leaderboard.board.merge import Group
from leaderboard.board.names import SIGNIFICANT
from leaderboard.board.robustness import kept_accuracies
from leaderboard.pages.findings import with_interval
from leaderboard.pages.frame import count, number, percent
from metrics.sensitivity import BAR
from metrics.statistics import Interval

_GROUPS: Final = ("clean", "tuned on", "held out")
_FIRST: Final = ("untuned", "clean images")
_MEASURES: Final = {"auroc": "AUROC", "error": "error", "error_ratio": "error ratio"}


@dataclass(frozen=True)
class Grid:
    """A table of texts.

    Attributes:
        title: What it shows.
        note: What its numbers are.
        heads: Of the columns, the rows' names first.
        rows: A name and the cells.
    """

    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def sensitivity_grids(group: Group) -> tuple[Grid, ...]:
    """Units that feel a perturbation, and detectors of degraded images made of them; none if that was not measured."""
    units, detectors = group.tables["sensitivity"], group.tables["detectors"]
    return (*_responses(units), *_detectors(detectors)) if len(units) else ()


def robustness_grids(group: Group) -> tuple[Grid, ...]:
    """The accuracy that the network and CLIP keep under each condition; none if that was not measured."""
    roles = tuple(kept_accuracies(group.tables["robustness"], group.about_run.seed))
    if not roles:
        return ()
    rows = [
        (
            spoken(condition),
            tuple(text for role in roles for text in (_estimate(role.accuracy[place]), _estimate(role.kept[place]))),
        )
        for place, condition in enumerate(roles[0].conditions)
    ]
    mean = tuple(text for role in roles for text in (number(role.mean_accuracy), _estimate(role.mean_kept)))
    clean = tuple(text for role in roles for text in (_estimate(role.clean), "–"))
    return (
        Grid(
            "Accuracy kept under perturbation",
            f"{count(max(one.n for one in roles[0].accuracy), 'image')} of known class. Accuracy of the network and of "
            "CLIP, the image-text encoder, with 95 % Wilson intervals. Kept: divided by the accuracy on the same "
            "images, clean, with 95 % bootstrap intervals over images.",
            ("Condition", *(head for role in roles for head in (f"{role.role} accuracy", f"{role.role} kept"))),
            (*rows, ("mean", mean), ("clean", clean)),
        ),
    )


def _estimate(found: Interval) -> str:
    ends = (None if math.isnan(end) else end for end in (found.low, found.high))
    return with_interval(Value(found.estimate, *ends))


def tuning_grids(group: Group) -> tuple[Grid, ...]:
    """Labels with partly perturbed image sets, and networks tuned on them; none if that was not measured."""
    table = group.tables["tuning"]
    shares = (
        "probing set",
        "Labels by the share of perturbed probing images",
        "The share of the probing images that is perturbed on purpose. Held out: mean over perturbations that were "
        "never used so.",
    )
    networks = (
        "network",
        "The network and its labels by what its last stage was tuned on",
        "Of the network: AUROC over concepts, share of wrong decisions, and the errors by those of the untuned network "
        "(below 1 is better). Of methods: accuracy and stability of their labels.",
    )
    return tuple(grid for study, title, note in (shares, networks) if (grid := _study(table, study, title, note)))


def _responses(units: pd.DataFrame) -> Iterator[Grid]:
    rows = []
    for name, severity in conditions_in_order(units):
        own = units.loc[((units["perturbation"] == name) & (units["severity"] == severity)).to_numpy()]
        auroc, effect = own["auroc"].to_numpy(np.float64), own["effect"].to_numpy(np.float64)
        moved = own["p_corrected"].to_numpy(np.float64) < SIGNIFICANT
        counts = (percent(float(moved.mean())), *(str(int(side.sum())) for side in _past_the_bar(auroc, moved)))
        best = None if np.isnan(auroc).all() else int(np.nanargmax(np.abs(auroc - 0.5)))
        strongest = ("–", "–", "–")
        if best is not None:
            strongest = (str(own["unit"].iloc[best]), number(float(auroc[best])), number(float(effect[best])))
        rows.append((spoken((name, severity)), (*counts, *strongest)))
    images = count(max(units["images"].tolist()), "image")
    yield Grid(
        "Units that feel a perturbation",
        f"{count(len(set(units['unit'].tolist())), 'unit')}, {images}, each clean and perturbed. Moved: units that "
        f"answer the perturbation at all (Wilcoxon’s test, p < {SIGNIFICANT:g} after Holm’s correction over all units "
        "and conditions). "
        f"Rise, fall: those whose activation alone tells perturbed from clean images with an AUROC of at least "
        f"{BAR:g}, upwards or downwards. Strongest: the unit farthest from 0.5, and Cohen’s d.",
        ("Condition", "moved", "rise", "fall", "strongest unit", "AUROC", "effect"),
        tuple(rows),
    )


def _past_the_bar(auroc: np.ndarray, sure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return sure & (auroc >= BAR), sure & (auroc <= 1 - BAR)


def _detectors(table: pd.DataFrame) -> Iterator[Grid]:
    chosen = (table["perturbation"] == "all").to_numpy() & table["trained_on"].str.startswith("all but ").to_numpy()
    own = table.loc[chosen & (table["selection"] == "best").to_numpy()]
    if not len(own):
        return
    counts = sorted(int(size) for size in own["count"].unique())
    found = {(row["family"], row["count"]): row for row in own.to_dict("records")}
    rows = [
        (str(family), tuple(_area(found.get((family, size))) for size in counts))
        for family in dict.fromkeys(own["family"].tolist())
    ]
    yield Grid(
        "Detectors of degraded images",
        "AUROC on a family of perturbations that the detector was not trained on and on images that it has not seen, "
        "by how many of the most sensitive units it reads; 95 % bootstrap intervals over images.",
        ("Family", *(count(size, "unit") for size in counts)),
        tuple(rows),
    )


def _area(row: Mapping[Any, Any] | None) -> str:
    return "–" if row is None else with_interval(Value(row["auroc"], row["low"], row["high"]))


def _study(table: pd.DataFrame, study: str, title: str, note: str) -> Grid | None:
    own = table.loc[(table["study"] == study).to_numpy() & table["conditions"].isin(_GROUPS).to_numpy()]
    if not len(own):
        return None
    arms = _arms(own["arm"].tolist())
    found: dict[tuple[str, str, str], dict[str, Mapping[Any, Any]]] = {}
    for row in own.to_dict("records"):
        key = (str(row["subject"]), str(row["measure"]), str(row["conditions"]))
        found.setdefault(key, {})[str(row["arm"])] = row
    order = sorted(found, key=lambda key: (key[0] != "network", key[0], key[1], _GROUPS.index(key[2])))
    rows = tuple(
        (
            f"{subject}: {_MEASURES.get(measure, measure)}, {conditions}",
            tuple(_tuned(found[subject, measure, conditions].get(arm)) for arm in arms),
        )
        for subject, measure, conditions in order
    )
    test = f"* differs from the first column (sign-flip test, p < {SIGNIFICANT:g} after Holm’s correction)."
    return Grid(title, f"{note} 95 % bootstrap intervals. {test}", ("", *arms), rows)


def _arms(names: Sequence[str]) -> tuple[str, ...]:
    """In the order of the table, what the others are compared with first."""
    present = [str(name) for name in dict.fromkeys(names)]
    first = [name for name in _FIRST if name in present]
    return (*first, *(name for name in present if name not in first))


def _tuned(row: Mapping[Any, Any] | None) -> str:
    if row is None or row["value"] != row["value"]:
        return "–"
    ends = (None if row[end] != row[end] else float(row[end]) for end in ("low", "high"))
    marked = "*" if row["p_corrected"] < SIGNIFICANT else ""
    value = Value(float(row["value"]), *ends)
    text = with_interval(value)
    return text.replace(" ", f"{marked} ", 1) if " " in text else f"{text}{marked}"
