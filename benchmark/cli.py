"""The command line. Heavy imports wait until a command needs them: ``--help`` and ``list`` must answer at once."""

from __future__ import annotations

import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.commands.cache import app as cache_app
from benchmark.commands.cluster import cluster
from benchmark.commands.console import INTERRUPTED, MISTAKE, console, guarded, json_text, say
from benchmark.commands.options_cli import option
from benchmark.commands.plan import plan
from benchmark.commands.reproduce import reproduce
from benchmark.commands.run import run
from benchmark.commands.validate import validate

if TYPE_CHECKING:
    from benchmark.external.score import ScoredLabels

app = typer.Typer(
    name="python -m benchmark",
    help="When the images change, do the labels that explain a network's units stay the same, and stay right?",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(guarded(run))
app.command()(guarded(plan))
app.command()(guarded(reproduce))
app.command()(guarded(cluster))
app.command()(guarded(validate))
app.add_typer(cache_app, name="cache")


class Kind(StrEnum):
    """What can be listed."""

    tasks = "tasks"
    methods = "methods"
    suites = "suites"
    profiles = "profiles"


def main() -> None:
    """Run the command line on ``sys.argv`` and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a letter that the terminal lacks must not cost the tables
    try:
        app(prog_name="python -m benchmark")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@app.command("list")
@guarded
def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the tasks, methods, suites or profiles."""
    from benchmark.commands import listing

    rows = {
        Kind.tasks: listing.tasks,
        Kind.methods: listing.methods,
        Kind.suites: listing.suites,
        Kind.profiles: listing.profiles,
    }[kind]()
    typer.echo(json_text(rows) if as_json else listing.as_text(rows))


@app.command()
@guarded
def show(
    task: Annotated[str, typer.Argument(help="Task name or YAML file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one task: model, layer, images, perturbations, units, licences, citation."""
    from benchmark.commands import listing

    facts = listing.task(task)
    typer.echo(json_text(facts) if as_json else listing.as_yaml(facts))


@app.command()
@guarded
def trace(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    unit: Annotated[int, typer.Option(help="The unit.")],
    task: Annotated[str | None, typer.Option(help="Task, if the run has several.")] = None,
    method: Annotated[
        str | None, typer.Option(help="dnd, dnd_refined, dnd_vision or clear. [default: the first that ran]")
    ] = None,
    condition: Annotated[str, typer.Option(help="clean or a perturbation.")] = "clean",
    severity: Annotated[int | None, typer.Option(help="Severity. [default: the only one that ran]")] = None,
    repeat: Annotated[int, typer.Option(help="Clean repeat, from 0.")] = 0,
    images: Annotated[Path | None, typer.Option(help="The run's images, if they were your own folder.")] = None,
    out: Annotated[Path | None, typer.Option(help="PNG file. [default: one in RUN/traces]")] = None,
) -> None:
    """Draw how Describe-and-Dissect or clear arrived at a label: images, captions, candidates, tests, choice."""
    from benchmark.trace.draw import Question, write_trace
    from leaderboard.store.escape import terminal

    path = write_trace(run, Question(unit, task, method, condition, severity, repeat), out, images)
    typer.echo(terminal(f"Trace: {path}"))


@app.command()
@guarded
def preview(
    image: Annotated[Path, typer.Argument(help="Image file.")],
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    suites: Annotated[list[str] | None, typer.Option(help="Suites, perturbations or YAML files.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile whose segmenter finds the foreground, e.g. photo.")
    ] = None,
    corruptions: Annotated[str, option("corruptions")] = "published",
    lengths: Annotated[str, option("lengths")] = "scaled",
    feather: Annotated[float, option("feather")] = 0.0,
    seed: Annotated[int, option("seed")] = 0,
) -> None:
    """Draw your own image under perturbations at all severities."""
    from benchmark.commands.arguments import settings_from, words
    from benchmark.commands.preview import write_preview
    from leaderboard.store.escape import terminal

    chosen = words(suites) or ["imagenet_c", "imagenet_c_extra", *(["foreground_background"] if profile else [])]
    path = write_preview(image, chosen, settings_from(corruptions, lengths, feather), seed, out, profile)
    typer.echo(terminal(f"Preview: {path}"))


@app.command()
@guarded
def doctor(
    profile: Annotated[str, option("profile")] = "miniature",
    out: Annotated[
        Path | None, typer.Option(help="Also try whether processes can share run folders in this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what a profile needs and which of it is missing here; loads nothing, opens no connection."""
    from benchmark.commands.doctor import diagnose

    facts = diagnose(profile, out)
    if as_json:
        typer.echo(json_text(facts))
    else:
        from report.doctor import terminal_doctor

        for part in terminal_doctor(facts):
            console().print(part, soft_wrap=not hasattr(part, "columns"))
    if not facts["complete"]:
        raise typer.Exit(MISTAKE)


@app.command()
@guarded
def score(
    task: Annotated[str, typer.Option(help="Task name or YAML file.")],
    labels: Annotated[list[Path], typer.Option("--labels", help="CSV or Parquet file; repeat it to compare methods.")],
    label_format: Annotated[
        str, typer.Option("--format", help="Format of the files; auto detects it from the columns.")
    ] = "auto",
    layer: Annotated[str | None, typer.Option(help="The layer's name in the files. [default: the task's]")] = None,
    references: Annotated[
        Path | None, typer.Option(help="Class names, one line per output unit, synonyms separated by commas.")
    ] = None,
    profile: Annotated[str, typer.Option(help="Profile that provides the text encoders; see run.")] = "miniature",
    bertscore: Annotated[
        Path | None, typer.Option(help="Folder of a language model, for BERTScore against the references.")
    ] = None,
    bert_layer: Annotated[int, typer.Option(help="Its layer; 17 of roberta-large as published.")] = 17,
    seed: Annotated[int, option("seed")] = 0,
    device: Annotated[str, option("device")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for the tables. [default: none written]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score labels made elsewhere, in our format or as their authors released them; reads no images."""
    from benchmark.external.files import gather
    from tasks.catalogue import load_task

    loaded = load_task(task)
    files = gather(loaded, labels, label_format, layer)
    from benchmark.external.score import bert_scorer, score_labels, write_scored_labels

    scorer = bert_scorer(bertscore, bert_layer) if bertscore else None
    scored = score_labels(loaded, files, profile, references, device, seed, scorer)
    if out is not None:
        write_scored_labels(scored, out)
    if as_json:
        typer.echo(json_text(scored.as_json()))
    else:
        _print_scored(scored, out)


def _print_scored(scored: ScoredLabels, out: Path | None) -> None:
    from leaderboard.view.terminal import terminal_tables
    from report.agreement import scored_label_tables
    from report.tables import document_tables

    output = console()
    measured = document_tables(scored.summary, scored.about_run, scored.scores) if scored.perturbed else {}
    tables = [table for own in measured.values() for table in own]
    tables += scored_label_tables(scored.facts, scored.naming, scored.agreement)
    for part in terminal_tables(tables, output.width):
        output.print(part)
    if out is not None:
        say(f"Results: {out}")
