"""Progress display: bars on a terminal, plain lines in a log, and JSON lines in the run folder.

Everything goes to standard error, so that standard output holds results only. Text is never parsed as markup.

The JSON lines (``progress.jsonl``) are one object each, with ``time`` (UTC) and ``event``:

- ``begin`` of a stage: ``stage``, ``unit`` (of the counts), ``done`` and ``total`` (null if unknown), ``note``, and
  ``parts``: kind of work → number of pieces, empty if all units cost alike.
- ``part``: a finished piece: ``stage``, ``kind``, ``note`` (the condition), its duration in ``seconds``, ``done`` so
  far.
- ``progress``, at most one per stage in ``PLAIN_SECONDS``: as ``begin``, with ``seconds`` since the stage began and
  ``remaining`` seconds (null while unknown) instead of ``parts``.
- ``end``: as ``progress``, with ``outcome``: ``done``, ``stopped`` (by the user or by ``--budget``) or ``failed``.
- ``message`` and ``warning``: ``text``.

Several processes of one run write into the same file; each line also has its ``process``.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from benchmark.core.budget import BudgetReached
from benchmark.core.progress import Pace, duration, rate
from leaderboard.store.escape import terminal

Mode = Literal["auto", "rich", "plain", "quiet"]

PLAIN_SECONDS = 5.0
"""Minimum time between two plain lines of a stage."""


class Stage:
    """A running stage; created by ``Display.stage``.

    A stage whose units cost about the same is counted by ``advance``. One with several kinds of work measures each
    piece by ``part``, and the remaining time is estimated from the kinds that are left.
    """

    def __init__(self, name: str, total: int | None, unit: str, parts: Mapping[str, int], display: Display) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0
        self.pace = Pace(parts)
        self.workers = 1
        self._by_kind = bool(parts)
        self._display = display
        self._started = self._shown = display.clock()
        self._note = ""

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more of the stage's units as done."""
        self.done += n
        self._display.show(self)

    @contextlib.contextmanager
    def part(self, kind: str, units: int = 0) -> Iterator[None]:
        """Measure one piece of work; it counts unless the block raises.

        Args:
            kind: Kind of work, one of the stage's ``parts``.
            units: Number of the stage's units that it completes.
        """
        started = self._display.clock()
        yield
        self.count(kind, self._display.clock() - started, units)

    def count(self, kind: str, seconds: float, units: int = 0) -> None:
        """Count a piece of work that a worker has measured."""
        self.pace.add(kind, seconds)
        self.done += units
        self._display.log_part(self, kind, seconds)
        self._display.show(self)

    def skip(self, kind: str, units: int = 0) -> None:
        """Count a piece done by another process."""
        self.pace.drop(kind)
        self.advance(units)

    def note(self, text: str) -> None:
        """Set what is being done now, e.g. the condition."""
        self._note = terminal(text, limit=120)
        self._display.show(self)

    @property
    def noted(self) -> str:
        """The last text given to ``note``."""
        return self._note

    @property
    def seconds(self) -> float:
        """Time since the stage began."""
        return self._display.clock() - self._started

    @property
    def remaining(self) -> float | None:
        """Estimated seconds for the rest; None while unknown."""
        if self._by_kind:
            left = self.pace.remaining()
            return left and left / self.workers
        if self.total is None or not self.done:
            return None
        return max(0, self.total - self.done) * self.seconds / self.done

    def due(self) -> bool:
        """Whether a plain line may be written again; calling this counts as writing."""
        now = self._display.clock()
        if now - self._shown < PLAIN_SECONDS:
            return False
        self._shown = now
        return True

    def line(self) -> str:
        """The stage in one line: progress, rate and remaining time."""
        parts = [f"{self.done}" if self.total is None else f"{self.done}/{self.total}", self.unit]
        text = f"{self.name}: {' '.join(parts)}"
        if self.done and self.seconds > 0:
            text += f", {rate(self.done / self.seconds, self.unit)}"
        if self.remaining:
            text += f", {duration(self.remaining)} left"
        return f"{text}, {self._note}" if self._note else text

    def facts(self) -> dict[str, Any]:
        """The stage for the log."""
        return {"stage": self.name, "done": self.done, "total": self.total, "unit": self.unit, "note": self.noted}


class Display:
    """Shows stages, messages and warnings; create one per run.

    Args:
        mode: ``rich``, ``plain``, ``quiet`` (warnings only), or ``auto``: ``rich`` on a terminal, ``plain`` elsewhere.
        stream: Where to write; standard error if not given.
        clock: Seconds from any origin; for tests.
    """

    def __init__(
        self, mode: Mode = "auto", stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = Console(file=stream or sys.stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.mode: Mode = ("rich" if self.console.is_terminal else "plain") if mode == "auto" else mode
        self.clock = clock
        self._log: Path | None = None
        self._progress: Progress | None = None
        self._bars: dict[Stage, TaskID] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._units: defaultdict[str, int] = defaultdict(int)

    def log_to(self, path: Path) -> None:
        """Append everything from now on to a file of JSON lines, e.g. ``progress.jsonl`` in the run folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log = path

    @contextlib.contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "cells", parts: Mapping[str, int] | None = None
    ) -> Iterator[Stage]:
        """Show a stage while the block runs; stages may be nested.

        Args:
            total: Number of units, if known.
            unit: What a unit is, e.g. cells.
            parts: Kind of work → number of pieces, if units differ so much in cost that a single rate is meaningless.
        """
        stage = Stage(terminal(name, limit=80), total, terminal(unit, limit=20), parts or {}, self)
        self._open(stage, parts or {})
        outcome = "failed"
        try:
            yield stage
            outcome = "done"
        except (KeyboardInterrupt, BudgetReached):
            outcome = "stopped"
            raise
        finally:
            self._close(stage, outcome, terminal(name))

    def seconds(self) -> dict[str, float]:
        """Time of each stage that has ended, by its name in full; for a stage's kinds of work by ``STAGE: KIND``."""
        return dict(self._seconds)

    def units(self) -> dict[str, int]:
        """Totals of the stages that have ended, by unit: cells, images, labels."""
        return dict(self._units)

    def message(self, text: str) -> None:
        """Show something of interest to a reader of the log."""
        self._write("message", text, "")

    def warning(self, text: str) -> None:
        """Show something that the user should know even in a quiet run."""
        self._write("warning", text, "yellow")

    def show(self, stage: Stage) -> None:
        """Update a stage's bar or line."""
        if stage in self._bars and self._progress is not None:
            shown = {"note": stage.noted, "left": stage.remaining}
            self._progress.update(self._bars[stage], completed=stage.done, **shown)
        if stage.due():
            self._note("progress", stage.facts() | _times(stage))
            if self.mode == "plain":
                self._print(stage.line())

    def log_part(self, stage: Stage, kind: str, seconds: float) -> None:
        """Log that a piece of a stage's work is done."""
        entry = {"stage": stage.name, "kind": kind, "note": stage.noted, "seconds": round(seconds, 4)}
        self._note("part", entry | {"done": stage.done})

    def _open(self, stage: Stage, parts: Mapping[str, int]) -> None:
        self._note("begin", stage.facts() | {"parts": dict(parts)})
        if self.mode == "plain":
            self._print(f"{stage.name}: begins" + (f", {stage.total} {stage.unit}" if stage.total is not None else ""))
        elif self.mode == "rich":
            if self._progress is None:
                self._progress = _bars(self.console)
                self._progress.start()
            self._bars[stage] = self._progress.add_task(
                stage.name, total=stage.total, note="", unit=stage.unit, left=None
            )

    def _close(self, stage: Stage, outcome: str, name: str) -> None:
        self._note("end", stage.facts() | _times(stage) | {"outcome": outcome})
        self._units[stage.unit] += stage.done
        self._seconds[name] += stage.seconds
        for kind, seconds in stage.pace.seconds().items():
            self._seconds[f"{name}: {kind}"] += seconds
        line = f"{stage.name}: {outcome}, {stage.done} {stage.unit} in {duration(stage.seconds)}"
        if stage in self._bars and self._progress is not None:
            self._progress.remove_task(self._bars.pop(stage))
            if not self._bars:
                self._progress.stop()
                self._progress = None
        if self.mode != "quiet":
            self._print(line)

    def _write(self, kind: str, text: str, style: str) -> None:
        shown = terminal(text)
        self._note(kind, {"text": shown})
        if kind == "warning":
            self._print(f"Warning: {shown}", style)
        elif self.mode != "quiet":
            self._print(shown, style)

    def _print(self, line: str, style: str = "") -> None:
        self.console.print(Text(line, style=style))

    def _note(self, event: str, facts: dict[str, Any]) -> None:
        if self._log is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, "process": os.getpid(), "event": event, **facts}
        try:
            # One write per line: lines of several processes do not mix.
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=True) + "\n")
        except OSError as error:
            # No result depends on this file, so a run continues without it.
            path, self._log = self._log, None
            self.warning(f"{path} can no longer be written: {error.strerror}.")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else rate(task.speed, str(task.fields["unit"])))


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        left = task.fields["left"]
        return Text(f"{duration(left)} left" if left else "", style="progress.remaining")


def _times(stage: Stage) -> dict[str, float | None]:
    left = stage.remaining
    return {"seconds": round(stage.seconds, 3), "remaining": None if left is None else round(left, 3)}


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        _Left(),
        TextColumn("{task.fields[note]}", markup=False, style="dim"),
        console=console,
        transient=True,
    )
