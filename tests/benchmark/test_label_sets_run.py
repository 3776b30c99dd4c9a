"""The study of sets of labels: a method of known label frequencies is covered as promised, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from baselines import registry
from baselines.base import Label, UnitLabels
from baselines.set_of import SetOf
from benchmark.core.display import Display
from benchmark.core.work import Work
from benchmark.plan.count import count_run
from benchmark.plan.studies import with_studies
from benchmark.plan.tally import CountedRoles
from benchmark.studies.base import StudyInput, do_study
from benchmark.studies.label_sets.measure import DRAWS, LEVELS, REDRAWS, STUDY
from leaderboard.board.facts import RunFacts
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.label_sets import label_set_contents
from report.markdown import markdown_tables
from tasks.cache import open_cache
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.common.seeding import generator
from tasks.miniature.probing import MiniatureProbingSet
from tasks.observe import CLEAN, Condition, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.schema import load_profile

FOG = Condition("fog", 3)
IMAGES, UNITS = 24, tuple(range(2048, 2128))
SHARES = ((0.72, 0.2, 0.08), (0.85, 0.1, 0.05))
"""Shares of the draws in which the urn gives each label to a unit of even and of odd number."""

RIGHT = (1, 0)
"""Which of these labels is the truth."""


class Urn:
    """Draws a label by known shares; the images of the probing set are the seed."""

    name, version, needs = "urn", "1", frozenset()

    def __init__(self, right: dict[int, str]) -> None:
        self.right = right

    def label(self, observation, units, tools):
        found = []
        for unit in units:
            odd = unit % 2
            drawn = int(generator(0, unit, *observation.image_ids).choice(3, p=SHARES[odd]))
            text = self.right[unit] if drawn == RIGHT[odd] else f"zzz {drawn}"
            found.append(UnitLabels(unit, (Label(text, 1.0),)))
        return found


def work(*names: str, conditions: tuple[Condition, ...] = (CLEAN, FOG)) -> Work:
    return Work(load_task("resnet50_planted"), "miniature", names, conditions, 1, IMAGES, UNITS)


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> CountedRoles:
    cache = open_cache(str(tmp_path_factory.mktemp("cache")))
    return CountedRoles(load_profile("miniature"), torch.device("cpu"), cache=cache)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, roles: CountedRoles) -> pd.DataFrame:
    probing = MiniatureProbingSet("probe", IMAGES)
    planted = roles.planted("resnet50_planted")
    urn = Urn({unit: planted[unit].text for unit in UNITS})
    methods: Any = {"urn": urn, "set_of(urn)": SetOf(urn), "dnd": registry.load("dnd")}
    own = work("urn", "set_of(urn)", "dnd")
    probes: Any = {own.task.name: (probe_of(probing, masked=False), probing)}
    with RunFolder(tmp_path_factory.mktemp("sets") / "run") as folder:
        folder.create_or_continue({"test": "sets"}, {})
        given = StudyInput([[own]], methods, {own.task.name: ()}, roles, probes, 0, Settings(), Display("quiet"))
        return do_study(STUDY, folder, given)["label_sets"]


def rows(found: pd.DataFrame, **places: Any) -> pd.DataFrame:
    chosen = np.all([found[name].eq(value) for name, value in places.items()], axis=0)
    return found.loc[chosen]


def test_costly_methods_and_sets_themselves_are_left_out(found: pd.DataFrame) -> None:
    assert set(found["method"]) == {"urn"}


@pytest.mark.parametrize("condition", ["clean", "fog"])
@pytest.mark.parametrize("level", LEVELS)
def test_known_frequencies_are_covered_as_promised(found: pd.DataFrame, condition: str, level: float) -> None:
    (row,) = rows(found, kind="all", draws=DRAWS[-1], level=level, perturbation=condition).to_dict("records")
    assert row["units"] == len(UNITS)
    assert row["randomised"] == pytest.approx(level, abs=0.03)
    assert row["coverage_low"] <= row["coverage"] <= row["coverage_high"]
    # Whole labels overshoot: by how much follows from the shares, where no level lies close to one of their sums.
    if level == LEVELS[0]:
        expected = np.mean([shares[0] for shares in SHARES])
        assert row["coverage_low"] - 0.01 <= expected <= row["coverage_high"] + 0.01
        assert (row["size"], row["one_label"]) == (1, 1)
        assert row["truth"] == row["first_right"] == 0.5


def test_sets_grow_with_the_level_and_hold_the_truth_more_often(found: pd.DataFrame) -> None:
    own = rows(found, kind="all", draws=DRAWS[-1], perturbation="clean").sort_values("level")
    for measure in ("coverage", "randomised", "truth", "size"):
        assert own[measure].is_monotonic_increasing
    assert own["one_label"].is_monotonic_decreasing
    assert own["first_right"].nunique() == 1
    assert own["truth"].iloc[-1] == 1


def test_fewer_draws_are_given_for_all_units_together(found: pd.DataFrame) -> None:
    assert set(found["draws"]) == set(DRAWS)
    assert set(rows(found, draws=DRAWS[0])["kind"]) == {"all"}
    kinds = rows(found, draws=DRAWS[-1], level=0.9, perturbation="clean").set_index("kind")
    assert set(kinds.index) == {"all", "single", "and", "or"}
    assert kinds["units"].drop("all").sum() == kinds.loc["all", "units"]


def test_tables_show_the_rows(found: pd.DataFrame) -> None:
    levels, conditions, draws = label_set_contents(found, RunFacts(note="Measured in a garden."))
    (row,) = rows(found, kind="all", draws=DRAWS[-1], level=0.9, perturbation="clean").to_dict("records")
    shown = {one.name: one.cells for one in levels.sections[0].rows}
    assert [cell.value for cell in shown["90 %"]] == [
        row[name] for name in ("coverage", "randomised", "truth", "first_right", "size", "one_label")
    ]
    assert [one.name for one in conditions.rows] == ["clean", "fog 3"]
    assert conditions.rows[0].cells[0].value == row["coverage"]
    assert [int(one.cells[0].value) for one in draws.rows] == [*DRAWS]
    assert "Measured in a garden." in markdown_tables([levels])


def test_a_run_without_a_method_to_repeat_is_refused(roles: CountedRoles) -> None:
    STUDY.check([[work("dnd", "clip_dissect")]], roles)
    with pytest.raises(UserError, match="add one to --methods, for example clip_dissect"):
        STUDY.check([[work("dnd", "set_of(clip_dissect)")]], roles)


def test_the_plan_counts_every_labelling_of_the_methods_that_are_repeated(roles: CountedRoles, tmp_path: Path) -> None:
    own = work("csp", "dnd")
    methods = {name: registry.load(name) for name in own.methods}
    count = count_run([[own]], methods, roles.profile, "none")
    (study,) = with_studies(count, [STUDY], [[own]], methods, roles, RunFolder(tmp_path)).studies
    assert {name: times for name, (times, _) in study.labellings.items()} == {"csp": 2 * (DRAWS[-1] + REDRAWS)}
    assert study.counts.generated.most == 0
    assert study.counts.target.most == study.counts.clip.most == 2 * IMAGES
