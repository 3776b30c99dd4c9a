"""``reproduce``, and what it prints and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.commands.console import console, json_text, say
from benchmark.commands.options_cli import option


def reproduce(
    labels: Annotated[
        Path | None, typer.Option(help="Folder with the label files that authors released. [default: none]")
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(help="Class names, one line per class. [default: imagenet_labels.txt in the folder of labels]"),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Profile whose encoders, networks and images are used where they are here, e.g. paper."),
    ] = None,
    bertscore: Annotated[Path | None, typer.Option(help="Folder of roberta-large, for BERTScore.")] = None,
    bert_layer: Annotated[int, typer.Option(help="Its layer; 17 as published.")] = 17,
    device: Annotated[str, option("device")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Folder for ledger.json, ledger.md and ledger.tex. [default: none written]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare published numbers with ours, and say what is missing for the rest; opens no connection."""
    from benchmark.external.published.ledger import counts, ledger
    from leaderboard.store import atomic
    from leaderboard.view.terminal import terminal_tables
    from report.latex import latex_tables
    from report.ledger import ledger_tables
    from report.markdown import markdown_tables
    from tasks.profiles.schema import load_profile

    loaded = load_profile(profile) if profile else None
    entries = ledger(labels, references, loaded, bertscore, bert_layer, device)
    facts = {"counts": dict(counts(entries)), "rows": [entry.as_json() for entry in entries]}
    tables = ledger_tables(facts["rows"])
    if out is not None:
        atomic.write_json(out / "ledger.json", facts)
        for suffix, text in (("md", markdown_tables(tables)), ("tex", latex_tables(tables))):
            atomic.write_bytes(out / f"ledger.{suffix}", text.encode())
    if as_json:
        typer.echo(json_text(facts))
        return
    for part in terminal_tables(tables, console().width):
        console().print(part)
    if out is not None:
        say(f"Results: {out}")
