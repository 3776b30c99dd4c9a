from __future__ import annotations

import math
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from small_observation import TableEncoder, observation, toolbox

from baselines.clip_dissect import ClipDissect, similarity
from baselines.clip_dissect.wpmi import CosineFactors
from tasks.common.errors import UserError
from tasks.common.seeding import generator

STEP = 2.0**-15
NAMES = ("cos", "cos_cubed", "rank_reorder", "wpmi", "soft_wpmi")


@pytest.fixture(scope="module")
def golden():
    with np.load(Path(__file__).parents[1] / "data" / "clip_dissect_scores.npz") as data:
        return {key: data[key] for key in data}


def random_inputs(images=150, concepts=12, units=9, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(images, concepts, generator=draw) * 0.3, torch.rand(images, units, generator=draw)


def rows(labels):
    return [(item.unit, [(label.text, label.score) for label in item.ranked], item.evidence) for item in labels]


@pytest.mark.parametrize(
    ("name", "code", "fixed"),
    [("cos", 1e-6, 1e-6), ("cos_cubed", 1e-6, 2e-6), ("wpmi", STEP, 2 * STEP), ("soft_wpmi", 4 * STEP, 6 * STEP)],
)
def test_scores_of_the_release(golden, name, code, fixed):
    p, a = torch.from_numpy(golden["P"]), torch.from_numpy(golden["A"])
    for mode, tolerance, dtype in (("code", code, torch.float32), ("fixed", fixed, torch.float64)):
        scores = similarity(name, p, a, mode=mode)
        assert scores.dtype == dtype
        assert np.abs(scores.double().numpy() - golden[name]).max() <= tolerance
    assert similarity("soft_wpmi", p, a).argmax(dim=1).tolist() == golden["soft_wpmi_label"].tolist()


def test_soft_wpmi_is_its_formula():
    p, a = random_inputs()
    q = np.exp(10 * p.double().numpy())
    q /= q.sum(axis=1, keepdims=True)
    likelihood = np.zeros((9, 12))
    for unit in range(9):
        top = sorted(range(150), key=lambda image: -a[image, unit].item())[:100]
        for rank, image in enumerate(top):
            shown = 0.998 - rank / 100 * (0.998 - 0.97)
            likelihood[unit] += np.log(1 + shown * (q[image] - 1) + 1e-7)
    assert shown == pytest.approx(0.97028)
    expected = likelihood - np.log(np.exp(likelihood - likelihood.max(0)).mean(0)) - likelihood.max(0)
    np.testing.assert_allclose(similarity("soft_wpmi", p, a).numpy(), expected, atol=3e-6)


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
def test_more_images_than_units_and_fewer_give_the_same_scores(name):
    p, a = random_inputs(images=120, units=30)
    few = similarity(name, p, a, lam=0.0)
    many = similarity(name, p, torch.cat([a] * 5, dim=1), lam=0.0)
    np.testing.assert_allclose(many[:30].numpy(), few.numpy(), rtol=1e-12)


def test_rank_reorder_is_its_formula():
    p, a = random_inputs(images=100, units=3)
    scores = similarity("rank_reorder", p, a, seed=5)
    for unit in range(3):
        top = sorted(range(100), key=lambda image: -a[image, unit].item())[:5]
        ascending = np.sort(a[top, unit].double().numpy())
        draw = generator(5, "clip_dissect", "rank_reorder", unit)
        chance = np.mean([np.abs(ascending - ascending[draw.permutation(5)]) ** 3 for _ in range(5)])
        for concept in range(12):
            values = p[top, concept].double().numpy()
            reordered = ascending[np.argsort(np.argsort(values))]
            error = np.mean(np.abs(ascending[::-1] - reordered) ** 3) / chance
            assert scores[unit, concept].item() == pytest.approx(-error / values.mean() ** 0.5, rel=1e-9)


def test_rank_reorder_takes_a_seed_and_no_global_one():
    p, a = random_inputs()
    torch.manual_seed(1)
    first = similarity("rank_reorder", p, a, seed=1)
    torch.manual_seed(2)
    assert torch.equal(first, similarity("rank_reorder", p, a, seed=1))
    assert not torch.equal(first, similarity("rank_reorder", p, a, seed=2))


def test_rank_reorder_with_negative_cosines_and_with_ties():
    p, a = random_inputs()
    p[:, 0] -= 1.0
    assert similarity("rank_reorder", p, a, mode="code")[:, 0].isnan().all()
    fixed = similarity("rank_reorder", p, a)
    assert fixed.isfinite().all()
    assert (fixed[:, 0] < fixed[:, 1:].min()).all()
    saturated = similarity("rank_reorder", p, torch.ones(150, 1))
    assert saturated[0, 1].item() == pytest.approx(-1 / p[:, 1].double().mean().sqrt().item())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["fixed", "code"])
def test_a_planted_concept_wins(name, mode):
    p, a = random_inputs(images=400, units=6)
    for unit in range(6):
        p[:, unit] = 0.05 + 0.3 * a[:, unit]
    assert similarity(name, p, a, mode=mode).argmax(dim=1).tolist() == list(range(6))


@pytest.mark.parametrize("mode", ["fixed", "code"])
@pytest.mark.parametrize(("name", "needed"), [("soft_wpmi", 100), ("wpmi", 28)])
def test_too_few_images_is_an_error_not_a_wrap(name, needed, mode):
    p, a = random_inputs(images=needed - 1)
    with pytest.raises(UserError, match=f"{name} uses the {needed} .* has {needed - 1}: .*top_k"):
        similarity(name, p, a, mode=mode)
    assert similarity(name, p, a, mode=mode, top_k=needed - 1).isfinite().all()


def test_other_mistakes_get_one_sentence():
    p, a = random_inputs()
    with pytest.raises(UserError, match=r"Unknown similarity 'soft_wpm'\. Did you mean soft_wpmi"):
        similarity("soft_wpm", p, a)
    with pytest.raises(UserError, match="Unknown mode 'paper'"):
        similarity("cos", p, a, mode="paper")
    with pytest.raises(UserError, match="Unknown parameter of cos 'top_k'"):
        similarity("cos", p, a, top_k=3)
    with pytest.raises(UserError, match="at least 20 images"):
        similarity("rank_reorder", p[:19], a[:19])
    with pytest.raises(ValueError, match="over the same images"):
        similarity("cos", p[:5], a)
    with pytest.raises(ValueError, match="without CLIP's factor of 100"):
        similarity("soft_wpmi", 100 * p, a)
    with pytest.raises(ValueError, match="activations holds NaN"):
        similarity("cos", p, a.masked_fill(a > 0.5, float("nan")))


def test_a_unit_of_zeros_scores_zero_by_cosine_where_the_release_gives_nan():
    p, a = random_inputs()
    a[:, 2] = 0.0
    assert (similarity("cos", p, a)[2] == 0).all()
    assert similarity("cos", p, a, mode="code")[2].isnan().all()


@pytest.fixture(scope="module")
def world():
    draw = torch.Generator().manual_seed(3)
    concepts = tuple(f"concept {index}" for index in range(12))
    text = torch.nn.functional.normalize(torch.randn(12, 16, generator=draw), dim=1)
    images = torch.nn.functional.normalize(torch.randn(150, 16, generator=draw), dim=1)
    activations = (images @ text[:8].T).relu() + 0.01 * torch.rand(150, 8, generator=draw)
    tools = toolbox(concepts=concepts, clip=TableEncoder(dict(zip(concepts, text, strict=True))))
    return observation(activations, clip_embeddings=images), tools


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["fixed", "code"])
def test_one_unit_alone_gets_what_it_gets_among_all(world, name, mode):
    seen, tools = world
    method = ClipDissect(similarity=name, mode=mode)
    everything = rows(method.label(seen, range(8), tools))
    assert rows(method.label(seen, [5, 2], tools)) == [everything[5], everything[2]]
    assert rows(ClipDissect(similarity=name, mode=mode).label(seen, [5], tools)) == [everything[5]]


def test_labels_are_the_five_best_with_the_units_top_images(world):
    seen, tools = world
    scores = similarity("soft_wpmi", seen.clip_embeddings @ tools.clip.encode_text(tools.concepts).T, seen.activations)
    for item in ClipDissect().label(seen, range(8), tools):
        order = np.argsort(-scores[item.unit].numpy(), kind="stable")[:5]
        assert [label.text for label in item.ranked] == [tools.concepts[index] for index in order]
        assert item.ranked[0].text == f"concept {item.unit}"
        np.testing.assert_allclose([label.score for label in item.ranked], scores[item.unit][order], atol=1e-4)
        assert list(item.evidence) == np.argsort(-seen.activations[:, item.unit].numpy(), kind="stable")[:10].tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["fixed", "code"])
@pytest.mark.parametrize("value", [0.0, 2.0, math.nan, math.inf])
def test_a_dead_unit_gets_no_label_and_leaves_the_others_theirs(world, name, mode, value):
    seen, tools = world
    clean = ClipDissect(similarity=name, mode=mode).label(seen, range(8), tools)
    dead = torch.cat([seen.activations, torch.full((150, 1), value)], dim=1)
    labels = ClipDissect(similarity=name, mode=mode).label(
        observation(dead, clip_embeddings=seen.clip_embeddings), range(9), tools
    )
    assert labels[8].ranked == ()
    assert labels[8].evidence == ()
    if mode == "fixed" or not math.isfinite(value):  # The release counts constant units in the prior.
        assert rows(labels[:8]) == rows(clean)


def test_a_layer_of_dead_units_needs_no_scores():
    labels = ClipDissect().label(observation(torch.zeros(4, 3)), [2, 0], toolbox())
    assert [(item.unit, item.ranked) for item in labels] == [(2, ()), (0, ())]


def test_only_dead_units_and_one_unit_twice_may_be_asked(world):
    seen, tools = world
    layer = observation(torch.cat([seen.activations, torch.zeros(150, 1)], dim=1), clip_embeddings=seen.clip_embeddings)
    assert [item.ranked for item in ClipDissect().label(layer, [8], tools)] == [()]
    first, dead, again = ClipDissect().label(layer, [2, 8, 2], tools)
    assert first == again
    assert first.ranked
    assert dead.extra == {"dead": True}


def test_equal_scores_and_activations_rank_by_number():
    text = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]]), dim=1)
    concepts = ("b", "between", "a")
    images = torch.nn.functional.normalize(torch.rand(120, 2, generator=torch.Generator().manual_seed(0)), dim=1)
    activations = (images[:, :1] > 0.8).float()
    tools = toolbox(concepts=concepts, clip=TableEncoder(dict(zip(concepts, text, strict=True))))
    (item,) = ClipDissect().label(observation(activations, clip_embeddings=images), [0], tools)
    assert {label.text for label in item.ranked} == set(concepts)
    assert [label.text for label in item.ranked if label.text != "between"] == ["b", "a"]
    assert list(item.evidence) == activations[:, 0].nonzero()[:10, 0].tolist()


def test_text_is_encoded_once_for_all_conditions(world):
    seen, tools = world
    tools.clip.calls = 0
    method = ClipDissect()
    method.label(seen, [0], tools)
    method.label(seen, [1], tools)
    assert tools.clip.calls == 1
    fewer = toolbox(concepts=tools.concepts[:3], clip=tools.clip)
    assert len(method.label(seen, [1], fewer)[0].ranked) == 3
    assert tools.clip.calls == 2


def test_what_is_missing_is_named(world):
    seen, tools = world
    with pytest.raises(UserError, match="needs a CLIP model"):
        ClipDissect().label(seen, [0], toolbox(concepts=tools.concepts))
    with pytest.raises(UserError, match="needs a concept set"):
        ClipDissect().label(seen, [0], toolbox(clip=tools.clip))
    with pytest.raises(UserError, match="Unit 8 does not exist"):
        ClipDissect().label(seen, [8], tools)
    with pytest.raises(UserError, match="has no top_k"):
        ClipDissect(similarity="cos", top_k=5)
    with pytest.raises(UserError, match="at least 1"):
        ClipDissect(top_k=0)
    with pytest.raises(UserError, match="uses the 200 most activating"):
        ClipDissect(top_k=200).label(seen, [0], tools)


def term_by_term(p, a, top_k, offsets, slopes, scale, dtype=torch.float64):
    """L with the softmax as a whole matrix, one unit after another, and a logarithm for each term."""
    q = torch.softmax(scale * p.to(dtype), dim=1)
    top = a.sort(dim=0, descending=True, stable=True).indices[:top_k]
    return torch.stack([torch.log(offsets + slopes * q[top[:, unit]]).sum(dim=0) for unit in range(a.shape[1])])


@pytest.mark.parametrize("scale", [2.0, 10.0, 200.0])
@pytest.mark.parametrize("top_k", [1, 28, 100, 400])
def test_products_of_terms_give_the_sum_of_their_logarithms(scale, top_k):
    p, a = random_inputs(images=400, concepts=70, units=6)
    options = {"top_k": top_k, "scale": scale, "lam": 0.0}
    for epsilon in (1e-7, 0.5):
        expected = term_by_term(p, a, top_k, epsilon, 1.0, scale)
        scores = similarity("wpmi", p, a, epsilon=epsilon, **options)
        np.testing.assert_allclose(scores.numpy(), expected.numpy(), rtol=0, atol=2e-8 * (top_k + 100))
    for start, end in ((0.998, 0.97), (1.0, 0.2), (0.5, 0.5)):
        shown = (start - torch.arange(top_k, dtype=torch.float64) / top_k * (start - end)).unsqueeze(-1)
        expected = term_by_term(p, a, top_k, 1 - shown + 1e-7, shown, scale)
        scores = similarity("soft_wpmi", p, a, p_start=start, p_end=end, **options)
        np.testing.assert_allclose(scores.numpy(), expected.numpy(), rtol=0, atol=2e-8 * (top_k + 100))
        assert scores.argmax(dim=1).tolist() == expected.argmax(dim=1).tolist()


def test_terms_without_an_offset_neither_overflow_nor_vanish():
    p, a = random_inputs(images=200, concepts=70)
    expected = term_by_term(p, a, 100, 0.0, 1.0, 10.0)
    scores = similarity("wpmi", p, a, top_k=100, scale=10.0, epsilon=0.0, lam=0.0)
    np.testing.assert_allclose(scores.numpy(), expected.numpy(), rtol=1e-12)


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
@pytest.mark.parametrize("factors", [False, True])
def test_scores_do_not_depend_on_threads_to_the_bit(name, factors, monkeypatch):
    monkeypatch.setattr("baselines.clip_dissect.wpmi._VALUES_IN_CACHE", 500)
    p, a = random_inputs(images=150, concepts=203, units=37)
    a[:, :20] = (a[:, :20] - 0.5).relu()  # ties
    given = CosineFactors(p.double(), random_inputs(concepts=203, images=91)[0].double()) if factors else p
    scores = similarity(name, given, a)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3, 40):
            torch.set_num_threads(count)
            assert torch.equal(similarity(name, given, a), scores)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
def test_scores_do_not_depend_on_the_size_of_the_pieces(name, monkeypatch):
    p, a = random_inputs(images=150, concepts=203, units=37)
    scores = similarity(name, p, a)
    for values in (1, 300, 2000, 10**6):
        monkeypatch.setattr("baselines.clip_dissect.wpmi._VALUES_IN_CACHE", values)
        np.testing.assert_allclose(similarity(name, p, a).numpy(), scores.numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ["fixed", "code"])
@pytest.mark.parametrize("units", [1, 30])
def test_embeddings_score_as_their_cosines(world, name, mode, units):
    seen, tools = world
    factors = CosineFactors(seen.clip_embeddings.double(), tools.clip.encode_text(tools.concepts).double())
    a = random_inputs(units=units)[1]
    options = {"top_k": 20} if "wpmi" in name else {}  # one unit looks at 20 of 150 images only
    expected = similarity(name, factors.images @ factors.text.T, a, mode=mode, **options)
    np.testing.assert_allclose(
        similarity(name, factors, a, mode=mode, **options).numpy(),
        expected.numpy(),
        rtol=1e-9,
        atol=3e-6,
        equal_nan=True,
    )


def test_embeddings_that_are_not_finite_are_refused(world):
    seen, tools = world
    images = seen.clip_embeddings.double().clone()
    images[3, 2] = math.nan
    factors = CosineFactors(images, tools.clip.encode_text(tools.concepts).double())
    with pytest.raises(ValueError, match="clip_similarity holds NaN"):
        similarity("soft_wpmi", factors, seen.activations)


@pytest.mark.parametrize("name", ["wpmi", "soft_wpmi"])
def test_the_code_mode_takes_equal_activations_by_image_index(name):
    p, a = random_inputs(images=300, units=8)
    ties = (a * 10).round() / 10
    ranked = ties - 1e-6 * torch.arange(300).unsqueeze(1)
    assert torch.equal(similarity(name, p, ties, mode="code"), similarity(name, p, ranked, mode="code"))


@pytest.mark.parametrize("name", ["rank_reorder", "wpmi", "soft_wpmi"])
@pytest.mark.parametrize("decimals", [0, 1])
def test_the_order_of_the_images_changes_no_score(name, decimals):
    p, a = random_inputs(images=150, units=8)
    a[:, :3] = (a[:, :3] - 0.8).relu()  # about 30 images above 0
    a[:, 3:6] = a[:, 3:6].round(decimals=decimals)
    scores = similarity(name, p, a)
    for seed in range(3):
        order = torch.randperm(150, generator=torch.Generator().manual_seed(seed))
        np.testing.assert_allclose(similarity(name, p[order], a[order]).numpy(), scores.numpy(), rtol=0, atol=3e-6)


def test_labels_do_not_depend_on_the_order_of_the_images_and_ties_are_counted(world):
    seen, tools = world
    sparse = (seen.activations - 0.3).relu()
    forwards = observation(sparse, clip_embeddings=seen.clip_embeddings)
    backwards = observation(sparse.flip(0), clip_embeddings=seen.clip_embeddings.flip(0))
    pairs = list(zip(*(ClipDissect().label(one, range(8), tools) for one in (forwards, backwards)), strict=True))
    for unit, (one, other) in enumerate(pairs):
        positive = int((sparse[:, unit] > 0).sum())
        assert one.extra.get("tied", 0) == (150 - positive if positive < 100 else 0)
        assert [label.text for label in one.ranked] == [label.text for label in other.ranked]
        assert list(one.evidence) == [149 - image for image in other.evidence]
    assert all("tied" in one.extra for one, _ in pairs)


@pytest.mark.parametrize(("name", "top_k"), [("wpmi", 5), ("soft_wpmi", 5), ("soft_wpmi", 7)])
def test_images_that_tie_have_the_mean_likelihood_of_all_their_orders(name, top_k):
    p, _ = random_inputs(images=8, concepts=40)
    column = torch.tensor([0.0, 2.0, 0.0, 1.0, 0.0, 2.0, 2.0, 0.0])
    orders = [[*high, 3, *low] for high in permutations([1, 5, 6]) for low in permutations([0, 2, 4, 7])]
    options = {"top_k": top_k, "lam": 0.0}
    if name == "soft_wpmi":
        options |= {"p_start": 0.9, "p_end": 0.2}
    distinct = torch.arange(8.0, 0.0, -1.0).unsqueeze(1)
    each = torch.stack([similarity(name, p[order], distinct, **options) for order in orders])
    scores = similarity(name, p, column.unsqueeze(1), **options)
    np.testing.assert_allclose(scores.numpy(), each.mean(dim=0).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "top_k"), [("wpmi", 5), ("wpmi", 28), ("soft_wpmi", 40), ("soft_wpmi", 41)])
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_copies_of_an_image_need_no_mean_over_their_orders(name, top_k, decimals):
    p, a = random_inputs(images=60, units=8)
    a = a.round(decimals=decimals)  # other images tie too, also with copies and at the cut
    a[:, 0] = (a[:, 0] - 0.8).relu()
    drawn = torch.randint(60, (60,), generator=torch.Generator().manual_seed(1)).sort().values
    plain = similarity(name, p[drawn], a[drawn], top_k=top_k)
    copies = similarity(name, p[drawn], a[drawn], top_k=top_k, copies=drawn)
    np.testing.assert_allclose(copies.numpy(), plain.numpy(), rtol=0, atol=3e-6)


def test_resampled_images_are_told_to_be_copies(world, monkeypatch):
    seen, tools = world
    given = []
    monkeypatch.setattr(
        "baselines.clip_dissect.method.similarity",
        lambda *arrays, **options: given.append(options.get("copies")) or similarity(*arrays, **options),
    )
    drawn = [image // 2 for image in range(len(seen.image_ids))]
    for some in (seen, seen.of(drawn)):
        ClipDissect().label(some, [0], tools)
    assert given[0] is None
    assert given[1].tolist() == drawn


def test_rank_reorder_leaves_out_the_images_that_tie_at_its_cut():
    p, a = random_inputs(images=100, units=2)
    sparse = a.clone()
    sparse[a[:, 0].argsort()[:-3], 0] = 0.0  # 3 of the top 5 images are above 0
    top = a[:, 0].argsort(descending=True)[:3]
    ascending = np.sort(a[top, 0].double().numpy())
    draw = generator(0, "clip_dissect", "rank_reorder", 0)
    chance = np.mean([np.abs(ascending - ascending[draw.permutation(3)]) ** 3 for _ in range(5)])
    values = p[top, 4].double().numpy()
    error = np.mean(np.abs(ascending[::-1] - ascending[np.argsort(np.argsort(values))]) ** 3) / chance
    scores = similarity("rank_reorder", p, sparse)
    assert scores[0, 4].item() == pytest.approx(-error / values.mean() ** 0.5, rel=1e-9)
    assert torch.equal(scores[1], similarity("rank_reorder", p, a)[1])


def test_the_code_mode_keeps_the_bits_of_one_unit_after_another_in_float32():
    p, a = random_inputs(concepts=40, units=30)
    shown = (0.998 - torch.arange(100) / 100 * (0.998 - 0.97)).unsqueeze(-1)
    q = torch.softmax(10 * p, dim=1)
    top = a.sort(dim=0, descending=True, stable=True).indices[:100]
    likelihood = torch.stack([torch.log(1 + shown * (q[top[:, unit]] - 1) + 1e-7).sum(dim=0) for unit in range(30)])
    expected = likelihood - (torch.logsumexp(likelihood, dim=0) - math.log(30))
    assert torch.equal(similarity("soft_wpmi", p, a, mode="code"), expected)
