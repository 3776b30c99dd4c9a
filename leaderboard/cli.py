"""``python -m leaderboard``: the board and its site, made from run folders alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from leaderboard.commands import application, guarded, say
from leaderboard.results import runs_folder

app = application("leaderboard", "Rank the methods of finished runs, and make the site that shows them.")


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
    # Here, so that --help need not wait for pandas and jinja.
    from leaderboard.board import build_board
    from leaderboard.merge import merge_runs
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
        say(f"left out {left.run}: {left.reason}")
    if not board.standings and not board.runs.bottlenecks:
        say(f"{root} holds no finished run: the board is empty")
    say(f"wrote {len(files)} files; open {out / 'index.html'}")


@app.command()
@guarded
def pack(
    out: Annotated[Path, typer.Option(help="Where the copies go, one folder a run.")],
    runs: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    units: Annotated[int, typer.Option(min=0, help="Units of each task that keep their pictures.")] = 6,
    images: Annotated[int, typer.Option(min=1, max=10, help="Top images of a unit that are kept.")] = 4,
    pixels: Annotated[int, typer.Option(min=16, max=96, help="Greatest side of a picture.")] = 64,
) -> None:
    """Copy runs without what a board, a page and a report do not need, to publish or keep them."""
    from leaderboard.pack import pack_runs

    for name, size in pack_runs(runs, out, units, images, pixels).items():
        say(f"{out / name}: {size / 1024:,.0f} kB")
