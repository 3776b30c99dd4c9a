"""The options of a run, declared once for all commands that take them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmark.commands.console import json_text

if TYPE_CHECKING:
    from benchmark.run.options import RunOptions


def with_run_options(command: Callable[[RunOptions], None]) -> Callable[..., None]:
    """A command with the options of a run.

    ``--list-layers`` is answered here, whatever the command does, and ``--offline`` holds from here on.

    Args:
        command: Gets the options; its docstring is the command's help.
    """

    @functools.wraps(_declared)
    def wrapped(**given: Any) -> None:
        if given.pop("offline"):
            from tasks.common.offline import go_offline

            go_offline()  # before any library is imported that reads its variables at import
        if given.pop("list_layers"):
            _list_layers(
                **{name: given[name] for name in ("task", "profile", "model", "weights", "strip_prefix", "as_json")}
            )
            return
        from benchmark.commands.arguments import options_from

        command(options_from(tasks=given.pop("task"), **given))

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    return wrapped


def _declared(
    task: Annotated[
        list[str] | None, typer.Option("--task", help="Task or YAML file; repeat it or use commas.")
    ] = None,
    methods: Annotated[
        list[str] | None, typer.Option(help="Methods. [default: the published ones and the floors]")
    ] = None,
    suites: Annotated[
        list[str] | None, typer.Option(help="Suites, perturbations or YAML files. [default: the task's]")
    ] = None,
    severities: Annotated[list[str] | None, typer.Option(help="Strengths 1 to 5. [default: the task's]")] = None,
    units: Annotated[str | None, typer.Option(help="How many units, or all. [default: the task's]")] = None,
    unit_ids: Annotated[list[str] | None, typer.Option("--unit-ids", help="Unit numbers instead, from 0.")] = None,
    repeats: Annotated[int, typer.Option(help="Clean repeats; two and more give the noise floor.")] = 2,
    model: Annotated[
        str | None, typer.Option(help="Your network: timm:NAME, torchvision:NAME or package.module:factory.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Its weights. [default: the published ones]")] = None,
    strip_prefix: Annotated[
        str | None, typer.Option("--strip-prefix", help="Cut from the front of the names in --weights, e.g. module.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Dotted name of the layer. [default: the task's]")] = None,
    pooling: Annotated[str | None, typer.Option(help="mean, max or cls. [default: the task's]")] = None,
    list_layers: Annotated[bool, typer.Option("--list-layers", help="Only show the network's layers.")] = False,
    images: Annotated[
        str | None, typer.Option(help="Number of probing images, or a folder of your own. [default: the task's]")
    ] = None,
    image_count: Annotated[
        int | None, typer.Option("--image-count", help="How many of the folder. [default: the task's, or all if fewer]")
    ] = None,
    concepts: Annotated[Path | None, typer.Option(help="Your concepts, one a line. [default: the task's]")] = None,
    profile: Annotated[str, typer.Option(help="miniature, open, paper, or a YAML file.")] = "miniature",
    seed: Annotated[int, typer.Option(help="Seed of every random draw.")] = 0,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Method option, METHOD.OPTION=VALUE.")] = None,
    masks: Annotated[str, typer.Option(help="Foreground from the probing_set or the segmenter.")] = "probing_set",
    corruptions: Annotated[
        str, typer.Option(help="ImageNet-C's published form, the package's, repaired, or the reference package itself.")
    ] = "published",
    lengths: Annotated[str, typer.Option(help="Lengths scaled with the image's size, or raw pixels.")] = "scaled",
    feather: Annotated[float, typer.Option(help="Pixels over which a masked change sets in.")] = 0.0,
    faithfulness: Annotated[str, typer.Option(help="Measure it for labels on clean images, all, or none.")] = "clean",
    thumbnails: Annotated[int, typer.Option(help="Top images of each unit kept small for its page; 0 for none.")] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Images in one forward pass.")] = None,
    cell_timeout: Annotated[
        float | None, typer.Option("--cell-timeout", help="Seconds a method may take for one cell. [default: no limit]")
    ] = None,
    budget: Annotated[
        list[str] | None, typer.Option(help="Stop before this much is spent: 5USD, 90s, 30min or 2h; repeat it.")
    ] = None,
    analysis: Annotated[
        list[str] | None, typer.Option(help="Analyses beside the labels: sensitivity, tuning, robustness.")
    ] = None,
    cache: Annotated[
        str | None, typer.Option(help="Folder for answers that other runs share, or none. [default: see docs/cache.md]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. [default: runs/TASKS]")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Open no connection; list all files that miss.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; progress goes to standard error.")] = False,
) -> dict[str, Any]:
    """What was given, by the name of the parameter."""
    return dict(locals())


def _list_layers(
    task: list[str] | None,
    profile: str,
    model: str | None,
    weights: Path | None,
    strip_prefix: str | None,
    as_json: bool,
) -> None:
    from benchmark.commands.arguments import words
    from benchmark.commands.listing import layers_as_text
    from benchmark.run.custom_inputs import layers

    rows = layers(words(task) or [], profile, model, weights, strip_prefix)
    typer.echo(json_text(rows) if as_json else layers_as_text(rows))
