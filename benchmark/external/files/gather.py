"""Several files of labels for one task: restricted to the task's layer, with valid units and unique method names."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmark.external.files.read import read_labels
from benchmark.external.files.rows import CLEAN, LabelFile
from tasks.common.errors import UserError
from tasks.schema import Task

_OTHER_DATA = ("places", "cifar")


def gather(task: Task, paths: Sequence[Path], format: str, layer: str | None = None) -> list[LabelFile]:
    """Read the files and keep the rows that belong to the task.

    Args:
        format: See ``read_labels``.
        layer: The layer's name in the files; None for the task's name.

    Returns:
        One per path; methods with the same name in several files are distinguished by folder or number.

    Raises:
        UserError: A file is given twice, or cannot be used for this task.
    """
    double = next((path for path, times in Counter(path.resolve() for path in paths).items() if times > 1), None)
    if double is not None:
        raise UserError(f"--labels names {double} twice.")
    files = [_of_task(read_labels(path, format, task.name), task, layer) for path in paths]
    if task.units.total is not None:
        check_units(files, task.units.total, f"{task.layer} of {task.model}")
    return _named_apart(files)


def check_units(files: Sequence[LabelFile], count: int, layer: str, advice: str = "") -> None:
    """Refuse units that the layer does not have.

    Args:
        count: Number of units of the layer.
        layer: Name of the layer for messages.
        advice: A sentence appended to the message.

    Raises:
        UserError: A unit's number is too large.
    """
    for file in files:
        units = file.frame["unit"].to_numpy(int)
        lowest, highest = int(units.min()), int(units.max())
        if highest < count:
            continue
        if highest == count and lowest == 1:
            advice = "The file seems to count units from 1, as only Network Dissection's format does; subtract 1."
        sentence = f"{file.facts.path} labels unit {highest}, but {layer} has the units 0 to {count - 1}. {advice}"
        raise UserError(sentence.strip())


def _of_task(file: LabelFile, task: Task, layer: str | None) -> LabelFile:
    frame = _of_layer(file, layer or task.layer)
    path = file.facts.path
    clean = frame["condition"].eq(CLEAN) & frame["repeat"].eq(0) & frame["rank"].eq(1) & frame["label"].notna()
    without = sorted(set(frame["method"]) - set(frame.loc[clean.to_numpy(), "method"]))
    if without:
        raise UserError(f"{path} has no label of {without[0]} on clean images (repeat 0, rank 1) in {task.layer}.")
    facts, left = file.facts, len(file.frame) - len(frame)
    notes = (*facts.notes, *_doubts(file, task))
    skipped = {**facts.skipped, **({"of another layer": left} if left else {})}
    return LabelFile(frame, dataclasses.replace(facts, notes=notes, skipped=skipped))


def _of_layer(file: LabelFile, wanted: str) -> pd.DataFrame:
    named = file.frame["layer"].notna()
    mine = file.frame.loc[(~named | file.frame["layer"].eq(wanted)).to_numpy()]
    if len(mine):
        return mine.reset_index(drop=True)
    layers = sorted(set(file.frame["layer"].dropna()))
    raise UserError(
        f"{file.facts.path} has no labels of {wanted}, only of {', '.join(layers[:20])}; "
        "--layer chooses the one to use instead."
    )


def _doubts(file: LabelFile, task: Task) -> list[str]:
    """Where the file's name contradicts the task: nothing inside the released files distinguishes networks."""
    source = file.facts.source
    network, trained_on, layer = source.network, source.trained_on, source.layer
    doubts = []
    if network and network.replace("rn", "resnet") not in task.model:
        doubts.append(f"The file's name says {network}, but the task's network is {task.model}.")
    task_data = next((name for name in _OTHER_DATA if name in f"{task.model} {task.weights}".lower()), "imagenet")
    if trained_on and not trained_on.startswith(task_data):
        doubts.append(f"The file's name says trained on {trained_on}, but the task's weights are {task.weights}.")
    if layer and file.frame["layer"].isna().to_numpy().all() and layer != task.layer:
        doubts.append(f"The file's name says {layer}, but the task's layer is {task.layer}.")
    return doubts


def _named_apart(files: Sequence[LabelFile]) -> list[LabelFile]:
    times = Counter(method for file in files for method in set(file.frame["method"]))
    taken: Counter[str] = Counter()
    apart = []
    for file in files:
        names: dict[str, str] = {}
        for method in sorted(set(file.frame["method"])):
            name = method if times[method] == 1 else f"{method} ({file.facts.path.parent.name or file.facts.path.stem})"
            taken[name] += 1
            names[method] = name if taken[name] == 1 else f"{name} #{taken[name]}"
        methods = [names[method] for method in file.frame["method"]]
        apart.append(LabelFile(file.frame.assign(method=pd.Series(methods, dtype=object)), file.facts))
    return apart
