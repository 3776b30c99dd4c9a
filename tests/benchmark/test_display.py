from __future__ import annotations

import io
import json
import os
import unicodedata
from pathlib import Path

import pytest

from benchmark.core.display import PLAIN_SECONDS, Display, duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock():
    return Clock()


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_plain_lines_give_rate_and_remaining_time_and_are_few(clock):
    stream = io.StringIO()
    display = Display("plain", stream, clock)
    with display.stage("label", 100, "cells") as stage:
        for _ in range(100):
            clock.now += 0.5
            stage.advance()
    shown = lines(stream)
    assert shown[0] == "label: begins, 100 cells"
    assert shown[1] == "label: 10/100 cells, 2.0 cells/s, 45.0 s left"
    assert shown[-1] == "label: done, 100 cells in 50.0 s"
    assert len(shown) <= 2 + 50 / PLAIN_SECONDS


def test_slow_stages_and_unknown_totals(clock):
    stream = io.StringIO()
    display = Display("plain", stream, clock)
    with display.stage("images", unit="images") as stage:
        clock.now += 20
        stage.advance(2)
        clock.now += 1
        stage.note("fog 3")
        clock.now += 9
        stage.note("snow 3")
    assert lines(stream) == [
        "images: begins",
        "images: 2 images, 10.0 s each",
        "images: 2 images, 15.0 s each, snow 3",
        "images: done, 2 images in 30.0 s",
    ]


def test_a_stage_that_fails_says_so_and_passes_the_error_on(clock):
    stream = io.StringIO()
    display = Display("plain", stream, clock)
    with pytest.raises(KeyboardInterrupt), display.stage("label", 2):
        raise KeyboardInterrupt
    assert lines(stream)[-1] == "label: stopped, 0 cells in 0.0 s"
    with pytest.raises(ZeroDivisionError), display.stage("label", 2):
        raise ZeroDivisionError
    assert lines(stream)[-1] == "label: failed, 0 cells in 0.0 s"


def test_remaining_time_goes_by_the_kinds_of_work_that_are_left(clock):
    stream = io.StringIO()
    display = Display("plain", stream, clock)

    def do(stage, kind, seconds, units=1):
        with stage.part(kind, units):
            clock.now += seconds

    with display.stage("label", 6, parts={"pass": 2, "dnd": 3, "clip": 3}) as stage:
        do(stage, "pass", 1, units=0)
        do(stage, "clip", 1)
        do(stage, "clip", 1)
        assert stage.remaining is None  # no dnd was measured yet: nothing can be said
        do(stage, "dnd", 50)
        assert stage.remaining == 1 + 1 + 2 * 50
        do(stage, "dnd", 10)  # the first one loaded models
        assert stage.remaining == 1 + 1 + 10
        stage.skip("dnd", 1)
        assert stage.remaining == 1 + 1
        assert stage.done == 5
    assert display.seconds() == {"label": 63, "label: pass": 1, "label: clip": 2, "label: dnd": 60}
    assert lines(stream)[-2] == "label: 4/6 cells, 15.8 s each, 12.0 s left"


def test_work_that_failed_is_not_measured(clock):
    with Display("quiet", io.StringIO(), clock).stage("label", 1, parts={"dnd": 1}) as stage:
        with pytest.raises(ZeroDivisionError), stage.part("dnd", 1):
            raise ZeroDivisionError
        assert stage.pace.expected("dnd") is None
        assert stage.done == 0


def test_times_stand_under_the_whole_name_however_long(clock):
    stream = io.StringIO()
    display = Display("plain", stream, clock)
    name = " + ".join(["my_network_blocks_11_attn_heads_own_images"] * 3)
    with display.stage(name, 1, parts={"dnd": 1}) as stage, stage.part("dnd", 1):
        clock.now += 2
    assert display.seconds() == {name: 2, f"{name}: dnd": 2}
    assert max(map(len, lines(stream))) < len(name)


def test_quiet_shows_warnings_only(clock):
    stream = io.StringIO()
    display = Display("quiet", stream, clock)
    with display.stage("label", 1) as stage:
        clock.now += 60
        stage.advance()
    display.message("hello")
    display.warning("careful")
    assert lines(stream) == ["Warning: careful"]


def test_auto_is_plain_without_a_terminal_and_rich_with_one(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Display("auto", io.StringIO()).mode == "plain"
    assert Display("auto", Terminal()).mode == "rich"


def test_rich_bars_show_name_and_count_and_leave_one_line(clock):
    stream = Terminal()
    display = Display("rich", stream, clock)
    with display.stage("outer", 2) as outer, display.stage("inner [bold]", 4, "images") as inner:
        inner.advance(4)
        inner.note("[red]fog[/foo]")
        outer.advance()
    shown = stream.getvalue()
    assert "inner [bold]: done, 4 images" in shown
    assert "outer: done, 1 cells" in shown


@pytest.mark.parametrize("mode", ["plain", "rich"])
def test_hostile_text_is_never_markup_or_control_codes(mode, clock):
    labels = json.loads((Path(__file__).parents[1] / "data" / "hostile_labels.json").read_text())
    stream = io.StringIO()
    display = Display(mode, stream, clock)
    for label in labels:
        with display.stage(label, 1, label) as stage:
            clock.now += 10
            stage.note(label)
        display.message(label)
        display.warning(label)
    text = stream.getvalue()
    assert not [
        c for c in text if unicodedata.category(c) in ("Cf", "Cs") or (unicodedata.category(c) == "Cc" and c != "\n")
    ]
    assert "Warning: [red]text[/red]" in text


def test_the_log_has_one_json_object_a_line(tmp_path, clock):
    path = tmp_path / "run" / "progress.jsonl"
    display = Display("quiet", io.StringIO(), clock)
    display.message("before")
    display.log_to(path)
    with display.stage("label", 20, "cells") as stage:
        for _ in range(20):
            clock.now += 1
            stage.advance()
    display.warning("a\nb \x1b[31m")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["event"] for entry in entries] == [
        "begin",
        "progress",
        "progress",
        "progress",
        "progress",
        "end",
        "warning",
    ]
    assert entries[1] | {"time": ""} == {
        "time": "",
        "process": os.getpid(),
        "event": "progress",
        "stage": "label",
        "done": 5,
        "total": 20,
        "unit": "cells",
        "note": "",
        "seconds": 5.0,
        "remaining": 15.0,
    }
    assert entries[-2]["outcome"] == "done"
    assert entries[-1]["text"] == "a b [31m"


def test_the_log_tells_every_piece_of_work(tmp_path, clock):
    path = tmp_path / "progress.jsonl"
    display = Display("quiet", io.StringIO(), clock)
    display.log_to(path)
    with display.stage("label", 2, parts={"dnd": 2}) as stage:
        for condition in ("clean", "fog 3"):
            stage.note(condition)
            with stage.part("dnd", 1):
                clock.now += 2
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert entries[0]["parts"] == {"dnd": 2}
    parts = [entry for entry in entries if entry["event"] == "part"]
    told = [(e["stage"], e["kind"], e["note"], e["seconds"], e["done"]) for e in parts]
    assert told == [("label", "dnd", "clean", 2.0, 1), ("label", "dnd", "fog 3", 2.0, 2)]
    assert (entries[-1]["outcome"], entries[-1]["seconds"], entries[-1]["remaining"]) == ("done", 4.0, 0.0)


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path, clock):
    stream = io.StringIO()
    display = Display("plain", stream, clock)
    display.log_to(tmp_path / "log")
    (tmp_path / "log").mkdir()
    display.message("one")
    display.message("two")
    shown = stream.getvalue()
    assert shown.count("can no longer be written") == 1
    assert "one" in shown
    assert "two" in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
