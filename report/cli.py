"""The command line: ``python -m report build``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leaderboard.commands import application, guarded, say
from leaderboard.store.results import runs_folder

app = application("report", "Tables, figures and a LaTeX report from finished runs.")


@app.command()
@guarded
def build(
    runs: Annotated[
        Path | None, typer.Option(help="Folder of run folders; default: runs, else the results that come with CLEAR.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("report/build"),
    main: Annotated[
        Path | None, typer.Option(help="A LaTeX file of your own instead of CLEAR's; it can bring in the same parts.")
    ] = None,
    no_pdf: Annotated[bool, typer.Option("--no-pdf", help="Do not compile.")] = False,
) -> None:
    """Write tables (.tex, .md), figures (.pdf, .png), texts and main.tex, and compile the report where TeX is."""
    from report.build import build_report

    made = build_report(runs_folder(runs), out, main, pdf=not no_pdf)
    for message in made.messages:
        say(message)
    say(f"Written: {made.pdf or made.out}")
