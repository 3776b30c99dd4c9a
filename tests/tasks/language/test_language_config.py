"""What a profile may say about its language model, and what of it a label depends on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from tasks.common.errors import UserError
from tasks.common.validation import parse
from tasks.language.config import LanguageModelSource, OpenAISource, TransformersSource

SERVER = {"loader": "openai", "model": "tiny", "licence": "MIT"}
LOCAL = {"loader": "transformers", "path": "models/tiny", "licence": "MIT"}


class Profile(BaseModel):
    model: LanguageModelSource


def test_the_loader_tells_which_it_is() -> None:
    adapter = TypeAdapter(LanguageModelSource)
    assert isinstance(adapter.validate_python(SERVER), OpenAISource)
    local = adapter.validate_python(LOCAL)
    assert isinstance(local, TransformersSource)
    assert local.path == Path("models/tiny")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_url": "ftp://example.org"}, "base_url.*write the address like"),
        ({"base_url": "example.org/v1"}, "write the address like"),
        ({"base_url": "http://example.org/v1?key=1"}, "write the address like"),
        ({"base_url": "http://[::1/v1"}, "cannot be read"),
        ({"base_url": "http://example.org:99999/v1"}, "cannot be read"),
        ({"base_url": "https://user:hunter2@example.org/v1"}, "no user name or password"),
        ({"key_variable": "sk_live_123"}, "looks like a key"),
        ({"key_variable": "a b"}, "key_variable"),
        ({"key_variable": "sk-proj-0123"}, "looks like a key"),
        ({"key_variable": 123}, "looks like a key"),
        ({"key_variable": "gsk0abcdefghijklmnop"}, "looks like a key"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"attempts": 0}, "attempts"),
        ({"total_seconds": float("inf")}, "total_seconds"),
        ({"price": {"input": 1, "output": 2}}, r"price\.as_of"),
        ({"temprature": 1}, "unknown field 'temprature'.*Did you mean 'temperature'"),
    ],
)
def test_a_mistake_is_one_sentence(change: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        parse(OpenAISource, {**SERVER, **change}, "profile.yaml")
    assert not any(secret in str(caught.value) for secret in ("hunter2", "sk_live", "sk-proj", "gsk0"))


def test_a_wrong_loader_does_not_print_the_fields_beside_it() -> None:
    with pytest.raises(UserError, match="cannot be a mapping") as caught:
        parse(Profile, {"model": {"key_variable": "sk-proj-0123", **SERVER, "loader": "opnai"}}, "profile.yaml")
    assert "sk-proj" not in str(caught.value)


def test_a_local_model_has_one_place() -> None:
    for change in ({"name": "a/b"}, {"path": None}, {"revision": "main"}):
        with pytest.raises(ValidationError):
            TransformersSource.model_validate({**LOCAL, **change})
    assert TransformersSource.model_validate({**LOCAL, "path": None, "name": "org/model-1.7B", "revision": "abc"})


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:11434/v1/", True),
        ("http://[::1]:8000", True),
        ("https://api.openai.com/v1", False),
        ("http://localhost.example.org/v1", False),
        ("http://192.168.0.7/v1", False),
    ],
)
def test_which_server_is_on_this_machine(address: str, here: bool) -> None:
    source = OpenAISource.model_validate({**SERVER, "base_url": address})
    assert source.on_this_machine is here
    assert not source.base_url.endswith("/")


@pytest.mark.parametrize(
    ("source", "identity"),
    [
        (OpenAISource, {"loader", "mode", "temperature", "max_tokens", "model", "send_seed"}),
        (
            TransformersSource,
            {"loader", "mode", "temperature", "max_tokens", "name", "revision", "weights", "sha256", "dtype"},
        ),
    ],
)
def test_every_field_is_identity_or_runtime(source, identity: set[str]) -> None:
    # A new field belongs in one of the two: does another value change a label? Then it is identity.
    assert set(source.model_fields) - source.runtime == identity
    assert source.runtime < set(source.model_fields)
    example = source.model_validate(SERVER if source is OpenAISource else LOCAL)
    # Without a hash, only the folder says which local model it is.
    assert set(example.identity()) == identity | {"version"} | ({"path"} if source is TransformersSource else set())


def test_a_hash_stands_for_the_folder() -> None:
    sources = [TransformersSource.model_validate({**LOCAL, "path": path, "sha256": "0" * 64}) for path in ("a", "b")]
    assert sources[0].identity() == sources[1].identity()
    assert TransformersSource.model_validate(LOCAL).identity() != sources[0].identity()


def test_reading_it_imports_nothing_large() -> None:
    code = (
        "import sys; import tasks.language.config, tasks.language.replies, tasks.language.summariser;"
        "import tasks.language.client, tasks.language.build;"
        "print(sorted({'torch', 'openai', 'transformers', 'tenacity', 'httpx2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
