"""Strict pydantic models; every mistake is explained in a sentence: the field, what was given, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tasks.common.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], data: Any, where: str) -> Model:
    """Validate data against a model.

    Args:
        where: Name of the source in messages: a file, or ``"the command line"``.

    Raises:
        UserError: One sentence per mistake: the field, what was given, what is allowed.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"In {where}: {explain(error, model)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """A validation error as sentences, one per mistake."""
    sentences = dict.fromkeys(_sentence(detail, model) for detail in error.errors(include_url=False))
    return " ".join(sentences)


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> str:
    location, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    field = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        known = _fields(model, location[:-1])
        return f"unknown field '{field}'.{_near(str(location[-1]), known)} Fields: {', '.join(known)}."
    if kind == "missing":
        return f"field '{field}' is missing."
    if kind == "value_error":
        prefix = f"field '{field}': " if field else ""
        return f"{prefix}{context['error']}".rstrip(".") + "."
    given = _brief(detail["input"])
    if kind in ("literal_error", "enum"):
        expected = str(context["expected"])
        near = _near(given.strip("'"), [word.strip().strip("'") for word in expected.replace(" or ", ",").split(",")])
        return f"field '{field}' cannot be {given}.{near} Allowed: {expected.replace(' or ', ', ')}."
    return f"field '{field}' cannot be {given}: {detail['msg'][:1].lower()}{detail['msg'][1:]}."


def _fields(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""


def _brief(value: Any) -> str:
    """A value in few letters: what holds others is only named, since it may hold secrets, or itself many times over."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple | set):
        return "a list"
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out whole numbers of thousands of digits
        return "a number that long"
    return text if len(text) <= 60 else text[:57] + "..."
