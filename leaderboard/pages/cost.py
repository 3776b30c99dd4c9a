"""The chart of right labels against what they cost, for the page of a task."""

from __future__ import annotations

import math
from collections.abc import Sequence

from leaderboard.board.cost import Cost, costs
from leaderboard.board.merge import Group
from leaderboard.pages.charts import Line, Panel, Style, marker
from leaderboard.view.words import listed, printed

_WIDTH, _HEIGHT = 420.0, 210.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 42.0, 16.0, 8.0, 24.0
_APART = 5.0


def cost_panel(group: Group, styles: Sequence[Style]) -> Panel | None:
    """Accuracy against seconds per label on a logarithmic axis.

    Each method has a larger mark on clean images, to the right, and a smaller one in the mean over the perturbed
    conditions, joined by a line.

    Returns:
        None where no truth or no time is known.
    """
    found = {one.method: one for one in costs(group.summary, group.about_run, group.task, group.profile)}
    if not found:
        return None
    times = [one.seconds for one in found.values()]
    least, most = (math.floor(math.log10(time)) for time in (min(times), max(times)))
    most += 1

    def at_x(seconds: float) -> float:
        share = (math.log10(seconds) - least) / (most - least)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def at_y(accuracy: float) -> float:
        return _TOP + (1.0 - accuracy) * (_HEIGHT - _TOP - _BOTTOM)

    lines = []
    for style in styles:
        if style.method in found:
            one = found[style.method]
            points = [
                (at_x(one.seconds) + side, at_y(own.estimate), radius, own)
                for name, side, radius in (("perturbed", -_APART, 2.4), ("clean", _APART, 4.2))
                if not math.isnan((own := one.accuracy[name]).estimate)
            ]
            path = "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y, *_ in points)
            whiskers = "".join(
                f"M{x:.1f},{at_y(own.low):.1f}V{at_y(own.high):.1f}" for x, _, _, own in points if own.low == own.low
            )
            marks = tuple(marker(style.number, x, y, radius) for x, y, radius, _ in points)
            lines.append(Line(style, path, marks, whiskers))
    ticks = tuple(
        (round(at_x(10.0**power), 1), f"{10.0**power:g}{' s' if power == most else ''}")
        for power in range(least, most + 1)
    )
    return Panel(
        "cost-panel",
        "accuracy against seconds per label",
        _words([found[style.method] for style in styles if style.method in found]),
        tuple(lines),
        ticks,
        tuple((round(at_y(tick), 1), f"{tick:g}") for tick in (0.0, 0.5, 1.0)),
        _WIDTH,
        _HEIGHT,
    )


def _words(found: Sequence[Cost]) -> str:
    said = (
        f"{one.method} takes {one.seconds:.2g} seconds per label and reaches {printed(one.accuracy['clean'].estimate)} "
        f"clean, {printed(one.accuracy['perturbed'].estimate)} perturbed"
        for one in found
    )
    front = listed(one.method for one in found if one.front)
    return f"{'; '.join(said)}. On the Pareto front: {front or 'none'}."
