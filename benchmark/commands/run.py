"""``run``, and what it prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from benchmark.commands.console import SOME_FAILED, console, json_text, say
from benchmark.commands.options_cli import with_run_options
from benchmark.core.options import RunOptions

if TYPE_CHECKING:
    from benchmark.runner import RunResult
    from leaderboard.view.content import Table

_SENTENCES = 2
"""Findings that are printed without ``--details``."""


@with_run_options
def run(options: RunOptions) -> None:
    """Run a benchmark, or continue it: what is done is not done again."""
    _report(_run(options), options)


def _run(options: RunOptions) -> RunResult:
    from benchmark.core.preflight import check

    tasks = check(options)  # before the runner is imported, which takes seconds
    from benchmark import runner
    from benchmark.core.display import Display

    return runner.run(options, Display(), tasks)


def _report(result: RunResult, options: RunOptions) -> None:
    from leaderboard.store.escape import terminal

    if options.as_json:
        from leaderboard.store.identity import as_json

        summary = as_json(result.summary.astype(object).where(result.summary.notna(), None).to_dict("records"))
        typer.echo(json_text({"folder": str(result.folder), "failed": list(result.failed), "summary": summary}))
    else:
        _print_results(result, options)
    if result.failed:
        typer.echo(f"{len(result.failed)} cells failed; run the same command to try them again:", err=True)
        for cell in result.failed:
            typer.echo(f"  {terminal(cell)}", err=True)
        raise typer.Exit(SOME_FAILED)


def _print_results(result: RunResult, options: RunOptions) -> None:
    from rich.text import Text

    from leaderboard.store.escape import terminal
    from leaderboard.view.terminal import terminal_tables

    out = console()
    say("")
    for task, sentences in _findings(result):
        shown = sentences if options.details else sentences[:_SENTENCES]
        out.print(Text(terminal(f"{task}: {' '.join(shown)}")))
    say("")
    main, more = _tables(result, options)
    for part in terminal_tables([*main, *more] if options.details else main, out.width):
        out.print(part)
    if more and not options.details:
        titles = dict.fromkeys(f"{table.title} {table.subject}".strip() for table in more)
        say(f"More tables, with --details or in {result.folder / 'tables'}: {'; '.join(titles)}.")
    say(f"Results: {result.folder}")


def _findings(result: RunResult) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Task by task, the most important sentence of each part first."""
    if "bottleneck" in result.studies:
        from leaderboard.board.bottlenecks import bottlenecks_of
        from leaderboard.store.run_folder import RunFolder
        from leaderboard.view.bottleneck_findings import findings

        folder = RunFolder(result.folder)
        for group in bottlenecks_of(folder, folder.info(), result.folder.name):
            yield group.task, findings(group)
        return
    from leaderboard.view.findings import findings_of_run

    for task, found in findings_of_run(result.summary, result.comparisons, result.facts).items():
        first = (*found.stability[:1], *found.accuracy[:1])
        yield task, (*first, *(sentence for sentence in found.sentences if sentence not in first))


def _tables(result: RunResult, options: RunOptions) -> tuple[list[Table], list[Table]]:
    """What everybody needs: stability, accuracy, and the first table of what was asked for besides; then the rest."""
    from leaderboard.view.comparisons import comparison_tables
    from leaderboard.view.ties import ties_from
    from report.tables import document_tables

    named = document_tables(result.summary, result.facts, result.scores, ties_from(result.comparisons))
    main = [*named.pop("stability", []), *named.pop("accuracy", [])]
    more = [table for tables in named.values() for table in tables]
    more += [*comparison_tables(result.comparisons, result.facts), *result.faithfulness]
    for name, tables in result.studies.items():
        # What units depend on is in every run; the other studies were asked for.
        first = {} if name == "dependence" else {(table.task, table.profile): table for table in reversed(tables)}
        main += [table for table in tables if table in first.values()]
        more += [table for table in tables if table not in first.values()]
    return (main, more) if main else (more, [])
