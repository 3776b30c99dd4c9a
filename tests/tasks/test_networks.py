"""Target networks by torchvision, timm and a function of the user's, from local files of every form."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models import ResNet18_Weights, ResNet50_Weights, WeightsEnum

from tasks.common.errors import UserError
from tasks.models.preprocessing import Preprocessing
from tasks.models.target import TargetModel
from tasks.models.weights import file_sha256
from tasks.profiles.build import Roles
from tasks.profiles.fetch import torchvision_path
from tasks.profiles.networks import _ReadWeights, build_network, published_torchvision, timm_preprocessing
from tasks.profiles.schema import load_profile
from tasks.profiles.sources import Input, Target

PREPARED = Input(resize=64, crop=48, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.3))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CPU = torch.device("cpu")


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()


@pytest.fixture(scope="module")
def resnet():
    return seeded(lambda: torchvision.models.resnet18(num_classes=5))


@pytest.fixture(scope="module")
def vit():
    return seeded(lambda: timm.create_model("test_vit", num_classes=7))


def entry(path=None, **fields):
    fields = {"loader": "torchvision", "architecture": "resnet18", "licence": None, **fields}
    return Target.model_validate({**fields, **({"weights": path} if path else {})})


@torch.inference_mode()
def same(found, expected, side=48):
    batch = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(found(batch), expected(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["safetensors", "pt", "wrapped", "places365"])
def test_a_torchvision_network_from_a_file_of_any_form(resnet, tmp_path, form):
    state, strip = resnet.state_dict(), ""
    path = tmp_path / {"safetensors": "a.safetensors", "places365": "a.pth.tar"}.get(form, "a.pt")
    if form == "safetensors":
        save_file(state, path)
    elif form == "places365":
        named = {f"module.{name}": tensor for name, tensor in state.items()}
        torch.save({"arch": "resnet18", "epoch": 90, "best_prec1": 54.7, "state_dict": named}, path)
        strip = "module."
    else:
        torch.save({"state_dict": state} if form == "wrapped" else state, path)
    target = entry(path, classes=5, strip_prefix=strip, sha256=file_sha256(path), input=PREPARED)
    network, steps = build_network(target)
    same(network, resnet)
    assert steps == Preprocessing(64, 48, (0.5, 0.4, 0.3), (0.2, 0.2, 0.3))
    assert not network.training


def test_the_profile_gives_it_to_a_run(resnet, tmp_path):
    save_file(resnet.state_dict(), tmp_path / "a.safetensors")
    target = entry(tmp_path / "a.safetensors", classes=5, input=PREPARED)
    profile = load_profile("miniature").model_copy(update={"targets": {"mine": target}})
    roles = Roles(profile, CPU)
    assert isinstance(roles.target("mine"), TargetModel)
    assert roles.unit_count("mine", "layer4") == 512
    assert roles.unit_count("mine", "fc") == 5


def test_that_published_weights_need_other_preprocessing_is_said(tmp_path, caplog):
    network = torchvision.models.googlenet(weights=None, init_weights=False, aux_logits=True)
    path = tmp_path / "googlenet.pt"
    torch.save(network.state_dict(), path)
    build_network(entry(path, architecture="googlenet", input=PREPARED))
    assert "googlenet is built without transform_input" in caplog.text
    assert str(path) in caplog.text


def test_a_forgotten_prefix_is_named(resnet, tmp_path):
    torch.save({f"module.{name}": tensor for name, tensor in resnet.state_dict().items()}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"strip_prefix: module\. \(--strip-prefix module\.\) may help") as caught:
        build_network(entry(tmp_path / "a.pt", classes=5, input=PREPARED))
    assert len(str(caught.value)) < 600


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Puts weights where torchvision keeps a published file, as if they had been fetched."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def put(network, tag):
        path = torchvision_path(tag)
        path.parent.mkdir(parents=True)
        torch.save(network.state_dict(), path)
        return path

    return put


def test_published_weights_come_with_their_preparation(published):
    network = seeded(torchvision.models.resnet18)
    published(network, ResNet18_Weights.IMAGENET1K_V1)
    found, steps = build_network(entry(pretrained="IMAGENET1K_V1"))
    same(found, network)
    assert steps == Preprocessing(256, 224, *IMAGENET)
    steps = build_network(entry(pretrained="IMAGENET1K_V1", input=PREPARED))[1]
    assert steps.crop == 48


def test_published_weights_may_lie_anywhere_and_run_no_code(tmp_path):
    network = seeded(torchvision.models.resnet18)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    found, steps = build_network(entry(tmp_path / "mine.pth", pretrained="IMAGENET1K_V1"))
    same(found, network)
    assert steps.side == 224

    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "canary"),)

    torch.save({**network.state_dict(), "x": Canary()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="holds more than tensors"):
        build_network(entry(tmp_path / "evil.pth", pretrained="IMAGENET1K_V1"))
    assert not (tmp_path / "canary").exists()


BUILT = {
    "googlenet": {"aux_logits": True, "init_weights": False},
    "lraspp_mobilenet_v3_large": {"weights_backbone": None, "num_classes": 21},
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"weights_backbone": None, "num_classes": 91},
}
"""Architecture → how a network is built that has the tensors of its published file."""


def shape_of(network):
    """All that is no tensor: classes, and switches such as GoogLeNet's transform_input."""
    plain = bool | int | float | str | tuple | type(None)
    return [
        (name, type(part), {key: value for key, value in vars(part).items() if isinstance(value, plain)})
        for name, part in network.eval().named_modules()
    ]


@pytest.mark.parametrize("architecture", BUILT)
def test_published_weights_give_the_network_that_torchvision_builds_of_them(architecture, published, monkeypatch):
    build, loads = torchvision.models.get_model, WeightsEnum.get_state_dict
    (tag, *_) = torchvision.models.get_model_weights(architecture)
    path = published(seeded(lambda: build(architecture, weights=None, **BUILT[architecture])), tag)
    theirs = build(architecture, weights=tag)

    def watched(*args, **options):
        assert WeightsEnum.get_state_dict is loads, "other threads may load weights meanwhile"
        return build(*args, **options)

    monkeypatch.setattr(torchvision.models, "get_model", watched)
    ours = published_torchvision(architecture, tag.name, path)
    assert shape_of(ours) == shape_of(theirs)
    same(ours, theirs)


def test_weights_that_were_read_compare_as_the_published_ones():
    """torchvision's builders of detectors set what only some of their weights need."""
    tag = ResNet18_Weights.IMAGENET1K_V1
    read = _ReadWeights(tag, {})
    assert read == tag
    assert tag == read
    assert _ReadWeights(ResNet50_Weights.IMAGENET1K_V1, {}) != ResNet50_Weights.IMAGENET1K_V2
    assert ResNet18_Weights.verify(read) is read
    with pytest.raises(TypeError):
        ResNet50_Weights.verify(read)


def test_older_names_of_published_weights_fit(published):
    """torchvision's DenseNets were published with other names than its classes have now."""
    from torchvision.models import DenseNet121_Weights

    network = seeded(torchvision.models.densenet121)
    path = published(network, DenseNet121_Weights.IMAGENET1K_V1)
    old = {}
    for name, tensor in network.state_dict().items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in name:
                name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        if not name.endswith("num_batches_tracked"):
            old[name] = tensor
    assert not old.keys() <= network.state_dict().keys()
    torch.save(old, path)
    same(build_network(entry(architecture="densenet121", pretrained="IMAGENET1K_V1"))[0], network)


def test_offline_an_absent_published_file_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="offline") as caught:
        build_network(entry(pretrained="IMAGENET1K_V1"))
    said = str(caught.value)
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in said
    assert str(tmp_path / "checkpoints") in said
    assert "weights: FILE" in said
    assert not list(tmp_path.iterdir())


def test_without_network_a_download_fails_in_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(UserError, match="could not be loaded") as caught:
        build_network(entry(pretrained="IMAGENET1K_V1"), "the target resnet18")
    assert "weights: FILE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_timm_network_from_its_own_weights(vit, tmp_path):
    save_file(vit.state_dict(), tmp_path / "a.safetensors")
    network, steps = build_network(entry(tmp_path / "a.safetensors", loader="timm", architecture="test_vit", classes=7))
    same(network, vit, 160)
    # timm: crop_pct 0.95 of 160 px, bicubic.
    assert steps == Preprocessing(168, 160, (0.5,) * 3, (0.5,) * 3, "bicubic")


def test_a_timm_network_from_the_published_file(tmp_path):
    network = seeded(lambda: timm.create_model("test_vit"))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    target = entry(tmp_path / "model.safetensors", loader="timm", architecture="test_vit", pretrained="r160_in1k")
    same(build_network(target)[0], network, 160)
    with pytest.raises(UserError, match="have 1000 outputs, not 7"):
        build_network(target.model_copy(update={"classes": 7}))


def test_weights_of_another_implementation_are_taken_by_their_order(vit, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({f"layer{number}": tensor for number, tensor in enumerate(vit.state_dict().values())}, path)
    fields = {"loader": "timm", "architecture": "test_vit", "classes": 7, "sha256": file_sha256(path)}
    with pytest.raises(UserError, match="does not fit test_vit with 7 classes"):
        build_network(entry(path, **fields))
    same(build_network(entry(path, match="order", **fields))[0], vit, 160)


def test_weights_of_another_order_are_refused(vit, tmp_path):
    state = list(vit.state_dict().items())
    for name, content, said in (
        ("fewer", state[:-1], f"holds {len(state) - 1} tensors, but test_vit has {len(state)}"),
        ("turned", state[::-1], "is not test_vit in its order: 'head.bias' has the shape"),
    ):
        path = tmp_path / f"{name}.pth"
        torch.save(dict(content), path)
        with pytest.raises(UserError, match=said):
            build_network(
                entry(path, loader="timm", architecture="test_vit", classes=7, match="order", sha256=file_sha256(path))
            )
    with pytest.raises(ValueError, match="pinned by its sha256"):
        entry(path, loader="timm", architecture="test_vit", match="order")


def test_weights_of_a_package_that_is_not_installed_are_told(tmp_path):
    profile = load_profile("miniature")
    absent = Path("package:no-such-distribution/weights.pth")
    target = profile.target("resnet18").model_copy(update={"weights": absent})
    roles = Roles(profile.model_copy(update={"targets": {"resnet18": target}}), CPU)
    with pytest.raises(UserError, match=r"of no-such-distribution.*To get it: pip install no-such-distribution"):
        roles.target("resnet18")


def test_a_timm_network_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"test_vit\.r160_in1k.*could not be loaded") as caught:
        build_network(entry(loader="timm", architecture="test_vit", pretrained="r160_in1k"))
    assert "weights: FILE" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"architecture": "resnet81", "pretrained": "IMAGENET1K_V1"}, "Did you mean resnet18"),
        ({"pretrained": "IMAGENET1K_V7"}, "IMAGENET1K_V1"),
        ({"loader": "timm", "architecture": "tset_vit", "pretrained": "x"}, "Did you mean test_vit"),
        ({"loader": "timm", "architecture": "test_vit", "pretrained": "x"}, "r160_in1k"),
        ({"pretrained": "IMAGENET1K_V1", "classes": 5}, "have 1000 outputs, not 5"),
        ({"loader": "factory", "architecture": "nowhere.at_all:build", "input": PREPARED}, "cannot be imported"),
        ({"loader": "factory", "architecture": "os.path:jion", "input": PREPARED}, "Did you mean join"),
        ({"loader": "factory", "architecture": "time:time", "input": PREPARED}, "gives a float"),
        ({"loader": "factory", "architecture": "sys:exit", "input": PREPARED}, "fails .SystemExit"),
        ({"loader": "factory", "architecture": "os:open", "input": PREPARED}, "fails .TypeError"),
    ],
)
def test_mistakes_are_explained(fields, said):
    with pytest.raises(UserError, match=said):
        build_network(entry(**fields))


def test_a_factory_is_imported_by_name_and_called_without_arguments(resnet, tmp_path, monkeypatch):
    (tmp_path / "five_classes.py").write_text(
        "import torchvision\n\ndef small():\n    return torchvision.models.resnet18(num_classes=5)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    save_file(resnet.state_dict(), tmp_path / "a.safetensors")
    target = entry(tmp_path / "a.safetensors", loader="factory", architecture="five_classes:small", input=PREPARED)
    same(build_network(target)[0], resnet)
    # Without weights the function brings its own.
    bare = build_network(entry(loader="factory", architecture="five_classes:small", input=PREPARED))[0]
    assert bare.fc.out_features == 5


@pytest.mark.parametrize("body", ["import sys; sys.exit(0)", "1 / 0", "raise RuntimeError('a\\nb')", "def"])
def test_a_module_that_ends_the_process_or_raises_is_a_sentence(tmp_path, monkeypatch, body):
    (tmp_path / "ending.py").write_text(body)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    with pytest.raises(UserError, match="cannot be imported") as caught:
        build_network(entry(loader="factory", architecture="ending:build", input=PREPARED))
    assert "\n" not in str(caught.value)


def test_a_network_in_half_precision_is_read_in_float32(tmp_path, monkeypatch):
    (tmp_path / "halved.py").write_text(
        "import torchvision\n\ndef small():\n    return torchvision.models.resnet18(num_classes=5).half()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    network = build_network(entry(loader="factory", architecture="halved:small", input=PREPARED))[0]
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("torch.nn.Sequential(torch.jit.script(torch.nn.ReLU()))", "scripted network"),
        ("torch.nn.Sequential(torch.nn.LazyConv2d(8, 7), torch.nn.ReLU())", "lazy layers"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_a_network_whose_layers_cannot_be_read_is_refused(tmp_path, monkeypatch, made, said):
    (tmp_path / "unreadable.py").write_text(f"import torch\n\ndef build():\n    return {made}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "unreadable", raising=False)
    with pytest.raises(UserError, match=said):
        build_network(entry(loader="factory", architecture="unreadable:build", input=PREPARED))


@pytest.mark.parametrize("name", ["os.system", "os:system('x')", "__import__('os'):system", "a b:c", ":x", "x:"])
def test_a_factory_is_a_name_and_never_evaluated(name):
    with pytest.raises(ValueError, match="form package"):
        entry(loader="factory", architecture=name, input=PREPARED)


def test_what_timm_asks_for():
    asked = {"input_size": (3, 224, 224), "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center"}
    asked |= {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert timm_preprocessing(asked) == Preprocessing(256, 224, (0.5,) * 3, (0.5,) * 3, "bicubic")
    squeezed = timm_preprocessing({**asked, "crop_mode": "squash", "crop_pct": 1.0})
    assert (squeezed.resize, squeezed.crop) == (224, None)
    for change in ({"crop_mode": "border"}, {"input_size": (3, 224, 192)}, {"interpolation": "lanczos"}):
        with pytest.raises(UserError, match="CLEAR does not"):
            timm_preprocessing({**asked, **change})


@pytest.mark.parametrize("size", [(50, 50), (41, 77)])
def test_bicubic_preparation_is_torchvisions(size):
    from torchvision.transforms import InterpolationMode, v2

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, *size), generator=generator, dtype=torch.uint8)
    expected = v2.Compose(
        [
            v2.Resize(40, interpolation=InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(32),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*IMAGENET),
        ]
    )(images)
    steps = Preprocessing(40, 32, *IMAGENET, "bicubic")
    torch.testing.assert_close(steps(steps.view(images)), expected, rtol=0, atol=1e-5)
