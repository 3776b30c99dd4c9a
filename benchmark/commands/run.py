"""``run``, and what it prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from benchmark.commands.console import SOME_FAILED, console, json_text, say
from benchmark.commands.options_cli import with_run_options

if TYPE_CHECKING:
    from benchmark.run.options import RunOptions
    from benchmark.runner import RunResult


@with_run_options
def run(options: RunOptions) -> None:
    """Run a benchmark, or continue it: what is done is not done again."""
    _report(_run(options), options)


def _run(options: RunOptions) -> RunResult:
    from benchmark.run.preflight import check

    tasks = check(options)  # before the runner is imported, which takes seconds
    from benchmark import runner
    from benchmark.run.display import Display

    return runner.run(options, Display(), tasks)


def _report(result: RunResult, options: RunOptions) -> None:
    from leaderboard.store.escape import terminal

    if options.as_json:
        from leaderboard.store.identity import as_json

        summary = as_json(result.summary.astype(object).where(result.summary.notna(), None).to_dict("records"))
        typer.echo(json_text({"folder": str(result.folder), "failed": list(result.failed), "summary": summary}))
    else:
        _print_tables(result)
    if result.failed:
        typer.echo(f"{len(result.failed)} cells failed; run the same command to try them again:", err=True)
        for cell in result.failed:
            typer.echo(f"  {terminal(cell)}", err=True)
        raise typer.Exit(SOME_FAILED)


def _print_tables(result: RunResult) -> None:
    from leaderboard.view.comparisons import terminal_comparisons
    from leaderboard.view.faithfulness import terminal_faithfulness
    from report.tables import terminal_tables
    from report.terminal import terminal_contents

    out = console()
    for part in terminal_tables(result.summary, result.facts, out.width, result.scores):
        out.print(part)
    for part in terminal_comparisons(result.comparisons, result.facts):
        out.print(part)
    for part in terminal_faithfulness(result.faithfulness, out.width):
        out.print(part)
    for part in terminal_contents([table for tables in result.studies.values() for table in tables], out.width):
        out.print(part)
    say(f"Results: {result.folder}")
