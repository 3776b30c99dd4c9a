"""What two units see and how the methods call it: top images clean and perturbed, each method's label beside them."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox, TransformedBbox
from PIL import Image, UnidentifiedImageError

from leaderboard.board.build import Standings
from leaderboard.board.merge import Condition, conditions_of
from leaderboard.store import escape
from report.figures import style
from report.figures.drawing import Drawing
from report.figures.rows import alive, closing, is_clean, severities_of, words

IMAGES: Final = 4
"""Top images of a row, at most."""

METHODS: Final = 4
"""Methods beside them, at most."""

_SIDE: Final = 0.56
_PITCH: Final = 0.6
_HEAD: Final = 0.42
_NAMES: Final = 0.9
_LETTER: Final = 0.066
_MARKS: Final = {
    True: ([(-0.04, 0.0), (-0.01, 0.035), (0.045, -0.045)], "#00614a"),
    False: ([(-0.035, -0.035), (0.035, 0.035), (0.0, 0.0), (-0.035, 0.035), (0.035, -0.035)], "#b03a00"),
}
"""A tick and a cross as lines, in inches, and their colours; drawn, as not every font has them."""


@dataclass(frozen=True)
class _Block:
    unit: int
    truth: str | None
    stability: float


@style.styled()
def gallery(standings: Standings) -> Drawing | None:
    """The most and the least stable unit of known truth, on clean images and under three perturbations.

    Units are ranked by their mean stability over the methods (without trivial baselines) and the task's own
    conditions; of equals the lower number comes first. Perturbations: the ones under which the labels are most stable,
    in the middle, and least stable on average, each at its highest own severity.

    Returns:
        None where the runs kept no images of perturbed units.
    """
    methods = standings.group.about_run.rivals(standings.group.methods)[:METHODS]
    scores = standings.own_scores
    scores = scores.loc[alive(scores) & scores["method"].isin(methods).to_numpy() & (scores["repeat"].to_numpy() == 0)]
    pictures = _pictures(standings)
    perturbed = scores.loc[~is_clean(scores)]
    conditions = [place for place in _conditions(perturbed) if any(key[:2] == place for key in pictures)]
    units = chosen_units(perturbed.loc[perturbed["unit"].isin({unit for _, _, unit in pictures}).to_numpy()])
    if not units or not conditions:
        return None
    rows = [("clean", 0), *conditions]
    blocks = [_block(perturbed, unit) for unit in units]
    height = len(blocks) * (_HEAD + len(rows) * _PITCH) + 0.05
    figure = style.figure_of(style.WIDTH, height)
    axes = style.axes_at(figure, 0, 0, style.WIDTH, height)
    axes.set_axis_off()
    axes.set(xlim=(0, style.WIDTH), ylim=(height, 0))
    labels = {
        (row["method"], row["perturbation"], row["severity"], row["unit"]): row for row in scores.to_dict("records")
    }
    top = 0.0
    for block in blocks:
        _head(axes, block, methods, style.looks(methods, standings.group.about_run), top)
        for number, place in enumerate(rows):
            y = top + _HEAD + number * _PITCH
            axes.text(0.05, y + _SIDE / 2, _place_words(place), va="center_baseline", linespacing=1.3)
            for column, file in enumerate(pictures.get((*place, block.unit), [])[:IMAGES]):
                x = _NAMES + column * _PITCH
                # Pixels as they are: smoothing would depend on the size of the figure.
                axes.imshow(_pixels(file), extent=(x, x + _SIDE, y + _SIDE, y), interpolation="nearest", aspect="auto")
            for column, method in enumerate(methods):
                row = labels.get((method, *place, block.unit))
                _label(axes, row, column, len(methods), y, block.truth is not None)
        top += _HEAD + len(rows) * _PITCH
    axes.set(xlim=(0, style.WIDTH), ylim=(height, 0))
    shown = max(len(pictures.get((*place, unit), [])[:IMAGES]) for place in rows for unit in units)
    return Drawing(figure, _caption(standings, blocks, shown), _alternative(blocks, labels, methods, rows))


def chosen_units(perturbed: pd.DataFrame) -> tuple[int, ...]:
    """The most and the least stable unit; of those whose truth is known, if any is.

    Args:
        perturbed: Rows of ``leaderboard.store.schema.SCORES``.
    """
    known = perturbed.loc[perturbed["truth"].notna().to_numpy()]
    means = cast(pd.Series, (known if len(known) else perturbed).groupby("unit")["stability"].mean()).dropna()
    # Rounded, so that equals stay equal whatever the order of summing.
    found = {int(unit): round(float(mean), 9) for unit, mean in zip(means.index, means, strict=True)}
    if not found:
        return ()
    best = min(found, key=lambda unit: (-found[unit], unit))
    return tuple(dict.fromkeys((best, min(found, key=lambda unit: (found[unit], unit)))))


def _conditions(perturbed: pd.DataFrame) -> list[Condition]:
    """Most stable, middle, least stable perturbation on average, each at its highest severity."""
    means = cast(pd.Series, perturbed.groupby("perturbation")["stability"].mean()).dropna().round(9)
    found = {str(name): float(mean) for name, mean in zip(means.index, means, strict=True)}
    ranked = sorted(found, key=lambda name: (-found[name], name))
    picked = [ranked[place] for place in dict.fromkeys((0, len(ranked) // 2, len(ranked) - 1))] if ranked else []
    severities = severities_of(conditions_of(perturbed))
    return [(name, severities[name][-1]) for name in picked]


def _pictures(standings: Standings) -> dict[tuple[str, int, int], list[bytes]]:
    """(Perturbation, severity, unit) → its top images, best first; those that were kept, as files."""
    tables = standings.group.tables
    place = ["perturbation", "severity", "image"]
    kept = tables["thumbnails"].loc[tables["thumbnails"]["repeat"].to_numpy() == 0, [*place, "webp"]]
    evidence = tables["evidence"].loc[tables["evidence"]["repeat"].to_numpy() == 0]
    joined = evidence.merge(kept, on=place).sort_values(["perturbation", "severity", "unit", "rank"], kind="stable")
    found: dict[tuple[str, int, int], list[bytes]] = {}
    for row in joined.to_dict("records"):
        found.setdefault((str(row["perturbation"]), int(row["severity"]), int(row["unit"])), []).append(row["webp"])
    return found


def _pixels(file: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The image; a grey pixel where the file is damaged."""
    try:
        with Image.open(io.BytesIO(file)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError):
        return np.full((1, 1, 3), 200, dtype=np.uint8)


def _block(perturbed: pd.DataFrame, unit: int) -> _Block:
    own = perturbed.loc[perturbed["unit"].to_numpy() == unit]
    truth = own["truth"].iloc[0]
    return _Block(unit, None if pd.isna(truth) else str(truth), float(own["stability"].mean()))


# ---- drawing: both axes are inches, y grows downwards ----


def _head(axes: Axes, block: _Block, methods: Sequence[str], looks: Mapping[str, style.Look], top: float) -> None:
    truth = "" if block.truth is None else f", truth: {style.text(block.truth, 36)}"
    axes.text(0.05, top + 0.12, f"Unit {block.unit}{truth}", va="center_baseline", fontsize=9)
    axes.text(0.05, top + 0.31, f"stability {block.stability:.2f}", va="center_baseline", color=style.MUTED)
    for column, method in enumerate(methods):
        x, width = _column(column, len(methods))
        # One text a line, so that all names stand on the rule whatever their last letters.
        lines = _wrapped(method.replace("_", " "), width, 2).split("\n")
        for number, line in enumerate(reversed(lines)):
            axes.text(x, top + 0.35 - 0.125 * number, line, va="baseline", color=looks[method].colour)
    axes.plot([0.05, style.WIDTH - 0.05], [top + 0.4] * 2, color=style.FAINT, linewidth=0.6)


def _label(axes: Axes, row: Mapping[Any, Any] | None, column: int, methods: int, y: float, known: bool) -> None:
    """The label in two lines at most, behind a tick or a cross where the truth is known."""
    x, width = _column(column, methods)
    label = None if row is None or pd.isna(row["label"]) else str(row["label"])
    if known and row is not None:
        points, colour = _MARKS[row["right"] is True]
        across, down = zip(*points, strict=True)
        axes.plot(
            [x + 0.05 + a for a in across], [y + _SIDE / 2 + 0.015 + d for d in down], color=colour, linewidth=1.3
        )
    colour = style.MUTED if label is None else style.INK
    words = axes.text(x + 0.16, y + _SIDE / 2, "", va="center_baseline", linespacing=1.2, color=colour)
    words.set_text(_wrapped("no label" if label is None else label, width - 0.16, 3))
    # Letters that are wider than most must not run into the next method's.
    words.set_clip_box(TransformedBbox(Bbox.from_extents(x, y, x + width - 0.04, y + _SIDE), axes.transData))
    words.set_clip_on(True)


def _wrapped(raw: str, width: float, lines: int) -> str:
    """Any text in at most so many lines of so many inches."""
    letters = max(6, int(width / _LETTER))
    parts = textwrap.wrap(escape.terminal(raw, 200), letters, max_lines=lines, placeholder=" …") or [""]
    return "\n".join(style.text(part, letters) for part in parts)


def _column(column: int, methods: int) -> tuple[float, float]:
    """Left edge and width of a method's labels."""
    start = _NAMES + IMAGES * _PITCH + 0.12
    width = (style.WIDTH - start) / methods
    return start + column * width, width


# ---- words ----


def _place_words(place: Condition) -> str:
    name, severity = place
    lines = textwrap.wrap(name.replace("_", " "), 13, max_lines=2, placeholder="…") or [name]
    return "\n".join([*(style.text(line, 14) for line in lines), *([f"severity {severity}"] if severity else [])])


def _caption(standings: Standings, blocks: Sequence[_Block], images: int) -> str:
    known = any(block.truth is not None for block in blocks)
    which = "The most and the least stable unit" if len(blocks) > 1 else "The one unit there is"
    marks = ", behind a tick if it names the truth and a cross if not" if known else ""
    return (
        f"{which}{' of known truth' if known else ''} among those whose images were kept, by mean stability over the "
        "methods and the task's own conditions (of equals the lower number). Rows: clean images, then the "
        f"perturbations of highest, middle and lowest mean stability; the unit's top {images} images under each, best "
        f"first, and each method's label{marks}. Trivial baselines are left out. Two units chosen by a rule "
        f"show what labels look like, not how common that is. {closing(standings)}"
    )


def _alternative(
    blocks: Sequence[_Block],
    labels: Mapping[tuple[str, str, int, int], Mapping[Any, Any]],
    methods: Sequence[str],
    rows: Sequence[Condition],
) -> str:
    said = []
    for block in blocks:
        truth = "" if block.truth is None else f" ({escape.terminal(block.truth, 60)})"
        parts = []
        for method in methods:
            own = [labels.get((method, *place, block.unit)) for place in rows]
            named = [row for row in own if row is not None and not pd.isna(row["label"])]
            if not named:
                continue
            same = sum(row["exact"] is True for row in named[1:])
            right = f", {sum(row['right'] is True for row in named)} of {len(named)} right" if block.truth else ""
            parts.append(f"{words(method)} keeps its clean label in {same} of {len(named) - 1} rows{right}")
        said.append(f"Unit {block.unit}{truth}, stability {block.stability:.2f}: {'; '.join(parts)}.")
    return " ".join(["Top images and labels of chosen units, clean and perturbed.", *said])
