"""Geometry of the charts: numbers in, places in an SVG's own units out. ``templates/charts.jinja`` draws them.

A line is known by its colour, its dashes and its marker, so that no reader needs the colour; each chart says in words
what it shows (``Panel.words``).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from leaderboard.board.build import Value
from leaderboard.pages.frame import number

COLOURS: Final = 8
"""Colours, dashes and markers are taken in turn; see ``--s0`` to ``--s7`` in the stylesheet."""

STEPS: Final = 10
"""Shades of a heat map; see ``--h0`` to ``--h9`` in the stylesheet."""

_BAR_WIDTH: Final = 120.0
_WIDTH, _HEIGHT = 260.0, 168.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 30.0, 8.0, 8.0, 24.0
_MARKERS: Final = (
    "M{x},{t}A{r},{r} 0 1 1 {x},{b}A{r},{r} 0 1 1 {x},{t}Z",
    "M{l},{t}H{e}V{b}H{l}Z",
    "M{x},{t}L{e},{b}H{l}Z",
    "M{x},{t}L{e},{y}L{x},{b}L{l},{y}Z",
    "M{x},{b}L{e},{t}H{l}Z",
    "M{l},{t}L{e},{b}M{e},{t}L{l},{b}",
    "M{x},{t}V{b}M{l},{y}H{e}",
    "M{l},{y}H{e}",
)


@dataclass(frozen=True)
class Style:
    """How one method looks in every chart of a page.

    Attributes:
        kind: Class of its colour and dashes: ``s0``, ``s1``, …, or ``floor``.
    """

    method: str
    kind: str
    number: int


@dataclass(frozen=True)
class Bar:
    """A mean with its interval on a scale.

    Attributes:
        low: Place of the interval's lower end; the mean's without interval.
    """

    mean: float
    low: float
    high: float
    zero: float
    width: float = _BAR_WIDTH


@dataclass(frozen=True)
class Line:
    """One method's curve.

    Attributes:
        markers: One path per point.
        whiskers: From the lower to the upper end of each interval.
    """

    style: Style
    path: str
    markers: tuple[str, ...]
    whiskers: str


@dataclass(frozen=True)
class Panel:
    """One chart of curves.

    Attributes:
        name: What it is of; a file name, so that it may be an ``id``.
        title: The same for readers.
        ticks_x: Place and text.
        ticks_y: Place and text.
    """

    name: str
    title: str
    words: str
    lines: tuple[Line, ...]
    ticks_x: tuple[tuple[float, str], ...]
    ticks_y: tuple[tuple[float, str], ...]
    width: float = _WIDTH
    height: float = _HEIGHT


@dataclass(frozen=True)
class NamedBar:
    """One bar of a list.

    Attributes:
        value: Its length as a number.
        kind: ``for``, ``against`` or ``rest``, which is of many together.
    """

    name: str
    value: float
    start: float
    length: float
    kind: str


@dataclass(frozen=True)
class Bars:
    """Bars of named numbers from a common zero."""

    bars: tuple[NamedBar, ...]
    zero: float
    width: float = _BAR_WIDTH


def styles_of(methods: Sequence[str], floors: Collection[str]) -> tuple[Style, ...]:
    """A look for each method; trivial baselines are grey and come last."""
    found = []
    for place, method in enumerate(sorted(methods, key=lambda method: method in floors)):
        turn = place % COLOURS
        found.append(Style(method, "floor" if method in floors else f"s{turn}", turn))
    return tuple(found)


def bar(value: Value, low: float = 0.0, high: float = 1.0) -> Bar:
    """A mean with its interval on a scale from ``low`` to ``high``; what lies outside is cut."""

    def place(number: float) -> float:
        share = (min(max(number, low), high) - low) / (high - low)
        return round(3 + share * (_BAR_WIDTH - 6), 1)

    least, most = (place(value.mean if end is None else end) for end in (value.low, value.high))
    return Bar(place(value.mean), least, most, place(0.0))


def bars(values: Sequence[tuple[str, float]], low: float, high: float, last: str = "") -> Bars:
    """Named numbers as bars: those above 0 to the right, those below to the left.

    Args:
        values: Names and numbers.
        low: Lower end of the scale, at most 0.
        high: Upper end, at least 0.
        last: Name of the bar that stands for many together.
    """
    unit = (_BAR_WIDTH - 2) / ((high - low) or 1.0)
    zero = 1 - low * unit
    made = []
    for name, value in values:
        end = zero + min(max(value, low), high) * unit
        kind = "rest" if last and name == last else "for" if value >= 0 else "against"
        made.append(NamedBar(name, value, round(min(zero, end), 1), round(abs(end - zero), 1), kind))
    return Bars(tuple(made), round(zero, 1))


def ends_of(values: Iterable[float]) -> tuple[float, float]:
    """A scale that all values and 0 fit on."""
    found = [0.0, *values]
    return min(found), max(found)


def scale_from(values: Sequence[Value]) -> float:
    """The lower end of a scale that all values and intervals fit on: 0, or a tenth below the least."""
    least = min((value.mean if value.low is None else value.low for value in values), default=0.0)
    return min(0.0, math.floor(least * 10) / 10)


def shade(value: float, low: float = 0.0, high: float = 1.0) -> int:
    """Which of the ``STEPS`` shades of a heat map stands for a value; what lies outside has the last shade."""
    share = (value - low) / (high - low)
    return min(STEPS - 1, max(0, math.floor(share * STEPS)))


def panel(
    name: str,
    title: str,
    curves: Mapping[str, Mapping[int, Value]],
    styles: Sequence[Style],
    severities: Sequence[int],
    low: float,
) -> Panel:
    """Curves over severities.

    Args:
        curves: Method → severity → value.
        styles: Of the methods, in their order.
        severities: All that any panel shows, ascending, at least two.
        low: Lower end of the scale; its upper end is 1.
    """

    def at_x(severity: float) -> float:
        share = (severity - severities[0]) / (severities[-1] - severities[0])
        # Room at both ends, since lines stand a little beside each other.
        return _LEFT + 12 + share * (_WIDTH - _LEFT - _RIGHT - 24)

    def at_y(value: float) -> float:
        return _TOP + (1.0 - min(max(value, low), 1.0)) / (1.0 - low) * (_HEIGHT - _TOP - _BOTTOM)

    drawn = [style for style in styles if curves.get(style.method)]
    lines = []
    for place, style in enumerate(drawn):
        beside = (place - (len(drawn) - 1) / 2) * 2.4
        points = [(at_x(s) + beside, at_y(v.mean), v) for s, v in sorted(curves[style.method].items())]
        path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
        whiskers = "".join(
            f"M{x:.1f},{at_y(v.low):.1f}V{at_y(v.high):.1f}"
            for x, _, v in points
            if v.low is not None and v.high is not None
        )
        lines.append(Line(style, path, tuple(marker(style.number, x, y) for x, y, _ in points), whiskers))
    ticks = [tick for tick in (-1.0, -0.5, 0.0, 0.5, 1.0) if tick >= low]
    return Panel(
        name,
        title,
        _in_words(curves, drawn, severities),
        tuple(lines),
        tuple((round(at_x(s), 1), f"{'severity ' if s == severities[0] else ''}{s}") for s in severities),
        tuple((round(at_y(tick), 1), number(tick, 1).removesuffix(".0")) for tick in ticks),
    )


def marker(number: int, x: float, y: float, radius: float = 3.2) -> str:
    """The path of a marker around a point."""
    l, e, t, b = x - radius, x + radius, y - radius, y + radius  # noqa: E741
    places = {"x": x, "y": y, "l": l, "e": e, "t": t, "b": b, "r": radius}
    return _MARKERS[number % COLOURS].format(**{name: f"{place:.1f}" for name, place in places.items()})


def _in_words(curves: Mapping[str, Mapping[int, Value]], styles: Sequence[Style], severities: Sequence[int]) -> str:
    parts = []
    for style in styles:
        points = sorted(curves[style.method].items())
        (first, start), end = points[0], points[-1][1]
        if len(points) == 1:
            parts.append(f"{style.method} is at {number(start.mean)} at severity {first}")
            continue
        moves = "falls" if end.mean < start.mean else "rises" if end.mean > start.mean else "stays"
        parts.append(f"{style.method} {moves} from {number(start.mean)} to {number(end.mean)}")
    return f"From severity {severities[0]} to {severities[-1]}: {'; '.join(parts)}."
