"""The summary table against means, intervals and corrections computed here."""

from __future__ import annotations

import gc
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from leaderboard.board import intervals as module
from leaderboard.board.summary import MEANS, summarise
from leaderboard.store.frames import to_arrow, to_pandas
from leaderboard.store.schema import SCORES, SUMMARY
from metrics.statistics import Interval, expanded_confidence, noise_floor_test

FLAGS = ("exact", "right", "right_clean")
UNITS = 8


def score_row(unit, perturbation="clean", severity=0, repeat=0, method="m", **values):
    row = {
        "task": "t",
        "profile": "p",
        "method": method,
        "perturbation": perturbation,
        "severity": severity,
        "repeat": repeat,
        "unit": unit,
        "clean_label": "red fish",
        "label": "red fish",
        "clip_similarity": 1.0,
        "sentence_similarity": 1.0,
        "exact": True,
        "noise_floor": 0.95,
        "chance": 0.5,
        "stability": 1.0,
        "evidence_overlap": 1.0,
        "rank_biased_overlap": 1.0,
        "activation_correlation": 1.0,
        "dead": False,
        "missing": False,
        "truth": None,
        "truth_op": None,
        "right_clean": None,
        "right": None,
        "detector": None,
        "named_both": None,
        "clarity": None,
        "redundancy": None,
        "polysemanticity": None,
        "monosemanticity": None,
    }
    return row | values


def dead(unit, **place):
    nothing = dict.fromkeys(("clean_label", "label", "exact", "right", "right_clean"))
    numbers = ("clip_similarity", "sentence_similarity", "noise_floor", "chance", "stability", "evidence_overlap")
    numbers += ("rank_biased_overlap", "activation_correlation")
    return score_row(unit, dead=True, **nothing, **dict.fromkeys(numbers, math.nan), **place)


def unnamed(unit, **values):
    numbers = dict.fromkeys(("clip_similarity", "sentence_similarity", "stability"), math.nan)
    return score_row(unit, missing=True, label=None, exact=None, **(numbers | values))


def some_scores(methods=("m",), conditions=(("snow", 1), ("snow", 3), ("frost", 1), ("frost", 3)), seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for method in methods:
        floor = rng.uniform(0.8, 1.0, UNITS)
        truth_clean = rng.random(UNITS) < 0.7
        for name, severity, repeat in (("clean", 0, 0), ("clean", 0, 1), *((*place, 0) for place in conditions)):
            for unit in range(UNITS):
                moved = min(1.0, float(floor[unit] - rng.uniform(-0.02, 0.1) * severity))
                similarity = moved if name != "clean" else (1.0, float(floor[unit]))[repeat]
                rows.append(
                    score_row(
                        unit,
                        name,
                        severity,
                        repeat,
                        method=method,
                        clip_similarity=similarity,
                        sentence_similarity=float(rng.uniform(0, 1)),
                        stability=(similarity - 0.5) / 0.5,
                        noise_floor=float(floor[unit]),
                        evidence_overlap=float(rng.uniform(0, 1)),
                        exact=bool(rng.random() < 0.5),
                        truth="fish",
                        right_clean=bool(truth_clean[unit]),
                        right=bool(rng.random() < 0.6),
                    )
                )
    return pd.DataFrame(rows)


def stored(scores):
    """The scores after a way through Parquet types, which summaries are rebuilt from."""
    return to_pandas(SCORES, to_arrow(SCORES, scores))


def line(summary, perturbation, severity, method="m"):
    here = (summary["perturbation"] == perturbation) & (summary["severity"] == severity) & (summary["method"] == method)
    assert here.sum() == 1
    return summary[here].iloc[0]


@pytest.fixture(scope="module", autouse=True)
def fewer_resamples():
    assert module.RESAMPLES >= 4_999
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "RESAMPLES", 499)
        # statsmodels collects garbage at each correction, which takes half a second once torch is loaded.
        patch.setattr(gc, "collect", lambda *_: 0)
        yield


@pytest.fixture
def no_bootstrap(monkeypatch):
    """For what does not look at intervals: the mean alone, which is much quicker."""

    def mean(values, **_):
        present = values[~np.isnan(values)]
        return Interval(float(present.mean()) if len(present) else math.nan, math.nan, math.nan, len(present), "")

    monkeypatch.setattr(module, "bootstrap_interval", mean)
    module._mean_interval.cache_clear()
    yield
    module._mean_interval.cache_clear()  # no other test may find these


@pytest.fixture(scope="module")
def scores():
    return some_scores()


@pytest.fixture(scope="module")
def summary(scores):
    return summarise(scores, 0)


def test_every_condition_and_each_kind_of_mean_has_a_row(summary):
    found = sorted(zip(summary["perturbation"], summary["severity"], strict=True))
    singles = [(name, severity) for name in ("snow", "frost") for severity in ("1", "3", "all")]
    assert found == sorted([("clean", "0"), ("all", "all"), *singles])


@pytest.mark.usefixtures("no_bootstrap")
def test_a_single_severity_has_no_mean_over_severities():
    found = summarise(some_scores(conditions=(("snow", 3), ("frost", 3))), 0)
    places = sorted(zip(found["perturbation"], found["severity"], strict=True))
    assert places == [("all", "all"), ("clean", "0"), ("frost", "3"), ("snow", "3")]


def test_means_are_over_units(scores, summary):
    for name, severity in (("clean", 0), ("snow", 1), ("frost", 3)):
        here = (scores["perturbation"] == name) & (scores["severity"] == severity) & (scores["repeat"] == 0)
        rows = scores[here]
        found = line(summary, name, str(severity))
        for column, source in MEANS.items():
            assert found[column] == pytest.approx(np.mean([float(value) for value in rows[source]])), column
        assert (found["units"], found["dead"], found["missing"]) == (UNITS, 0, 0)


def test_each_unit_is_averaged_over_conditions_before_the_bootstrap(scores, summary):
    for name, severity, rows in (
        ("snow", "all", scores[scores["perturbation"] == "snow"]),
        ("all", "all", scores[scores["perturbation"] != "clean"]),
    ):
        per_unit = np.array([rows[rows["unit"] == unit]["stability"].mean() for unit in range(UNITS)]).round(12)
        level = expanded_confidence(0.95, UNITS)
        interval = stats.bootstrap(
            (per_unit,), np.mean, confidence_level=level, n_resamples=499, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        found = line(summary, name, severity)
        assert found["units"] == UNITS
        assert found["stability"] == pytest.approx(per_unit.mean())
        assert found["stability_low"] == pytest.approx(interval.low)
        assert found["stability_high"] == pytest.approx(interval.high)
        shares = np.array([rows[rows["unit"] == unit]["exact"].astype(float).mean() for unit in range(UNITS)]).round(12)
        interval = stats.bootstrap(
            (shares,), np.mean, confidence_level=level, n_resamples=499, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        assert (found["exact_low"], found["exact_high"]) == pytest.approx((interval.low, interval.high))


@pytest.mark.usefixtures("no_bootstrap")
def test_a_unit_with_more_conditions_weighs_no_more():
    rows = [score_row(0, "snow", severity, stability=0.0) for severity in (1, 2, 3, 4)]
    rows += [score_row(1, "snow", 1, stability=1.0), score_row(2, "snow", 1, stability=1.0)]
    assert line(summarise(pd.DataFrame(rows), 0), "snow", "all")["stability"] == pytest.approx(2 / 3)


def test_shares_of_units_have_wilsons_interval(scores, summary):
    rows = scores[(scores["perturbation"] == "snow") & (scores["severity"] == 3)]
    found = line(summary, "snow", "3")
    for column, source in (("exact", "exact"), ("accuracy", "right"), ("accuracy_clean", "right_clean")):
        low, high = proportion_confint(int(rows[source].sum()), UNITS, method="wilson")
        assert (found[f"{column}_low"], found[f"{column}_high"]) == pytest.approx((low, high))


def test_p_values_are_paired_by_unit(scores, summary):
    rows = scores[(scores["perturbation"] == "frost") & (scores["severity"] == 1)].sort_values("unit")
    expected = noise_floor_test(rows[["clip_similarity"]].to_numpy(), rows[["noise_floor"]].to_numpy(), resamples=499)
    assert line(summary, "frost", "1")["p_value"] == pytest.approx(expected.p_value)
    perturbed = scores[scores["perturbation"] != "clean"]
    conditions = perturbed.pivot_table(index="unit", columns=["perturbation", "severity"], values="clip_similarity")
    expected = noise_floor_test(conditions.to_numpy(), rows[["noise_floor"]].to_numpy(), resamples=499)
    assert line(summary, "all", "all")["p_value"] == pytest.approx(expected.p_value)


@pytest.mark.usefixtures("no_bootstrap")
def test_conditions_that_did_not_run_enter_no_test():
    scores = some_scores(conditions=(("snow", 1), ("frost", 3), ("frost", 5)))
    perturbed = scores[scores["perturbation"] != "clean"]
    ran = perturbed.assign(place=perturbed["perturbation"] + perturbed["severity"].astype(str))
    conditions = ran.pivot(index="unit", columns="place", values="clip_similarity")[["frost3", "frost5", "snow1"]]
    assert conditions.shape == (UNITS, 3)
    floor = scores[(scores["perturbation"] == "clean") & (scores["repeat"] == 1)][["clip_similarity"]]
    expected = noise_floor_test(conditions.to_numpy(), floor.to_numpy(), resamples=499)
    assert line(summarise(scores, 0), "all", "all")["p_value"] == pytest.approx(expected.p_value)


@pytest.mark.usefixtures("no_bootstrap")
def test_families_are_corrected_by_holm_within_a_method():
    found = summarise(some_scores(methods=("m", "other")), 0)
    for method in ("m", "other"):
        own = found[(found["method"] == method) & (found["perturbation"] != "clean")]
        single = own[(own["perturbation"] != "all") & (own["severity"] != "all")]
        means = own[(own["perturbation"] != "all") & (own["severity"] == "all")]
        whole = own[own["perturbation"] == "all"]
        assert (len(single), len(means), len(whole)) == (4, 2, 1)
        for family in (single, means, whole):
            expected = multipletests(family["p_value"], method="holm")[1]
            assert family["p_adjusted"].tolist() == pytest.approx(list(expected))
    assert found[found["perturbation"] == "clean"]["p_adjusted"].isna().all()


@pytest.mark.usefixtures("no_bootstrap")
def test_profiles_are_families_of_their_own():
    one = some_scores()
    both = pd.concat([one, some_scores(seed=1).assign(profile="q")], ignore_index=True)
    found = summarise(both, 0)
    pd.testing.assert_frame_equal(found[found["profile"] == "p"].reset_index(drop=True), summarise(one, 0))


def test_dead_units_are_counted_and_enter_nothing(scores, summary):
    places = scores[["perturbation", "severity"]].drop_duplicates().itertuples(index=False)
    more = pd.DataFrame([dead(unit, perturbation=p, severity=s, truth="fish") for p, s in places for unit in (90, 91)])
    found = summarise(pd.concat([scores, more], ignore_index=True), 0)
    assert (found["dead"] == 2).all()
    pd.testing.assert_frame_equal(found.drop(columns="dead"), summary.drop(columns="dead"))


@pytest.mark.usefixtures("no_bootstrap")
def test_a_unit_without_a_label_has_no_similarity_but_is_wrong_where_the_truth_is_known():
    rows = [score_row(unit, "snow", 3, truth="fish", right=unit < 3, right_clean=True) for unit in range(4)]
    rows += [unnamed(4, perturbation="snow", severity=3, truth="fish", right=None, right_clean=True)]
    rows += [unnamed(5, perturbation="snow", severity=3)]
    for frame in (pd.DataFrame(rows), stored(pd.DataFrame(rows))):
        found = line(summarise(frame, 0), "snow", "3")
        assert (found["units"], found["missing"], found["known"]) == (4, 2, 5)
        assert found["clip_similarity"] == pytest.approx(1.0)
        assert found["exact"] == pytest.approx(1.0)
        assert found["accuracy"] == pytest.approx(3 / 5)
        assert found["accuracy_clean"] == pytest.approx(1.0)


@pytest.mark.usefixtures("no_bootstrap")
def test_a_unit_named_under_some_conditions_counts_as_named():
    rows = [score_row(unit, "snow", severity, stability=0.5) for unit in range(3) for severity in (1, 3)]
    rows += [unnamed(3, perturbation="snow", severity=1), score_row(3, "snow", 3, stability=0.1)]
    found = summarise(pd.DataFrame(rows), 0)
    assert (line(found, "snow", "1")["units"], line(found, "snow", "1")["missing"]) == (3, 1)
    assert (line(found, "snow", "all")["units"], line(found, "snow", "all")["missing"]) == (4, 0)
    assert line(found, "snow", "all")["stability"] == pytest.approx((3 * 0.5 + 0.1) / 4)


def test_without_truth_there_is_no_accuracy_and_without_repeats_no_test():
    rows = [score_row(unit, "snow", 3, noise_floor=math.nan, sentence_similarity=math.nan) for unit in range(5)]
    for frame in (pd.DataFrame(rows), stored(pd.DataFrame(rows))):
        found = line(summarise(frame, 0), "snow", "3")
        absent = [
            "accuracy",
            "accuracy_low",
            "accuracy_clean",
            "noise_floor",
            "sentence_similarity_high",
            "p_value",
            "p_adjusted",
        ]
        assert found[absent].astype(float).isna().all()
        assert found["stability"] == 1.0


def test_clean_is_repeat_zero_alone(scores, summary):
    other = scores[scores["perturbation"] == "clean"].assign(repeat=2, clip_similarity=0.1, stability=0.0, right=False)
    found = summarise(pd.concat([scores, other], ignore_index=True), 0).drop(columns=["p_value", "p_adjusted"])
    pd.testing.assert_frame_equal(found, summary.drop(columns=["p_value", "p_adjusted"]))


@pytest.mark.usefixtures("no_bootstrap")
def test_a_run_of_clean_images_alone_has_one_row():
    found = summarise(pd.DataFrame([score_row(unit) for unit in range(4)]), 0)
    assert found[["perturbation", "severity"]].to_numpy().tolist() == [["clean", "0"]]
    assert found["p_adjusted"].isna().all()


def test_all_units_dead_or_unnamed_give_absent_means():
    for row, column in ((dead, "dead"), (unnamed, "missing")):
        found = line(
            summarise(pd.DataFrame([row(unit, perturbation="snow", severity=3) for unit in range(4)]), 0), "snow", "3"
        )
        assert (found["units"], found[column]) == (0, 4)
        assert math.isnan(found["stability"])


def test_the_order_of_rows_changes_nothing(scores, summary):
    shuffled = summarise(scores.sample(frac=1, random_state=3), 0)
    key = ["method", "perturbation", "severity"]
    pd.testing.assert_frame_equal(
        shuffled.sort_values(key, ignore_index=True),
        summary.sort_values(key, ignore_index=True),
        check_exact=False,
        rtol=1e-12,
    )


def test_it_fits_the_store_and_is_the_same_from_stored_scores(scores, summary):
    typed = to_pandas(SUMMARY, to_arrow(SUMMARY, summary))
    assert len(typed) == len(summary)
    again = to_pandas(SUMMARY, to_arrow(SUMMARY, summarise(stored(scores), 0)))
    pd.testing.assert_frame_equal(again, typed, check_exact=False, rtol=1e-12)


def test_no_scores_no_rows():
    assert len(summarise(pd.DataFrame([score_row(0)]).iloc[:0], 0)) == 0
