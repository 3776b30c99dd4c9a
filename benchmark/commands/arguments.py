"""From command-line texts to ``RunOptions``: lists by commas or repetition, one clear sentence per mistake."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml
from pydantic import BaseModel

from benchmark.core.options import RunOptions
from tasks.common.errors import UserError
from tasks.common.validation import parse
from tasks.perturbations.settings import Corruptions, Feather, Lengths, Settings

Texts = Sequence[str] | None

_UNITS = {
    "usd": ("budget_usd", 1.0),
    "s": ("budget_seconds", 1.0),
    "min": ("budget_seconds", 60.0),
    "h": ("budget_seconds", 3600.0),
}
"""Unit of a budget → field of ``RunOptions``, factor."""


def options_from(given: Mapping[str, Any], image_count: int | None) -> RunOptions:
    """The options of a run from what the command line was given.

    Args:
        given: Field of ``RunOptions`` → the option's value as parsed by typer; ``None`` if it was not given.
        image_count: ``--image-count``.

    Raises:
        UserError: A value is out of range.
        typer.BadParameter: A text cannot be read, e.g. a word instead of a number, or ``--task`` is missing.
    """
    if not words(given["tasks"]):
        raise typer.BadParameter("it is needed; 'python -m benchmark list tasks' shows them.", param_hint="--task")
    read: dict[str, Callable[[Any], Any]] = {
        "severities": lambda texts: _numbers("--severities", texts, "Severity", 1, 5),
        "units": _units,
        "unit_ids": lambda texts: _numbers("--unit-ids", texts, "Unit", 0),
        "method_options": method_options,
    }
    values: dict[str, Any] = {
        name: read[name](value) if name in read else words(value) if isinstance(value, list) else value
        for name, value in given.items()
        if value not in (None, [])
    }
    values |= _images(values.pop("images", None), image_count) | budgets(values.pop("budget_usd", None))
    return parse(RunOptions, values, "the command line")


def settings_from(corruptions: str, lengths: str, feather: float) -> Settings:
    """How images are perturbed.

    Raises:
        UserError: A value is not allowed.
    """
    values = {"corruptions": corruptions, "lengths": lengths, "feather": feather}
    return Settings(**dict(parse(_Perturbing, values, "the command line")))


class _Perturbing(BaseModel):
    corruptions: Corruptions
    lengths: Lengths
    feather: Feather


def words(texts: Texts) -> list[str] | None:
    """Words from ``["a,b", "c"]``; ``None`` if the option was not given."""
    if not texts:
        return None
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def method_options(texts: Texts) -> dict[str, dict[str, Any]]:
    """``METHOD.OPTION=VALUE`` as method → option → value; values are read like YAML scalars.

    Raises:
        typer.BadParameter: The text has another form.
        UserError: One option is set twice.
    """
    options: dict[str, dict[str, Any]] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        method, dot, option = name.strip().partition(".")
        if not (equals and dot and method and option):
            raise typer.BadParameter(f"{text!r} is not METHOD.OPTION=VALUE, e.g. clip_dissect.similarity=wpmi.")
        if option in options.setdefault(method, {}):
            raise UserError(f"--set gives {method}.{option} twice.")
        options[method][option] = _scalar(value)
    return options


def budgets(texts: Texts) -> dict[str, float]:
    """``--budget`` as fields of ``RunOptions``: ``5USD``, ``90s``, ``30min`` and ``2h``, also with a space.

    Raises:
        typer.BadParameter: The text has another form.
        UserError: Money or time is given twice, or is not more than 0.
    """
    found: dict[str, float] = {}
    for text in words(texts) or ():
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)", text.lower())
        if match is None or match[2] not in _UNITS:
            raise typer.BadParameter(
                f"{text!r} is not a budget: give an amount with a unit, e.g. 5USD, 90s, 30min or 2h.",
                param_hint="--budget",
            )
        field, scale = _UNITS[match[2]]
        if field in found:
            raise UserError(f"--budget gives {'money' if field == 'budget_usd' else 'time'} twice.")
        found[field] = float(match[1]) * scale
        if not found[field] > 0:
            raise UserError(f"--budget {text} lets nothing run: give more than 0.")
    return found


def _scalar(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, bool | int | float | str) or value is None else text


def _units(text: str) -> int | str:
    if text == "all":
        return text
    count = _number("--units", text)
    if count < 1:
        raise UserError(f"--units {count} labels nothing: give a whole number of at least 1, or all.")
    return count


def _images(text: str | None, count: int | None) -> dict[str, Any]:
    """``--images`` as a number or a folder, and ``--image-count`` of a folder."""
    if text is not None and not text.strip():
        raise typer.BadParameter("it is empty: give a number or a folder.", param_hint="--images")
    if text is not None and not re.fullmatch(r"[+-]?\d+", text):
        return {"image_folder": Path(text), "images": count}
    if count is not None:
        raise UserError("--image-count is the number of images to use from a folder: give --images FOLDER with it.")
    return {"images": None if text is None else int(text)}


def _number(option: str, word: str) -> int:
    try:
        return int(word)
    except ValueError:
        raise typer.BadParameter(f"{word!r} is not a whole number.", param_hint=option) from None


def _numbers(option: str, texts: Texts, what: str, low: int, high: int | None = None) -> list[int]:
    values = [_number(option, word) for word in words(texts) or ()]
    for value in values:
        if value < low or (high is not None and value > high):
            allowed = f"from {low}" if high is None else f"from {low} to {high}"
            raise UserError(f"{what} {value} does not exist: give whole numbers {allowed}.")
    return values
