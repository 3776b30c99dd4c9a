"""Attack on the probing set: what the tables say."""

from __future__ import annotations

from typing import Final, cast

import numpy as np
import pandas as pd
from jaxtyping import Float

from leaderboard.board.facts import RunFacts
from leaderboard.board.intervals import difference_interval, share_interval
from leaderboard.view.content import Cell, Row, Section, Table, cell_of
from leaderboard.view.words import percent, printed
from metrics.statistics import Interval

_COLUMNS: Final = (
    "right → wrong",
    "by noise",
    "difference",
    "wrong → right",
    "changed",
    "changed by noise",
    "target's label",
)


def probing_attack_contents(labels: pd.DataFrame, attacks: pd.DataFrame, facts: RunFacts) -> list[Table]:
    """One table per task and profile.

    Args:
        labels: Rows of ``leaderboard.store.analysis_schema.ATTACKED_LABELS``.
        attacks: Rows of ``leaderboard.store.analysis_schema.ATTACKS``.
        facts: Of their run.
    """
    found = []
    for place, own in labels.groupby(["task", "profile"]):
        task, profile = cast(tuple[str, str], place)
        sections = tuple(_section(str(name), rows, facts.seed) for name, rows in own.groupby("method"))
        rows = attacks.loc[((attacks["task"] == task) & (attacks["profile"] == profile)).to_numpy()]
        found.append(
            Table(
                "probing_attack",
                task,
                profile,
                "Labels turned by an attack on the probing images",
                "by the share of attacked images",
                None,
                "Share",
                _COLUMNS,
                sections,
                (*_notes(rows), *facts.notes),
            )
        )
    return found


def _section(method: str, rows: pd.DataFrame, seed: int) -> Section:
    again = rows.loc[(rows["images"] == "again").to_numpy()]
    found = [_row(percent(float(cast(float, share))), own, seed) for share, own in rows.groupby("share") if share]
    right = int(np.nansum(_flags(again["clean_right"])))
    counted = f"{method}, {len(again)} units, {right} of them right when clean"
    nothing = Cell()
    repeat = Row("clean repeat", (*(nothing,) * 4, cell_of(_share(again["changed"], seed)), nothing, nothing))
    return Section((*found, repeat), counted)


def _row(name: str, rows: pd.DataFrame, seed: int) -> Row:
    attack, noise = (rows.loc[(rows["images"] == arm).to_numpy()].sort_values("unit") for arm in ("attack", "noise"))
    lost, lost_by_noise = (
        np.where(_flags(own["clean_right"]) == 1, 1 - _flags(own["right"]), np.nan) for own in (attack, noise)
    )
    won = np.where(_flags(attack["clean_right"]) == 0, _flags(attack["right"]), np.nan)
    return Row(
        name,
        (
            cell_of(share_interval(lost, seed)),
            cell_of(share_interval(lost_by_noise, seed)),
            cell_of(difference_interval(lost, lost_by_noise, seed)),
            cell_of(share_interval(won, seed)),
            cell_of(_share(attack["changed"], seed)),
            cell_of(_share(noise["changed"], seed)),
            cell_of(_share(attack["reached"], seed)),
        ),
    )


def _share(flags: pd.Series, seed: int) -> Interval:
    return share_interval(_flags(flags), seed)


def _flags(column: pd.Series) -> Float[np.ndarray, " rows"]:
    """1 for true, 0 for false, NaN where absent."""
    return column.astype("float64").to_numpy()


def _notes(attacks: pd.DataFrame) -> tuple[str, ...]:
    moved = attacks.loc[(attacks["largest_change"] > 0).to_numpy()]
    stuck = len(attacks) - len(moved)
    lowered, raised, lowered_by_noise, raised_by_noise = (
        printed(float(moved[name].mean())) for name in ("lowered", "raised", "lowered_by_noise", "raised_by_noise")
    )
    with_masks = bool(attacks["source_concept"].notna().any())
    masks = " Only images and pixels of the two units' concepts count, by Network Dissection." if with_masks else ""
    return (
        "Half of the attacked images are the unit's strongest, whose activation is lowered, half are those of another "
        f"unit, whose activation is raised (projected gradient).{masks} Noise: the same images, each value changed by "
        "as much, up or down at random.",
        f"Largest change: {int(attacks['largest_change'].to_numpy().max())} grey levels; PSNR at least "
        f"{printed(float(moved['psnr'].min()), 1)} dB. Mean change of activation, in standard deviations: {lowered} "
        f"and {raised}; by noise {lowered_by_noise} and {raised_by_noise}."
        + (f" Units that could not be attacked, because their gradient is 0: {stuck}." if stuck else ""),
        "Right → wrong: share of the right clean labels that are no longer right (difference: paired); wrong → right: "
        "of the wrong ones. Target's label: the label is the clean one of the other unit. 95 % intervals over units "
        "(Wilson; difference: bootstrap).",
    )
