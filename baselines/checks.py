"""Checks a method's result before it is stored: a plugin's method may return anything."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real

from baselines.base import Label, UnitLabels


def check_labels(name: str, found: object, units: Sequence[int], images: int) -> list[UnitLabels]:
    """A method's result, once it is verified to be labels for the requested units, in their order.

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
    return list(found)


def _mistake(labels: UnitLabels, images: int) -> str | None:
    """What is wrong with the labels of one unit, or None."""
    if not isinstance(labels.ranked, list | tuple):
        return f"{_kind(labels.ranked)} as ranked, not a tuple of Label"
    for label in labels.ranked:
        if not isinstance(label, Label):
            return f"{_kind(label)} among ranked, not a Label"
        if not isinstance(label.text, str) or not label.text.strip():
            return f"the label {label.text!r}; a unit without a name gets no Label"
        if not isinstance(label.score, Real) or math.isinf(label.score):
            return f"the score {label.score!r}; give a finite number, or NaN where there is none"
    if not isinstance(labels.evidence, list | tuple):
        return f"{_kind(labels.evidence)} as evidence, not a tuple of image numbers"
    for image in labels.evidence:
        if not isinstance(image, Integral) or not 0 <= image < images:
            return f"the evidence {image!r}; the images have the numbers 0 to {images - 1}"
    if not isinstance(labels.extra, Mapping):
        return f"{_kind(labels.extra)} as extra, not a dictionary"
    return None


def _kind(value: object) -> str:
    return f"{'an' if type(value).__name__[0] in 'aeiouAEIOU' else 'a'} {type(value).__name__}"
