"""The attack from a task to its tables, on a small network with few images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from baselines import registry
from baselines.base import Label, UnitLabels
from baselines.costs import Cost
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.tables_cache import tables_key
from benchmark.core.work import Work
from benchmark.plan.count import count_run
from benchmark.plan.studies import with_studies
from benchmark.studies.base import StudyInput, do_study, load_studies
from benchmark.studies.probing_attack.measure import SHARES, STUDY, Places, ProbingAttack, Victims
from leaderboard.board.facts import RunFacts
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.probing_attack import probing_attack_contents
from metrics.text import exact_match
from report.markdown import markdown_tables
from tasks.attack import Budget
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.observation import Observation, Segmentation
from tasks.observe import CLEAN, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

IMAGES = 60
UNITS = (0, 3, 7)


class Strongest:
    """Names a unit by the image that activates it most: every change of the top image changes the label."""

    version, needs = "1", frozenset({"images"})

    def label(self, observation: Observation, units: Any, tools: Any) -> list[UnitLabels]:
        assert len(observation.images(range(len(observation.image_ids)))) == IMAGES
        top = observation.activations.argmax(dim=0).tolist()
        return [UnitLabels(unit, (Label(f"image {top[unit]}", 1.0),), (top[unit],)) for unit in units]


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


def work(*units: int, images: int = IMAGES, methods: tuple[str, ...] = ()) -> Work:
    return Work(load_task("resnet18_layer4"), "miniature", methods, (CLEAN,), 2, images, units or UNITS)


def measured(path: Path, roles: Roles, study: ProbingAttack | None = None) -> dict[str, pd.DataFrame]:
    mine = work()
    probing = roles.probing_set(mine.task.probing_set, IMAGES, roles.view(mine.task.model))
    methods: Any = {"strongest": Strongest(), "clip_dissect": registry.load("clip_dissect", top_k=8)}
    if study:
        methods = {"strongest": Strongest(), "network_dissection": registry.load("network_dissection")}
    probes: Any = {mine.task.name: (probe_of(probing, masked=False), probing)}
    concepts = {mine.task.name: ("red", "blue", "circle", "star", "brick wall")}
    given = StudyInput([[mine]], methods, concepts, roles, probes, 0, Settings(), Display("quiet"))
    with RunFolder(path) as folder:
        folder.create_or_continue({"test": path.name}, {})
        return do_study(study or ProbingAttack(budget=Budget(steps=2)), folder, given)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, roles: Roles) -> dict[str, pd.DataFrame]:
    return measured(tmp_path_factory.mktemp("attack") / "run", roles)


def test_every_unit_is_attacked_within_the_budget(found: dict[str, pd.DataFrame]) -> None:
    attacks = found["attacks"].set_index("unit")
    assert list(attacks.index) == list(UNITS)
    assert (attacks["images"] == 6).all()
    assert (attacks["largest_change"] <= 4).all()
    assert (attacks["psnr"] >= 36.09).all()
    assert (attacks["target_unit"] != attacks.index).all()
    assert (attacks["lowered"] < 0).all()
    assert (attacks["raised"] > 0).all()
    assert (attacks["lowered"] < attacks["lowered_by_noise"]).all()
    assert (attacks["raised"] > attacks["raised_by_noise"]).all()


def test_labels_follow_the_images(found: dict[str, pd.DataFrame]) -> None:
    labels = found["attacked_labels"]
    arms = [("again", 0.0), *((arm, share) for share in SHARES for arm in ("attack", "noise"))]
    assert set(zip(labels["images"], labels["share"], strict=True)) == set(arms)
    assert len(labels) == 2 * len(UNITS) * len(arms)
    assert not labels.loc[labels["images"] == "again", "changed"].any()
    strongest = labels[labels["method"] == "strongest"].set_index(["images", "share", "unit"]).sort_index()
    clean = strongest.loc[("again", 0.0), "label"]
    for (arm, share, unit), row in strongest.iterrows():
        assert row["changed"] == (not exact_match(row["label"], clean[unit])), (arm, share)
        other = clean[found["attacks"].set_index("unit").loc[unit, "target_unit"]]
        assert row["reached"] == exact_match(row["label"], other)
    assert strongest.loc[("attack", 0.1), "changed"].all()


@pytest.mark.slow
def test_the_batch_size_changes_nothing(tmp_path: Path, found: dict[str, pd.DataFrame]) -> None:
    again = measured(tmp_path / "run", Roles(load_profile("miniature"), torch.device("cpu"), batch_size=24))
    for name, table in found.items():
        pd.testing.assert_frame_equal(again[name], table)


def test_a_smaller_share_is_a_part_of_a_larger_one_and_half_of_it_is_raised() -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32))
    ids = tuple(f"i{number}" for number in range(100))
    seen = Observation("layer", "vector", "clean", 0, 0, ids, values, None, values, lambda indices: values)
    victims = Victims.of(1, 2, seen)
    order = values.argsort(dim=0, descending=True).T.tolist()
    assert list(victims.lowered) == order[1][:5]
    assert list(victims.raised) == [image for image in order[2] if image not in order[1][:5]][:5]
    chosen = [set(np.flatnonzero(victims.rows(share, 100) >= 0).tolist()) for share in SHARES]
    assert [len(one) for one in chosen] == [1, 5, 10]
    assert chosen[0] <= chosen[1] <= chosen[2] == set(victims.images)
    assert chosen[1] == {*victims.lowered[:3], *victims.raised[:2]}
    rows = victims.rows(0.1, 100)
    assert all(rows[image] == place for place, image in enumerate(victims.images))


def test_an_attack_with_masks_changes_images_that_show_the_concepts(
    tmp_path: Path, roles: Roles, found: dict[str, pd.DataFrame]
) -> None:
    masked = measured(tmp_path / "run", roles, ProbingAttack(budget=Budget(steps=2), with_masks=True))
    attacks, labels = masked["attacks"], masked["attacked_labels"]
    clean = labels[(labels["method"] == "network_dissection") & (labels["images"] == "again")].set_index("unit")
    assert len(attacks)
    for row in attacks.to_dict("records"):
        assert row["source_concept"] == clean.loc[row["unit"], "clean_label"]
        assert row["source_concept"] != row["target_concept"]
        assert row["images"] <= 6
        assert row["largest_change"] in range(1, 5)
    assert set(attacks["sha256"]).isdisjoint(found["attacks"]["sha256"])
    (table,) = probing_attack_contents(labels, attacks, RunFacts())
    assert "pixels of the two units' concepts count" in table.notes[0]
    (plain,) = probing_attack_contents(found["attacked_labels"], found["attacks"], RunFacts())
    assert "concept" not in plain.notes[0]


def test_masks_weigh_the_pixels_of_two_concepts_and_choose_the_images() -> None:
    pixels = np.zeros((40, 2, 2), np.int64)
    pixels[::2, 0, 0], pixels[::4, 1, 1] = 1, 2
    kinds = [{"object": own, "scene": [3] if number < 5 else []} for number, own in enumerate(pixels)]
    categories = {"object": (1, 2), "scene": (3,)}
    segmentation = Segmentation(("", "cup", "ball", "beach"), categories, lambda number: kinds[number], (2, 2))
    places = Places.of(("cup", "ball"), segmentation, 40)
    assert places.pixels[0].sum(axis=(1, 2)).tolist() == [1, 0] * 20
    weights = places.weights([0, 1, 2, 4])
    expected = torch.zeros(4, 2, 2)
    expected[[0, 2, 3], 0, 0], expected[[0, 3], 1, 1] = -1 / 3, 1 / 2
    assert weights.equal(expected)
    assert Places.of(("cup", "beach"), segmentation, 40).pixels[1].sum(axis=(1, 2)).tolist() == [4] * 5 + [0] * 35
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32))
    ids = tuple(f"i{number}" for number in range(40))
    seen = Observation("layer", "spatial", "clean", 0, 0, ids, values, None, values, lambda indices: values)
    victims = Victims.of(1, 2, seen, places)
    strongest = [image for image in values[:, 1].argsort(descending=True).tolist() if image % 2 == 0]
    assert list(victims.lowered) == strongest[:2]
    assert all(image % 4 == 0 for image in victims.raised)


def test_the_table_says_what_turned(found: dict[str, pd.DataFrame]) -> None:
    labels, place = found["attacked_labels"], {"task": "t", "profile": "p", "method": "m", "clean_label": "a"}
    rows = [
        ("again", 0.0, 0, "a", False, True, True, False), ("again", 0.0, 1, "a", False, True, True, None),
        ("again", 0.0, 2, "a", False, False, False, None),
        ("attack", 0.1, 0, "b", True, True, False, True), ("attack", 0.1, 1, "a", False, True, True, None),
        ("attack", 0.1, 2, "c", True, False, True, None),
        ("noise", 0.1, 0, "a", False, True, True, False), ("noise", 0.1, 1, "a", False, True, True, None),
        ("noise", 0.1, 2, "a", False, False, False, None),
    ]  # fmt: skip
    names = ["images", "share", "unit", "label", "changed", "clean_right", "right", "reached"]
    made = pd.DataFrame(rows, columns=names).assign(**place).astype(dict(labels.dtypes))
    attacks = found["attacks"].assign(task="t", profile="p")
    (table,) = probing_attack_contents(made, attacks, RunFacts())
    (section,) = table.sections
    assert section.title == "m, 3 units, 2 of them right when clean"
    (row, repeat) = section.rows
    assert row.name == "10 %"
    assert [cell.value for cell in row.cells] == pytest.approx([0.5, 0, 0.5, 1, 2 / 3, 0, 1])
    assert repeat.cells[4].value == 0
    (whole,) = probing_attack_contents(labels, found["attacks"], RunFacts())
    assert [row.name for row in whole.sections[0].rows] == ["1 %", "5 %", "10 %", "clean repeat"]
    assert "Labels turned by an attack" in markdown_tables([whole])


def test_the_plan_counts_gradients_and_labellings(roles: Roles, tmp_path: Path) -> None:
    mine = work(methods=("m",))
    methods: Any = {"m": SimpleNamespace(cost=lambda units, images: Cost())}
    count = count_run([[mine]], methods, roles.profile, "none")
    (found,) = with_studies(count, [STUDY], [[mine]], methods, roles, RunFolder(tmp_path)).studies
    assert found.counts.target.expected == IMAGES + 3 * 6 * (10 * 2 + 2)
    assert found.counts.clip.expected == IMAGES + 3 * 6 * 2
    assert found.labellings["m"][0] == 2 + 2 * 3


def test_what_cannot_be_attacked_is_refused(roles: Roles) -> None:
    STUDY.check([[work()]], roles)
    with pytest.raises(UserError, match="one unit is labelled: choose more with --units"):
        STUDY.check([[work(3)]], roles)
    with pytest.raises(UserError, match="use at least 51 with --images"):
        STUDY.check([[work(images=50)]], roles)
    masked = replace(STUDY, with_masks=True)
    masked.check([[work(methods=("network_dissection",))]], roles)
    with pytest.raises(UserError, match="add it to --methods, or omit --attack-masks"):
        masked.check([[work(methods=("clip_dissect",))]], roles)
    vectors = replace(work(methods=("network_dissection",)), task=load_task("resnet50_fc"))
    with pytest.raises(UserError, match="fc of resnet50 has none: omit --attack-masks"):
        masked.check([[vectors]], roles)


def test_masks_need_the_study_and_make_other_tables(tmp_path: Path) -> None:
    plain, masked = (
        RunOptions(tasks=("resnet18_layer4",), attack_masks=masks, analyses=("probing_attack",))
        for masks in (False, True)
    )
    assert [load_studies(options) for options in (plain, masked)] == [[STUDY], [ProbingAttack(with_masks=True)]]
    with RunFolder(tmp_path / "run") as folder:
        folder.create_or_continue({"test": "masks"}, {})
        assert tables_key(folder, plain) != tables_key(folder, masked)
    with pytest.raises(ValidationError, match="--attack-masks needs --analysis probing_attack"):
        RunOptions(tasks=("resnet18_layer4",), attack_masks=True)
