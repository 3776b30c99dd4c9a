"""Cue conflict: units planted to follow one cue are distinguished, and so are labels that name one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from baselines.base import Label, UnitLabels
from benchmark.core.display import Display
from benchmark.core.work import Work
from benchmark.studies.base import StudyInput, do_study
from benchmark.studies.cue_conflict import measure
from benchmark.studies.cue_conflict.measure import STUDY, Followed, named
from leaderboard.board.facts import RunFacts
from leaderboard.store.run_folder import RunFolder
from leaderboard.view import cue_conflict as view
from report.markdown import markdown_tables
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.miniature.conflict import CUES, Cue, conflict_set, swapped_values, tied_values
from tasks.miniature.vocabulary import CONCEPTS, SYNONYMS
from tasks.observation import Observation
from tasks.observe import CLEAN, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

IMAGES = 40
UNITS = tuple(
    CONCEPTS.index(name) for name in ("circle", "fish", "car", "red", "green", "pink", "striped", "brick wall")
)


def planted(cue: Cue, texture: bool, seed: int = 0) -> list[Followed]:
    """What units follow that are planted to follow each kind, or each value, with some noise."""
    crossed = conflict_set(cue, "crossed", 160, 0)
    pairs = tied_values(cue)
    wanted = [crossed.concepts.index(name) for name in (pairs.values() if texture else pairs)]
    noise = np.random.default_rng(seed).normal(0, 0.3, (len(crossed), len(pairs)))
    return Followed.of(crossed.presence[:, wanted] + noise, crossed, cue)


@pytest.mark.parametrize("cue", CUES)
def test_a_network_planted_to_follow_texture_is_told_from_one_that_follows_shape(cue: Cue) -> None:
    pairs = tied_values(cue)
    for texture, follows in ((False, "kind"), (True, "value")):
        found = planted(cue, texture)
        assert [one.follows for one in found] == [follows] * len(pairs)
        assert [one.kind for one in found] == [*pairs]
        assert [one.value for one in found] == [*pairs.values()]


def test_units_that_follow_both_or_nothing_are_not_decided() -> None:
    crossed = conflict_set("colour", "crossed", 200, 0)
    kinds, values = (crossed.presence[:, crossed.concepts.index(name)] for name in ("fish", "green"))
    noise = np.random.default_rng(0).normal(size=len(crossed))
    both = np.where(kinds, 1.0, 0.0) + np.where(values, 1.0, 0.0) + noise / 100
    found = Followed.of(np.stack([both, noise], axis=1), crossed, "colour")
    assert [one.follows for one in found] == ["undecided", "neither"]
    assert (found[0].kind, found[0].value) == ("fish", "green")


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("a crimson fish", "kind"),
        ("violet things", "value"),
        ("purple fish", "both"),
        ("a dog", "neither"),
        (None, "neither"),
    ],
)
def test_labels_name_one_cue_or_the_other(label: str | None, expected: str) -> None:
    assert named(label, "fish", "purple", SYNONYMS) == expected


class Follower:
    """Says what a class unit is; but of colours, the kind that has them on the images."""

    version, needs = "1", frozenset()

    def __init__(self, kinds_only: bool) -> None:
        self.kinds_only = kinds_only

    def label(self, observation: Observation, units: Any, tools: Any) -> list[UnitLabels]:
        return [UnitLabels(unit, (Label(self._text(observation, unit), 1.0),), ()) for unit in units]

    def _text(self, observation: Observation, unit: int) -> str:
        shown = observation.presence
        assert shown is not None
        if not self.kinds_only:
            return CONCEPTS[unit]
        with_it = shown.shown[shown.shown[:, unit]].mean(axis=0)
        return next(name for name in tied_values("colour") if with_it[shown.concepts.index(name)] == with_it[:12].max())


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


def work(images: int = IMAGES) -> Work:
    task = load_task("resnet50_fc").model_copy(update={"model": "resnet18"})
    return Work(task, "miniature", (), (CLEAN,), 2, images, UNITS)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, roles: Roles) -> dict[str, pd.DataFrame]:
    mine = work()
    probing = roles.probing_set(mine.task.probing_set, IMAGES, roles.view(mine.task.model))
    methods: Any = {"honest": Follower(kinds_only=False), "kinds": Follower(kinds_only=True)}
    probes: Any = {mine.task.name: (probe_of(probing, masked=False), probing)}
    given = StudyInput([[mine]], methods, {mine.task.name: CONCEPTS}, roles, probes, 0, Settings(), Display("quiet"))
    with RunFolder(tmp_path_factory.mktemp("cue") / "run") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "CUES", ("colour",))
        folder.create_or_continue({"test": 1}, {})
        return do_study(STUDY, folder, given)


def test_class_units_follow_what_they_are_named_after(found: dict[str, pd.DataFrame]) -> None:
    units = found["cue_units"].set_index(["cue", "unit"])["follows"]
    for name, follows in (("circle", "kind"), ("fish", "kind"), ("red", "value"), ("green", "value")):
        assert units.loc["colour", CONCEPTS.index(name)] == follows


def test_labels_are_counted_by_the_cue_that_they_name(found: dict[str, pd.DataFrame]) -> None:
    own = found["cue_labels"].set_index(["method", "arrangement", "unit"]).sort_index()
    red, fish = CONCEPTS.index("red"), CONCEPTS.index("fish")
    for arrangement in ("tied", "swapped"):
        assert own.loc[("honest", arrangement, red), "named"] == "value"
        assert own.loc[("honest", arrangement, fish), "named"] == "kind"
        assert not own.loc[("honest", "swapped", red), "along"]
    # Where red belongs to the circle, a label that names the circle looks right; swapped, it names what came along.
    assert tied_values("colour")["circle"] == "red"
    assert own.loc[("kinds", "tied", red), "label"] == "circle"
    assert own.loc[("kinds", "tied", red), "named"] == "kind"
    (other,) = (kind for kind, value in swapped_values("colour", 0).items() if value == "red")
    assert own.loc[("kinds", "swapped", red), "label"] == other
    assert own.loc[("kinds", "swapped", red), "named"] == "neither"
    assert own.loc[("kinds", "swapped", red), "along"]


def test_the_network_itself_decides(found: dict[str, pd.DataFrame]) -> None:
    network = found["cue_network"]
    assert len(network) == IMAGES
    assert (network["value"] == network["kind"].map(swapped_values("colour", 0))).all()
    assert 0 < network["follows_kind"].mean() < 1


def test_the_table_gives_shares_where_enough_units_are_decided(
    found: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = found["cue_units"], found["cue_labels"], found["cue_network"]
    (few,) = view.cue_conflict_contents(*tables, RunFacts())
    assert [[row.name for row in section.rows] for section in few.sections] == [["network, swapped"]]
    assert "fewer than the 20" in few.sections[0].title
    monkeypatch.setattr(view, "FEWEST", 1)
    (table,) = view.cue_conflict_contents(*tables, RunFacts())
    (section,) = table.sections
    honest, kinds, network = section.rows
    follows = found["cue_units"]["follows"]
    own = (follows == "kind").sum() / follows.isin(["kind", "value"]).sum()
    assert [cell.value for cell in honest.cells] == pytest.approx([own, own, 0, 0, 0, 1, 0])
    assert kinds.cells[0].value == 1
    assert kinds.cells[2].value == pytest.approx(1 - own)
    assert kinds.cells[3].value == pytest.approx(1 - own)
    assert network.cells[0].value == pytest.approx(found["cue_network"]["follows_kind"].mean())
    assert "What labels follow" in markdown_tables([table])


def test_photographs_and_small_sets_are_refused(roles: Roles) -> None:
    STUDY.check([[work()]], roles)
    with pytest.raises(UserError, match="use at least 20 with --images"):
        STUDY.check([[work(images=19)]], roles)
    photographs: Any = type("R", (), {"profile": roles.profile.model_copy(update={"vocabulary": None})})()
    with pytest.raises(UserError, match="draws scenes of its own"):
        STUDY.check([[work()]], photographs)
