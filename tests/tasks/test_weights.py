"""Weights: how much is lost, and that nothing but safetensors of the right hash is ever read."""

from __future__ import annotations

import hashlib
import pickle

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tasks.common.errors import UserError
from tasks.models.weights import SCALE, check_file, file_sha256, load_weights, save_weights


def some_weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.logspace(-6, 2, 8).view(-1, 1, 1, 1)
    return {
        "conv.weight": torch.randn(8, 3, 5, 5, generator=generator) * spread,
        "fc.weight": torch.randn(6, 11, generator=generator),
        "zero.weight": torch.zeros(3, 4),
        "bn.running_var": torch.rand(8, generator=generator) * 3,
        "bn.num_batches_tracked": torch.tensor(70_000),
        "scalar": torch.tensor(0.25),
    }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "model.safetensors"


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_int8_is_off_by_at_most_half_a_step_of_its_channel(path):
    weights = some_weights()
    save_weights(path, weights, int8=True)
    loaded = load_weights(path)
    assert set(loaded) == set(weights)
    for name in ("conv.weight", "fc.weight", "zero.weight"):
        assert loaded[name].dtype == torch.float32
        assert loaded[name].shape == weights[name].shape
        step = weights[name].flatten(1).abs().amax(1) / 127
        off = (loaded[name] - weights[name]).flatten(1).abs().amax(1)
        assert (off <= step * 0.5001).all(), name
    assert torch.equal(loaded["zero.weight"], torch.zeros(3, 4))


def test_int8_is_stored_as_int8_with_a_scale_for_each_channel(path):
    weights = some_weights()
    save_weights(path, weights, int8=True)
    stored = load_file(path)
    assert stored["conv.weight"].dtype == torch.int8
    assert stored["conv.weight"].abs().amax() == 127
    assert stored["conv.weight" + SCALE].shape == (8,)
    assert "bn.running_var" + SCALE not in stored
    assert path.stat().st_size < 0.6 * sum(weight.numel() for weight in weights.values()) * 4


def test_vectors_and_float16_are_off_by_half_a_step_of_float16(path):
    weights = some_weights()
    for int8, names in (
        (True, ["bn.running_var", "scalar"]),
        (False, ["conv.weight", "fc.weight", "bn.running_var", "scalar"]),
    ):
        save_weights(path, weights, int8=int8)
        loaded = load_weights(path)
        for name in names:
            assert loaded[name].dtype == torch.float32
            bound = weights[name].abs() * 2**-11 + 2**-25
            assert ((loaded[name] - weights[name]).abs() <= bound).all(), name
        assert torch.equal(loaded["bn.num_batches_tracked"], weights["bn.num_batches_tracked"])
        assert loaded["bn.num_batches_tracked"].dtype == torch.int64


def test_a_second_round_trip_changes_nothing(path):
    for int8 in (True, False):
        save_weights(path, some_weights(), int8=int8)
        once = load_weights(path)
        save_weights(path, once, int8=int8)
        for name, tensor in load_weights(path).items():
            assert torch.allclose(tensor, once[name], rtol=1e-6, atol=0)


def test_a_scale_in_float16_is_read_as_well(path):
    path.parent.mkdir()
    save_file(
        {"w": torch.tensor([[127, -64], [1, 2]], dtype=torch.int8), "w" + SCALE: torch.tensor([0.5, 2.0]).half()}, path
    )
    assert load_weights(path)["w"].tolist() == [[63.5, -32.0], [2.0, 4.0]]


@torch.no_grad()
def test_a_network_answers_alike_with_int8_weights(path):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None, num_classes=7).eval()
    batch = torch.randn(4, 3, 64, 64)
    expected = model(batch)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.to(memory_format=torch.channels_last)
    save_weights(path, model.state_dict(), int8=True)
    other = torchvision.models.resnet18(weights=None, num_classes=7).eval()
    other.load_state_dict(load_weights(path))
    assert set(load_weights(path)) == set(state)
    assert (other(batch) - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70_000.0])
def test_what_float16_cannot_hold_is_not_written(path, value):
    with pytest.raises(ValueError, match=r"bn\.bias"):
        save_weights(path, {"bn.bias": torch.tensor([1.0, value])}, int8=True)
    if value != 70_000.0:
        with pytest.raises(ValueError, match=r"fc\.weight"):
            save_weights(path, {"fc.weight": torch.tensor([[1.0, value]])}, int8=True)
    assert not path.exists()


def test_the_hash_is_that_of_the_file(path):
    save_weights(path, some_weights(), int8=True)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert file_sha256(path) == expected
    for sha256 in (expected, expected.upper(), None):
        check_file(path, sha256)
        assert set(load_weights(path, sha256)) == set(some_weights())


def test_another_file_is_refused(path):
    save_weights(path, some_weights(), int8=True)
    expected = file_sha256(path)
    save_weights(path, some_weights(seed=1), int8=True)
    with pytest.raises(UserError, match="restore the file") as error:
        load_weights(path, expected)
    said = one_sentence(error)
    assert expected[:16] in said
    assert file_sha256(path)[:16] in said
    assert str(path) in said


def test_a_missing_file_or_a_folder_is_refused(tmp_path):
    for place in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(UserError, match="do not exist") as error:
            load_weights(place)
        assert str(place) in one_sentence(error)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-7], lambda data: data[:5], lambda data: b"", lambda data: b"{" * 64]
)
def test_a_damaged_file_is_refused(path, damage):
    save_weights(path, some_weights(), int8=True)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="cannot be read as safetensors") as error:
        load_weights(path)
    assert str(path) in one_sentence(error)


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


@pytest.mark.parametrize("save", [lambda thing, path: path.write_bytes(pickle.dumps(thing)), torch.save])
def test_a_pickle_is_refused_and_does_not_run(tmp_path, save):
    canary, path = tmp_path / "canary", tmp_path / "model.safetensors"
    save({"w": Canary(canary)}, path)
    canary.unlink(missing_ok=True)
    with pytest.raises(UserError, match="cannot be read as safetensors") as error:
        load_weights(path, file_sha256(path))
    one_sentence(error)
    assert not canary.exists()
    honest = path.rename(tmp_path / "model.pt")
    torch.load(honest, weights_only=False) if save is torch.save else pickle.loads(honest.read_bytes())
    assert canary.exists(), "unpickling would have run it"
