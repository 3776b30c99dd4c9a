"""``cache``: list what is kept for other runs, explain a key, and prune."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.commands.console import guarded, json_text

if TYPE_CHECKING:
    from tasks.cache import Cache

app = typer.Typer(
    help="The on-disk cache shared by runs: list it, explain a key, prune it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Place = Annotated[str | None, typer.Option("--cache", help="Cache folder. [default: CLEAR_CACHE, or the user's cache]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
@guarded
def list_entries(place: Place = None, as_json: AsJson = False) -> None:
    """List the cache entries, most recently used first."""
    from benchmark.commands import cache_view
    from tasks.cache import inventory

    cache = _opened(place)
    entries, on_disk = inventory.entries(cache), inventory.bytes_on_disk(cache)
    if as_json:
        rows = [cache_view.as_row(entry) for entry in entries]
        typer.echo(json_text({"folder": str(cache.folder), "bytes": on_disk, "entries": rows}))
    else:
        typer.echo(cache_view.listed(entries, cache.folder, on_disk))


@app.command()
@guarded
def explain(
    key: Annotated[str, typer.Argument(help="A key, or its beginning.")],
    place: Place = None,
    as_json: AsJson = False,
) -> None:
    """Show the fields from which a key was computed."""
    from benchmark.commands import cache_view
    from tasks.cache import inventory

    entry = inventory.entry(_opened(place), key)
    typer.echo(json_text(cache_view.as_row(entry)) if as_json else cache_view.explained(entry))


@app.command()
@guarded
def prune(
    max_size: Annotated[str | None, typer.Option("--max-size", help="Maximum cache size to keep, e.g. 5GB.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete everything.")] = False,
    place: Place = None,
    as_json: AsJson = False,
) -> None:
    """Remove damaged files, then the least recently used entries, until the rest fits."""
    from benchmark.commands import cache_view
    from tasks.cache import inventory
    from tasks.common.errors import UserError

    if (max_size is None) == (not everything):
        raise UserError("Give the size to keep: --max-size SIZE, or --all to remove everything.")
    done = inventory.prune(_opened(place), 0 if max_size is None else cache_view.size_of(max_size))
    if as_json:
        removed = [cache_view.as_row(entry) for entry in done.removed]
        typer.echo(json_text({"freed": done.freed, "left": done.left, "removed": removed}))
    else:
        typer.echo(cache_view.pruned_text(done))


def _opened(place: str | None) -> Cache:
    from benchmark.core.tiers import open_cache
    from tasks.common.errors import UserError

    cache = open_cache(place)
    if not cache.keeps:
        raise UserError("The cache is switched off (none): name its folder with --cache FOLDER.")
    return cache
