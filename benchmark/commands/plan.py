"""``plan``, and what it prints."""

from __future__ import annotations

import time

import typer

from benchmark.commands.console import console, json_text
from benchmark.commands.options_cli import with_run_options
from benchmark.core.options import RunOptions


@with_run_options
def plan(options: RunOptions) -> None:
    """Estimate the cost of a run before it starts; takes the options of run."""
    started = time.monotonic()
    from benchmark.core.preflight import check

    tasks = check(options)
    from benchmark.core.display import Display
    from benchmark.plan.make import make_plan

    facts = make_plan(options, Display("quiet"), tasks, started)
    if options.as_json:
        typer.echo(json_text(facts))
        return
    from report.plan import terminal_plan

    for part in terminal_plan(facts):
        console().print(part, soft_wrap=not hasattr(part, "columns"))
