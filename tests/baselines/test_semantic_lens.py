"""SemanticLens and CSP against the numbers of their releases, and their properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_observation import TableEncoder, observation, toolbox

from baselines import registry
from baselines.semantic_lens import Csp, SemanticLens, contrastive_images, similarity
from tasks.common.errors import UserError

GOLDEN = Path(__file__).parents[1] / "data" / "activation_methods.npz"
# The other two have equal activations where the top images end.
WITHOUT_TIES = [unit for unit in range(24) if unit not in (22, 23)]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def given(golden):
    return golden["in/activations"], golden["in/embeddings"], golden["in/text"]


def test_semantic_lens_gives_the_cosines_of_the_release(golden, given):
    scores = similarity(*given)
    error = np.abs(scores - golden["semantic_lens/cosine"])
    assert error[WITHOUT_TIES].max() < 1e-6
    assert (scores.argmax(1) == golden["semantic_lens/label"])[WITHOUT_TIES].all()


def test_several_templates_are_averaged_concept_by_concept(golden, given):
    filled = golden["in/text_templates"] - golden["in/text_empty"][:, None]
    for name, texts in (
        ("semantic_lens/templates_1", filled[0]),
        ("own/semantic_lens_templates_2", filled[:2].mean(0)),
    ):
        scores = similarity(*given[:2], texts)
        assert np.abs(scores - golden[name])[WITHOUT_TIES].max() < 1e-6


def test_top_images_and_look_alikes_are_those_of_the_release(golden, given):
    top, alike = contrastive_images(*given[:2])
    rows = [row for row, unit in enumerate(golden["csp/units"]) if unit in WITHOUT_TIES]
    units = golden["csp/units"][rows]
    assert (top[units] == golden["csp/positive"][rows]).all()
    assert (alike[units] == golden["csp/negative"][rows]).all()


@pytest.mark.parametrize(("gamma", "texts"), [(0.5, "bare"), (1.0, "bare"), (0.5, "templates")])
def test_csp_gives_the_scores_of_the_release(gamma, texts, golden, given):
    text = given[2] if texts == "bare" else golden["in/text_templates"].mean(0)
    scores = similarity(*given[:2], text, gamma=gamma, mode="code")
    rows = [row for row, unit in enumerate(golden["csp/units"]) if unit in WITHOUT_TIES]
    error = np.abs(scores[golden["csp/units"]] - golden[f"csp/gamma_{gamma}_{texts}"])
    assert error[rows].max() < 1e-6


def test_fixed_texts_have_unit_length(golden, given):
    scores = similarity(*given[:2], 3 * given[2].astype(float), gamma=0.5)
    assert scores == pytest.approx(similarity(*given, gamma=0.5), abs=1e-12, nan_ok=True)
    assert np.nanmax(np.abs(scores)) <= 1


def test_an_offset_does_not_change_a_negative_unit_under_csp(given):
    activations = given[0].astype(float)
    activations -= activations.max() + 1
    before = similarity(activations, *given[1:], gamma=0.5)
    assert similarity(activations - 7, *given[1:], gamma=0.5) == pytest.approx(before, abs=1e-9)
    raw = similarity(activations, *given[1:], gamma=0.5, mode="code")
    assert np.abs(similarity(activations - 7, *given[1:], gamma=0.5, mode="code") - raw).max() > 1e-3


def test_dead_units_have_no_score_and_negative_ones_do(given):
    activations = np.stack([np.zeros(800), np.full(800, 3.0), given[0][:, 0] - 100, given[0][:, 0]], 1)
    for gamma in (None, 0.5):
        scores = similarity(activations, *given[1:], gamma=gamma)
        assert np.isnan(scores[:2]).all()
        assert np.isfinite(scores[2:]).all()
    assert np.nanargmax(scores[2]) == np.nanargmax(scores[3])
    top, alike = contrastive_images(activations, given[1], top_images=5)
    assert (top[:2] == -1).all()
    assert (alike[:2] == -1).all()
    assert (top[2:] >= 0).all()


def test_look_alikes_are_below_the_mean_and_may_repeat():
    activations = np.array([[9.0], [8.0], [0.0], [1.0], [2.0]])
    embeddings = np.array([[1.0, 0.0], [1.0, 0.1], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.0]])
    top, alike = contrastive_images(activations, embeddings, top_images=2)
    assert top.tolist() == [[0, 1]]
    assert alike.tolist() == [[2, 2]]


def planted(contrast: float):
    """Images of a shared scene, of which the unit likes those with a fish."""
    scene, fish = torch.eye(4)[0], torch.eye(4)[1]
    fishy = torch.tensor([True] * 5 + [False] * 15)
    images = torch.nn.functional.normalize(contrast * scene + fishy[:, None] * fish + 0.01 * torch.eye(4)[3], dim=1)
    activations = (fishy.float() * torch.linspace(2, 1, 20))[:, None]
    tools = toolbox(clip=TableEncoder({"scene": scene, "fish": fish}), concepts=("scene", "fish"))
    return observation(activations, clip_embeddings=images), tools


def test_csp_takes_away_what_inactive_images_share():
    seen, tools = planted(contrast=2)
    lens, csp = SemanticLens(top_images=5), Csp(gamma=1.0, top_images=5)
    assert lens.label(seen, [0], tools)[0].ranked[0].text == "scene"
    (found,) = csp.label(seen, [0], tools)
    assert found.ranked[0].text == "fish"
    assert found.evidence[:5] == (0, 1, 2, 3, 4)
    assert found.extra["look_alikes"] == 5
    assert 0.8 < found.extra["mean_cosine"] < 1


@pytest.mark.parametrize("name", ["semantic_lens", "csp"])
def test_one_unit_alone_gets_what_it_gets_among_all(name, golden, given):
    activations, embeddings, text = (torch.from_numpy(part) for part in given)
    names = tuple(f"c{number}" for number in range(len(text)))
    tools = toolbox(clip=TableEncoder(dict(zip(names, text, strict=True))), concepts=names)
    seen = observation(activations, clip_embeddings=embeddings)
    method = registry.load(name)
    together = method.label(seen, range(24), tools)
    assert [labels.unit for labels in together] == list(range(24))
    for unit in (20, 3, 17):
        assert registry.load(name).label(seen, [unit], tools) == [together[unit]]
    cut = observation(torch.cat([torch.zeros(800, 1), activations[:, 5:6]], 1), clip_embeddings=embeddings)
    dead, alive = method.label(cut, [0, 1], tools)
    assert dead.ranked == ()
    assert alive.ranked == together[5].ranked


@pytest.mark.parametrize("name", ["semantic_lens", "csp"])
def test_more_top_images_than_fit_are_chosen_whatever_the_order_of_the_files(name, golden, given):
    activations, embeddings, text = (torch.from_numpy(part) for part in given)
    names = tuple(f"c{number}" for number in range(len(text)))
    tools = toolbox(clip=TableEncoder(dict(zip(names, text, strict=True))), concepts=names)
    activations = activations.clone()
    activations[:, 3] = (activations[:, 3] > activations[:, 3].median()).to(activations.dtype)  # half of the images tie
    order = torch.arange(len(activations)).flip(0)
    one = registry.load(name).label(observation(activations, clip_embeddings=embeddings), [3], tools)[0]
    shown = observation(activations[order], clip_embeddings=embeddings[order])
    other = registry.load(name).label(shown, [3], tools)[0]
    assert [label.text for label in other.ranked] == [label.text for label in one.ranked]
    assert [label.score for label in other.ranked] == pytest.approx([label.score for label in one.ranked])
    assert order[list(other.evidence)].tolist() == list(one.evidence)


def test_templates_are_filled_and_the_empty_one_is_subtracted():
    seen, _ = planted(contrast=0.5)
    shift = torch.eye(4)[2] * 9
    rows = {"a fish!": torch.eye(4)[1] + shift, "a scene!": torch.eye(4)[0] + shift, "a !": shift}
    tools = toolbox(clip=TableEncoder(rows), concepts=("scene", "fish"))
    (found,) = SemanticLens(top_images=5, templates="a {}!").label(seen, [0], tools)
    assert found.ranked[0].text == "fish"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SemanticLens(top_images=0), "top_images of semantic_lens must be at least 1"),
        (
            lambda: SemanticLens(templates="a photo of a {}|an image"),
            "'an image' of semantic_lens must contain {} once",
        ),
        (lambda: Csp(gamma=1.5), "gamma of csp must lie between 0 and 1"),
        (lambda: Csp(mode="paper"), "Available: code, fixed"),  # type: ignore[arg-type]
        (lambda: Csp().label(planted(1)[0], [0], toolbox()), "csp needs a CLIP model"),
        (lambda: Csp().label(planted(1)[0], [9], planted(1)[1]), "Unit 9 does not exist"),
    ],
)
def test_mistakes_get_one_sentence(call, message):
    with pytest.raises(UserError, match=message):
        call()
