"""What the workers of a run share through its folder, in ``cluster/``: labels of blocks, drawings, signs of life.

All of it is written whole and under a name that says what it is of, and the first counts, so that a second writer,
e.g. a worker that was thought to be lost or whose driver was replaced, changes nothing. If it found other labels, a
note of them is kept beside the cell's part, as of a cell that was computed twice (``leaderboard.store.parts``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from baselines.base import Label, UnitLabels
from baselines.drawing import Draw, Drawn, Request, Synthetic, answer
from benchmark.core.items import Item
from benchmark.core.label_images import LabelImages, draw
from benchmark.core.sweep import Sweep, label_rows
from benchmark.execution.session import Outcome
from leaderboard.store import atomic
from leaderboard.store.identity import as_json, identity_hash
from leaderboard.store.run_folder import CellKey, RunFolder
from tasks.cache.blobs import BlobStore
from tasks.cache.keys import canonical, key_of

BATCH: Final = 64
"""Drawn images per batch."""

PATIENCE: Final = 6
"""A worker that gives no sign of life between this many looks in a row is lost."""


def shared_folder(folder: RunFolder) -> Path:
    """Where the workers of a run share what is not a result."""
    return folder.path / "cluster"


class Blocks:
    """The labels of blocks, until all blocks of their cell are there.

    Args:
        run: The run folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run, self.folder = run, shared_folder(run) / "blocks"

    def write(self, block: Item, outcome: Outcome) -> None:
        """Store the labels of a block that is a part of its cell, unless it has some."""
        facts = [asdict(one) | {"extra": as_json(one.extra), "evidence": list(one.evidence)} for one in outcome.labels]
        for unit in facts:
            unit["ranked"] = [[label["text"], float(label["score"])] for label in unit["ranked"]]
        # Unlike JSON proper, Python's has NaN, the score of a method that has none.
        text = json.dumps({"seconds": outcome.seconds, "labels": facts})
        cell = _cell(block)
        if self.run.is_done(cell):
            stored = self.run.read_cell(cell)
            first = _rows(stored.loc[stored["unit"].isin(block.units).to_numpy()])
        elif atomic.create_bytes(self._path(block), text.encode()):
            return
        else:
            first = _rows(label_rows(self.read(block).labels))
        rows = _rows(label_rows(outcome.labels))
        if rows != first:
            self.run.differ(cell, identity_hash(rows), {"labels": rows, "first": first})

    def has(self, block: Item) -> bool:
        """Whether the labels of a block are there."""
        return self._path(block).exists()

    def read(self, block: Item) -> Outcome:
        """What ``write`` was given."""
        facts = json.loads(self._path(block).read_bytes())
        labels = tuple(
            UnitLabels(
                one["unit"],
                tuple(Label(text, score) for text, score in one["ranked"]),
                tuple(one["evidence"]),
                one["extra"],
            )
            for one in facts["labels"]
        )
        return Outcome(seconds=facts["seconds"], labels=labels)

    def remove(self, blocks: Iterable[Item]) -> None:
        """Their cell is stored."""
        for block in blocks:
            atomic.remove(self._path(block))

    def _path(self, block: Item) -> Path:
        return self.folder / f"{_cell(block).name}~{identity_hash(list(block.units))[:12]}.json"


def _cell(block: Item) -> CellKey:
    assert block.cell is not None  # noqa: S101 - a block has one
    return block.cell


def _rows(labels: pd.DataFrame) -> list[list[Any]]:
    """Unit, rank, label and score, as JSON."""
    return sorted(as_json(labels[["unit", "rank", "label", "score"]].to_numpy().tolist()))


class StoredDrawings:
    """Measured or captioned drawings as blobs of the run, one per request: ``benchmark.execution.session.Drawings``.

    The name of a drawing is the identity of its blob.

    Args:
        run: The run folder.

    Attributes:
        blobs: Also those of the images of labels (``benchmark.core.label_images``).
    """

    def __init__(self, run: RunFolder) -> None:
        self.blobs = BlobStore(shared_folder(run) / "drawn")
        self._read: dict[Request, Mapping[str, Tensor]] = {}

    def has(self, names: Sequence[str]) -> bool:
        """Whether these drawings are there."""
        return all(self.blobs.paths(key_of(json.loads(name)))[1].exists() for name in names)

    def lacking(self, task: str, asked: Draw) -> Sequence[str]:
        """See ``Drawings``."""
        wanted = {request: _name(task, asked, request) for request in asked.requests}
        found = {request: self.blobs.get(json.loads(name)) for request, name in wanted.items()}
        self._read = {request: blob for request, blob in found.items() if blob is not None}
        return [name for request, name in wanted.items() if request not in self._read]

    def answer(self, task: str, asked: Draw) -> Drawn:
        """See ``Drawings``; to be called after ``lacking``, which has read the blobs."""
        read = _captions if asked.captions else _measured
        return {request: read(self._read[request]) for request in asked.requests}

    def draw(self, names: Sequence[str], sweeps: Sequence[Sweep]) -> None:
        """See ``Drawings``."""
        together: dict[tuple[str, bool], list[Request]] = {}
        labels: list[LabelImages] = []
        for facts in map(json.loads, names):
            if (one := LabelImages.of(facts)) is not None:
                labels.append(one)
                continue
            together.setdefault((facts["task"], facts["captions"]), []).append(Request(**facts["request"]))
        for (task, captions), requests in together.items():
            asked = Draw(tuple(requests), captions)
            sweep = next(one for one in sweeps if any(work.task.name == task for work in one.works))
            for request, found in answer(asked, sweep.tools[task], BATCH).items():
                blob = {"json": _bytes(found)} if captions else _tensors(vars(found))
                self.blobs.put(json.loads(_name(task, asked, request)), blob)
        if labels:
            works = [work for sweep in sweeps for work in sweep.works]
            for one, activations in draw(labels, works, sweeps[0].roles, sweeps[0].seed).items():
                self.blobs.put(one.facts(), _tensors(activations))


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _name(task: str, asked: Draw, request: Request) -> str:
    facts = {"what": "drawings of a run", "task": task, "captions": asked.captions}
    return canonical({**facts, "request": asdict(request)})


def _bytes(captions: Sequence[str]) -> Tensor:
    return torch.tensor(list(json.dumps(list(captions)).encode()), dtype=torch.uint8)


def _captions(blob: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(json.loads(bytes(blob["json"].tolist())))


def _measured(blob: Mapping[str, Tensor]) -> Synthetic:
    return Synthetic(*(np.array(blob[name]) for name in ("activations", "embeddings")))


class Beats:
    """Signs of life: each worker writes another number into its file; clocks of hosts are not compared.

    Args:
        folder: See ``shared_folder``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "beats"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._seen: dict[str, tuple[str, int]] = {}

    def beat(self, worker: str, number: int) -> None:
        """Give a sign of life."""
        (self.folder / worker).write_text(str(number), encoding="ascii")

    def silent(self, workers: Iterable[str]) -> list[str]:
        """The workers of whom there was no sign since ``PATIENCE`` calls in a row; call it at regular intervals."""
        for worker in (found := list(workers)):
            before, calls = self._seen.get(worker, ("", 0))
            try:
                now = (self.folder / worker).read_text(encoding="ascii")
            except OSError:
                now = before
            self._seen[worker] = (now, 0 if now != before else calls + 1)
        return [worker for worker in found if self._seen[worker][1] >= PATIENCE]
