"""The crossed design of the study variance: what it labels, what it costs, and whose share is what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from baselines.base import Label, UnitLabels
from baselines.costs import NOTHING, Amount, pass_alone
from benchmark.core.display import Display
from benchmark.core.work import Work
from benchmark.plan.count import count_run
from benchmark.plan.studies import with_studies
from benchmark.plan.tally import CountedRoles
from benchmark.studies.base import StudyInput, do_study
from benchmark.studies.variance.measure import SEVERITIES, STUDY, concept_draws, halves, perturbations_of
from leaderboard.board.facts import RunFacts
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.variance import EFFECTS, variance_contents
from report.markdown import markdown_tables
from tasks.cache import open_cache
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.miniature.probing import MiniatureProbingSet
from tasks.observation import Observation, Toolbox
from tasks.observe import CLEAN, Condition, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.schema import load_profile

FOG, BLUR, NOISE, PART = (Condition(name, 3) for name in ("fog", "gaussian_blur", "shot_noise", "background_blur"))
IMAGES, UNITS = 24, (1, 2, 3, 4, 5, 6)
CONCEPTS = ("red", "blue", "dog", "cat", "tree", "house")


class Told:
    """Labels a unit by what it is told to read of a cell."""

    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[str]] = frozenset()
    cost = pass_alone

    def __init__(self, name: str, *reads: str) -> None:
        self.name: Any = name
        self.reads = reads
        self.asks = {"concepts"} if "concepts" in reads else ()
        self.seen: list[tuple[Any, ...]] = []

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        own = {
            "seed": tools.seed,
            "images": observation.image_ids[0],
            "perturbation": observation.condition,
            "severity": observation.severity,
            "concepts": tools.concepts[0],
        }
        self.seen.append(tuple(own.values()))
        said = " ".join(str(own[name]) for name in self.reads)
        return [UnitLabels(unit, (Label(f"{said} {unit}", 1.0),)) for unit in units]


class Forgetful(Told):
    """Names no unit but the first ones under fog."""

    def label(self, observation: Observation, units: Sequence[int], tools: Toolbox) -> list[UnitLabels]:
        found = super().label(observation, units, tools)
        kept = 4 if observation.condition == "fog" else len(units)
        return [*found[:kept], *(UnitLabels(unit, ()) for unit in units[kept:])]


def work(*conditions: Condition, methods: tuple[str, ...] = ()) -> Work:
    return Work(load_task("resnet18_layer4"), "miniature", methods, (CLEAN, *conditions), 1, IMAGES, UNITS)


METHODS = {
    "seeded": Told("seeded", "seed"),
    "constant": Told("constant"),
    "condition": Told("condition", "perturbation", "severity"),
    "chooser": Told("chooser", "concepts", "images"),
    "forgetful": Forgetful("forgetful", "seed"),
}


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> CountedRoles:
    cache = open_cache(str(tmp_path_factory.mktemp("cache")))
    return CountedRoles(load_profile("miniature"), torch.device("cpu"), cache=cache)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, roles: CountedRoles) -> pd.DataFrame:
    probing, own = MiniatureProbingSet("probe", IMAGES), work(FOG, BLUR, methods=tuple(METHODS))
    probes: Any = {own.task.name: (probe_of(probing, masked=False), probing)}
    given = StudyInput(
        [[own]], METHODS, {own.task.name: CONCEPTS}, roles, probes, 7, Settings(), Display("quiet")
    )  # fmt: skip
    with RunFolder(tmp_path_factory.mktemp("variance") / "run") as folder:
        folder.create_or_continue({"test": "variance"}, {})
        return do_study(STUDY, folder, given)["variance"]


def value(found: pd.DataFrame, method: str, measure: str, effect: str, space: str = "string") -> float:
    row = found.loc[
        (found["method"] == method) & (found["measure"] == measure) & (found["effect"] == effect)
        & (found["space"] == space)
    ]  # fmt: skip
    return float(row["value"].item())


def test_shares_sum_to_one_in_every_space(found: pd.DataFrame) -> None:
    shares = found.loc[(found["measure"] == "share") & (found["method"] != "constant")]
    sums = shares.groupby(["method", "space"])["value"].sum()
    assert len(sums) == 4 * 3
    assert sums.to_numpy() == pytest.approx(1)


def test_a_method_that_reads_one_factor_has_all_its_variance_there(found: pd.DataFrame) -> None:
    for space in ("clip", "sentence", "string"):
        assert value(found, "seeded", "share", "seed", space) == pytest.approx(1)
        # Labels that no perturbation changes: nothing at all, with an interval of no width.
        assert value(found, "seeded", "total", "perturbation or severity", space) == pytest.approx(0, abs=1e-9)
    assert value(found, "seeded", "variance", "all") == pytest.approx(1)
    assert value(found, "condition", "total", "perturbation or severity") == pytest.approx(1)
    assert value(found, "condition", "total", "images") == pytest.approx(0, abs=1e-9)


def test_a_factor_that_a_method_does_not_use_has_no_row(found: pd.DataFrame) -> None:
    effects = {name: set(own["effect"]) for name, own in found.groupby("method")}
    assert "concepts" in effects["chooser"]
    assert "concepts" not in effects["seeded"]
    assert value(found, "chooser", "total", "concepts") > 0.3


def test_units_without_a_label_in_some_cell_are_left_out(found: pd.DataFrame) -> None:
    own = found.set_index("method").loc["forgetful"]
    assert set(own["units"]) == {4}
    assert set(own["left_out"]) == {2}


def test_labels_that_never_differ_have_no_shares(found: pd.DataFrame) -> None:
    assert value(found, "constant", "variance", "all") == 0
    assert np.isnan(value(found, "constant", "share", "seed"))


def test_every_cell_is_labelled_once_and_the_plan_says_so(found: pd.DataFrame, roles: CountedRoles) -> None:
    chooser, seeded = METHODS["chooser"].seen, METHODS["seeded"].seen
    # Clean, and two perturbations at two severities; two seeds and two halves of the images.
    assert len(seeded) == len(set(seeded)) == (1 + 2 * 2) * 2 * 2
    assert len(chooser) == 2 * len(seeded)
    assert {cell[3] for cell in seeded} == set(SEVERITIES)
    counts = found.groupby("method")["labellings"].first()
    assert (counts["chooser"], counts["seeded"]) == (len(chooser), len(seeded))
    names = ("clip_dissect", "dnd")
    own = work(FOG, BLUR, methods=names)
    (cost,) = STUDY.costs([[own]], roles)
    assert cost.work.methods == ("clip_dissect",)
    assert cost.labellings == (len(chooser), 1)
    assert cost.read == cost.embedded == Amount.of((1 + 2 * 2 * 2) * IMAGES)
    methods: Any = dict.fromkeys(names, METHODS["chooser"])
    count = with_studies(
        count_run([[own]], methods, roles.profile, "none"), [STUDY], [[own]], methods, roles, RunFolder(Path("none"))
    )
    (study,) = count.studies
    assert study.counts.target == cost.read
    assert study.counts.generated == NOTHING


def test_tables_have_every_effect_and_a_dash_where_a_factor_is_not_used(found: pd.DataFrame) -> None:
    tables = variance_contents(found, RunFacts())
    assert [table.kind for table in tables] == ["variance_clip", "variance_sentence", "variance_string"]
    shares = {row.name: row.cells for row in tables[-1].sections[0].rows}
    assert list(shares) == list(EFFECTS.values())
    column = tables[-1].columns.index("seeded")
    assert shares["seed"][column].value == pytest.approx(1)
    assert shares["concept set"][column].shown == "–"
    assert "| seed |" in markdown_tables(tables)


def test_halves_have_no_common_image_and_depend_on_the_seed() -> None:
    probe = probe_of(MiniatureProbingSet("probe", 9), masked=False)
    first, second = halves(probe, 0)
    assert len(first.ids) == len(second.ids) == 4
    assert not set(first.ids) & set(second.ids)
    assert halves(probe, 0)[0].ids == first.ids != halves(probe, 1)[0].ids
    with pytest.raises(UserError, match="at least four images"):
        halves(probe.only([0, 1, 2]), 0)


def test_concept_sets_are_two_draws_of_half_the_concepts() -> None:
    first, second = concept_draws(CONCEPTS, 0)
    assert len(first) == len(second) == 3
    assert first != second
    assert set(first) <= set(CONCEPTS)
    with pytest.raises(UserError, match="at least 4 concepts"):
        concept_draws(CONCEPTS[:3], 0)


def test_one_perturbation_of_each_family_those_of_the_whole_image_first() -> None:
    assert perturbations_of([work(PART, BLUR, Condition("glass_blur", 3), FOG)]) == (
        "gaussian_blur", "fog", "background_blur",
    )  # fmt: skip
    assert perturbations_of([work(BLUR, Condition("glass_blur", 3))]) == ("gaussian_blur", "glass_blur")
    assert len(perturbations_of([work(BLUR, FOG, NOISE, Condition("contrast", 3))])) == 3


@pytest.mark.parametrize(
    ("conditions", "methods", "reason"),
    [((FOG,), ("clip_dissect",), "fewer than two"), ((FOG, BLUR), ("dnd",), "draws none")],
)
def test_what_it_cannot_do_is_refused_in_one_sentence(
    roles: CountedRoles, conditions: tuple[Condition, ...], methods: tuple[str, ...], reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        STUDY.check([[work(*conditions, methods=methods)]], roles)
