"""Planted units: the channels behind a network's own, and what their file says of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from tasks.activations.capture import LayerCapture
from tasks.catalogue import load_task
from tasks.common.errors import UserError
from tasks.miniature.probing import MiniatureProbingSet
from tasks.miniature.training.cards import CHECKPOINTS
from tasks.miniature.training.planted import AUROC_BAR, CELL_IOU_BAR, told
from tasks.miniature.vocabulary import CATEGORY_OF, CONCEPTS
from tasks.models.planted import HALF, PlantedStage, PlantedUnits, plant, save_planted
from tasks.models.planted_facts import Planted, PlantedUnit, read_planted
from tasks.profiles.build import Roles
from tasks.profiles.schema import load_profile

FILE = CHECKPOINTS / "planted.safetensors"
FIGURES = {"share": 0.1, "auroc": 0.97, "strict_auroc": 0.96, "iou": 0.2, "cell_iou": 0.7}
UNITS = (
    PlantedUnit(op="single", concepts=("blue",), **FIGURES),
    PlantedUnit(op="and", concepts=("red", "fish"), **FIGURES),
    PlantedUnit(op="or", concepts=("fish", "blue"), **FIGURES),
)


def description(first: int = 4) -> Planted:
    return Planted(target_sha256="ab" * 32, first=first, detectors=("red", "fish", "blue"), units=UNITS)


def weights(first: int = 4) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {"weight": torch.randn(3, first, generator=draw).half().float(), "bias": torch.tensor([0.5, -1.0, 0.25])}


@pytest.fixture(scope="module")
def roles() -> Roles:
    return Roles(load_profile("miniature"), torch.device("cpu"))


def test_units_are_the_logic_of_their_detectors():
    features = torch.randn(5, 4, 3, 2, generator=torch.Generator().manual_seed(1))
    given = weights()
    logits = torch.einsum("dc,nchw->dnhw", given["weight"].double(), features.double())
    p = torch.sigmoid(logits + given["bias"].view(3, 1, 1, 1))
    r = torch.stack([p[2], p[0] * p[1], 1 - (1 - p[1]) * (1 - p[2])], dim=1)
    expected = r - 0.01 * torch.log(1 - r)
    with torch.inference_mode():
        found = PlantedUnits(description(), given)(features)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [25.0, 1000.0])
def test_units_at_the_corners_of_certainty(size):
    given = {"weight": 2 * size * torch.eye(4)[:3], "bias": torch.full((3,), -size)}
    corners = torch.tensor([[r, f, b, 0.0] for r in (0, 1) for f in (0, 1) for b in (0, 1)])
    with torch.inference_mode():
        found = PlantedUnits(description(), given)(corners[:, :, None, None])[:, :, 0, 0]
    red, fish, blue = (corners[:, n].bool() for n in range(3))
    assert torch.equal(found > HALF, torch.stack([blue, red & fish, fish | blue], dim=1))
    assert found.isfinite().all()
    assert (found >= 0).all()


@pytest.mark.parametrize("change", [{"bias": torch.zeros(2)}, {"weight": torch.zeros(3, 5)}, {"other": torch.zeros(1)}])
def test_weights_that_do_not_fit_are_refused(change):
    with pytest.raises(ValueError, match="do not have the weights"):
        PlantedUnits(description(), {**weights(), **change})


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_network_with_planted_units_gives_the_same_bits(tmp_path, count, layout):
    path = tmp_path / "planted.safetensors"
    save_planted(path, description(512), weights(512))
    torch.manual_seed(0)
    plain = torchvision.models.resnet18(num_classes=6).eval().to(memory_format=layout)
    other = torchvision.models.resnet18(num_classes=6).eval()
    other.load_state_dict(plain.state_dict())
    planted = plant(other, path, None, "AB" * 32).to(memory_format=layout)
    images = torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=layout)
    with torch.inference_mode():
        assert torch.equal(plain(images), planted(images))
        assert planted.layer4(planted.layer3(torch.zeros(1, 128, 8, 8))).shape == (1, 515, 2, 2)
    layers = ["layer4.0.conv1", "layer4.1", "fc"]
    with torch.inference_mode(), LayerCapture(plain, layers) as before, LayerCapture(planted, layers) as after:
        expected, found = before(images), after(images)
        assert all(torch.equal(expected[name], found[name]) for name in layers)


def test_the_profiles_network_is_resnet50_with_units_of_known_concepts(roles):
    images = MiniatureProbingSet("probe", 5).images
    layers = {"layer4": "mean", "fc": "mean"}
    plain = roles.target("resnet50").read(images, layers, maps=["layer4"])
    planted = roles.target("resnet50_planted").read(images, layers, maps=["layer4"])
    torch.testing.assert_close(plain["fc"].pooled, planted["fc"].pooled)
    torch.testing.assert_close(plain["layer4"].pooled, planted["layer4"].pooled[:, :2048])
    assert torch.equal(plain["layer4"].maps, planted["layer4"].maps[:, :2048])
    truths = roles.planted("resnet50_planted")
    own = planted["layer4"].maps[:, 2048:]
    assert own.shape == (5, len(truths), 4, 4)
    assert 0 <= own.min() < own.max() < 2


def test_strong_responses_stay_apart_in_float16():
    given = {"weight": torch.eye(4)[:3], "bias": torch.zeros(3)}
    features = torch.linspace(2, 30, 12)[:, None, None, None].expand(12, 4, 1, 1)
    with torch.inference_mode():
        found = PlantedUnits(description(), given)(features).half()[:, :, 0, 0]
    assert (found.diff(dim=0) > 0).all()


def test_the_task_names_the_planted_units(roles):
    task = load_task("resnet50_planted")
    truths = roles.planted(task.model)
    assert (task.truth, task.units.first, task.units.label) == ("planted", 2048, "all")
    assert list(truths) == list(range(task.units.first, task.units.total))


def test_shipped_units_reach_their_bars_and_are_those_of_the_card():
    units = read_planted(FILE).units
    assert len(units) >= 100
    assert {unit.op for unit in units} == {"single", "and", "or"}
    assert len({(unit.op, frozenset(unit.concepts)) for unit in units}) == len(units)
    for unit in units:
        assert set(unit.concepts) <= set(CONCEPTS)
        assert min(unit.auroc, unit.strict_auroc) >= AUROC_BAR
        assert unit.cell_iou >= CELL_IOU_BAR
        if unit.op == "and":
            assert len({CATEGORY_OF[name] for name in unit.concepts}) == 2
    card = json.loads((CHECKPOINTS / "planted.card.json").read_text())
    assert card["training"]["units"] == [told(unit) for unit in units]
    target = json.loads((CHECKPOINTS / "resnet50.card.json").read_text())
    assert read_planted(FILE).target_sha256 == target["sha256"]
    assert FILE.stat().st_size < 500_000


def test_the_description_is_read_without_torch():
    code = (
        "import sys; from pathlib import Path; from tasks.models.planted_facts import read_planted as read; "
        "print(len(read(Path(sys.argv[1])).units), 'torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    said = subprocess.run(
        [sys.executable, "-c", code, str(FILE)], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(said[0]) >= 100
    assert said[1] == "False"


def test_what_is_saved_is_read_back(tmp_path):
    path = tmp_path / "planted.safetensors"
    save_planted(path, description(), weights())
    assert read_planted(path) == description()
    assert [unit.text for unit in UNITS] == ["blue", "red and fish", "fish or blue"]


def refusal(path: Path, network: nn.Module | None = None, target: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        plant(network or torchvision.models.resnet18(num_classes=6), path, None, target)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_that_do_not_belong_are_refused_in_a_sentence(tmp_path):
    path = tmp_path / "planted.safetensors"
    assert "do not exist" in refusal(path)
    save_planted(path, description(512), weights(512))
    assert "fitted to other weights" in refusal(path, target="cd" * 32)
    assert "not in AlexNet" in refusal(path, torchvision.models.alexnet(num_classes=2))
    save_planted(path, description(2048), weights(2048))
    assert "2048 channels, not 512" in refusal(path)
    save_planted(path, description(512), weights(100))
    assert "contradicts itself" in refusal(path)
    save_file(weights(512), path)
    assert "does not say what its units are" in refusal(path)
    save_file(weights(512), path, metadata={"planted": "{}"})
    assert "does not describe planted units" in refusal(path)


def test_a_broken_or_missing_description_is_one_sentence(tmp_path):
    for path in (tmp_path / "gone.safetensors", tmp_path / "broken.safetensors"):
        if path.stem == "broken":
            path.write_bytes(b"\x00" * 4)
        with pytest.raises(UserError, match="cannot be read"):
            read_planted(path)


@pytest.mark.parametrize(
    ("op", "concepts"), [("single", ("a", "b")), ("and", ("a",)), ("or", ("a", "a")), ("single", ()), ("xor", ("a",))]
)
def test_concepts_must_fit_the_operation(op, concepts):
    with pytest.raises(ValueError, match=r"cannot have the concepts|Input should be"):
        PlantedUnit(op=op, concepts=concepts, **FIGURES)


def test_units_without_a_detector_are_refused():
    with pytest.raises(ValueError, match="nothing detects blue"):
        Planted(target_sha256="", first=4, detectors=("red", "fish"), units=UNITS)


def test_a_target_without_planted_units_says_so(roles):
    with pytest.raises(UserError, match=r"'resnet50' of profile 'miniature' has no planted units"):
        roles.planted("resnet50")


def test_a_changed_file_is_refused(tmp_path, roles):
    path = tmp_path / "planted.safetensors"
    path.write_bytes(FILE.read_bytes()[:-1] + b"\x00")
    entry = roles.profile.target("resnet50_planted")
    changed = entry.model_copy(update={"planted": entry.planted.model_copy(update={"weights": path})})
    other = Roles(roles.profile.model_copy(update={"targets": {"mine": changed}}), torch.device("cpu"))
    with pytest.raises(UserError, match="SHA-256"):
        other.planted("mine")
    with pytest.raises(UserError, match="SHA-256"):
        other.target("mine")


def test_blocks_keep_their_names():
    stage = nn.Sequential(nn.Conv2d(2, 4, 1), nn.ReLU())
    planted = PlantedStage(stage, PlantedUnits(description(), weights()))
    assert [name for name, _ in planted.named_children()] == ["0", "1", "planted"]
