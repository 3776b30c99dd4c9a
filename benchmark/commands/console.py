"""Shared by all commands: exit codes, one clear sentence per mistake, and where output goes."""

from __future__ import annotations

import functools
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from benchmark.core.interrupt import INTERRUPTED, TERMINATED, Terminated, stopping_on_signals
from leaderboard.store.errors import StoreError
from leaderboard.store.escape import TerminalLog
from tasks.common.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., None])

MISTAKE, USAGE, SOME_FAILED = 1, 2, 3
"""Exit codes; 0 is done, and ``benchmark.core.interrupt`` has those of an interrupted run."""


def guarded(command: Command) -> Command:
    """One clear sentence and an exit code for every error that is not a bug of CLEAR."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        again = shlex.join(["python", "-m", "benchmark", *sys.argv[1:]])
        stopped = f"Interrupted. Finished work is kept; to continue: {again}"
        if logging.lastResort is not None:
            logging.lastResort.setFormatter(TerminalLog())
            # Else a library sets one up when it first says something (open_clip does).
            logging.basicConfig(handlers=[logging.lastResort])
        try:
            with stopping_on_signals(stopped):
                command(*args, **kwargs)
        except (UserError, StoreError) as error:
            _fail(str(error), MISTAKE)
        except ModuleNotFoundError as error:
            from benchmark.core.preflight import missing_package

            sentence = missing_package(error)
            if sentence is None:
                raise
            _fail(sentence, MISTAKE)
        except KeyboardInterrupt as error:
            _fail(stopped, TERMINATED if isinstance(error, Terminated) else INTERRUPTED)
        except BrokenPipeError:
            # The reader (`| head`) has seen enough; without this Python complains once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return wrapped  # type: ignore[return-value]


def console() -> Console:
    """Standard output, for tables."""
    from rich.console import Console

    # A log has no width; 120 columns fit four methods with their intervals.
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """A line on standard output, neither wrapped nor parsed as markup."""
    from rich.text import Text

    from leaderboard.store.escape import terminal

    console().print(Text(terminal(text)), soft_wrap=True)


def json_text(value: Any) -> str:
    """JSON for standard output."""
    return json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False)


def _fail(sentence: str, code: int) -> NoReturn:
    from leaderboard.store.escape import terminal

    typer.echo(terminal(sentence), err=True)
    raise typer.Exit(code)
