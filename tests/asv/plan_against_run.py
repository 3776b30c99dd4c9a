"""What ``plan`` said of some runs against what they took, stage by stage, as a Markdown table.

``python tests/asv/plan_against_run.py RUN...`` plans every finished run anew, in a process of its own and into a folder
that holds nothing yet, and reads from the run's ``run.json`` how long its stages took. Both are comparable only if the
machine was idle both times, and if the run did all its work in one session and took nothing from the cache
(``--cache none``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

PASS: Final = ("perturbations", "target network", "CLIP")
"""Stages of a plan that a run takes together."""


def planned(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The plan of a run's options; what the command cannot say again is the default."""
    command = [sys.executable, "-m", "benchmark", "plan", "--json", "--cache", "none"]
    named = {"tasks": "--task", "methods": "--methods", "suites": "--suites", "severities": "--severities"}
    for name, flag in named.items():
        if identity[name]:
            command += [flag, ",".join(map(str, identity[name]))]
    for name in ("units", "repeats", "images", "profile", "seed"):
        if identity[name] is not None:
            command += [f"--{name}", str(identity[name])]
    for method, options in identity["method_options"].items():
        for name, value in options.items():
            command += ["--set", f"{method}.{name}={value}"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, "--out", f"{folder}/run"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def stages(run: Path) -> tuple[dict[str, tuple[float, float]], dict[str, Any]]:
    """Stage → planned and actual seconds; and the plan."""
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    plan = planned(info["identity"])
    said, (session,) = plan["seconds"]["stages"], info["facts"]["plan"]["sessions"]
    took = session["actual"]["seconds"]
    parts: dict[str, float] = {}
    for name, seconds in took.items():
        if ": " in name:
            part = name.partition(": ")[2]
            parts[part] = parts.get(part, 0.0) + seconds
    known = {name: value or 0.0 for name, value in said.items()}
    found = {"passes": (sum(known.get(name, 0.0) for name in PASS), parts.pop("pass", 0.0))}
    found |= {name: (known.get(name, 0.0), seconds) for name, seconds in sorted(parts.items())}
    found["faithfulness"] = (known["faithfulness"], took.get("faithfulness", 0.0))
    found["tables"] = (known["tables"], took.get("scores and tables", 0.0))
    both = [sum(pair[side] for pair in found.values()) for side in (0, 1)]
    return found | {"all of these": (both[0], both[1])}, plan


def main(folders: list[Path]) -> None:
    """Print the table."""
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start.\n")
    print("| units | stage | plan | run | plan / run |\n|---|---|---|---|---|")
    answers = []
    for folder in folders:
        found, plan = stages(folder)
        units = "+".join(str(task["units"]) for task in plan["tasks"])
        answers.append(f"{units} units: {plan['seconds']['probe']:.0f} s")
        for name, (said, took) in found.items():
            if max(said, took) >= 1:
                print(f"| {units} | {name} | {said:.0f} s | {took:.0f} s | {said / took if took else 0:.2f} |")
    print(f"\nThe plan answered within: {', '.join(answers)}.")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
