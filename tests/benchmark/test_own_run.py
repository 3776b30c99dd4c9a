"""The user's own network, layer, images and concepts in place of a task's, on real small objects."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
import yaml
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from benchmark.cli import app
from benchmark.core.display import Display
from benchmark.core.identity import weights_sha256
from benchmark.core.options import RunOptions
from benchmark.core.preflight import check
from benchmark.core.prepare import (
    adapt_options,
    apply_overrides,
    check_layer,
    load_methods,
    with_all_units,
    with_image_count,
)
from benchmark.core.truth import class_truth, right_labels
from benchmark.plan.make import make_plan
from benchmark.runner import RunResult, run
from leaderboard.board.merge import merge_runs
from leaderboard.store.errors import StoreError
from leaderboard.store.run_folder import RunFolder
from tasks.common.errors import UserError
from tasks.miniature.broden import export
from tasks.miniature.probing import MiniatureProbingSet
from tasks.models.preprocessing import Preprocessing
from tasks.models.target import TargetModel
from tasks.models.weights import file_sha256
from tasks.profiles.build import Roles
from tasks.profiles.schema import Profile, load_profile
from tasks.schema import Task

COUNT = 24
CPU = torch.device("cpu")
TASK = "resnet50_layer4"
VIT = {"model": "timm:test_vit", "layer": "blocks.5"}
# The list as a Windows editor leaves it.
CONCEPTS = b"\xef\xbb\xbfred\r\n\r\n  blue \r\nfish\r\nred\r\n\r\nstriped\r\n"
FACTORY = """
import torch
from torch import nn

def small():
    generator = torch.Generator().manual_seed(SEED)
    network = nn.Sequential(nn.Conv2d(3, 5, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a user's: weights in three forms, photos, concepts."""
    folder = tmp_path_factory.mktemp("mine")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit, resnet = timm.create_model("test_vit", num_classes=7), torchvision.models.resnet18(num_classes=5)
    save_file(vit.state_dict(), folder / "vit.safetensors")
    save_file(resnet.state_dict(), folder / "resnet.safetensors")
    parallel = {f"module.{name}": tensor for name, tensor in resnet.state_dict().items()}
    torch.save({"state_dict": parallel}, folder / "resnet.pt")
    scenes = MiniatureProbingSet("test", COUNT)
    (folder / "photos").mkdir()
    for name, image in zip(scenes.ids, scenes.images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "photos" / f"{name}.png")
    (folder / "concepts.txt").write_bytes(CONCEPTS)
    return folder


@pytest.fixture(scope="module", autouse=True)
def cached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The miniature's own networks see the same images again and again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLEAR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module with a network, where ``python -m`` would find it."""
    path = tmp_path / "my_networks.py"
    path.write_text(FACTORY.replace("SEED", "0"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    sys.modules.pop("my_networks", None)


def options(out: Path, **changes: object) -> RunOptions:
    values: dict[str, object] = {
        "tasks": (TASK,),
        "methods": ("clip_dissect", "random_label"),
        "method_options": {"clip_dissect": {"top_k": 8}},
        "suites": ("gaussian_blur",),
        "unit_ids": (1, 3),
        "faithfulness": "none",
        "device": "cpu",
        "out": out,
    }
    values |= changes
    chosen_methods = values["methods"]
    if chosen_methods is not None and "clip_dissect" not in chosen_methods:  # type: ignore[operator]
        values["method_options"] = {}
    return RunOptions.model_validate(values)


def overridden(asked: RunOptions) -> tuple[Profile, list[Task]]:
    return apply_overrides(asked, check(asked))


def started(out: Path, **changes: object) -> RunResult:
    return run(options(out, **changes), Display("quiet"))


def facts_of(result: RunResult) -> dict:
    return json.loads((result.folder / "run.json").read_text())


# ---- all of it at once ----


@pytest.fixture(scope="module")
def finished(mine: Path) -> tuple[RunResult, str]:
    """A run with everything of the user's own, and what it said."""
    log = (mine / "log.txt").open("w+")
    asked = options(
        mine / "run",
        **VIT,
        weights=mine / "vit.safetensors",
        pooling="cls",
        image_folder=mine / "photos",
        concepts=mine / "concepts.txt",
        suites=("gaussian_blur", "foreground_blur"),
    )
    result = run(asked, Display("plain", stream=log))
    log.seek(0)
    return result, log.read()


def test_everything_of_the_users_own_goes_through_a_whole_run(finished: tuple[RunResult, str]) -> None:
    result, said = finished
    assert result.failed == []
    labels = RunFolder(result.folder).read_table("labels")
    assert set(labels["task"]) == {"timm_test_vit_blocks_5_cls_own_images_own_concepts"}
    assert set(labels["perturbation"]) == {"clean", "gaussian_blur", "foreground_blur"}
    assert set(labels["label"]) <= {"red", "blue", "fish", "striped"}
    evidence = RunFolder(result.folder).read_table("evidence")
    assert all(name.startswith("test-") and name.endswith(".png") for name in evidence["image"])
    assert "The images of own_images have no foreground masks: the segmenter provides them." in said
    assert "The user's own in this run: network, images, concepts. Its models know only rendered scenes" in said


def test_the_run_says_what_was_the_users_own(finished: tuple[RunResult, str], mine: Path) -> None:
    known = facts_of(finished[0])
    identity = known["identity"]
    (task,) = identity["content"]["tasks"].values()
    assert (task["model"], task["layer"], task["pooling"], task["images"]) == ("timm_test_vit", "blocks.5", "cls", 24)
    assert task["weights"] == file_sha256(mine / "vit.safetensors")[:16]
    assert identity["masks"] == known["facts"]["profile"]["masks"] == "segmenter"
    assert str(mine) not in json.dumps(identity)
    (about,) = known["facts"]["tasks"].values()
    assert "ResNet" not in about["citation"] + str(about["licences"])


def test_the_same_files_elsewhere_continue_the_run(finished: tuple[RunResult, str], mine: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(mine, moved)
    before = (mine / "run" / "labels.parquet").read_bytes()
    changes = {
        **VIT,
        "weights": moved / "vit.safetensors",
        "pooling": "cls",
        "image_folder": moved / "photos",
        "concepts": moved / "concepts.txt",
        "suites": ("gaussian_blur", "foreground_blur"),
    }
    started(moved / "run", **changes)
    assert (moved / "run" / "labels.parquet").read_bytes() == before
    (moved / "concepts.txt").write_text("red\nblue\n")
    with pytest.raises(StoreError, match="concepts"):
        started(moved / "run", **changes)


def test_a_board_keeps_it_apart_from_the_task_it_came_from(
    finished: tuple[RunResult, str], mine: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "own").symlink_to(finished[0].folder)
    started(tmp_path / "runs" / "usual", methods=("random_label",), images=COUNT)
    started(tmp_path / "runs" / "photos", methods=("random_label",), image_folder=mine / "photos")
    groups = merge_runs(tmp_path / "runs").groups
    assert [group.task for group in groups] == [
        TASK,
        f"{TASK}_own_images",
        "timm_test_vit_blocks_5_cls_own_images_own_concepts",
    ]


# ---- networks ----


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"weights": "resnet.safetensors", "layer": "layer4"}, "torchvision_resnet18_layer4"),
        ({"weights": "resnet.pt", "strip_prefix": "module.", "layer": None}, "torchvision_resnet18_layer4"),
    ],
)
def test_weights_in_either_form_give_the_same_labels(mine: Path, tmp_path: Path, changes: dict, named: str) -> None:
    changes = {**changes, "weights": mine / changes["weights"]}
    changes |= {"model": "torchvision:resnet18", "methods": ("random_label",), "images": 6}
    result = started(tmp_path / "run", **changes)
    evidence = RunFolder(result.folder).read_table("evidence")
    assert set(evidence["task"]) == {named}
    strongest = evidence[(evidence["rank"] == 1) & (evidence["perturbation"] == "clean")].set_index("unit")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        timm.create_model("test_vit", num_classes=7)
        network = torchvision.models.resnet18(num_classes=5).eval()
    steps = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    network.fc = torch.nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    with torch.inference_mode():
        read = network(steps(MiniatureProbingSet("probe", 6).seen_by(steps.view).images))
    assert strongest["activation"].to_numpy() == pytest.approx(read[:, [1, 3]].amax(0).numpy(), rel=1e-4)


def test_a_factory_is_run_and_known_by_its_weights(factory: Path, tmp_path: Path) -> None:
    changes = {"model": "my_networks:small", "layer": "1", "unit_ids": None, "methods": ("random_label",), "images": 10}
    result = started(tmp_path / "run", **changes)
    scores = RunFolder(result.folder).read_table("scores")
    assert set(scores["task"]) == {"my_networks_small_1"}
    # The layer has five units, fewer than the task labels.
    assert set(scores["unit"]) == set(range(5))
    started(tmp_path / "run", **changes)
    # Of another length: a file of the same size, written within the same second, would be read from its old bytecode.
    factory.write_text(FACTORY.replace("SEED", "12345"))
    sys.modules.pop("my_networks")
    with pytest.raises(StoreError, match="networks"):
        started(tmp_path / "run", **changes)


def test_the_hash_of_a_network_is_of_its_weights_alone() -> None:
    first = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    again = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    again.load_state_dict(first.state_dict())
    again = again.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    assert weights_sha256(first) == weights_sha256(again)
    with torch.no_grad():
        again[0].bias[0] += 1  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
    assert weights_sha256(first) != weights_sha256(again)


def test_a_layer_alone_may_be_exchanged(tmp_path: Path) -> None:
    _, (task,) = overridden(options(tmp_path, layer="layer2", pooling="max"))
    assert (task.name, task.layer, task.pooling, task.model) == (
        f"{TASK}_at_layer2_max",
        "layer2",
        "max",
        "resnet50",
    )
    assert task.truth == "best_concept"
    assert task.units.total is None
    _, (same,) = overridden(options(tmp_path, layer="layer4"))
    assert (same.name, same.units.total) == (TASK, 2048)
    _, (hidden,) = overridden(options(tmp_path, tasks=("resnet50_fc",), layer="layer2"))
    assert hidden.truth is None


def test_several_layers_make_a_task_each(mine: Path, tmp_path: Path) -> None:
    asked = {**VIT, "weights": mine / "vit.safetensors", "layer": "blocks.2, blocks.5.attn.heads"}
    profile, tasks = overridden(options(tmp_path, **asked))
    assert [(task.layer, task.model) for task in tasks] == [
        ("blocks.2", "timm_test_vit"),
        ("blocks.5.attn.heads", "timm_test_vit"),
    ]
    assert len({task.name for task in tasks}) == 2
    assert "timm_test_vit" in profile.targets
    _, tasks = overridden(options(tmp_path, layer="layer3,layer4"))
    assert [task.name for task in tasks] == [f"{TASK}_at_layer3", TASK]
    with pytest.raises(UserError, match="become the same"):
        overridden(options(tmp_path, layer="layer3,layer3"))


def test_names_of_tasks_stay_apart_however_long(mine: Path, tmp_path: Path) -> None:
    long = "timm:vit_base_patch16_clip_224.laion2b_ft_in12k_in1k"
    names = [
        overridden(options(tmp_path, model=long, layer=layer, image_folder=mine / "photos"))[1][0].name
        for layer in ("blocks.10.mlp.fc1", "blocks.11.mlp.fc1")
    ]
    assert names[0] != names[1]
    for name in names:
        assert len(name) <= 60
        task = overridden(options(tmp_path, model=long))[1][0]
        assert type(task).model_validate({**task.model_dump(), "name": name}).name == name


def test_tasks_that_become_the_same_are_refused(mine: Path, tmp_path: Path) -> None:
    asked = options(tmp_path, tasks=(TASK, "resnet50_layer3"), **VIT, weights=mine / "vit.safetensors")
    with pytest.raises(UserError, match="become the same, timm_test_vit_blocks_5: name one"):
        overridden(asked)


def test_a_layer_that_no_pass_reaches_is_a_sentence() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = torch.nn.Conv2d(3, 2, 3), torch.nn.Conv2d(3, 2, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.used(images)

    target = TargetModel(Odd(), Preprocessing(32, None, (0, 0, 0), (1, 1, 1)), CPU)
    check_layer(target, "used", "mean")
    with pytest.raises(UserError, match="'unused' cannot be read: no forward pass reaches it"):
        check_layer(target, "unused", "mean")
    with pytest.raises(UserError, match="Did you mean unused or used"):
        check_layer(target, "unsued", "mean")
    with pytest.raises(UserError, match="Pooling 'cls' needs a layer of tokens"):
        check_layer(target, "used", "cls")


# ---- images and concepts ----


def test_a_folder_is_taken_whole_or_to_the_number_asked(mine: Path, tmp_path: Path) -> None:
    def number(**changes: object) -> int:
        asked = options(tmp_path, image_folder=mine / "photos", **changes)
        profile, (task,) = overridden(asked)
        return with_image_count(task, asked, Roles(profile, CPU)).images if asked.images is None else asked.images

    assert number() == COUNT
    assert number(images=12) == 12
    few = tmp_path / "task.yaml"
    literal = yaml.safe_load(Path(sys.modules["tasks"].__path__[0], "definitions", f"{TASK}.yaml").read_text())
    few.write_text(yaml.safe_dump({**literal, "name": "few", "images": 20}))
    assert number(tasks=(str(few),)) == 20


def test_damaged_images_are_left_out_of_a_folder(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in (mine / "photos").iterdir():
        (photos / path.name).symlink_to(path)
    (photos / "broken.png").touch()
    monkeypatch.chdir(tmp_path)
    asked = options(tmp_path, image_folder=photos, methods=("random_label",), suites=("foreground_blur",))
    asked = asked.model_copy(update={"out": None})
    result = run(asked, Display("quiet"))
    # Whatever is decided on the way, the folder follows from what was asked.
    assert list(Path("runs").iterdir()) == [result.folder] == [asked.folder()]
    (task,) = facts_of(result)["identity"]["content"]["tasks"].values()
    assert task["images"] == COUNT


def test_class_folders_are_the_truth_of_hidden_units(mine: Path, tmp_path: Path) -> None:
    photos, vivid = tmp_path / "photos", []
    for number, path in enumerate(sorted((mine / "photos").iterdir())):
        name = ("bright", "dark")[number % 2]
        image = np.asarray(Image.open(path)).astype(float)
        (photos / name).mkdir(parents=True, exist_ok=True)
        vivid.append(np.clip(image * (1.5 if name == "bright" else 0.2), 0, 255).astype(np.uint8))
        Image.fromarray(vivid[-1]).save(photos / name / path.name)
    result = started(tmp_path / "run", image_folder=photos, methods=("random_label",), unit_ids=None, units=60)
    scores = RunFolder(result.folder).read_table("scores")
    assert set(scores["truth"].dropna()) <= {"bright", "dark"}
    assert scores["truth"].notna().any()
    assert not scores.loc[scores["truth"].notna(), "right"].astype(bool).any()


def test_methods_that_need_annotation_are_left_out_aloud_or_refused(
    mine: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quick = {"image_folder": mine / "photos"}
    with pytest.raises(UserError, match=r"network_dissection needs .* remove it from --methods \(random_label\)"):
        started(tmp_path / "asked", methods=("network_dissection", "random_label"), **quick)
    assert not (tmp_path / "asked").exists()
    asked = options(tmp_path, methods=None, **quick)
    profile, tasks = overridden(asked)
    roles = Roles(profile, CPU)
    tasks = [with_image_count(task, asked, roles) for task in tasks]
    kept, _ = adapt_options(asked, tasks, load_methods(asked, profile), roles, Display("quiet"))
    assert "network_dissection" not in kept
    assert {"clip_dissect", "dnd", "random_label"} <= set(kept)
    assert (
        "network_dissection needs images with concept annotation, which those of own_images" in capfd.readouterr().err
    )


def test_backgrounds_are_not_exchanged_between_images_without_classes(mine: Path, tmp_path: Path) -> None:
    asked = options(tmp_path, methods=("random_label",), image_folder=mine / "photos", suites=("background_swap",))
    profile, tasks = overridden(asked)
    roles = Roles(profile, CPU)
    tasks = [with_image_count(task, asked, roles) for task in tasks]
    with pytest.raises(UserError, match="mixed_same takes backgrounds by class, but the probing images have neither"):
        adapt_options(asked, tasks, load_methods(asked, profile), roles, Display("quiet"))


def test_a_plan_is_of_the_folder_and_methods_that_the_run_has(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = options(tmp_path, methods=None, suites=("foreground_blur",), image_folder=mine / "photos", cache="none")
    asked = asked.model_copy(update={"out": None})
    monkeypatch.setattr("benchmark.plan.make.SECONDS", 0.0)
    # Masks and methods are other ones than asked for; the folder follows from what was asked.
    plan = make_plan(asked, Display("quiet"))
    assert plan["folder"] == str(asked.folder())
    assert "network_dissection" not in plan["tasks"][0]["methods"]


# ---- mistakes ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({**VIT, "layer": "block.5", "weights": "vit.safetensors"}, r"Did you mean blocks\.5.*--list-layers"),
        ({**VIT, "weights": "resnet.safetensors"}, "does not fit test_vit"),
        ({**VIT, "weights": "vit.safetensors", "layer": "patch_embed", "pooling": "cls"}, "needs a layer of tokens"),
        ({**VIT, "weights": "gone.safetensors"}, r"no weights file .*gone\.safetensors"),
        ({**VIT, "weights": "text.safetensors"}, r"text\.safetensors cannot be read"),
        ({"model": "torchvision:resnet18", "weights": "resnet.pt"}, r"does not fit|strip_prefix"),
        ({"model": "timm:tset_vit"}, "Did you mean test_vit"),
        ({"model": "no_such_module:network"}, "'no_such_module' .* cannot be imported"),
        ({"concepts": "gone.txt"}, r"gone\.txt does not exist"),
        ({"image_folder": "gone"}, "neither a number nor a folder"),
        ({"image_folder": "empty"}, "holds no images"),
        ({"image_folder": "one"}, "contains 1 images, but a run needs at least 2"),
        ({"image_folder": "photos", "images": 25}, "contains 24 images, but --image-count asks for 25"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(mine: Path, tmp_path: Path, changes: dict, message: str) -> None:
    (mine / "empty").mkdir(exist_ok=True)
    (mine / "text.safetensors").write_bytes(CONCEPTS)
    if not (mine / "one").exists():
        (mine / "one").mkdir()
        (mine / "one" / "a.png").write_bytes(next((mine / "photos").iterdir()).read_bytes())
    places = {name: mine / changes[name] for name in ("weights", "concepts", "image_folder") if name in changes}
    with pytest.raises(UserError, match=message) as caught:
        started(tmp_path / "run", **changes | places)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "x.pt"], "--weights needs --model"),
        (["--strip-prefix", "module.", "--model", "timm:test_vit"], "--strip-prefix needs --weights"),
        (["--images", "20", "--image-count", "10"], "give --images FOLDER with it"),
        (["--images", "nowhere"], "--images nowhere is neither a number nor a folder"),
        (["--pooling", "median"], "pooling"),
        (["--concepts", "nowhere.txt"], "nowhere.txt does not exist"),
        (["--list-layers", "--task", f"{TASK},resnet18_layer4"], "shows one network"),
    ],
)
def test_what_does_not_go_together_is_told_by_the_command_line(arguments: list[str], message: str) -> None:
    told = CliRunner().invoke(app, ["run", *([] if "--task" in arguments else ["--task", TASK]), *arguments])
    assert told.exit_code == 1, told.output
    assert message in told.stderr
    assert told.stdout == ""


# ---- the command line ----


def test_layers_are_listed_of_a_task_or_a_model(mine: Path) -> None:
    asked = ["run", "--list-layers", "--model", "timm:test_vit", "--weights", str(mine / "vit.safetensors")]
    shown, as_json = CliRunner().invoke(app, asked), CliRunner().invoke(app, [*asked, "--json"])
    assert (shown.exit_code, as_json.exit_code) == (0, 0)
    rows = {row["name"]: row for row in json.loads(as_json.stdout)}
    assert rows["blocks.5"] == {"name": "blocks.5", "kind": "tokens", "units": 64, "shape": [101, 64]}
    assert rows["patch_embed"]["kind"] == "spatial"
    assert rows["head"] == {"name": "head", "kind": "vector", "units": 7, "shape": [7]}
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["layer", "kind", "units", "output", "for", "one", "image"]
    assert [line.split()[0] for line in lines[1:]] == list(rows)
    shown = CliRunner().invoke(app, ["run", "--list-layers", "--task", "resnet18_layer4"])
    assert shown.exit_code == 0
    assert any(line.split()[:3] == ["layer4", "spatial", "512"] for line in shown.stdout.splitlines())


def test_the_command_line_passes_everything_on(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[RunOptions] = []

    def note(found: RunOptions, display: Display, tasks: Sequence[Task]) -> None:
        asked.append(found)
        raise UserError("enough")

    monkeypatch.setattr("benchmark.runner.run", note)
    monkeypatch.setenv("HOME", str(mine))
    arguments = ["--model", "timm:test_vit", "--weights", "~/vit.safetensors", "--layer", "blocks.5", "--pooling"]
    arguments += ["cls", "--images", str(mine / "photos"), "--image-count", "20", "--concepts", "~/concepts.txt"]
    CliRunner().invoke(app, ["run", "--task", TASK, *arguments])
    assert asked == [
        RunOptions(
            tasks=(TASK,),
            model="timm:test_vit",
            weights=mine / "vit.safetensors",
            layer="blocks.5",
            pooling="cls",
            images=20,
            image_folder=mine / "photos",
            concepts=mine / "concepts.txt",
        )
    ]


# ---- profiles without a vocabulary ----


def without_vocabulary(folder: Path) -> Path:
    """The miniature's models on a Broden folder, as a profile of the user's that knows no class names."""
    package = Path(sys.modules["tasks"].__path__[0])
    literal = yaml.safe_load((package / "profiles" / "miniature.yaml").read_text().replace("../", f"{package}/"))
    broden = {"loader": "broden", "path": str(folder / "broden"), "licence": "MIT"}
    literal |= {"name": "mine", "vocabulary": None, "probing_sets": {"scenes": broden}}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(literal))
    return path


def test_annotation_names_the_truth_where_there_is_no_vocabulary(tmp_path: Path) -> None:
    export(tmp_path / "broden", "probe", 60)
    result = started(
        tmp_path / "run",
        profile=str(without_vocabulary(tmp_path)),
        methods=("network_dissection",),
        method_options={},
        images=60,
        unit_ids=(29, 70, 109),
        repeats=1,
        faithfulness="clean",
    )
    assert result.failed == []
    folder = RunFolder(result.folder)
    scores = folder.read_table("scores").set_index(["perturbation", "unit"]).loc["clean"]
    # As Broden names them, not as the miniature does.
    assert scores["truth"].to_dict() == {29: "red color", 70: "pink color", 109: "cup"}
    assert scores["right"].notna().all()
    assert set(folder.read_table("faithfulness")["presence"]) == {"annotation"}


def test_imagenets_names_are_the_truth_of_a_thousand_outputs(tmp_path: Path) -> None:
    roles = Roles(load_profile(str(without_vocabulary(tmp_path))), CPU)
    names = roles.class_names(1000)
    assert names is not None
    assert (names[0], names[134], len(names)) == ("tench, Tinca tinca", "crane", 1000)
    assert roles.class_names() is roles.class_names(46) is None
    assert Roles(load_profile("miniature"), CPU).class_names(1000) is None
    truth = class_truth(names[0])
    assert truth == {"concept": "tench", "synonyms": ["Tinca tinca"]}
    assert class_truth("crane") == {"concept": "crane"}
    assert right_labels(["dog"], [{"concept": "-"}], roles) == [None]
    told = right_labels(["a tench in a pond", "tinca tinca", "goldfish", None], [truth] * 4, roles)
    assert told == [True, True, False, None]
    assert roles.rivals("tench") == ()


def test_fewer_units_than_a_task_labels_are_all_labelled(tmp_path: Path, mine: Path) -> None:
    asked = options(tmp_path, **VIT, weights=mine / "vit.safetensors")
    _, (task,) = overridden(asked)
    assert with_all_units(task, asked, 7).units.label == "all"
    assert with_all_units(task, asked, 64) == task
