"""Pictures go to a model as they are, replies are held to the same rules, and equal pictures are asked about once."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.common.errors import UserError
from tasks.common.validation import parse
from tasks.language.build import build_describer
from tasks.language.chat import LanguageModelError, Message, NoAnswerError, PriceCapError, Reply
from tasks.language.config import PriceEntry, VisionOpenAISource, VisionTransformersSource
from tasks.language.describer import VisionLanguageDescriber, bounded
from tasks.language.picture import MOST_EDGE, Picture
from tasks.language.prices import Spending, cost, most_prompt_tokens
from tasks.language.replies import CachedChat, ReplyStore
from tasks.roles import PictureDescriber

CPU = torch.device("cpu")
WORDS = ["<end>", "<unknown>", "<image>", "user", "assistant", ":", "red", "green", "blue", "fish", "house", "tree"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {% for part in m['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "assistant :"
)


def images(*values: int, size: tuple[int, int] = (6, 8)) -> list[torch.Tensor]:
    rng = np.random.default_rng(3)
    noise = torch.from_numpy(rng.integers(0, 40, (3, *size), dtype=np.uint8))
    return [noise + value for value in values]


class Scripted:
    """A model that says what it is told, in turn, and keeps the chats."""

    identity = "scripted"

    def __init__(self, *replies: str | Exception) -> None:
        self.replies = list(replies)
        self.chats: list[list[Message]] = []

    def chat(self, messages, *, temperature, max_tokens, seed) -> Reply:
        self.chats.append(list(messages))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Reply(reply, 1, 1, "scripted")


def test_a_picture_is_its_pixels() -> None:
    one, same, other = (bounded(image, 64) for image in images(0, 0, 1))
    assert one == same
    assert one.sha256 == same.sha256 != other.sha256
    turned = Picture(one.width, one.height, one.pixels)
    assert turned.sha256 != one.sha256, "the same bytes in another shape are another picture"
    head, _, body = one.data_url().partition(",")
    assert head == "data:image/png;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
    assert np.array_equal(shown, images(0)[0].permute(1, 2, 0).numpy())


def test_pictures_are_reduced_to_the_edge_and_never_enlarged() -> None:
    large = torch.zeros(3, 300, 1200, dtype=torch.uint8)
    assert (bounded(large, 400).height, bounded(large, 400).width) == (100, 400)
    assert (bounded(large[:, :, :1], 150).height, bounded(large[:, :, :1], 150).width) == (150, 1)
    small = images(0)[0]
    assert (bounded(small, MOST_EDGE).height, bounded(small, MOST_EDGE).width) == (6, 8)
    with pytest.raises(ValueError, match="512 px a side, not 513"):
        Picture(1, 513, b"")
    with pytest.raises(ValueError, match="no RGB picture"):
        Picture(2, 2, b"123")


def test_all_pictures_are_shown_at_once_in_their_order() -> None:
    model = Scripted("red fish", "red fish")
    describer = VisionLanguageDescriber(model)
    assert isinstance(describer, PictureDescriber)
    assert describer.describe(images(0, 50, 90), 7) == "red fish"
    (message,) = model.chats[0]
    assert message.role == "user"
    assert message.pictures == tuple(bounded(image, MOST_EDGE) for image in images(0, 50, 90))
    VisionLanguageDescriber(model, mode="code").describe(images(0), 7)
    system, user = model.chats[1]
    assert (system.role, user.role) == ("system", "user")
    assert system.content == user.content == message.content
    assert (len(system.pictures), len(user.pictures)) == (0, 1)


def test_look_alikes_are_shown_after_the_pictures_and_the_prompt_counts_both() -> None:
    model = Scripted("red fish", "red fish")
    describer = VisionLanguageDescriber(model)
    assert describer.uses_contrast
    describer.describe(images(0, 50, 90), 7, contrast=images(10, 20))
    (message,) = model.chats[0]
    assert message.pictures == tuple(bounded(image, MOST_EDGE) for image in images(0, 50, 90, 10, 20))
    assert "The first 3 pictures" in message.content
    assert "the last 2 pictures" in message.content
    VisionLanguageDescriber(model, mode="code").describe(images(0), 7, images(1))
    system, user = model.chats[1]
    assert system.content == user.content != message.content
    assert VisionLanguageDescriber(Scripted()).describe([], 1, images(0)) == ""


def test_replies_are_held_to_the_rules_of_summaries() -> None:
    model = Scripted('"Red fish."', "fish, sand", "Label: sea life", "all of them show a red fish", "red fish")
    describer = VisionLanguageDescriber(model)
    assert [describer.describe(images(0, 9), seed) for seed in range(3)] == ["Red fish", "sea life", "red fish"]
    # A list is summarised as text; a correction follows the pictures.
    assert [[len(message.pictures) for message in chat] for chat in model.chats] == [[2], [2], [0], [2], [2, 0, 0]]
    assert VisionLanguageDescriber(Scripted(NoAnswerError("it refused"))).describe(images(0), 1) == ""
    assert VisionLanguageDescriber(Scripted("<b>", "</b>")).describe(images(0), 1) == ""
    assert VisionLanguageDescriber(Scripted()).describe([], 1) == ""
    assert VisionLanguageDescriber(Scripted("a, b", "c, d"), mode="code").describe(images(0), 1) == "c, d"


def test_equal_pictures_are_asked_about_once_and_are_not_stored(tmp_path) -> None:
    store = ReplyStore(tmp_path / "replies.sqlite")
    model = CachedChat(Scripted("one", "two", "three", "four"), store)
    describer = VisionLanguageDescriber(model)
    said = [describer.describe(images(*values), seed) for values, seed in (((0, 9), 1), ((0, 9), 1), ((9, 0), 1))]
    said += [describer.describe(images(0, 9), 2), describer.describe(images(0, 8), 1)]
    assert said == ["one", "one", "two", "three", "four"]
    assert (model.asked, model.cached) == (4, 1)
    requests = [row[0] for row in store._db.execute("SELECT request FROM replies")]
    shown = json.loads(requests[0])["messages"][0]["pictures"]
    assert shown == [bounded(image, MOST_EDGE).sha256 for image in images(0, 9)]
    assert all(len(request) < 2000 for request in requests)


def test_a_chat_without_pictures_keeps_the_key_it_had() -> None:
    assert Message("user", "a").facts() == {"role": "user", "content": "a"}


def test_a_picture_counts_an_upper_bound_under_the_cap() -> None:
    shown = [Message("user", "name it", tuple(bounded(image, 64) for image in images(*range(10))))]
    # 8,500 tokens are the most that is known of one picture of this size (gpt-4o-mini).
    assert most_prompt_tokens(shown) >= 10 * 8_500
    price = PriceEntry.model_validate({"input": 10, "output": 30, "as_of": "2026-11-01", "source": "a test"})
    most = cost(price, most_prompt_tokens(shown), 300)
    Spending(ReplyStore(), "m", price, cap=most).book(shown, 300)
    with pytest.raises(PriceCapError, match="is reached"):
        Spending(ReplyStore(), "m", price, cap=most * 0.99).book(shown, 300)


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_server_gets_them_as_data_urls() -> None:
    pytest.importorskip("openai")
    pytest.importorskip("tenacity")
    from scripted_server import ScriptedServer, says

    server = ScriptedServer()
    try:
        server.acts = [says("red fish")]
        settings = server.source().model_dump() | {"max_tokens": 300, "picture_px": 32}
        source = VisionOpenAISource.model_validate(settings)
        describer = build_describer(source, CPU)
        assert describer.describe(images(0, 9, size=(48, 64)), 1) == "red fish"
        (body,) = server.bodies
    finally:
        server.stop()
    assert (body["max_tokens"], body["temperature"]) == (300, 0.3)
    text, *shown = body["messages"][0]["content"]
    assert text["type"] == "text"
    files = [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in shown]
    assert [Image.open(io.BytesIO(file)).size for file in files] == [(32, 24), (32, 24)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny LLaVA with random weights, saved with its processor."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    path = tmp_path_factory.mktemp("models") / "tiny-vision"
    vocabulary = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unknown>"))
    vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary, eos_token="<end>", unk_token="<unknown>", pad_token="<end>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = LlamaConfig(
        **size, vocab_size=len(WORDS), max_position_embeddings=2048, bos_token_id=None, eos_token_id=0, pad_token_id=0
    )
    vision = CLIPVisionConfig(**size, image_size=16, patch_size=8, projection_dim=16)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=2, vision_feature_layer=-1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config)
        for weight in model.parameters():  # as small as they are drawn, pictures would change no token
            weight.data *= 10 if weight.ndim > 1 else 1
        model.save_pretrained(path)
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    processor.save_pretrained(path)
    return path


def vision_source(**changes) -> VisionTransformersSource:
    settings = {"loader": "transformers", "licence": "MIT", "max_tokens": 40, "temperature": 1.0, "mode": "code"}
    return VisionTransformersSource.model_validate(settings | changes)


def test_a_model_in_this_process_sees_the_pictures(folder, tmp_path) -> None:
    describer = build_describer(vision_source(path=folder), CPU, replies=tmp_path / "replies.sqlite")
    before = torch.get_rng_state()
    said = [describer.describe(images(0, 90, size=(20, 30)), seed) for seed in range(8)]
    assert [describer.describe(images(0, 90, size=(20, 30)), seed) for seed in reversed(range(8))] == said[::-1]
    assert len(set(said)) > 2
    assert torch.equal(torch.get_rng_state(), before)
    assert [describer.describe(images(200, 10, size=(20, 30)), seed) for seed in range(8)] != said
    again = build_describer(vision_source(path=folder), CPU, replies=tmp_path / "replies.sqlite")
    assert [again.describe(images(0, 90, size=(20, 30)), seed) for seed in range(8)] == said


def test_what_sees_no_pictures_is_refused(folder, tmp_path) -> None:
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**size, vocab_size=len(WORDS))).save_pretrained(tmp_path)
    describer = build_describer(vision_source(path=tmp_path), CPU)  # it is made when it is first asked
    for _ in range(2):
        with pytest.raises(LanguageModelError, match=r"vision-language model .* cannot be read"):
            describer.describe(images(0), 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"picture_px": 1024}, "'picture_px' cannot be 1024"),
        ({"mode": "llama2"}, "llama2 is a mode for captions"),
        ({"picture_pix": 64}, "Did you mean 'picture_px'"),
    ],
)
def test_a_mistake_in_the_profile_is_one_sentence(change, words) -> None:
    with pytest.raises(UserError, match=words):
        parse(VisionOpenAISource, {"loader": "openai", "model": "m", "licence": "MIT", **change}, "profile.yaml")


def test_the_size_of_pictures_is_identity() -> None:
    for source, settings in (
        (VisionOpenAISource, {"loader": "openai", "model": "m", "licence": "MIT"}),
        (VisionTransformersSource, {"loader": "transformers", "name": "a/b", "licence": "MIT"}),
    ):
        one, other = (source.model_validate(settings | {"picture_px": edge}) for edge in (64, 512))
        assert one.identity() != other.identity()
        assert one.identity()["max_tokens"] == 300
        assert "picture_px" not in source.runtime
