"""Layer capture against hooks set by hand, and pooling against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from tasks.activations.capture import LayerCapture, layer_kind, output_layer, pool, resolve_layer
from tasks.common.errors import UserError


class Counting(nn.Module):
    """Passes its input on and counts its calls."""

    def __init__(self, fail=False):
        super().__init__()
        self.calls = 0
        self.fail = fail

    def forward(self, batch):
        self.calls += 1
        if self.fail:
            raise ArithmeticError("on purpose")
        return batch


def small_model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.Flatten(),
        nn.Linear(20, 6),
        Counting(),
    ).eval()


@pytest.fixture(scope="module")
def resnet():
    generator = torch.Generator().manual_seed(1)
    model = torchvision.models.resnet18(weights=None, num_classes=10).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


def by_hand(model, names, batch):
    """Outputs of each layer's first call, copied at once."""
    kept, handles = {}, []
    for name in names:

        def keep(_, __, output, name=name):
            kept.setdefault(name, output.detach().clone())

        handles.append(model.get_submodule(name).register_forward_hook(keep))
    model(batch)
    for handle in handles:
        handle.remove()
    return kept


def hooks_of(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def assert_same(captured, expected):
    assert set(captured) == set(expected)
    for name, output in expected.items():
        assert torch.equal(captured[name], output), name


@torch.no_grad()
def test_outputs_are_those_of_hooks_set_by_hand():
    model, batch = small_model(), torch.randn(3, 3, 6, 6)
    for names in (["0"], ["5"], ["0", "1"], ["3", "0", "5"], [str(n) for n in range(7)]):
        with LayerCapture(model, names) as capture:
            assert_same(capture(batch), by_hand(model, names, batch))
            assert_same(capture(batch[:1]), by_hand(model, names, batch[:1]))


@torch.no_grad()
def test_outputs_of_a_torchvision_network(resnet):
    batch = torch.randn(2, 3, 32, 32)
    names = ["bn1", "layer1", "layer2.0.bn2", "layer4.1.conv2", "layer4", "avgpool", "fc"]
    with LayerCapture(resnet, names) as capture:
        assert_same(capture(batch), by_hand(resnet, names, batch))


@torch.no_grad()
@pytest.mark.parametrize("name", ["bn1", "relu", "layer1.0.relu", "layer3.1.bn2", "layer4.1.relu", "layer4"])
def test_a_layer_shows_the_same_whichever_others_are_captured(resnet, name):
    """torchvision's ReLUs work in place, and each block calls its only ReLU twice."""
    batch = torch.randn(2, 3, 32, 32)
    with LayerCapture(resnet, [name]) as capture:
        alone = capture(batch)[name].clone()
    with LayerCapture(resnet, ["fc", name, "conv1"]) as capture:
        assert torch.equal(capture(batch)[name], alone)


@torch.no_grad()
def test_the_pass_ends_with_the_last_wanted_layer():
    model, batch = small_model(), torch.randn(2, 3, 6, 6)
    with LayerCapture(model, ["0", "5"]) as capture:
        capture(batch)
        capture(batch)
    assert model[6].calls == 0
    model(batch)
    assert model[6].calls == 1
    with LayerCapture(model, ["6"]) as capture:
        capture(batch)
    assert model[6].calls == 2


def test_hooks_are_removed_on_every_way_out():
    model = nn.Sequential(nn.Linear(4, 4), Counting(fail=True), nn.Linear(4, 2))
    with LayerCapture(model, ["0"]) as capture:
        assert hooks_of(model) == 1
        kept = capture(torch.ones(2, 4))
    assert hooks_of(model) == 0
    assert kept["0"].shape == (2, 4)
    capture = LayerCapture(model, ["0", "2"])
    with capture, pytest.raises(ArithmeticError):
        capture(torch.ones(2, 4))
    assert hooks_of(model) == 0
    with pytest.raises(KeyError), LayerCapture(model, ["0"]):
        raise KeyError
    assert hooks_of(model) == 0


def test_reading_outside_the_context_or_what_is_never_reached_is_an_error():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model.unused = nn.Linear(3, 3)
    model.forward = lambda batch: model[1](model[0](batch))
    capture = LayerCapture(model, ["0"])
    with pytest.raises(RuntimeError, match="with block"):
        capture(torch.ones(1, 4))
    with LayerCapture(model, ["0", "unused"]) as capture, pytest.raises(UserError, match="not reach the layer"):
        capture(torch.ones(1, 4))
    assert hooks_of(model) == 0


def test_the_first_of_a_tuple_counts_and_other_outputs_are_refused():
    class Pair(nn.Module):
        def forward(self, batch):
            return batch + 1, batch

    class Named(nn.Module):
        def forward(self, batch):
            return {"out": batch}

    model = nn.Sequential(nn.Sequential(Pair()), nn.Identity())
    with LayerCapture(model, ["0.0"]) as capture:
        assert torch.equal(capture(torch.zeros(2, 3))["0.0"], torch.ones(2, 3))
    with LayerCapture(Named(), []) as capture, pytest.raises(RuntimeError):
        capture(torch.zeros(1))
    with LayerCapture(nn.Sequential(Named()), ["0"]) as capture, pytest.raises(UserError, match="gives a dict"):
        capture(torch.zeros(1))


@pytest.mark.parametrize(
    ("name", "near"),
    [("layer5", "layer4"), ("Layer4", "layer4"), ("layer4.1.conv3", "layer4.1.conv2"), ("avg-pool", "avgpool")],
)
def test_an_unknown_layer_is_named_with_its_nearest(resnet, name, near):
    with pytest.raises(UserError, match="Did you mean") as error:
        resolve_layer(resnet, name)
    hint = str(error.value).split("Did you mean")[1].split("?")[0]
    assert near in hint


@pytest.mark.parametrize(
    "name", ["layer4;import os", "__class__", "layer4.__class__", "", ".", "layer4.", "weight", "forward"]
)
def test_only_the_name_of_a_layer_passes(resnet, name):
    with pytest.raises(UserError, match="Unknown layer"):
        LayerCapture(resnet, [name])
    assert hooks_of(resnet) == 0


def test_a_known_layer_is_found(resnet):
    assert resolve_layer(resnet, "layer4.1.conv2") is resnet.layer4[1].conv2


@pytest.mark.parametrize(("shape", "kind"), [((2, 3, 4, 5), "spatial"), ((2, 7, 3), "tokens"), ((2, 3), "vector")])
def test_pooling_agrees_with_numpy(shape, kind):
    output = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    array = output.numpy()
    assert layer_kind(output) == kind
    axes = {"spatial": (2, 3), "tokens": (1,), "vector": ()}[kind]
    mean = array.mean(axes) if axes else array
    most = array.max(axes) if axes else array
    assert pool(output, "mean").shape == (2, 3)
    np.testing.assert_allclose(pool(output, "mean").numpy(), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(pool(output, "max").numpy(), most)


def test_the_cls_token_is_the_first():
    tokens = torch.randn(2, 7, 3)
    assert torch.equal(pool(tokens, "cls"), tokens[:, 0])
    assert torch.equal(pool(tokens[:, 0], "cls"), tokens[:, 0])
    with pytest.raises(UserError, match="'mean' or 'max'"):
        pool(torch.randn(2, 3, 4, 4), "cls")


@pytest.mark.parametrize("shape", [(5,), (1, 2, 3, 4, 5), ()])
def test_other_ranks_are_refused(shape):
    with pytest.raises(UserError, match=r"\[n, units, h, w\]"):
        layer_kind(torch.zeros(shape))


# ---- the network's own output ----


class Flattened(nn.Module):
    """Ends with a layer whose maps are flattened, as SqueezeNet does."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 3)
        self.last = nn.Sequential(nn.Conv2d(5, 4, 1), nn.AdaptiveAvgPool2d(1))
        self._scale = scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._scale * self.last(self.first(images)).flatten(1)


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (lambda: torchvision.models.resnet18(num_classes=7), "fc"),
        (lambda: torchvision.models.vgg11(num_classes=7), "classifier.6"),
        (lambda: torchvision.models.vit_b_16(num_classes=7, image_size=64), "heads.head"),
        (Flattened, "last.1"),
        (lambda: Flattened(2.0), None),
    ],
)
def test_the_layer_that_gives_the_networks_output_is_found(network, layer):
    torch.manual_seed(0)
    model = network().eval()
    assert output_layer(model, torch.rand(2, 3, 64, 64)) == layer
    assert not any(module._forward_hooks for module in model.modules())


def test_a_network_that_gives_no_tensor_has_no_output_layer():
    class Pair(nn.Module):
        def forward(self, images):
            return images, images

    assert output_layer(Pair(), torch.rand(1, 3, 8, 8)) is None
