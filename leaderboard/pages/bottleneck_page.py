"""One page per concept bottleneck: its accuracy, the causes of its flips, contexts and anomalies, single decisions."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from leaderboard.board.bottleneck_decisions import OTHERS, Panel, panels
from leaderboard.board.bottlenecks import HEADS, BottleneckGroup, conditions_in_order
from leaderboard.board.build import Value
from leaderboard.board.groups import Condition
from leaderboard.board.names import SIGNIFICANT
from leaderboard.pages.board_page import settings_of, used_runs
from leaderboard.pages.charts import Bar, Bars, bar, bars, ends_of
from leaderboard.pages.frame import Page
from leaderboard.view.bottleneck import bottleneck_contents
from leaderboard.view.bottleneck_findings import BOTTLENECK, blamed, findings, mean_of_perturbed, of_condition, spoken

_CONTEXTS: Final = ("context_anomaly", "context_or_anomaly")
"""Tables that are shown as they are."""


@dataclass(frozen=True)
class HeadCell:
    """A head under a condition.

    Attributes:
        value: Accuracy with its interval.
        marked: Whether it differs from that on clean images.
    """

    value: Value
    marked: bool


@dataclass(frozen=True)
class AccuracyRow:
    """All heads under one condition.

    Attributes:
        bar: The bottleneck's accuracy for a chart.
        difference: The bottleneck's less that of the dense layer on the features.
        significant: Whether these two differ significantly.
        flips: Share of the bottleneck's decisions that change.
    """

    name: str
    bar: Bar
    heads: tuple[HeadCell, ...]
    difference: Value
    significant: bool
    flips: float


@dataclass(frozen=True)
class FlipRow:
    """Which concepts flip decisions under one condition.

    Attributes:
        flips: How many decisions change.
        images: Of how many.
        concepts: The concepts that move them most, as bars of their shares.
        drift: Mean size of the change of the context concepts and of the other ones, in standard deviations.
    """

    name: str
    flips: int
    images: int
    concepts: Bars
    drift: tuple[float, float]


@dataclass(frozen=True)
class Shown:
    """A decision as a chart.

    Attributes:
        right: Whether they are the same.
        uri: The image; empty without one.
        bars: What each concept adds.
    """

    condition: str
    decision: str
    truth: str
    right: bool
    uri: str
    bars: Bars


@dataclass(frozen=True)
class Class:
    """A class and the concepts it rests on.

    Attributes:
        images: Images that the bottleneck learnt it from.
        features: Weights of the sparse layer on the features.
    """

    name: str
    images: int
    bars: Bars
    features: int


def bottleneck_page(group: BottleneckGroup, which: str) -> Page:
    """``tasks/<slug>.html``.

    Args:
        which: What distinguishes it from others of its task, if there are any.
    """
    heads, drift, apart = (group.tables[name] for name in ("bottleneck", "concept_drift", "context_anomaly"))
    made = bottleneck_contents(heads, drift, apart, group.about_run)
    contexts = [table for table in made if table.kind in _CONTEXTS]
    steps = group.facts.get("filters", ())
    context: dict[str, Any] = {
        "group": group,
        "which": which,
        "about": group.about,
        "note": str(group.about_profile.get("note", "")),
        "sentences": findings(group),
        "heads": HEADS,
        "accuracy": (tuple(_accuracy(group, perturbed=False)), tuple(_accuracy(group, perturbed=True))),
        "means": {head: mean_of_perturbed(group, head) for head in HEADS},
        "flips": tuple(_flips(group)),
        "contexts": contexts,
        "decisions": _decisions(group),
        "classes": tuple(_classes(group)),
        "filters": [(str(step["name"]), [str(text) for text in step["removed"]]) for step in steps],
        "learnt": [float(value) for value in group.facts.get("concepts", {}).values()],
        "facts": tuple(_facts(group)),
        "settings": tuple(settings_of(group)),
        "runs": used_runs([group]),
    }
    return Page(f"tasks/{group.slug}.html", "bottleneck.html.jinja", context)


def _accuracy(group: BottleneckGroup, perturbed: bool) -> Iterator[AccuracyRow]:
    for condition in conditions_in_order(group.heads):
        if bool(condition[1]) != perturbed:
            continue
        found = {row["head"]: row for row in of_condition(group.heads, condition).to_dict("records")}
        cells = tuple(
            HeadCell(_value(found[head], "accuracy"), bool(found[head]["p_corrected"] < SIGNIFICANT)) for head in HEADS
        )
        own = found[BOTTLENECK]
        difference = _value(own, "difference", "difference_low", "difference_high")
        significant = bool(own["p_dense_corrected"] < SIGNIFICANT)
        yield AccuracyRow(spoken(condition), bar(cells[-1].value), cells, difference, significant, float(own["flips"]))


def _flips(group: BottleneckGroup) -> Iterator[FlipRow]:
    drift = group.tables["concept_drift"]
    for condition in conditions_in_order(drift):
        own = of_condition(drift, condition)
        inside = own["context"].to_numpy(bool)
        sizes = np.abs(own["shift"].to_numpy(np.float64))
        means = (_mean(sizes[inside]), _mean(sizes[~inside]))
        first = own.iloc[0].to_dict()
        yield FlipRow(spoken(condition), int(first["flips"]), int(first["images"]), bars(blamed(own), 0.0, 1.0), means)


def _decisions(group: BottleneckGroup) -> list[list[Shown]]:
    rows = panels(group.tables["decisions"])
    low, high = ends_of(value for row in rows for panel in row for _, value in panel.bars())

    def shown(panel: Panel) -> Shown:
        told = panel.told
        uri = _uri(group, str(told["image"]), panel.condition)
        chart = bars(panel.bars(), low, high, last=OTHERS)
        return Shown(spoken(panel.condition), panel.decision, str(told["truth"]), panel.right, uri, chart)

    return [[shown(panel) for panel in row] for row in rows]


def _uri(group: BottleneckGroup, image: str, condition: Condition) -> str:
    own = of_condition(group.tables["thumbnails"], condition)
    found = own.loc[(own["image"] == image).to_numpy(), "webp"].tolist()
    return f"data:image/webp;base64,{base64.b64encode(found[0]).decode()}" if found else ""


def _classes(group: BottleneckGroup) -> Iterator[Class]:
    facts = group.facts
    low, high = ends_of(value for own in facts["weights"].values() for value in own.values())
    features = facts["heads"]["backbone_sparse"]["weights_per_class"]
    for number, label in enumerate(facts["labels"]):
        own = sorted(facts["weights"][label].items(), key=lambda item: (-abs(item[1]), item[0]))
        named = [(f"NOT {name}" if value < 0 else str(name), float(value)) for name, value in own]
        yield Class(str(label), int(facts["training_images"][number]), bars(named, low, high), int(features[number]))


def _facts(group: BottleneckGroup) -> Iterator[tuple[str, str]]:
    """What the task is, in the order in which a reader asks."""
    about, facts, section = group.about, group.facts, group.about.get("bottleneck", {})
    yield "Network", f"{about['model']} ({about['library']}) as the profile {group.profile} provides it"
    yield "Published weights", str(about["weights"])
    yield "Layer", f"{about['layer']}, pooled by {about['pooling']}"
    yield "Learns from", f"{sum(facts['training_images']) + facts['validation_images']:,} of {section['training_set']}"
    yield "Tested on", f"{facts['test_images']:,} of {about['probing_set']}"
    if facts.get("held_out"):
        yield "Never shown", f"{', '.join(facts['held_out'])} (the network below it may have seen them)"
    if facts.get("held_out_contexts"):
        yield "Backgrounds never shown", ", ".join(facts["held_out_contexts"])
    yield "Concepts", f"{about['concept_set']}, {len(facts['concepts'])} left by the filters"
    yield "Profile", f"{group.profile}. {group.about_profile.get('description', '')}".strip()
    yield "Cite", str(about["citation"])


def _value(row: dict[Any, Any], name: str, low: str = "low", high: str = "high") -> Value:
    ends = (None if row[end] != row[end] else float(row[end]) for end in (low, high))
    return Value(float(row[name]), *ends)


def _mean(values: np.ndarray) -> float:
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
