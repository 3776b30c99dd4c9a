from __future__ import annotations

import io

from rich.console import Console

from report.doctor import readable, terminal_doctor

PART = {
    "role": "clip",
    "source": "x",
    "state": "present",
    "where": "/a",
    "size": 12,
    "licence": "MIT",
    "get": "fetch it",
}


def printed(**changes) -> str:
    facts = {
        "profile": "mine",
        "complete": False,
        "resources": [PART],
        "packages": [],
        "keys": [],
        "excluded": [],
        "devices": ["CPU"],
        "cache": None,
    }
    console = Console(width=120, record=True, file=io.StringIO())
    for part in terminal_doctor({**facts, **changes}):
        console.print(part, soft_wrap=True)
    return console.export_text()


def test_sizes() -> None:
    sizes = (0, 999, 1000, 102_530_810, 6_744_924_160)
    assert [readable(size) for size in sizes] == ["0 B", "999 B", "1.0 kB", "102.5 MB", "6.7 GB"]
    assert readable(None) == ""


def test_a_way_that_helps_twice_stands_once_and_whole() -> None:
    long = "curl -L -o " + "/a/very/long/path" * 12
    missing = {**PART, "state": "missing", "get": long, "size": None}
    text = printed(resources=[missing, {**missing, "role": "other"}, PART])
    assert text.count(long) == 1
    assert text.count("see 1") == 2
    assert "unknown" in text
    assert "2 of 3 parts are not on this machine" in text


def test_packages_and_keys_are_told() -> None:
    packages = [
        {"module": "a", "installed": True, "get": ""},
        {"module": "b", "installed": False, "get": "pip install b"},
    ]
    keys = [{"variable": "SOME_KEY", "set": False}]
    text = printed(packages=packages, keys=keys)
    for line in (
        "packages: a (installed), b (missing)",
        "keys: SOME_KEY (not set)",
        "1. pip install b",
        "2. Set the env",
    ):
        assert line in text


def test_hostile_names_are_text() -> None:
    text = printed(
        resources=[{**PART, "role": "[red]x[/red]\x1b[31m", "state": "missing", "get": "[/b]\x1b]8;;http://x"}]
    )
    assert "[red]x[/red]" in text
    assert "[/b]" in text
    assert "\x1b" not in text
