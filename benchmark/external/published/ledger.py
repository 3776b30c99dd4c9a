"""The ledger: each published number beside what CLEAR computes for it, or what is missing to compute it.

``targets.csv`` holds the numbers with their protocol and source. ``ours`` is always the result of a computation in this
package; where that needs something that was not given, the row says what.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from benchmark.core.prepare import pick_device
from benchmark.external.published import networks, simulation
from benchmark.external.published.label_files import Encoders, Released, from_label_file
from benchmark.external.published.target import Missing, Target
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile

Verdict = Literal["reproduced", "differs", "missing"]

VERDICTS: Final[tuple[Verdict, ...]] = ("reproduced", "differs", "missing")

_ROUNDING: Final = 1e-9

_NAMES: Final = {
    "F1-score": "F1",
    "Inverse Balanced Accuracy": "Inverse balanced accuracy",
    "Inverse AUC (Classification)": "Inverse AUC",
    "Correlation top-and-random": "Correlation T&R",
    "Spearman Correlation": "Spearman",
    "Spearman Correlation top-and-random": "Spearman T&R",
    "MAD (Mean Activation Difference)": "MAD",
}
"""Name of a measure in the notebook → in the paper's table."""


@dataclass(frozen=True)
class Entry:
    """A published number and what CLEAR finds for it.

    Attributes:
        ours: The computed number; None if something is missing.
        missing: What is missing, in one sentence; empty if nothing is.
    """

    target: Target
    ours: float | None
    missing: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether ours lies within the tolerance of the published number."""
        if self.ours is None:
            return "missing"
        near = abs(self.ours - self.target.published) <= self.target.tolerance + _ROUNDING
        return "reproduced" if near else "differs"

    def as_json(self) -> dict[str, Any]:
        """All that is known of it."""
        return {
            **vars(self.target),
            "second_hand": self.target.second_hand,
            "ours": self.ours,
            "verdict": self.verdict,
            "missing": self.missing,
        }


def read_targets() -> list[Target]:
    """The published numbers, in the order of the file."""
    text = (resources.files(__package__ or "") / "targets.csv").read_text(encoding="utf-8")
    found = []
    for row in csv.DictReader(text.splitlines()):
        published, tolerance = float(row.pop("published")), float(row.pop("tolerance"))
        found.append(Target(**row, published=published, tolerance=tolerance))
    return found


def ledger(
    labels: Path | None = None,
    references: Path | None = None,
    profile: Profile | None = None,
    bertscore: Path | None = None,
    bert_layer: int = 17,
    device: str = "auto",
) -> list[Entry]:
    """Every published number, with ours as far as what is given allows.

    Args:
        labels: Folder with the label files that the authors released, as in their repositories.
        references: Class names, one line per class; by default ``imagenet_labels.txt`` in the folder of labels.
        profile: For rows that need text encoders, networks or images; its models must be on this machine.
        bertscore: Folder of roberta-large.

    Raises:
        UserError: A file that is there cannot be read.
    """
    released = Released(labels, references)
    where = pick_device(device)
    roles = Roles(profile, where) if profile else None
    encoders, runs = Encoders(roles, bertscore, bert_layer, str(where)), networks.Networks(roles)
    return [_entry(target, released, encoders, runs) for target in read_targets()]


def counts(entries: Iterable[Entry]) -> Mapping[Verdict, int]:
    """Numbers of entries by verdict, second-hand ones not counted."""
    found = Counter(entry.verdict for entry in entries if not entry.target.second_hand)
    return {verdict: found[verdict] for verdict in VERDICTS}


def _entry(target: Target, released: Released, encoders: Encoders, runs: networks.Networks) -> Entry:
    try:
        if target.needs == "nothing (simulation)":
            return Entry(target, _simulated(target))
        if target.needs.startswith("label file"):
            return Entry(target, from_label_file(target, released, encoders))
        return Entry(target, runs.measure(target))
    except Missing as missing:
        return Entry(target, None, str(missing))


def _simulated(target: Target) -> float:
    measure = _NAMES.get(target.method, target.method)
    test = next(test for test in simulation.TESTS if target.quantity.startswith(test))
    if target.quantity.endswith("% falls"):
        return simulation.falls(measure, test)
    return simulation.change(measure, float(target.layer.removeprefix("frequency ")), test).mean
