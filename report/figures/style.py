"""How every figure looks: one setting of Matplotlib, one look a method, and text that cannot act as markup."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.lines import Line2D

from leaderboard.board.facts import RunFacts
from leaderboard.board.names import COLOURS, FLOOR_MARKS, bare
from leaderboard.store import escape

WIDTH: Final = 6.5
"""Text width of a LaTeX page, inches."""

INK: Final = "#222222"
FAINT: Final = "#d9d9d9"
MUTED: Final = "#767676"

SMALL: Final = 7.0
"""Points; for ticks and numbers in cells. All else has 8."""

_LEGEND_COLUMNS: Final = 5

_SETTINGS: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    # As in the tables; one more subset of the font would take longer than drawing most figures.
    "axes.unicode_minus": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.2,
    "figure.dpi": 200,
    # Type 3 fonts are refused by some publishers; 42 is TrueType.
    "pdf.fonttype": 42,
}

# Okabe and Ito's colours, which stay apart for the colour-blind; their yellow is lost on white. The methods that come
# with CLEAR have theirs by name.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "p", "*", "h")
_DASHES: Final = ("solid", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
_FLOOR: Final = "#8c8c8c"
_FLOOR_MARKERS: Final = (("x", (0, (1, 1.5))), ("+", (0, (4, 2))), ("1", (0, (1, 3))), ("2", (0, (6, 2, 1, 2))))


@dataclass(frozen=True)
class Look:
    """How a method is drawn everywhere.

    Attributes:
        colour: As ``#rrggbb``.
        floor: Thin, grey and without intervals.
    """

    colour: str
    marker: str
    dash: Any
    floor: bool = False


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw with these settings whatever the user's own are, and put those back; also a decorator."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def looks(methods: Iterable[str], facts: RunFacts) -> dict[str, Look]:
    """Each method's look, by its name alone, so that it is the same in every figure.

    A method with options has the colour of the method, and a marker and dash of its own. Only where two methods that
    CLEAR does not know would look alike in one figure, the later one by name gets the next free marker.
    """
    found: dict[str, Look] = {}
    for name in sorted(set(methods)):
        number = _number(name)
        if facts.is_floor(name):
            others = len(_FLOOR_MARKERS) - len(FLOOR_MARKS)
            mark = _FLOOR_MARKERS[FLOOR_MARKS.get(name, len(FLOOR_MARKS) + number % others)]
            found[name] = Look(_FLOOR, *mark, floor=True)
            continue
        place = COLOURS.get(bare(name), len(COLOURS) + number % (len(_COLOURS) - len(COLOURS)))
        colour = _COLOURS[place]
        if name not in COLOURS:
            taken = {look.marker for look in found.values() if look.colour == colour}
            others = range(len(COLOURS), len(_MARKERS))
            turned = [others[(number // 7 + step) % len(others)] for step in range(len(others))]
            place = next((choice for choice in turned if _MARKERS[choice] not in taken), turned[0])
        found[name] = Look(colour, _MARKERS[place], _DASHES[place % len(_DASHES)])
    return found


def text(raw: str, limit: int = 28) -> str:
    """Any text for one line of a figure: clipped, without markup, and with characters that the font has."""
    shown = escape.terminal(raw, limit)
    return escape.mpl("".join(c if ord(c) in _glyphs() else "\ufffd" for c in shown))


def title_of(name: str, limit: int = 28) -> str:
    """A name as words."""
    return text(name.replace("_", " ").strip() or name, limit)


def method_title(method: str, facts: RunFacts, limit: int = 28) -> str:
    """A method's name as words, marked if it is a trivial baseline."""
    return f"{title_of(method, limit)} (trivial)" if facts.is_floor(method) else title_of(method, limit)


def names_width(names: Iterable[str]) -> float:
    """Inches for a column of names as words, of 8 points."""
    return 0.1 + 0.065 * max(len(title_of(name)) for name in names)


def figure_of(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    return Figure(figsize=(width, height))


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def grid(axes: Axes, axis: Literal["both", "x", "y"] = "both") -> None:
    """Faint lines behind everything."""
    axes.grid(axis=axis, color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)


def legend_height(methods: int) -> float:
    """Inches that ``legend_above`` takes."""
    return 0.06 + 0.17 * math.ceil(methods / _LEGEND_COLUMNS)


def legend_above(figure: Figure, methods: Sequence[str], facts: RunFacts, line: bool = True) -> None:
    """Line, marker and name of the methods at the top of the figure.

    Args:
        methods: In order.
        line: Whether the figure has lines; else the legend has markers only.
    """
    found, up = looks(methods, facts), figure.get_figheight()
    figure.legend(
        [handle(found[name], line) for name in methods],
        [method_title(name, facts) for name in methods],
        loc="upper center",
        bbox_to_anchor=(0.5, 1 - 0.03 / up),
        ncols=min(_LEGEND_COLUMNS, len(methods)),
        borderaxespad=0.0,
        borderpad=0.0,
        handlelength=2.4 if line else 0.8,
        columnspacing=1.2,
        handletextpad=0.5,
        labelspacing=0.4,
    )


def handle(look: Look, line: bool = True) -> Line2D:
    """The method's entry in a legend."""
    return Line2D(
        [],
        [],
        color=look.colour,
        linestyle=look.dash if line else "none",
        marker="" if look.floor and line else look.marker,
        linewidth=0.8 if look.floor else 1.2,
        markersize=4 if line else 6,
    )


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode(errors="replace")).digest()[:6], "big")


@functools.cache
def _glyphs() -> frozenset[int]:
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return frozenset(FT2Font(str(path)).get_charmap())
