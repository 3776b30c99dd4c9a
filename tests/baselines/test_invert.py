"""INVERT against the numbers of the release, and its properties."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from small_observation import observation, toolbox

from baselines.invert import Formula, Invert, Part, best_formulas
from tasks.common.errors import UserError
from tasks.observation import ConceptPresence

GOLDEN = Path(__file__).parents[1] / "data" / "activation_methods.npz"
SATURATED = 19  # its largest activations tie in the release
NAMES = tuple(f"c{number}" for number in range(60))


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def given(golden):
    return golden["in/activations"], golden["in/presence"]


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize(("name", "min_share"), [("invert", 0.0), ("invert_share", 0.02)])
def test_code_finds_the_best_formula_of_the_release(name, min_share, length, golden, given):
    activations, presence = given
    for unit in range(24):
        best = best_formulas(activations[:, unit], presence, length=length, min_share=min_share, mode="code")[0]
        tolerance = 0.05 if unit == SATURATED else 1e-6
        assert abs(best.auroc - golden[f"{name}/auroc"][unit, length - 1, 0]) < tolerance
        if name == "invert_share":
            assert (best.holds(presence) == golden["invert_share/best_mask"][unit, length - 1]).all()
        else:
            stored = golden["invert/p_value"][unit, length - 1]
            assert best.share == pytest.approx(golden["invert/share"][unit, length - 1, 0])
            # 0 in float32.
            assert stored == 0 or abs(np.log10(best.p_value) - np.log10(stored)) < 0.05


def test_planted_formulas_are_found(golden, given):
    found = []
    for unit in range(16):
        best = best_formulas(given[0][:, unit], given[1])[0]
        written = best.written([str(number) for number in range(60)])
        parts = set(written.replace(" ∧ ", "&").replace(" ∨ ", "|").replace("¬", "~").split("&"))
        found.append(parts == set(str(golden["in/planted"][unit]).split("&")) or "|" in golden["in/planted"][unit])
    assert sum(found) >= 14


def test_no_images_twice_and_every_share_within_its_bounds(given):
    for unit in range(24):
        formulas = best_formulas(given[0][:, unit], given[1], beam=5, min_share=0.02, max_share=0.4)
        masks = {tuple(formula.holds(given[1])) for formula in formulas}
        assert 1 <= len(masks) == len(formulas) <= 5
        assert all(0.02 <= formula.share <= 0.4 for formula in formulas)
        assert [formula.auroc for formula in formulas] == sorted((f.auroc for f in formulas), reverse=True)


def test_auroc_and_p_value_are_scipys_with_ties_counted_half(given):
    activations = np.round(given[0][:, 1] * 4) / 4
    best = best_formulas(activations, given[1], mode="fixed")[0]
    holds = best.holds(given[1])
    expected = mannwhitneyu(activations[holds], activations[~holds], method="asymptotic")
    assert best.auroc == pytest.approx(expected.statistic / (holds.sum() * (~holds).sum()), abs=1e-12)
    assert best.p_value == pytest.approx(expected.pvalue, rel=1e-6)


def test_large_activations_are_not_tied():
    presence = np.arange(40)[:, None] >= 30
    activations = np.arange(40) + 100.0
    assert best_formulas(activations, presence, length=1)[0].auroc == 1
    assert best_formulas(activations, presence, length=1, mode="code")[0].auroc == 0.5


def test_a_longer_formula_must_gain():
    draw = np.random.default_rng(0)
    presence = draw.random((400, 5)) < 0.3
    activations = presence[:, 0] + 0.01 * draw.random(400)
    assert len(best_formulas(activations, presence)[0].literals) == 1
    mixed = presence[:, 0] & presence[:, 1] | presence[:, 2]
    noisy = mixed + 0.5 * draw.random(400)
    for gain in (0.002, 0.05, 0.5):
        lengths = [best_formulas(noisy, presence, length=length, min_gain=gain)[0] for length in (1, 2, 3)]
        for shorter, longer in itertools.pairwise(lengths):
            assert len(longer.literals) == len(shorter.literals) or longer.auroc > shorter.auroc + gain
    assert len(lengths[2].literals) == 1


def test_negated_concepts_are_never_named():
    formula = Formula((Part(0, False, "and"), Part(1, True, "and"), Part(2, False, "or")), 0.9, 0.2, 0.01)
    names = ("red", "fish", "striped")
    assert formula.text(names) == "red striped"
    assert formula.written(names) == "(red ∧ ¬fish) ∨ striped"
    presence = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], bool)
    assert formula.holds(presence).tolist() == [True, False, True]
    shown = np.arange(40)[:, None] < 30
    seen = observation(torch.arange(40.0)[:, None], presence=ConceptPresence(("red",), shown))
    (labels,) = Invert().label(seen, [0], toolbox())
    assert labels.ranked == ()
    assert labels.extra["formula"] == "¬red"


@pytest.mark.parametrize("values", [np.zeros(50), np.full(50, 3.0)])
def test_dead_units_and_concepts_of_every_image_have_no_formula(values):
    shown = np.random.default_rng(0).random((50, 3)) < 0.5
    assert best_formulas(values, shown) == []
    assert best_formulas(np.arange(50.0), np.ones((50, 2), bool)) == []


def test_one_unit_alone_gets_what_it_gets_among_all(given):
    seen = observation(torch.from_numpy(given[0]), presence=ConceptPresence(NAMES, given[1]))
    together = Invert().label(seen, range(24), toolbox())
    for unit in (21, 6, 20):
        assert Invert().label(seen, [unit], toolbox()) == [together[unit]]
    assert set(together[6].ranked[0].text.split()) == {"c21", "c40"}
    assert together[6].extra["auroc"] > together[6].extra["single_auroc"] + 0.002
    assert len(together[6].evidence) == 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Invert(beam=0), "beam of invert must be at least 1"),
        (lambda: Invert(min_share=0.6), "shares of invert must rise from 0 to 1, but are 0.6 and 0.5"),
        (lambda: Invert(mode="paper"), "Available: code, fixed"),  # type: ignore[arg-type]
        (
            lambda: Invert().label(observation(torch.rand(9, 2)), [0], toolbox()),
            "invert needs images with concept annotation, which these do not have",
        ),
    ],
)
def test_mistakes_get_one_sentence(call, message):
    with pytest.raises(UserError, match=message):
        call()
