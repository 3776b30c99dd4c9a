"""How a run shows its progress: bars on a terminal, plain lines in a log, and JSON lines in the run folder.

Everything goes to standard error, so that standard output holds results only. Text is never read as markup.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as _TimeRemaining
from rich.text import Text

from report.escape import terminal

Mode = Literal["auto", "rich", "plain", "quiet"]

PLAIN_SECONDS = 5.0
"""At most one plain line a stage in this time."""


class Stage:
    """One stage of a run while it goes on; made by ``Display.stage``."""

    def __init__(self, name: str, total: int | None, unit: str, display: Display) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0
        self._display = display
        self._started = self._shown = display.clock()
        self._note = ""

    def advance(self, n: int = 1) -> None:
        """Count ``n`` more of the stage's units as done."""
        self.done += n
        self._display.show(self)

    def note(self, text: str) -> None:
        """Say what is being done now, e.g. the condition."""
        self._note = terminal(text, limit=120)
        self._display.show(self)

    @property
    def seconds(self) -> float:
        """Time since the stage began."""
        return self._display.clock() - self._started

    def due(self) -> bool:
        """Whether a plain line may be written again; asking counts as writing."""
        now = self._display.clock()
        if now - self._shown < PLAIN_SECONDS:
            return False
        self._shown = now
        return True

    def line(self) -> str:
        """The stage in one line: how far, how fast, how long still."""
        parts = [f"{self.done}" if self.total is None else f"{self.done}/{self.total}", self.unit]
        rate = self.done / self.seconds if self.seconds > 0 else 0.0
        text = f"{self.name}: {' '.join(parts)}"
        if rate > 0:
            text += f", {_rate(rate, self.unit)}"
            if self.total is not None and self.done < self.total:
                text += f", {duration((self.total - self.done) / rate)} left"
        return f"{text}, {self._note}" if self._note else text

    def facts(self) -> dict[str, Any]:
        """The stage for the log."""
        return {"stage": self.name, "done": self.done, "total": self.total, "unit": self.unit, "note": self._note}


class Display:
    """Shows stages, messages and warnings; create one for each run.

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

    def log_to(self, path: Path) -> None:
        """Append everything from now on to a file of JSON lines, e.g. ``progress.jsonl`` in the run folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log = path

    @contextlib.contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "cells") -> Iterator[Stage]:
        """Show a stage while the block runs; stages may be nested.

        Args:
            name: What is done.
            total: How many units there are, if that is known.
            unit: What is counted.
        """
        stage = Stage(terminal(name, limit=80), total, terminal(unit, limit=20), self)
        self._open(stage)
        outcome = "failed"
        try:
            yield stage
            outcome = "done"
        finally:
            self._close(stage, outcome)

    def message(self, text: str) -> None:
        """Say something that a reader of the log wants to know."""
        self._write("message", text, "")

    def warning(self, text: str) -> None:
        """Say something that the user should know even in a quiet run."""
        self._write("warning", text, "yellow")

    def show(self, stage: Stage) -> None:
        """Bring a stage's bar or line up to date."""
        if stage in self._bars and self._progress is not None:
            self._progress.update(self._bars[stage], completed=stage.done, note=stage.facts()["note"])
        if stage.due():
            self._note("progress", stage.facts() | {"seconds": round(stage.seconds, 3)})
            if self.mode == "plain":
                self._print(stage.line())

    def _open(self, stage: Stage) -> None:
        self._note("begin", stage.facts())
        if self.mode == "plain":
            self._print(f"{stage.name}: begins" + (f", {stage.total} {stage.unit}" if stage.total is not None else ""))
        elif self.mode == "rich":
            if self._progress is None:
                self._progress = _bars(self.console)
                self._progress.start()
            self._bars[stage] = self._progress.add_task(stage.name, total=stage.total, note="", unit=stage.unit)

    def _close(self, stage: Stage, outcome: str) -> None:
        self._note("end", stage.facts() | {"seconds": round(stage.seconds, 3), "outcome": outcome})
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
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
        try:
            # One write of one line: lines of several processes do not mix.
            with open(self._log, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=True) + "\n")
        except OSError as error:
            # No result rests on this file, so a run does not end for it.
            path, self._log = self._log, None
            self.warning(f"{path} cannot be written any more: {error.strerror}.")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if not task.speed else _rate(task.speed, str(task.fields["unit"])))


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        _TimeRemaining(),
        TextColumn("{task.fields[note]}", markup=False, style="dim"),
        console=console,
        transient=True,
    )


def duration(seconds: float) -> str:
    """A time for people: ``4.2 s``, ``3 min 05 s``, ``2 h 07 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _rate(rate: float, unit: str) -> str:
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{duration(1 / rate)} each"
