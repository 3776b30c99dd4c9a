"""The table of comparisons against direct calls of scipy and statsmodels on simulated scores."""

from __future__ import annotations

import gc
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import cochrans_q, mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from leaderboard.board import intervals
from leaderboard.board.comparison import compare
from leaderboard.board.comparison.between import group_letters
from leaderboard.board.comparison.panel import build_panel
from leaderboard.board.comparison.rows import share_difference
from leaderboard.board.facts import RunFacts
from leaderboard.store.frames import to_arrow, to_pandas
from leaderboard.store.run_folder import RunFolder
from leaderboard.store.schema import COMPARISONS, SCORES
from leaderboard.view.comparisons import comparison_tables
from leaderboard.view.ties import ties_from
from metrics.statistics import expanded_confidence, mixed_model

pytestmark = pytest.mark.filterwarnings("error")

METHODS = ("alpha", "beta", "gamma", "random_label", "constant_label")
REAL = METHODS[:3]
UNITS = 20
CONDITIONS = tuple((name, severity) for name in ("fog", "snow") for severity in (1, 3))
RESAMPLES = 499


def simulated(methods=METHODS, conditions=CONDITIONS, units=UNITS, seed=0, truth=True):
    """Scores in which gamma is less stable and less right than alpha and beta."""
    rng = np.random.default_rng(seed)
    frames = []
    for method in methods:
        own, clean = rng.normal(0, 0.1, units), rng.random(units) < {"gamma": 0.5, "random_label": 0.1}.get(method, 0.9)
        for name, severity, repeat in (("clean", 0, 0), ("clean", 0, 1), *((*place, 0) for place in conditions)):
            level = {"gamma": 0.3, "random_label": 0.1}.get(method, 0.8)
            moved = np.minimum(1.0, level + own - 0.05 * severity + rng.normal(0, 0.1, units))
            right = clean if name == "clean" else clean & (rng.random(units) < 1 - 0.2 * severity)
            frames.append(
                pd.DataFrame(
                    {
                        "task": "t",
                        "profile": "p",
                        "method": method,
                        "perturbation": name,
                        "severity": severity,
                        "repeat": repeat,
                        "unit": np.arange(units),
                        "stability": np.zeros(units) if method == "constant_label" else moved,
                        "dead": False,
                        "missing": False,
                        "truth": "fish" if truth else None,
                        "right_clean": pd.array(clean if truth else [None] * units, dtype="boolean"),
                        "right": pd.array(right if truth else [None] * units, dtype="boolean"),
                    }
                )
            )
    scores = pd.concat(frames, ignore_index=True)
    rest = {column.name: None for column in SCORES.columns if column.name not in scores.columns}
    return to_pandas(SCORES, to_arrow(SCORES, scores.assign(**rest)))


def unit_means(scores, column="stability"):
    rows = scores[scores["perturbation"] != "clean"]
    table = rows.assign(value=rows[column].astype(float)).pivot_table(index="unit", columns="method", values="value")
    return table[[name for name in METHODS if name in table.columns]]


def chosen(table, measure, kind, **where):
    rows = table[(table["measure"] == measure) & (table["kind"] == kind)]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows


def only(table, measure, kind, **where):
    rows = chosen(table, measure, kind, **where)
    assert len(rows) == 1, rows
    return rows.iloc[0]


@pytest.fixture(scope="module", autouse=True)
def quick_and_silent():
    assert intervals.RESAMPLES >= 4_999
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "RESAMPLES", RESAMPLES)
        # statsmodels collects garbage at each correction, which takes half a second once torch is loaded.
        patch.setattr(gc, "collect", lambda *_: 0)
        yield


@pytest.fixture(scope="module")
def scores():
    return simulated()


@pytest.fixture(scope="module")
def table(scores):
    return compare(scores, RunFacts())


# ---- between methods ----


@pytest.mark.parametrize(("measure", "column"), [("stability", "stability"), ("accuracy", "right")])
def test_pairs_of_means_are_permutation_tests_with_holm(scores, table, measure, column):
    means = unit_means(scores, column)
    pairs = list(itertools.combinations(METHODS, 2))
    expected = []
    for first, second in pairs:
        differences = np.round(means[first] - means[second], 12).to_numpy()
        moved = differences[differences != 0]
        test = stats.permutation_test(
            (moved,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, rng=np.random.default_rng(0)
        )
        expected.append(test.pvalue)
    corrected = multipletests(expected, method="holm")[1]
    for (first, second), p_value, p_corrected in zip(pairs, expected, corrected, strict=True):
        row = only(table, measure, "pair", first=first, second=second)
        assert (row["p_value"], row["p_corrected"]) == pytest.approx((p_value, p_corrected))
        assert (row["n"], row["left_out"], row["correction"]) == (UNITS, 0, "Holm over 10 pairs of methods")
    assert chosen(table, measure, "pair")["family"].nunique() == 1


def test_differences_have_a_paired_bootstrap_interval_and_an_effect_size(scores, table):
    means = unit_means(scores)
    row = only(table, "stability", "pair", first="alpha", second="gamma")
    differences = (means["alpha"] - means["gamma"]).to_numpy()
    found = stats.bootstrap(
        (differences,),
        np.mean,
        confidence_level=expanded_confidence(0.95, UNITS),
        n_resamples=RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert row["difference"] == pytest.approx(differences.mean())
    assert (row["low"], row["high"]) == pytest.approx((found.low, found.high), abs=0.01)
    assert (row["value_first"], row["value_second"]) == pytest.approx((means["alpha"].mean(), means["gamma"].mean()))
    ranks = stats.rankdata(abs(differences)) * np.sign(differences)
    assert row["effect"] == pytest.approx(ranks.sum() / abs(ranks).sum())
    assert row["hypothesis"] == "alpha and gamma of a unit could be swapped: their mean difference is 0"


def test_the_smallest_detectable_difference_has_80_percent_power_at_the_corrected_level(scores, table):
    means = unit_means(scores)
    row = only(table, "stability", "pair", first="alpha", second="beta")
    effect = row["smallest_detectable"] / (means["alpha"] - means["beta"]).std()
    assert TTestPower().power(effect, UNITS, 0.05 / 10) == pytest.approx(0.8, abs=1e-3)


def test_friedman_without_the_floors_and_with_them(scores, table):
    means = unit_means(scores)
    for names, floor in ((REAL, False), (METHODS, True)):
        row = only(table, "stability", "omnibus", floor=floor)
        expected = stats.friedmanchisquare(*(means[name] for name in names))
        assert (row["statistic"], row["p_value"]) == pytest.approx((expected.statistic, expected.pvalue))
        assert row["first"] == ", ".join(names)
        assert row["effect"] == pytest.approx(expected.statistic / (UNITS * (len(names) - 1)))
        assert pd.isna(row["p_corrected"])


def test_means_ranks_and_letters_say_what_is_told_apart(scores, table):
    means = unit_means(scores)
    rows = chosen(table, "stability", "method").set_index("first")
    assert rows["value_first"].to_dict() == pytest.approx(means.mean().to_dict())
    assert (rows["low"] <= rows["value_first"]).all()
    assert (rows["value_first"] <= rows["high"]).all()
    assert rows["rank"].to_dict() == {"alpha": 1, "beta": 1, "gamma": 3, "random_label": 4, "constant_label": 4}
    letters = {"alpha": "a", "beta": "a", "gamma": "b", "random_label": "c", "constant_label": "c"}
    assert rows["letters"].to_dict() == letters
    for _, row in chosen(table, "stability", "pair").iterrows():
        assert (row["p_corrected"] > 0.05) == bool(set(letters[row["first"]]) & set(letters[row["second"]]))
    assert rows["floor"].to_dict() == {name: name not in REAL for name in METHODS}


def test_letters_cover_any_pattern_of_pairs():
    rng = np.random.default_rng(0)
    for k in (1, 2, 5, 7):
        for share in (0.2, 0.5, 0.8):
            apart = np.triu(rng.random((k, k)) < share, 1)
            apart |= apart.T
            quality = rng.random(k)
            letters = group_letters(quality, apart)
            assert "a" in letters[int(np.argmax(quality))]
            for i, j in itertools.combinations(range(k), 2):
                assert bool(set(letters[i]) & set(letters[j])) != apart[i, j]


def test_letters_can_skip_a_method_in_between():
    apart = np.zeros((3, 3), dtype=bool)
    apart[0, 1] = apart[1, 0] = True
    assert group_letters(np.array([3.0, 2.0, 1.0]), apart) == ("a", "b", "ab")


# ---- verdicts ----


def test_clean_accuracy_is_compared_by_mcnemar_and_cochran(scores, table):
    clean = scores[(scores["perturbation"] == "clean") & (scores["repeat"] == 0)]
    right = clean.assign(right=clean["right"].astype(int)).pivot_table(index="unit", columns="method", values="right")
    pairs = list(itertools.combinations(METHODS, 2))
    expected = []
    for first, second in pairs:
        lost, gained = ((right[first] > right[second]).sum(), (right[first] < right[second]).sum())
        expected.append(mcnemar([[0, lost], [gained, 0]], exact=True).pvalue)
    corrected = multipletests(expected, method="holm")[1]
    for (first, second), p_value, p_corrected in zip(pairs, expected, corrected, strict=True):
        row = only(table, "accuracy_clean", "pair", first=first, second=second)
        assert (row["p_value"], row["p_corrected"]) == pytest.approx((min(1.0, p_value), p_corrected))
        assert row["difference"] == pytest.approx(right[first].mean() - right[second].mean())
    row = only(table, "accuracy_clean", "omnibus", floor=False)
    found = cochrans_q(right[list(REAL)].to_numpy())
    assert (row["statistic"], row["p_value"]) == pytest.approx((found.statistic, found.pvalue))


def test_each_method_is_compared_with_itself_under_each_condition(scores, table):
    for method in METHODS:
        rows = chosen(table, "accuracy", "condition", first=method)
        assert rows["second"].tolist() == [f"{name}, severity {severity}" for name, severity in CONDITIONS]
        expected = []
        for (name, severity), (_, row) in zip(CONDITIONS, rows.iterrows(), strict=True):
            here = (scores["perturbation"] == name) & (scores["severity"] == severity) & (scores["method"] == method)
            before = scores[here]["right_clean"].to_numpy(int)
            after = scores[here]["right"].to_numpy(int)
            lost, gained = (before > after).sum(), (before < after).sum()
            expected.append(min(1.0, mcnemar([[0, lost], [gained, 0]], exact=True).pvalue))
            assert row["difference"] == pytest.approx(before.mean() - after.mean())
            assert (row["value_first"], row["value_second"]) == pytest.approx((before.mean(), after.mean()))
        assert rows["p_value"].tolist() == pytest.approx(expected)
        assert rows["p_corrected"].tolist() == pytest.approx(list(multipletests(expected, method="holm")[1]))
        assert rows["correction"].unique().tolist() == ["Holm over 4 conditions"]
        assert rows["family"].nunique() == 1
    assert chosen(table, "accuracy", "condition")["family"].nunique() == len(METHODS)


def test_a_missing_label_is_wrong_and_has_no_stability(scores):
    lost = (scores["method"] == "alpha") & (scores["perturbation"] == "fog") & (scores["unit"] < 4)
    changed = scores.assign(
        stability=scores["stability"].mask(lost),
        right=scores["right"].mask(lost),
        missing=scores["missing"] | lost,
    )
    found = compare(changed, RunFacts())
    row = only(found, "accuracy", "condition", first="alpha", second="fog, severity 1")
    here = scores[(scores["method"] == "alpha") & (scores["perturbation"] == "fog") & (scores["severity"] == 1)]
    assert row["n"] == UNITS
    assert row["value_second"] == pytest.approx((here["right"] & (here["unit"] >= 4)).mean())
    # Where alpha gave no label, the others' stability does not count either.
    means = unit_means(scores[~((scores["perturbation"] == "fog") & (scores["unit"] < 4))])
    rows = chosen(found, "stability", "method").set_index("first")
    assert rows["value_first"].to_dict() == pytest.approx(means.mean().to_dict())
    assert "8 of 80 values do not count" in rows.loc["beta", "reason"]


def test_the_interval_of_shares_holds_what_it_promises():
    rng = np.random.default_rng(0)
    n, runs, truth = 24, 2_000, 0.3
    covered = 0
    for lost, gained, _ in rng.multinomial(n, [0.4, 0.1, 0.5], size=runs):
        first = np.r_[np.ones(lost), np.zeros(n - lost)]
        second = np.r_[np.zeros(lost), np.ones(gained), np.zeros(n - lost - gained)]
        found = share_difference(first, second)
        assert found.low <= found.estimate <= found.high
        covered += found.low <= truth <= found.high
    assert 0.94 <= covered / runs <= 0.98
    assert math.isnan(share_difference(np.empty(0), np.empty(0)).estimate)


# ---- severity ----


def test_the_mixed_model_is_fitted_to_the_methods_without_floors(scores, table):
    rows = scores[(scores["perturbation"] != "clean") & scores["method"].isin(REAL)]
    columns = (rows[name].to_numpy() for name in ("stability", "method", "severity", "unit"))
    model = mixed_model(*columns)
    corrected = multipletests([test.p_value for test in model.tests], method="holm")[1]
    for term, test, p_corrected in zip(
        ("method", "severity", "method × severity"), model.tests, corrected, strict=True
    ):
        row = only(table, "stability", "effect", first=term)
        assert row["statistic"] == pytest.approx(test.statistic, rel=1e-3)
        assert row["p_corrected"] == pytest.approx(p_corrected, rel=1e-2, abs=1e-9)
        assert (row["n"], row["correction"]) == (UNITS, "Holm over 3 terms of the model")
    slopes = chosen(table, "stability", "slope").set_index("first")
    assert slopes["difference"].to_dict() == pytest.approx(dict(zip(REAL, model.slopes, strict=True)), rel=1e-3)
    half = (slopes["high"] - slopes["low"]) / 2
    assert half.to_list() == pytest.approx(list(stats.t.ppf(0.975, UNITS - 1) * model.slopes_error), rel=1e-3)


def test_a_perturbation_that_ran_at_one_severity_is_no_effect_of_severity(scores, table):
    fog = (scores["perturbation"] == "fog") & (scores["severity"] == 1)
    more = scores[fog].assign(perturbation="hail", severity=5, stability=-3.0)
    one = scores[(scores["perturbation"] != "snow") | (scores["severity"] == 1)]
    fog = scores[scores["perturbation"].isin(["clean", "fog"])]
    found, expected = compare(one, RunFacts()), compare(fog, RunFacts())
    kinds = ["effect", "slope"]
    columns = ["first", "n", "statistic", "p_value", "difference", "low", "high"]
    pd.testing.assert_frame_equal(
        found[found["kind"].isin(kinds)][columns].reset_index(drop=True),
        expected[expected["kind"].isin(kinds)][columns].reset_index(drop=True),
    )
    # No perturbation ran at 1, 3 and 5.
    rows = chosen(compare(pd.concat([scores, more]), RunFacts()), "stability", "effect")
    assert rows["reason"].unique().tolist() == ["no perturbation has values at every severity"]


def test_one_severity_has_no_model():
    rows = chosen(compare(simulated(REAL, (("fog", 3), ("snow", 3))), RunFacts()), "stability", "effect")
    assert rows["first"].tolist() == ["method", "method × severity", "severity"]
    assert rows["reason"].unique().tolist() == ["fewer than two severities"]
    assert rows["p_value"].isna().all()


# ---- which units and conditions count ----


def test_conditions_that_a_method_has_not_done_do_not_count(scores):
    undone = (scores["method"] == "beta") & (scores["perturbation"] == "snow") & (scores["severity"] == 3)
    found = compare(scores[~undone], RunFacts())
    rest = (scores["perturbation"] != "snow") | (scores["severity"] != 3)
    rows = chosen(found, "stability", "method").set_index("first")
    assert rows["value_first"].to_dict() == pytest.approx(unit_means(scores[rest]).mean().to_dict())
    assert rows["reason"].str.contains("over 3 of 4 conditions: those in which every method has values").all()
    assert len(chosen(found, "accuracy", "condition", first="beta")) == 3
    assert len(chosen(found, "accuracy", "condition", first="alpha")) == 4


def test_a_method_without_any_value_does_not_spoil_the_others(scores, table):
    silent = scores[scores["method"] == "alpha"].assign(method="silent", stability=math.nan, label=None, missing=True)
    found = compare(pd.concat([scores, silent.assign(right=False, right_clean=False)], ignore_index=True), RunFacts())
    columns = ["first", "second", "p_value", "difference", "low", "high", "p_corrected"]
    pd.testing.assert_frame_equal(
        chosen(found, "stability", "pair")[columns].reset_index(drop=True),
        chosen(table, "stability", "pair")[columns].reset_index(drop=True),
    )
    row = only(found, "stability", "method", first="silent")
    assert row["reason"] == "no value: left out of all comparisons"
    assert row["left_out"] == UNITS


def test_dead_units_are_counted_and_enter_nothing(scores, table):
    dead = scores[scores["unit"] == 0].assign(unit=99, dead=True, stability=math.nan, right=None, right_clean=None)
    found = compare(pd.concat([scores, dead], ignore_index=True), RunFacts())
    assert (found["left_out"] == table["left_out"] + 1).all()
    pd.testing.assert_frame_equal(found.drop(columns="left_out"), table.drop(columns="left_out"))


def test_units_of_unknown_truth_have_stability_alone(scores, table):
    changed = scores.assign(
        truth=scores["truth"].mask(scores["unit"] < 5),
        right=scores["right"].mask(scores["unit"] < 5),
        right_clean=scores["right_clean"].mask(scores["unit"] < 5),
    )
    found = compare(changed, RunFacts())
    stability = found["measure"] == "stability"
    pd.testing.assert_frame_equal(
        found[stability].reset_index(drop=True), table[stability.to_numpy()].reset_index(drop=True)
    )
    counts = found[~stability][["n", "left_out"]].drop_duplicates().to_numpy().tolist()
    assert counts == [[UNITS - 5, 5]]


def test_tasks_and_profiles_are_families_of_their_own(scores, table):
    other = simulated(seed=1).assign(profile="q")
    found = compare(pd.concat([scores, other], ignore_index=True), RunFacts())
    pd.testing.assert_frame_equal(found[found["profile"] == "p"].reset_index(drop=True), table)
    assert set(found["profile"]) == {"p", "q"}


def test_a_panel_keeps_the_order_of_the_methods_and_averages_repeats():
    rows = simulated(("beta", "alpha"), (("fog", 1),), units=3)
    panel = build_panel(rows[rows["perturbation"] == "clean"], "stability", ("beta", "none", "alpha"))
    assert (panel.methods, panel.without, panel.conditions) == (("beta", "alpha"), ("none",), (("clean", 0),))
    expected = rows[rows["perturbation"] == "clean"].pivot_table(index="unit", columns="method", values="stability")
    np.testing.assert_allclose(panel.unit_means(), expected[["beta", "alpha"]].to_numpy())


# ---- the table ----


def test_it_goes_through_the_store_and_is_the_same_from_any_order_of_rows(scores, table, tmp_path):
    pd.testing.assert_frame_equal(
        compare(scores.sample(frac=1, random_state=1), RunFacts()), table, check_exact=False, rtol=1e-9
    )
    with RunFolder(tmp_path / "run") as folder:
        folder.create_or_continue({}, {})
        folder.write_table("comparisons", table)
        pd.testing.assert_frame_equal(folder.read_table("comparisons"), table)


def test_every_row_says_what_it_tests(table):
    tested = table[table["p_value"].notna()]
    assert tested[["test", "hypothesis", "statistic", "effect", "effect_name"]].notna().all(axis=None)
    assert (tested["n"] + tested["left_out"] == UNITS).all()
    corrected = table[table["p_corrected"].notna()]
    assert corrected[["family", "correction"]].notna().all(axis=None)
    assert (corrected["p_corrected"] >= corrected["p_value"]).all()
    for _, family in corrected.groupby("family"):
        expected = multipletests(family["p_value"], method="holm")[1]
        assert family["p_corrected"].tolist() == pytest.approx(list(expected))
        assert family["correction"].str.contains(f"Holm over {len(family)} ").all()


def small(**values):
    return simulated(conditions=(("fog", 1), ("fog", 3)), units=8).assign(**values)


def without_a_shared_condition():
    rows = small()
    lost = {"alpha": 1, "beta": 3}
    return rows[rows["severity"] != rows["method"].map(lost).fillna(9)]


def without_a_shared_unit():
    rows = small()
    return rows.assign(stability=rows["stability"].mask((rows["method"] == "alpha") == (rows["unit"] < 4)))


NOTHING = {"stability": math.nan, "right": None, "right_clean": None}
DEGENERATE = {
    "one method": lambda: simulated(("alpha",), units=8),
    "two methods": lambda: simulated(("alpha", "beta"), units=8),
    "floors alone": lambda: simulated(("random_label", "constant_label"), units=8),
    "one unit": lambda: simulated(units=1),
    "two units": lambda: simulated(units=2),
    "three units": lambda: simulated(units=3),
    "all dead": lambda: small(dead=True, **NOTHING),
    "no truth": lambda: simulated(units=8, truth=False),
    "no stability": lambda: small(stability=math.nan),
    "no label": lambda: small(missing=True, **NOTHING),
    "clean images only": lambda: simulated(conditions=(), units=8),
    "perturbed images only": lambda: small().query("perturbation != 'clean'"),
    "all alike": lambda: small(stability=1.0, right=True, right_clean=True),
    "no shared condition": without_a_shared_condition,
    "no shared unit": without_a_shared_unit,
}


@pytest.mark.parametrize("name", list(DEGENERATE))
def test_what_cannot_be_compared_says_why(name):
    found = compare(DEGENERATE[name](), RunFacts())
    assert to_pandas(COMPARISONS, to_arrow(COMPARISONS, found)).equals(found)
    (standings, *_) = tables = comparison_tables(found, RunFacts())
    assert standings.notes
    assert not any("nan" in (cell.shown, cell.interval) for table in tables for row in table.rows for cell in row.cells)
    assert "nan" not in " ".join(note for table in tables for note in table.notes)
    assert set(found["measure"]) == {"stability", "accuracy", "accuracy_clean"}
    silent = found[found["p_value"].isna() & ~found["kind"].isin(["method", "slope"])]
    assert silent["reason"].notna().all()
    assert found[found["low"].isna() & found["difference"].notna()]["reason"].notna().all()


@pytest.mark.parametrize(
    ("name", "measure", "reason"),
    [
        ("one method", "stability", "one method: nothing to compare it with"),
        ("all dead", "stability", "every unit is dead"),
        ("all dead", "accuracy_clean", "every unit is dead"),
        ("no truth", "accuracy", "no unit's truth is known"),
        ("no truth", "accuracy_clean", "no unit's truth is known"),
        ("no stability", "stability", "no label has a stability"),
        ("clean images only", "stability", "clean images only"),
        ("clean images only", "accuracy", "clean images only"),
        ("perturbed images only", "accuracy_clean", "no clean images"),
    ],
)
def test_the_reason_is_the_right_one(name, measure, reason):
    row = only(compare(DEGENERATE[name](), RunFacts()), measure, "omnibus")
    assert row["reason"] == reason
    assert row["first"] == ("alpha" if name == "one method" else ", ".join(METHODS))


def test_few_units_cannot_tell_anything_apart():
    found = compare(simulated(units=3), RunFacts())
    pairs = found[found["kind"] == "pair"]
    assert (pairs["p_corrected"] > 0.05).all()
    ranks = found[found["kind"] == "method"]
    assert (ranks["rank"] == 1).all()
    assert (ranks["letters"] == "a").all()


def test_one_unit_ranks_nobody_and_no_table_speaks_of_its_ties():
    found = compare(simulated(units=1), RunFacts())
    assert ties_from(found) == {}
    rows = chosen(found, "stability", "method")
    assert (rows["n"] == 1).all()
    assert rows["value_first"].notna().all()
    assert rows[["rank", "letters"]].isna().all(axis=None)


def test_without_a_shared_unit_there_are_no_ranks():
    found = compare(DEGENERATE["no shared unit"](), RunFacts())
    rows = chosen(found, "stability", "method")
    assert (rows["n"] == 0).all()
    assert rows[["rank", "letters", "value_first"]].isna().all(axis=None)


def test_one_method_still_has_its_mean_its_conditions_and_its_slope():
    found = compare(DEGENERATE["one method"](), RunFacts())
    assert only(found, "stability", "method")["value_first"] == pytest.approx(
        unit_means(DEGENERATE["one method"]())["alpha"].mean()
    )
    assert len(chosen(found, "accuracy", "condition")) == 4
    assert only(found, "stability", "effect", first="severity")["p_value"] < 0.05
    assert only(found, "stability", "effect", first="method")["reason"] == "one method"


def test_no_scores_no_rows():
    found = compare(simulated(units=1).iloc[:0], RunFacts())
    assert len(found) == 0
    assert list(found.columns) == [column.name for column in COMPARISONS.columns]
