"""Sensitive units of the miniature, the planted blur unit among them, and detectors on what they have not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmark.core.display import Display
from benchmark.core.work import Work
from benchmark.studies.base import StudyInput, do_study
from benchmark.studies.sensitivity import measure as analysis
from benchmark.studies.sensitivity.detectors import Detectors
from benchmark.studies.sensitivity.measure import STUDY, SensitivityTables
from leaderboard.store.analysis_schema import DETECTORS, SENSITIVITY
from leaderboard.store.run_folder import RunFolder
from leaderboard.view.responses import responses
from metrics.degradation import FOLDS
from metrics.statistics import holm
from tasks.catalogue import load_task
from tasks.miniature.planted_blur import LAYER, BlurUnit, resnet50_blur
from tasks.miniature.probing import MiniatureProbingSet
from tasks.models.target import TargetModel
from tasks.observe import CLEAN, Condition, Probe, perturbed, probe_of
from tasks.perturbations.settings import Settings
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

QUIET = Display("quiet")
PLANTED = 2048
BLURS = ("gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur")
OTHERS = ("gaussian_noise", "fog", "snow", "brightness", "contrast", "pixelate", "jpeg_compression", "saturate")


def work(task: str, *conditions: Condition) -> Work:
    return Work(load_task(task), "miniature", (), (CLEAN, *conditions), 1, 40, (0,))


def probe(images: int = 40) -> Probe:
    found = MiniatureProbingSet("probe", images)
    return probe_of(found, masked=True)


def measured(path: Path, roles: Roles, *works: Work, images: int = 40, seed: int = 0) -> SensitivityTables:
    with RunFolder(path) as folder:
        folder.create_or_continue({"test": path.name}, {})
        probes = {one.task.name: (probe(images), MiniatureProbingSet("probe", images)) for one in works}
        return study(folder, StudyInput([works], {}, {}, roles, probes, seed, Settings(), QUIET))


def study(folder: RunFolder, given: StudyInput) -> SensitivityTables:
    found = do_study(STUDY, folder, given)
    return SensitivityTables(found["sensitivity"], found["detectors"])


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


@pytest.fixture(scope="module")
def blurred_roles(roles: Roles) -> Roles:
    """The miniature with the planted network in the place of its ResNet-50."""
    plain = roles.target("resnet50")
    planted = TargetModel(resnet50_blur(), plain.preprocessing, torch.device("cpu"))

    class Planted(Roles):
        def target(self, name: str) -> TargetModel:
            return planted

    return Planted(roles.profile, torch.device("cpu"))


@pytest.fixture(scope="module")
def blur_work() -> Work:
    conditions = (
        *(Condition(name, 3) for name in ("gaussian_blur", "motion_blur", "fog", "gaussian_noise")),
        Condition("background_blur", 3),
    )
    plain = work("resnet50_layer4", *conditions)
    units = plain.task.units.model_copy(update={"total": PLANTED + 1, "first": PLANTED})
    return Work(
        plain.task.model_copy(update={"layer": LAYER, "units": units}),
        "miniature",
        (),
        plain.conditions,
        1,
        40,
        (PLANTED,),
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, blurred_roles: Roles, blur_work: Work) -> SensitivityTables:
    return measured(tmp_path_factory.mktemp("sensitive") / "run", blurred_roles, blur_work)


# ---- the planted unit ----


def test_the_planted_unit_is_the_formula_and_the_network_stays_itself(roles: Roles) -> None:
    plain, planted = roles.target("resnet50"), resnet50_blur().eval()
    images = MiniatureProbingSet("test", 4).images
    inputs = plain.preprocessing(images).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.equal(plain.network(inputs), planted(inputs))
        shown = BlurUnit()(inputs)
    target = TargetModel(planted, plain.preprocessing, torch.device("cpu"))
    layer = target.read(images, {LAYER: "mean"})[LAYER].pooled
    assert torch.equal(layer[:, :PLANTED], plain.read(images, {"layer4": "mean"})["layer4"].pooled)
    torch.testing.assert_close(layer[:, PLANTED], shown)
    grey = inputs.mean(1).double().numpy()
    half = grey.reshape(4, 56, 2, 56, 2).mean((2, 4))

    def energies(x: np.ndarray) -> np.ndarray:
        inner = x[:, 1:-1, 1:-1]
        steps = [(0, 1), (1, 0), (1, 1), (1, -1)]
        ends = [np.roll(x, s, (1, 2)) + np.roll(x, (-s[0], -s[1]), (1, 2)) for s in steps]
        return np.stack([((end[:, 1:-1, 1:-1] - 2 * inner) ** 2).mean((1, 2)) for end in ends])

    expected = np.log1p((energies(half) / energies(grey)).max(0))
    assert shown.numpy() == pytest.approx(expected, rel=1e-3)


def test_the_planted_unit_detects_blurs_and_nothing_else(roles: Roles) -> None:
    """On scenes of the test split; severity 3. Nothing was fitted to any scene or blur."""
    prepare, unit = roles.target("resnet50").preprocessing, BlurUnit()
    whole = probe_of(MiniatureProbingSet("test", 80).seen_by(prepare.view), masked=True)

    def shown(name: str) -> np.ndarray:
        condition = CLEAN if name == "clean" else Condition(name, 3)
        return unit(prepare(perturbed(whole, condition, 0, Settings(), torch.device("cpu"))(range(80)))).numpy()

    clean, truth = shown("clean"), np.repeat([0, 1], 80)
    areas = {name: roc_auc_score(truth, np.concatenate([clean, shown(name)])) for name in (*BLURS, *OTHERS)}
    # At 112 px frosted glass is a blur of 0.5 px and pixels that change places: edges are added, not lost.
    assert areas.pop("glass_blur") < 0.1
    # Fine detail is what JPEG takes too.
    assert areas.pop("jpeg_compression") < 0.95
    assert min(areas[name] for name in BLURS if name in areas) > 0.94
    assert max(areas[name] for name in OTHERS if name in areas) < 0.75


def test_the_analysis_finds_it_among_the_layers_own_units(found: SensitivityTables) -> None:
    (units,) = responses(found.units)
    blur = units.detection("blur")
    ranking = units.units[np.argsort(-blur.own, kind="stable")]
    assert len(ranking) == PLANTED + 1
    assert ranking[0] == PLANTED
    assert blur.specific[PLANTED]
    assert blur.rises[PLANTED]
    assert PLANTED in units.units[blur.detects]


# ---- the tables ----


def test_the_tables_are_whole_and_corrected_together(found: SensitivityTables) -> None:
    assert list(found.units.columns) == [column.name for column in SENSITIVITY.columns]
    assert len(found.units) == 5 * (PLANTED + 1)
    assert found.units["p_corrected"].to_numpy() == pytest.approx(holm(found.units["p_value"].to_numpy()).p_values)
    families = found.units.groupby("perturbation")["family"].first().to_dict()
    assert families == {
        "gaussian_blur": "blur", "motion_blur": "blur", "fog": "weather", "gaussian_noise": "noise",
        "background_blur": "mask",
    }  # fmt: skip
    assert list(found.detectors.columns) == [column.name for column in DETECTORS.columns]
    assert set(found.detectors["trained_on"]) == {
        "gaussian_blur 3", "motion_blur 3", "fog 3", "gaussian_noise 3", "all but blur", "all but weather",
        "all but noise", "all",
    }  # fmt: skip
    assert (found.detectors["low"] <= found.detectors["auroc"]).all()
    # Images that change in a part only are neither trained on nor tested.
    assert "mask" not in set(found.detectors["family"])


def test_a_detector_left_without_a_family_is_tested_on_that_family_alone(found: SensitivityTables) -> None:
    rows = found.detectors[found.detectors["trained_on"] == "all but blur"]
    assert set(rows["perturbation"]) == {"gaussian_blur", "motion_blur", "all"}
    alone = rows[(rows["selection"] == "best") & (rows["count"] == 16)].set_index("perturbation")["auroc"]
    assert alone["all"] == pytest.approx((alone["gaussian_blur"] + alone["motion_blur"]) / 2)


def test_what_a_detector_was_trained_on_is_not_in_its_familys_mean(found: SensitivityTables) -> None:
    rows = found.detectors[found.detectors["trained_on"] == "gaussian_blur 3"]
    area = rows.set_index(["family", "perturbation"])["auroc"]
    assert area["blur", "all"] == area["blur", "motion_blur"]


def test_a_detector_of_blur_finds_a_blur_that_it_has_not_seen(found: SensitivityTables) -> None:
    rows = found.detectors[
        (found.detectors["trained_on"] == "gaussian_blur 3") & (found.detectors["selection"] == "best")
    ]
    area = rows.set_index("perturbation")
    assert area.loc["motion_blur", "low"] > 0.7


def test_one_read_is_as_good_as_the_layer_read_alone(found: SensitivityTables, roles: Roles) -> None:
    target, own = roles.target("resnet50"), probe()
    everything = range(len(own.ids))
    images = perturbed(own, Condition("fog", 3), 0, Settings(), torch.device("cpu"))(everything)
    pair = (own.load(everything), images)
    before, after = (target.read(x, {"layer4": "mean"})["layer4"].pooled[:, 7].numpy() for x in pair)
    expected = roc_auc_score([0] * 40 + [1] * 40, np.concatenate([before, after]))
    row = found.units[(found.units["unit"] == 7) & (found.units["perturbation"] == "fog")]
    assert row["auroc"].item() == pytest.approx(expected)


def test_the_same_run_reads_its_tables_and_another_seed_does_not(
    tmp_path: Path, roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = work("resnet50_layer3", Condition("fog", 3))
    before = measured(tmp_path / "run", roles, mine, images=12)
    passes: list[object] = []
    monkeypatch.setattr(analysis, "_measured", lambda *args: passes.append(args) or [])
    again = measured(tmp_path / "run", roles, mine, images=12)
    assert not passes
    pd.testing.assert_frame_equal(before.units, again.units)
    pd.testing.assert_frame_equal(before.detectors, again.detectors)
    (tmp_path / "run" / "detectors.parquet").unlink()
    (tmp_path / "run" / "sensitivity.parquet").write_bytes(b"broken")
    measured(tmp_path / "run", roles, mine, images=12)
    measured(tmp_path / "run", roles, mine, images=12, seed=1)
    assert len(passes) == 2


def test_two_layers_share_a_pass_and_stay_apart(tmp_path: Path, roles: Roles) -> None:
    fog, noise = Condition("fog", 3), Condition("gaussian_noise", 3)
    both = measured(
        tmp_path / "both", roles, work("resnet50_layer3", fog), work("resnet50_layer4", fog, noise), images=12
    )
    alone = measured(tmp_path / "alone", roles, work("resnet50_layer3", fog), images=12)
    mine = both.units[both.units["task"] == "resnet50_layer3"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone.units)
    assert set(mine["perturbation"]) == {"fog"}
    detectors = both.detectors[both.detectors["task"] == "resnet50_layer3"].reset_index(drop=True)
    pd.testing.assert_frame_equal(detectors, alone.detectors)


def test_few_images_have_no_detector(tmp_path: Path, roles: Roles) -> None:
    few = measured(tmp_path / "run", roles, work("resnet50_layer3", Condition("fog", 3)), images=2 * FOLDS - 1)
    assert len(few.units) == 1024
    assert few.detectors.empty


# ---- detectors ----


def test_units_that_are_not_finite_are_in_no_detector(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(20, 3)).astype(np.float32)
    clean[4, 0] = np.nan
    detectors = Detectors(tmp_path, clean, 0, "toy")
    detectors.add(Condition("fog", 3), "weather", clean + np.float32(3))
    rows = detectors.rows()
    assert set(rows["count"]) == {1, 2}
    assert (rows.loc[rows["count"] == 2, "auroc"] > 0.95).all()


def test_a_layer_of_dead_units_tells_nothing_apart(tmp_path: Path) -> None:
    detectors = Detectors(tmp_path, np.zeros((20, 2), np.float32), 0, "toy")
    detectors.add(Condition("fog", 3), "weather", np.zeros((20, 2), np.float32))
    assert set(detectors.rows()["auroc"]) == {0.5}
    broken = Detectors(tmp_path, np.full((20, 2), np.nan, np.float32), 0, "toy")
    broken.add(Condition("fog", 3), "weather", np.zeros((20, 2), np.float32))
    assert broken.rows().empty


def test_of_several_severities_the_middle_one_trains(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    clean = rng.normal(size=(20, 4)).astype(np.float32)
    detectors = Detectors(tmp_path, clean, 0, "toy")
    for severity in (1, 2, 5):
        detectors.add(Condition("fog", severity), "weather", clean + np.float32(severity))
    rows = detectors.rows()
    assert set(rows["trained_on"]) == {"fog 2", "all"}
    assert set(rows.loc[rows["trained_on"] == "fog 2", "severity"]) == {0, 1, 2, 5}
