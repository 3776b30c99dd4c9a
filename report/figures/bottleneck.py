"""Single decisions of a concept bottleneck as bar charts: what each concept adds, clean and perturbed side by side."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image, UnidentifiedImageError

from leaderboard.board.bottleneck_decisions import CONCEPTS, Panel, panels
from leaderboard.board.facts import RunFacts
from report.figures import style
from report.figures.drawing import Drawing

FLIPS: Final = 3
"""Flipped decisions of a figure, at most."""

_BAR: Final = 0.15
_HEAD: Final = 0.34
_GAP: Final = 0.16
_FOOT: Final = 0.3
_PICTURE: Final = 0.68
_SIDE: Final = 0.62
_NAMES: Final = 1.16
_HALF: Final = style.WIDTH / 2
_FOR, _AGAINST = "#0072B2", "#D55E00"


@style.styled()
def decision_figures(
    decisions: pd.DataFrame, thumbnails: pd.DataFrame, facts: RunFacts
) -> dict[tuple[str, str], Drawing]:
    """One figure a task: decisions that stay, and decisions that flip, those on the clean and the perturbed image.

    Args:
        decisions: Rows of ``leaderboard.store.schema.DECISIONS``.
        thumbnails: Rows of ``leaderboard.store.schema.THUMBNAILS``; charts without theirs have no picture.

    Returns:
        Task and profile → the figure.
    """
    pictures = {
        (row["task"], row["profile"], row["image"], row["perturbation"], row["severity"]): row["webp"]
        for row in thumbnails.to_dict("records")
    }
    drawn = {}
    for task, profile in sorted(set(zip(decisions["task"].tolist(), decisions["profile"].tolist(), strict=True))):
        own = decisions.loc[((decisions["task"] == task) & (decisions["profile"] == profile)).to_numpy()]
        mine = {key[2:]: value for key, value in pictures.items() if key[:2] == (task, profile)}
        drawn[task, profile] = _drawing(own, " ".join([_caption(task), *facts.notes]), mine)
    return drawn


def _drawing(own: pd.DataFrame, caption: str, pictures: Mapping[tuple[str, str, int], bytes]) -> Drawing:
    rows = panels(own, FLIPS)
    chart = _BAR * (CONCEPTS + 1)
    pitch = _HEAD + chart + _GAP
    height = len(rows) * pitch + _FOOT
    figure = style.figure_of(style.WIDTH, height)
    values = [value for row in rows for panel in row for _, value in panel.bars()] or [0.0]
    reach = (min(0.0, *values) * 1.08, max(0.1, *values) * 1.35)
    for place, row in enumerate(rows):
        bottom = height - (place + 1) * pitch + _GAP
        for side, panel in enumerate(row):
            left = side * _HALF
            axes = style.axes_at(figure, left + _PICTURE + _NAMES, bottom, _HALF - _PICTURE - _NAMES - 0.1, chart)
            axes.set_label(" ".join(map(str, (panel.told["image"], *panel.condition))))
            _bars(axes, panel.bars(), reach, last=place == len(rows) - 1)
            webp = pictures.get((str(panel.told["image"]), *panel.condition))
            if webp is not None:
                _picture(style.axes_at(figure, left + 0.02, bottom + chart - _SIDE, _SIDE, _SIDE), webp)
            where = ((left + 0.02) / style.WIDTH, (bottom + chart + 0.1) / height)
            figure.text(*where, _title(panel), fontsize=8, weight="bold")
    return Drawing(figure, caption, _alternative(rows))


def _title(panel: Panel) -> str:
    """Condition, decision, and whether it is right."""
    words = " ".join(str(part) for part in panel.condition if part)
    right = "right" if panel.right else f"wrong: {panel.told['truth']}"
    return f"{style.title_of(words)}: {style.text(panel.decision)} ({style.text(right)})"


def _bars(axes: Axes, shown: Sequence[tuple[str, float]], reach: tuple[float, float], last: bool) -> None:
    places = np.arange(len(shown))
    values = [value for _, value in shown]
    axes.barh(places, values, color=[_FOR if value >= 0 else _AGAINST for value in values], height=0.7)
    axes.axvline(0, color=style.MUTED, linewidth=0.6)
    axes.set_yticks(places, [style.text(name, 22) for name, _ in shown])
    axes.set_ylim(CONCEPTS + 0.6, -0.6)
    axes.set_xlim(*reach)
    axes.tick_params(axis="y", length=0)
    for place, value in enumerate(values):
        axes.annotate(
            f"{value:+.1f}",
            (max(value, 0.0), place),
            (2, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=style.SMALL - 1,
            color=style.MUTED,
        )
    axes.spines["left"].set_visible(False)
    if last:
        axes.set_xlabel("added to the logit", loc="left", labelpad=1)
    else:
        axes.tick_params(axis="x", labelbottom=False)


def _picture(axes: Axes, webp: bytes) -> None:
    axes.set_axis_off()
    try:
        axes.imshow(np.asarray(Image.open(io.BytesIO(webp)).convert("RGB")))
    except (OSError, UnidentifiedImageError):
        axes.text(0.5, 0.5, "?", ha="center", va="center", transform=axes.transAxes)


def _caption(task: str) -> str:
    return (
        f"Single decisions of the concept bottleneck of {task}: what each concept adds to the logit of the class that "
        f"is decided (blue for, orange against), its weight times its activation; the {CONCEPTS} strongest, the others "
        "together. NOT: the concept is less present than in a usual training image. On top decisions on clean images; "
        "then left the clean image and right the same image under a perturbation that flips the decision, an image "
        "that came first, not picked by eye."
    )


def _alternative(rows: Sequence[Sequence[Panel]]) -> str:
    found = []
    for panel in (panel for row in rows for panel in row):
        told = panel.told
        if told["perturbation"] == "clean":
            (name, value), *_ = [*panel.bars(), ("nothing", 0.0)]
            found.append(f"A clean image is called {panel.decision}, most for {name} ({value:+.1f}).")
        elif panel.perturbed:
            most = panel.part.sort_values(["moved", "concept"], ascending=[False, True]).iloc[0].to_dict()
            words = " ".join(str(part) for part in panel.condition if part).replace("_", " ")
            found.append(
                f"Under {words} a decision moves from {told['clean_decision']} to {panel.decision}, mostly because of "
                f"{most['concept']} ({most['moved']:+.1f})."
            )
    return " ".join(found)
