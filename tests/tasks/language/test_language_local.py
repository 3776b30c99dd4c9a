"""A tiny chat model in this process, saved from a config and loaded as a real one would be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tasks.common.errors import UserError
from tasks.language.build import build_summariser
from tasks.language.chat import LanguageModelError, Message, NoAnswerError, Reply
from tasks.language.config import TransformersSource
from tasks.language.local import SeededSampling, TransformersChat
from tasks.models.weights import file_sha256

CPU = torch.device("cpu")
WORDS = ["<end>", "<unknown>", "user", "assistant", ":", "red", "green", "blue", "fish", "house", "tree", "sand"]
TEMPLATE = "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}assistant :"
ASKED = [Message("user", "red fish")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny"
    vocabulary = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unknown>"))
    vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary, eos_token="<end>", unk_token="<unknown>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(path)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder) -> TransformersChat:
    return TransformersChat(folder, CPU)


def say(model: TransformersChat, seed: int) -> Reply | None:
    """A reply, or None where the untrained model happens to end at once."""
    try:
        return model.chat(ASKED, temperature=1.0, max_tokens=300, seed=seed)
    except NoAnswerError:
        return None


def some_reply(model: TransformersChat) -> tuple[int, Reply]:
    """A seed whose reply has words, and the reply."""
    return next((seed, reply) for seed in range(100) if (reply := say(model, seed)))


def test_a_reply_depends_on_messages_and_seed_alone(model: TransformersChat) -> None:
    before = torch.get_rng_state()
    first = [say(model, seed) for seed in range(6)]
    assert [say(model, seed) for seed in reversed(range(6))] == first[::-1]
    assert len(set(first)) > 2
    assert torch.equal(torch.get_rng_state(), before)


def test_a_reply_counts_its_tokens(model: TransformersChat) -> None:
    _, reply = some_reply(model)
    # "user : red fish assistant :"
    assert reply.prompt_tokens == 6
    # Special tokens count, but are not shown: the end, and unknown words.
    assert reply.completion_tokens is not None
    assert reply.completion_tokens >= len(reply.text.split()) + 1
    assert reply.model.startswith("tiny@")


def test_a_reply_without_an_end_is_no_answer(model: TransformersChat) -> None:
    seed, _ = some_reply(model)
    with pytest.raises(NoAnswerError, match="cut off at 1 tokens"):
        model.chat(ASKED, temperature=1.0, max_tokens=1, seed=seed)


def test_sampling_follows_the_softmax() -> None:
    scores = torch.tensor([[1.0, 0.0, -1.0, 2.0]])
    for temperature in (0.5, 2.0):
        sampling = SeededSampling(temperature, seed=5)
        drawn = [int(sampling(torch.zeros(1, 1, dtype=torch.long), scores).argmax()) for _ in range(4000)]
        expected = torch.softmax(scores[0] / temperature, 0).double().numpy() * 4000
        assert chisquare(np.bincount(drawn, minlength=4), expected * 4000 / expected.sum()).pvalue > 1e-3


def test_identity_follows_the_weights(model: TransformersChat, folder, tmp_path) -> None:
    assert TransformersChat(folder, CPU).identity == model.identity
    other = tmp_path / "tiny"
    changed = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        changed.lm_head.weight[0, 0] += 1
    changed.save_pretrained(other)
    model.tokenizer.save_pretrained(other)
    assert TransformersChat(other, CPU).identity != model.identity


def test_it_stands_behind_a_summariser(folder, tmp_path) -> None:
    settings = {"loader": "transformers", "path": folder, "licence": "MIT", "max_tokens": 64}
    settings["sha256"] = file_sha256(folder / "model.safetensors").upper()
    source = TransformersSource.model_validate(settings)
    summariser = build_summariser(source, CPU, replies=tmp_path / "replies.sqlite")
    first = [summariser.summarise(["red fish", "red house"], seed) for seed in range(4)]
    again = build_summariser(source, CPU, replies=tmp_path / "replies.sqlite")
    assert [again.summarise(["red fish", "red house"], seed) for seed in range(4)] == first
    assert again.model.cached > 0


def test_what_cannot_be_loaded_is_one_sentence(folder, tmp_path) -> None:
    def source(**changes) -> TransformersSource:
        return TransformersSource.model_validate({"loader": "transformers", "licence": "MIT", **changes})

    with pytest.raises(UserError, match="do not exist"):
        build_summariser(source(path=tmp_path), CPU)
    with pytest.raises(UserError, match="SHA-256"):
        build_summariser(source(path=folder, sha256="0" * 64), CPU)
    with pytest.raises(LanguageModelError, match="cannot be read"):
        build_summariser(source(name="nobody/no-such-model"), CPU, offline=True)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(LanguageModelError, match="cannot be read"):
        build_summariser(source(path=tmp_path), CPU)
    with pytest.raises(LanguageModelError, match="no folder"):
        TransformersChat(tmp_path / "nowhere", CPU)


def test_a_model_that_is_not_made_for_chats_is_refused(folder, tmp_path) -> None:
    plain = PreTrainedTokenizerFast.from_pretrained(folder)
    plain.chat_template = None
    plain.save_pretrained(tmp_path)
    LlamaForCausalLM.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(LanguageModelError, match="no chat template"):
        TransformersChat(tmp_path, CPU)
