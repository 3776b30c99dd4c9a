"""``python -m leaderboard``: the board and its site, made from run folders only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leaderboard.commands import application, guarded, say
from leaderboard.store.results import runs_folder

app = application("leaderboard", "Rank the methods of finished runs, and build the site that shows them.")


@app.command()
@guarded
def build(
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of run folders.  [default: runs if there is a run, else CLEAR's own results]"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("leaderboard/site"),
) -> None:
    """Write the site, board.json and board.csv; the same runs give the same bytes."""
    # Imported here so that --help does not wait for pandas and jinja.
    from leaderboard.board.build import build_board
    from leaderboard.board.merge import merge_runs
    from leaderboard.pages import write_site

    root = runs_folder(runs)
    board = build_board(merge_runs(root))
    files = write_site(board, out)
    for standings in board.standings:
        group = standings.group
        rows = standings.of_suite()
        complete = sum(row.complete for row in rows)
        names = ", ".join(source.run for source in group.sources)
        say(f"{group.task} ({group.profile}): {complete} of {len(rows)} methods complete, from {names}")
    for group in board.runs.bottlenecks:
        say(f"{group.task} ({group.profile}): a concept bottleneck, from {group.sources[0].run}")
    for left in board.runs.left_out:
        say(f"skipped {left.run}: {left.reason}")
    if not board.standings and not board.runs.bottlenecks:
        say(f"{root} contains no finished run: the board is empty")
    say(f"wrote {len(files)} files; open {out / 'index.html'}")


@app.command()
@guarded
def pack(
    out: Annotated[Path, typer.Option(help="Where to put the copies, one folder per run.")],
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    units: Annotated[int, typer.Option(min=0, help="Units of each task that keep their images.")] = 6,
    images: Annotated[int, typer.Option(min=1, max=10, help="Top images to keep per unit.")] = 4,
    pixels: Annotated[int, typer.Option(min=16, max=96, help="Maximum thumbnail side in pixels.")] = 64,
) -> None:
    """Copy runs, reduced to what boards, pages and reports need, to publish or archive them."""
    from leaderboard.board.pack import pack_runs

    for name, size in pack_runs(runs, out, units, images, pixels).items():
        say(f"{out / name}: {size / 1024:,.0f} kB")


@app.command()
@guarded
def submit(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    contact: Annotated[str, typer.Option(help="Who answers questions: a mail address or a page; not shown on boards.")],
    note: Annotated[str, typer.Option(help="What readers should know.")] = "",
    out: Annotated[Path | None, typer.Option(help="File to write.  [default: RUN.clear.zip here]")] = None,
    units: Annotated[int, typer.Option(min=0, help="Units of each task that keep their images.")] = 6,
    images: Annotated[int, typer.Option(min=1, max=10, help="Top images to keep per unit.")] = 4,
) -> None:
    """Pack a run into one file for somebody else's board."""
    from leaderboard.board.submission import write_submission

    path = write_submission(run, contact, note, out, units, images)
    say(f"{path}: {path.stat().st_size / 1024:,.0f} kB; to see what its receiver will: leaderboard validate {path}")


_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=_PASSED_ON, add_help_option=False)
def validate(context: typer.Context) -> None:
    """Check submissions: recompute their scores, label a sample of their units again, refuse what does not fit."""
    _benchmark("validate", *context.args)


@app.command(context_settings=_PASSED_ON)
def merge(
    context: typer.Context,
    packs: Annotated[list[Path], typer.Argument(help="Submissions; options are those of validate.")],
    out: Annotated[Path, typer.Option(help="Folder for the run folders of those that are accepted.")],
) -> None:
    """Validate submissions, and write those that are accepted as run folders, from which build makes a board."""
    _benchmark("validate", *map(str, packs), "--out", str(out), *context.args)


def _benchmark(*arguments: str) -> None:
    """Networks and text encoders are the benchmark's, which this package must not import."""
    import subprocess
    import sys

    raise typer.Exit(subprocess.run([sys.executable, "-m", "benchmark", *arguments], check=False).returncode)  # noqa: S603


@app.command()
@guarded
def validity(
    between: Annotated[tuple[str, str], typer.Option(help="Two profiles: the one that should predict, and the other.")],
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of run folders.  [default: runs if there is a run, else CLEAR's own results]"),
    ] = None,
    pair: Annotated[
        tuple[str, str] | None, typer.Option(help="One task of each.  [default: all tasks with units of the same kind]")
    ] = None,
    conditions: Annotated[
        str | None, typer.Option(help="Only these perturbations, separated by commas.  [default: all that both ran]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the results of two profiles under the same conditions: does the miniature predict the real network?"""
    import json

    from rich.console import Console

    from leaderboard.board.merge import merge_runs
    from leaderboard.board.validity import as_json as plain
    from leaderboard.board.validity import compare_groups
    from leaderboard.board.validity_pairs import asked_names, pairs
    from leaderboard.store import atomic
    from leaderboard.view.terminal import terminal_tables
    from leaderboard.view.validity import validity_sentences, validity_tables

    chosen = pairs(merge_runs(runs_folder(runs)), *between, pair)
    names = asked_names(conditions, chosen)
    found = [compare_groups(*two, names) for two in chosen]
    facts = {"between": list(between), "conditions": list(names), "pairs": [plain(one) for one in found]}
    if out is not None:
        atomic.write_json(out, facts)
    if as_json:
        typer.echo(json.dumps(facts, indent=1, allow_nan=False))
        return
    console = Console()
    for one in found:
        for part in terminal_tables(validity_tables(one), console.width):
            console.print(part)
        for sentence in validity_sentences(one):
            say(sentence)


@app.command()
@guarded
def trust(
    runs: Annotated[
        Path | None,
        typer.Option(help="Folder of run folders.  [default: runs if there is a run, else CLEAR's own results]"),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="One task.  [default: all, and those of one profile together]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What signals that need no truth are worth: does a label's stability, or its score, say that it is right?"""
    import json

    from rich.console import Console

    from leaderboard.board.merge import merge_runs
    from leaderboard.board.trust import foretold_as_json, subjects, trust
    from leaderboard.store import atomic
    from leaderboard.view.terminal import terminal_tables
    from leaderboard.view.trust import foretold_tables, trust_tables, worth_sentences

    console, facts, root = Console(), [], runs_folder(runs)
    say(f"reading the runs in {root}", err=True)
    judged = subjects(merge_runs(root), task)
    for number, subject in enumerate(judged, start=1):
        say(f"judging {subject.name} ({subject.profile}), {number} of {len(judged)}", err=True)
        found = trust(subject.labels, everything=True)
        stable = foretold_as_json(subject.labels)
        facts.append(subject.as_json() | {"methods": [one.as_json() for one in found], "stable": stable})
        if not as_json:
            tables = trust_tables(subject.labels, found, subject.name, subject.profile)
            tables += foretold_tables(subject.labels, subject.name, subject.profile)
            for part in terminal_tables(tables, console.width):
                console.print(part)
            for sentence in worth_sentences(found):
                say(sentence)
    if out is not None:
        atomic.write_json(out, {"trust": facts})
    if as_json:
        typer.echo(json.dumps({"trust": facts}, indent=1, allow_nan=False))
