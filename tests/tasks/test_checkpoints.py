"""State dicts from files of others: wrapped, prefixed, damaged, or meant to run code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tasks.common.errors import UserError
from tasks.models.checkpoints import read_checkpoint
from tasks.models.weights import file_sha256

STATE = {"conv.weight": torch.arange(6.0).reshape(2, 3), "bn.count": torch.tensor(3)}


class Canary:
    """Creates a file when it is unpickled by a loader that runs what a pickle asks for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def same(found, expected=STATE):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.pth.tar", "pytorch_model.bin"])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model"])
def test_a_state_dict_is_found_alone_or_wrapped(tmp_path, name, wrapper):
    path = tmp_path / name
    content = STATE if wrapper is None else {"epoch": 7, "best_prec1": 0.5, wrapper: STATE}
    torch.save(content, path)
    same(read_checkpoint(path, file_sha256(path)))


def test_safetensors(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(STATE, path)
    same(read_checkpoint(path), dict(sorted(STATE.items())))


def test_a_pointer_of_git_lfs_and_capitals_in_the_suffix(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "R18.SAFETENSORS")
    assert read_checkpoint(tmp_path / "R18.SAFETENSORS")["a"].tolist() == [1, 1]
    for name in ("a.safetensors", "a.pt"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        with pytest.raises(UserError, match="git lfs pull"):
            read_checkpoint(tmp_path / name)


def test_the_old_format_of_torch_is_read(tmp_path):
    path = tmp_path / "old.pth.tar"
    torch.save({"state_dict": STATE}, path, _use_new_zipfile_serialization=False)
    same(read_checkpoint(path))


def test_a_prefix_is_cut_and_what_lacks_it_is_left_out_aloud(tmp_path, caplog):
    path = tmp_path / "parallel.pth.tar"
    torch.save({"arch": "resnet18", "state_dict": {f"module.{name}": t for name, t in STATE.items()}}, path)
    same(read_checkpoint(path, strip_prefix="module."))
    assert not caplog.records
    with pytest.raises(UserError, match=r"no name starts with 'net\.' \(the first is 'module\.conv\.weight'\)"):
        read_checkpoint(path, strip_prefix="net.")
    wrapped = {f"module.model.{name}": t for name, t in STATE.items()}
    torch.save(wrapped | {"module.normalizer.mean": torch.zeros(3)}, path)
    same(read_checkpoint(path, strip_prefix="module.model."))
    (said,) = caplog.messages
    assert "1 tensors without the prefix 'module.model.' are left out, such as 'module.normalizer.mean'" in said


@pytest.mark.parametrize("place", ["alone", "beside", "in_the_dict"])
@pytest.mark.parametrize("new", [True, False])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, place, new):
    path, canary = tmp_path / "evil.pt", tmp_path / "canary"
    evil = Canary(canary)
    content = {"alone": evil, "beside": {"state_dict": STATE, "hook": evil}, "in_the_dict": {**STATE, "w": evil}}[place]
    torch.save(content, path, _use_new_zipfile_serialization=new)
    with pytest.raises(UserError, match="holds more than tensors") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not canary.exists()
    # The canary itself works: a loader that trusts the file would have run it.
    torch.load(path, weights_only=False)
    assert canary.is_dir()


def test_a_bare_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path):
    path, canary = tmp_path / "evil.pth", tmp_path / "canary"
    path.write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(UserError):
        read_checkpoint(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "no state dict"),
        ({}, "no state dict"),
        ({"state_dict": {"a": 1}}, "no state dict"),
        ({"a": torch.ones(1), "b": 2}, "no state dict"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, said):
    path = tmp_path / "a.pt"
    torch.save(content, path)
    with pytest.raises(UserError, match=said):
        read_checkpoint(path)


def test_damaged_missing_and_exchanged_files_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    with pytest.raises(UserError, match="do not exist"):
        read_checkpoint(path)
    torch.save(STATE, path)
    whole = path.read_bytes()
    with pytest.raises(UserError, match="has SHA-256"):
        read_checkpoint(path, "0" * 64)
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be read|holds more"):
            read_checkpoint(path)
