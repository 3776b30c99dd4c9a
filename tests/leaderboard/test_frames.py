from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from leaderboard.store.errors import StoreError
from leaderboard.store.frames import arrow_schema, empty_frame, parquet_bytes, read_parquet, to_arrow, to_pandas
from leaderboard.store.schema import LABELS, SCORES, SUMMARY, TABLES


def label_rows(**changes) -> pd.DataFrame:
    row = {
        "task": "t",
        "profile": "miniature",
        "method": "dnd",
        "perturbation": "fog",
        "severity": 3,
        "repeat": 0,
        "unit": [4, 2],
        "rank": 1,
        "label": ["fish", "cup"],
        "score": [0.25, float("nan")],
    }
    return pd.DataFrame({**row, **changes})


def score_rows(**changes) -> pd.DataFrame:
    row = dict.fromkeys((c.name for c in SCORES.columns if c.optional), None)
    row |= {"task": "t", "profile": "p", "method": "m", "perturbation": "fog", "severity": 1, "repeat": 0}
    return pd.DataFrame({**row, "unit": [0, 1], "dead": [False, True], "missing": False, **changes})


def test_a_table_of_too_many_rows_is_not_read(monkeypatch):
    data = parquet_bytes(to_arrow(LABELS, label_rows()))
    monkeypatch.setattr("leaderboard.store.frames.MOST_ROWS", 1)
    with pytest.raises(OSError, match="2 rows are more than any run has"):
        read_parquet(data)


def test_round_trip_sorts_rows_and_keeps_values():
    stored = to_pandas(LABELS, read_parquet(parquet_bytes(to_arrow(LABELS, label_rows()))))
    assert list(stored.columns) == [column.name for column in LABELS.columns]
    assert stored["unit"].tolist() == [2, 4]
    assert stored["label"].tolist() == ["cup", "fish"]
    assert np.isnan(stored["score"][0])
    assert stored["score"][1] == 0.25


def test_bytes_do_not_depend_on_row_or_column_order():
    frame = label_rows()
    shuffled = frame.iloc[::-1][list(reversed(frame.columns))]
    assert parquet_bytes(to_arrow(LABELS, frame)) == parquet_bytes(to_arrow(LABELS, shuffled))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"severity": 6}, "'severity'.*has 6, outside 0..5"),
        ({"severity": 2.5}, "'severity'.*not whole numbers"),
        ({"unit": [-1, 2]}, "'unit'.*has -1"),
        ({"rank": 0}, "'rank'.*has 0, outside 1..∞"),
        ({"label": ["fish", None]}, "'label'.*1 absent"),
        ({"label": ["fish", 7]}, "'label'.*7 is not text"),
        ({"score": ["high", "low"]}, "'score'.*text instead of a number"),
        ({"score": [float("inf"), 0.0]}, "'score'.*infinity"),
        ({"unit": [2, 2]}, "1 duplicate rows"),
        ({"extra": 1}, "unknown extra"),
    ],
)
def test_wrong_labels_are_refused(changes, message):
    with pytest.raises(StoreError, match=message):
        to_arrow(LABELS, label_rows(**changes))


def test_missing_column_is_named():
    with pytest.raises(StoreError, match="missing rank, score"):
        to_arrow(LABELS, label_rows().drop(columns=["rank", "score"]))


@pytest.mark.parametrize("values", [[True, None], [1.0, float("nan")], pd.array([True, pd.NA], dtype="boolean")])
def test_optional_flags_know_three_values(values):
    stored = to_pandas(SCORES, to_arrow(SCORES, score_rows(right=values)))
    assert stored["right"].dtype == "boolean"
    assert stored["right"][0]
    assert pd.isna(stored["right"][1])
    assert stored["right"].mean() == 1.0
    assert stored["dead"].dtype == bool


def test_cosines_may_overshoot_by_rounding_only():
    assert to_arrow(SCORES, score_rows(clip_similarity=[1.00001, -1.0])).num_rows == 2
    with pytest.raises(StoreError, match=r"clip_similarity.*1\.01"):
        to_arrow(SCORES, score_rows(clip_similarity=[1.01, 0.0]))


def test_stability_has_no_lower_bound():
    assert to_arrow(SCORES, score_rows(stability=[-7.5, 1.0])).num_rows == 2


def test_lone_surrogates_do_not_break_the_file():
    stored = to_pandas(LABELS, to_arrow(LABELS, label_rows(label=pd.Series(["a\ud800b", "c"], dtype=object))))
    assert sorted(stored["label"]) == ["a?b", "c"]


@pytest.mark.parametrize("schema", TABLES.values(), ids=list(TABLES))
def test_every_table_has_an_empty_form_and_documented_columns(schema):
    frame = empty_frame(schema)
    assert len(frame) == 0
    assert to_arrow(schema, frame).schema == arrow_schema(schema)
    assert set(schema.key) <= {column.name for column in schema.columns}
    assert all(len(column.meaning) > 10 for column in schema.columns)


def test_a_stored_table_without_required_columns_is_refused():
    with pytest.raises(StoreError, match=r"'labels' lacks task, profile, .*, label, which every row needs"):
        to_pandas(LABELS, pa.table({"score": [1.0]}))


@pytest.mark.parametrize("schema", TABLES.values(), ids=TABLES)
def test_optional_columns_that_another_version_lacks_are_absent(schema):
    optional = [column.name for column in schema.columns if column.optional]
    older = arrow_schema(schema).empty_table().drop_columns(optional).append_column("later", pa.array([], pa.int8()))
    assert to_pandas(schema, older).dtypes.equals(empty_frame(schema).dtypes)


def test_rows_of_another_version_keep_what_they_have():
    now = to_arrow(SCORES, score_rows(right=[True, False], clip_similarity=[0.5, 0.25]))
    older = now.drop_columns(["right", "clean_label"]).append_column("later", pa.array([1, 2]))
    expected = to_arrow(SCORES, score_rows(clip_similarity=[0.5, 0.25]))
    pd.testing.assert_frame_equal(to_pandas(SCORES, older), to_pandas(SCORES, expected))


def test_summary_has_intervals_and_directions():
    names = [column.name for column in SUMMARY.columns]
    assert {"stability", "stability_low", "stability_high", "accuracy_clean_high", "p_adjusted"} <= set(names)
    assert SUMMARY.column("stability").higher_is_better is True
    assert SUMMARY.column("chance").higher_is_better is None
    assert SUMMARY.column("stability_low").low is None


def test_a_flipped_bit_is_found_on_reading():
    data = bytearray(parquet_bytes(to_arrow(LABELS, label_rows(score=[0.125, 0.75]))))
    start = data.index(b"PAR1") + 4
    found = 0
    for position in range(start, start + 120, 8):
        damaged = bytearray(data)
        damaged[position] ^= 1
        try:
            to_pandas(LABELS, read_parquet(bytes(damaged)))
        except (OSError, pa.ArrowException):
            found += 1
    assert found > 0
