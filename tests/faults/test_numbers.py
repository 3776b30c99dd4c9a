"""Units and layers that give no numbers (F12), and what must not change a label (F15, F17)."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_run import ROOT, TABLES, perturbed, run, tables

from baselines.base import Label, UnitLabels
from benchmark.core import passes
from leaderboard.store.run_folder import RunFolder
from tasks.observation import Observation
from tasks.perturbations import PERTURBATIONS
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

NAN, INF = float("nan"), float("inf")
UNITS = (2, 3, 5, 7, 11)
METHODS = ("clip_dissect", "network_dissection", "random_label", "constant_label")
ASKED: dict[str, object] = {
    "unit_ids": UNITS,
    "images": 24,
    "suites": ("contrast",),
    "methods": METHODS,
    "method_options": {"clip_dissect": {"top_k": 10}},
}


def test_f01_a_method_that_hashes_pixels_is_not_stable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def label(self: object, observation: Observation, units: tuple[int, ...], tools: object) -> list[UnitLabels]:
        pixels = hashlib.sha256(observation.images([0, 1, 2]).numpy().tobytes()).hexdigest()
        activations = hashlib.sha256(observation.activations.numpy().tobytes()).hexdigest()
        return [UnitLabels(unit, (Label(f"{pixels[:9]} {activations[:9]} {unit}", 1.0),)) for unit in units]

    monkeypatch.setattr("baselines.trivial.RandomLabel.label", label)
    scores = RunFolder(run(tmp_path / "run", methods=("random_label",)).folder).read_table("scores")
    clean = scores["perturbation"] == "clean"
    assert scores["exact"][clean].all()
    assert not scores["exact"][~clean].any()
    words = scores["label"].str.split(expand=True)
    for column in (0, 1):  # each condition has images and activations of its own
        assert words[column].nunique() == scores["perturbation"].nunique() == 3


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, object]], None]:
    """Lets the layer give other numbers: unit → one number for all images, or what is added to the first image's."""
    real = passes.observe

    def breaks(columns: dict[int, float], first_image: bool = False) -> None:
        def observed(*arguments: object, **more: object):
            found = real(*arguments, **more)
            for observation in found.values():
                for unit, value in columns.items():
                    observation.activations[: 1 if first_image else None, unit] = value
            return found

        monkeypatch.setattr(passes, "observe", observed)

    return breaks


@pytest.mark.parametrize("first_image", [False, True])
def test_f12_units_without_numbers_are_counted_and_left_out(
    tmp_path: Path, broken: Callable, first_image: bool
) -> None:
    broken({2: NAN, 3: INF, 5: -INF} if first_image else {2: NAN, 3: INF, 5: 0.0}, first_image)
    result = run(tmp_path / "run", **ASKED)
    assert result.failed == []
    assert (result.summary["dead"] == 3).all()
    assert (result.summary["units"] == 2).all()
    folder = RunFolder(result.folder)
    for key in folder.done_cells("evidence"):
        assert folder.marker(key, "evidence").extra["dead"] == [2, 3, 5]
    means = result.summary[["stability", "clip_similarity"]].to_numpy(dtype=float)
    assert ((means >= -1) & (means <= 1)).all()
    scores = folder.read_table("scores")
    assert set(scores.loc[scores["dead"], "unit"]) == {2, 3, 5}


def test_f12_a_layer_without_numbers_ends_with_no_unit_left(tmp_path: Path, broken: Callable) -> None:
    broken({unit: NAN if unit < 5 else 0.0 for unit in range(512)})
    result = run(tmp_path / "run", **ASKED)
    assert result.failed == []
    assert (result.summary["dead"] == len(UNITS)).all()
    assert (result.summary["units"] == 0).all()
    assert result.summary["stability"].isna().all()


@pytest.mark.slow
def test_f15_batches_and_threads_change_no_label(tmp_path: Path) -> None:
    found, threads = [], torch.get_num_threads()
    try:
        for batch_size, count in ((64, 1), (5, 2)):
            torch.set_num_threads(count)
            place = tmp_path / str(batch_size)
            run(place, batch_size=batch_size, **ASKED)
            found.append(tables(place))
    finally:
        torch.set_num_threads(threads)
    first, second = found
    # Activations may differ in their last digit where a sum runs in another order; what is made of them does not.
    assert [name for name in ("labels", "scores", "summary") if first[name] != second[name]] == []


@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer4"), ("resnet50", "layer4"), ("vit_tiny", "blocks.2")])
def test_f15_one_or_two_threads_read_the_same_bits(name: str, layer: str) -> None:
    target = Roles(load_profile("miniature"), torch.device("cpu")).target(name)
    images = torch.randint(0, 256, (21, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append([target.read(images[:n], {layer: "mean"})[layer].pooled for n in (1, 10, 21)])
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, *found))


SCRIPT = "import sys; sys.path[:0] = sys.argv[1:3]; from pathlib import Path; import small_run; "


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_f15_hash_seeds_and_processes_change_no_byte(tmp_path: Path) -> None:
    for seed, threads in ((0, 1), (1, 2), (12345, 1)):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": str(threads)}
        code = f"{SCRIPT} small_run.run(Path(sys.argv[3]), **{ASKED!r})"
        command = [sys.executable, "-c", code, str(ROOT), str(Path(__file__).parent), str(tmp_path / str(seed))]
        subprocess.run(command, check=True, env=environment, capture_output=True)
    first, *others = (tables(tmp_path / str(seed)) for seed in (0, 1, 12345))
    for other in others:
        assert [name for name in TABLES if other[name] != first[name]] == []


def test_f17_another_process_and_another_order_give_the_same_bytes() -> None:
    names = [name for name, entry in PERTURBATIONS.items() if entry.random]
    code = f"{SCRIPT} import json; print(json.dumps(small_run.perturbed(json.loads(sys.argv[3]))))"
    command = [sys.executable, "-c", code, str(ROOT), str(Path(__file__).parent), json.dumps(names[::-1])]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert json.loads(done.stdout) == perturbed(names)
