"""Shared by the command lines of ``leaderboard`` and ``report``: one clear sentence per user error."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from leaderboard.store.errors import StoreError
from leaderboard.store.escape import terminal

Command = TypeVar("Command", bound=Callable[..., None])

MISTAKE = 1
"""Exit code; 0 is done, 2 wrong usage."""


def application(name: str, what: str) -> typer.Typer:
    """A command line with subcommands only."""
    app = typer.Typer(
        name=name,
        help=what,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # With a single command typer would drop its name; `build` has to be given.
    app.callback()(_nothing)
    return app


def guarded(command: Command) -> Command:
    """Turn a store's error into one sentence on standard error and exit code 1."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except StoreError as error:
            typer.echo(terminal(str(error)), err=True)
            raise typer.Exit(MISTAKE) from None

    return run  # type: ignore[return-value]


def say(sentence: str, err: bool = False) -> None:
    """Print one plain line, on standard error if it is about progress."""
    typer.echo(terminal(sentence), err=err)


def _nothing() -> None:
    pass
