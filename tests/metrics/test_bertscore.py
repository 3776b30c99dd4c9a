from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast, RobertaConfig

from metrics.bertscore import BertScorer, _token_limit

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "blue", "fish", "car", "a", "striped", "##es"]
LIMIT = 8
CANDIDATES = ["red fishes", "a car", "blue", "a striped red fish"]
REFERENCES = ["a red fish", "blue car", "blue", "car"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("bert")
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    BertTokenizerFast(vocab=vocabulary, model_max_length=LIMIT).save_pretrained(path)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=12,
        initializer_range=1.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def scorer(folder):
    return BertScorer(folder, layer=1)


def plain_bertscore(folder, candidates, references, layer, idf=False):
    """BERTScore in a few lines, one text at a time; the first and last token of a text are special."""
    model, tokenizer = BertModel.from_pretrained(folder).eval(), BertTokenizerFast.from_pretrained(folder)
    read = {text: tokenizer(text).input_ids for text in (*candidates, *references)}
    with torch.inference_mode():
        states = {
            t: model(torch.tensor([i]), output_hidden_states=True).hidden_states[layer][0] for t, i in read.items()
        }
    units = {text: (state / state.norm(dim=1, keepdim=True)).numpy() for text, state in states.items()}
    rarity = {
        i: math.log((len(references) + 1) / (sum(i in read[r] for r in references) + 1)) for i in range(len(WORDS))
    }
    weights = {text: np.array([rarity[i] if idf else 1.0 for i in ids[1:-1]]) for text, ids in read.items()}
    rows = []
    for candidate, reference in zip(candidates, references, strict=True):
        cosines = units[candidate] @ units[reference].T
        precision = np.average(cosines.max(axis=1)[1:-1], weights=weights[candidate])
        recall = np.average(cosines.max(axis=0)[1:-1], weights=weights[reference])
        rows.append((precision, recall, 2 * precision * recall / (precision + recall)))
    return np.array(rows).T


@pytest.mark.parametrize("idf", [False, True])
@pytest.mark.parametrize("layer", [1, 2])
def test_it_is_the_score_of_the_paper(folder, layer, idf):
    expected = plain_bertscore(folder, CANDIDATES, REFERENCES, layer, idf)
    result = BertScorer(folder, layer).score(CANDIDATES, REFERENCES, idf=idf)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    # The texts do differ, so that a score that ignores them would not pass.
    assert np.ptp(expected, axis=1).min() > 0.05


def test_idf_is_off_by_default(scorer):
    plain = scorer.score(CANDIDATES, REFERENCES)
    np.testing.assert_array_equal(plain, scorer.score(CANDIDATES, REFERENCES, idf=False))
    assert np.abs(plain.f1 - scorer.score(CANDIDATES, REFERENCES, idf=True).f1).max() > 1e-3
    # Without idf a score does not depend on its neighbours.
    np.testing.assert_allclose(scorer.score(CANDIDATES[:1], REFERENCES[:1]).f1, plain.f1[:1], atol=1e-6)


def test_equal_labels_score_one_and_swapping_swaps_precision_and_recall(scorer):
    np.testing.assert_allclose(scorer.score(CANDIDATES, CANDIDATES), 1.0, atol=1e-6)
    forth, back = scorer.score(CANDIDATES, REFERENCES), scorer.score(REFERENCES, CANDIDATES)
    np.testing.assert_allclose(forth.precision, back.recall, atol=1e-6)
    np.testing.assert_allclose(forth.f1, back.f1, atol=1e-6)


def test_batches_do_not_matter(folder, scorer):
    single = BertScorer(folder, layer=1, batch_size=1).score(CANDIDATES, REFERENCES)
    np.testing.assert_allclose(single, scorer.score(CANDIDATES, REFERENCES), atol=1e-6)


def test_a_missing_label_is_missing(scorer):
    result = scorer.score(["red", None, "", "  ", "red"], ["red", "red", "red", "red", None])
    assert np.isnan(result.f1).tolist() == np.isnan(result.recall).tolist() == [False, True, True, True, True]
    assert scorer.score([], []).f1.shape == (0,)
    # All words of the reference are in all references: nothing there has a weight.
    assert np.isnan(scorer.score(["blue"], ["red"], idf=True).recall).all()


def test_long_labels_are_counted_and_cut_at_their_end(scorer):
    fits, long = "red " * (LIMIT - 2), "red " * (LIMIT - 2) + "car"
    assert scorer.token_limit == LIMIT
    assert scorer.over_limit([fits, long, "fishes"]).tolist() == [False, True, False]
    assert scorer.over_limit([]).shape == (0,)
    np.testing.assert_allclose(scorer.score([long], [fits]), 1.0, atol=1e-6)


def test_positions_of_roberta_start_after_its_padding():
    class Tokenizer:
        model_max_length = 10**30

    assert _token_limit(Tokenizer, RobertaConfig(max_position_embeddings=514)) == 512
    assert _token_limit(Tokenizer, BertConfig()) == 512


def test_a_name_or_a_missing_folder_fails_at_once_in_one_sentence(tmp_path):
    for place in ("roberta-large", tmp_path / "nowhere", tmp_path):
        with pytest.raises(ValueError, match=r"a folder on this machine .* models are not downloaded\.$"):
            BertScorer(place, layer=1)


@pytest.mark.parametrize("content", [None, b"junk", b""])
def test_a_folder_with_a_broken_model_is_refused(folder, tmp_path, content):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.unlink() if content is None else weights.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        BertScorer(tmp_path, layer=1)


def test_what_cannot_be_scored_is_refused(folder, scorer):
    for layer in (0, 3):
        with pytest.raises(ValueError, match="layer must be 1 to 2"):
            BertScorer(folder, layer)
    with pytest.raises(ValueError, match="lists of texts, not one text"):
        scorer.score(["red"], "red")
    with pytest.raises(ValueError, match="1 candidates cannot be paired with 2"):
        scorer.score(["red"], ["red", "blue"])
