"""The options of a run on the command line, made from the fields of ``RunOptions``."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from benchmark.commands.console import json_text
from benchmark.core.options import Flag, RunOptions

_BEHIND = {
    "pooling": ("list_layers", bool, False, "Only show the network's layers."),
    "images": ("image_count", int, None, "How many images of the folder. [default: the task's, or all if fewer]"),
    "out": ("offline", bool, False, "Work offline; if files are missing, list them and exit."),
}
"""Field → the option after it that is not a field: its name, type, default and help."""

_AS_TWO_FIELDS = {"images": str, "budget_usd": list[str]}
"""Options that set this field or the one after it, and their type."""


def with_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of a run.

    ``--list-layers`` is handled here, whatever the command does, and ``--offline`` takes effect here.

    Args:
        command: Receives the options, and those of its own after them by name; its docstring is the command's help.
    """
    own = list(signature(command, eval_str=True).parameters.values())[1:]

    def wrapped(**given: Any) -> None:
        if given.pop("offline"):
            from tasks.common.offline import go_offline

            go_offline()  # before importing any library that reads its variables at import
        if given.pop("list_layers"):
            _list_layers(given)
            return
        from benchmark.commands.arguments import options_from

        kept = {parameter.name: given.pop(parameter.name) for parameter in own}
        command(options_from(given, given.pop("image_count")), **kept)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__signature__ = Signature([*_parameters(), *own])  # type: ignore[attr-defined]
    return wrapped


def option(field: str) -> Any:
    """A field of ``RunOptions`` as typer's option, for other commands that also have it."""
    found = RunOptions.model_fields[field]
    flags = [mark.name for mark in found.metadata if isinstance(mark, Flag)]
    return typer.Option(*flags or [f"--{field.replace('_', '-')}"], help=found.description)


def _parameters() -> Iterator[Parameter]:
    for name, field in RunOptions.model_fields.items():
        if field.description is not None:
            kind = _AS_TWO_FIELDS.get(name) or _kind(field.annotation)
            default = None if kind == list[str] else field.default
            yield Parameter(
                name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind | None, option(name)]
            )
        if name in _BEHIND:
            name, kind, default, text = _BEHIND[name]
            shown = typer.Option(f"--{name.replace('_', '-')}", help=text)
            yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind | None, shown])


def _kind(annotation: Any) -> Any:
    """The type that typer parses for a field: lists as texts, and text for anything but a single plain type."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    plain = [get_args(part)[0] if get_origin(part) is Annotated else part for part in parts]
    plain = [part for part in plain if part is not types.NoneType]
    if any(get_origin(part) in (tuple, dict) for part in plain):
        return list[str]
    return plain[0] if len(plain) == 1 and plain[0] in (bool, int, float, Path) else str


def _list_layers(given: dict[str, Any]) -> None:
    from benchmark.commands.arguments import words
    from benchmark.commands.listing import layers, layers_as_text

    rows = layers(
        words(given["tasks"]) or [], *(given[name] for name in ("profile", "model", "weights", "strip_prefix"))
    )
    typer.echo(json_text(rows) if given["as_json"] else layers_as_text(rows))
