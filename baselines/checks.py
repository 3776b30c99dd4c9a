"""Checks a method's result before it is stored: a plugin's method may return anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from baselines.base import Label, UnitLabels
from tasks.common.text import is_visible, valid


def check_labels(name: str, found: object, units: Sequence[int], images: int) -> list[UnitLabels]:
    """A method's result, once it is verified to be labels for the requested units, in their order.

    Texts without a UTF-8 form (lone surrogates) get one.

    Args:
        name: The method's name, for the message.
        found: The return value of its ``label``.
        images: Number of probing images.

    Raises:
        ValueError: It is anything else; the message is one sentence that names the method.
    """
    if not isinstance(found, list | tuple):
        raise ValueError(f"the method {name} returned {_kind(found)}, not a list of UnitLabels")
    strangers = [entry for entry in found if not isinstance(entry, UnitLabels)]
    if strangers:
        raise ValueError(f"the method {name} returned a list with {_kind(strangers[0])} in it, not of UnitLabels only")
    if len(found) != len(units):
        raise ValueError(f"the method {name} returned labels for {len(found)} units, but was asked for {len(units)}")
    for unit, labels in zip(units, found, strict=True):
        if labels.unit != unit:
            raise ValueError(f"the method {name} returned unit {labels.unit!r} where unit {unit} was asked for")
        mistake = _mistake(labels, images)
        if mistake:
            raise ValueError(f"the method {name} returned for unit {unit} {mistake}")
    return [_stored(labels) for labels in found]


def _mistake(labels: UnitLabels, images: int) -> str | None:
    """What is wrong with the labels of one unit, or None."""
    if not isinstance(labels.ranked, list | tuple):
        return f"{_kind(labels.ranked)} as ranked, not a tuple of Label"
    for label in labels.ranked:
        if not isinstance(label, Label):
            return f"{_kind(label)} among ranked, not a Label"
        if not isinstance(label.text, str) or not is_visible(label.text):
            return f"the label {label.text!r}; a unit without a name gets no Label"
        if not isinstance(label.score, Real) or math.isinf(label.score):
            return f"the score {label.score!r}; give a finite number, or NaN where there is none"
    if not isinstance(labels.evidence, list | tuple):
        return f"{_kind(labels.evidence)} as evidence, not a tuple of image numbers"
    for image in labels.evidence:
        if not isinstance(image, Integral) or not 0 <= image < images:
            return f"the evidence {image!r}; the images have the numbers 0 to {images - 1}"
    return _mistake_of_extra(labels.extra)


def _mistake_of_extra(extra: object) -> str | None:
    if not isinstance(extra, Mapping):
        return f"{_kind(extra)} as extra, not a dictionary"
    detector = extra.get("detector")
    if detector is not None and not isinstance(detector, bool | np.bool_):
        return f"{_kind(detector)} as extra['detector'], not True, False or None"
    return None


def _stored(labels: UnitLabels) -> UnitLabels:
    ranked = tuple(Label(valid(label.text), float(label.score)) for label in labels.ranked)
    return replace(labels, ranked=ranked, extra=_valid(labels.extra))


def _valid(value: Any) -> Any:
    if isinstance(value, str):
        return valid(value)
    if isinstance(value, Mapping):
        return {_valid(key): _valid(part) for key, part in value.items()}
    return [_valid(part) for part in value] if isinstance(value, list | tuple) else value


def _kind(value: object) -> str:
    return f"{'an' if type(value).__name__[0] in 'aeiouAEIOU' else 'a'} {type(value).__name__}"
