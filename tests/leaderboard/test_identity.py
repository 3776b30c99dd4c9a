from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.store.identity import as_json, canonical_json, differences, identity_hash, safe_name

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_hash_ignores_key_order_and_is_sha256_of_the_canonical_text():
    first, second = {"b": [1, 2], "a": "é"}, {"a": "é", "b": [1, 2]}
    assert canonical_json(first) == '{"a":"\\u00e9","b":[1,2]}'
    assert identity_hash(first) == identity_hash(second) == hashlib.sha256(canonical_json(first).encode()).hexdigest()


def test_hash_is_frozen():
    # A change here would orphan every existing run folder.
    frozen = "9d9aa4f22757d215026e7b216178ce2cfd1cd88690108e0f0839916d33550d33"
    assert identity_hash({"seed": 0, "tasks": ["resnet50_layer4"]}) == frozen


def test_nan_has_no_canonical_form():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": float("nan")})


@given(JSON)
def test_equal_values_do_not_differ(value):
    assert differences(value, value) == []


def test_differences_name_each_field_and_both_values():
    old = {"seed": 0, "options": {"dnd": {"k": 10}}, "gone": 1}
    new = {"seed": 1, "options": {"dnd": {"k": 5}}, "new": 2}
    assert differences(old, new) == [
        "gone: 1 before, absent now",
        "new: absent before, 2 now",
        "options.dnd.k: 10 before, 5 now",
        "seed: 0 before, 1 now",
    ]


def test_true_is_not_one():
    assert differences({"a": True}, {"a": 1}) == ["a: true before, 1 now"]


@given(st.text(max_size=300), st.text(max_size=300))
def test_safe_names_stay_in_their_folder_and_tell_texts_apart(first, second):
    name = safe_name(first)
    assert 0 < len(name) <= 80
    assert Path("runs", name).parent == Path("runs")
    assert name.isascii()
    assert not name.startswith((".", "-"))
    assert (name.lower() == safe_name(second).lower()) == (first == second)


@pytest.mark.parametrize("text", ["../../x", "con", "a/b", "a\0b", "", ".", "..", "Dog", "x" * 400, "a b", "C:\\x"])
def test_unsafe_names_are_changed(text):
    assert safe_name(text) != text


def test_usual_names_are_kept():
    assert safe_name("resnet50_layer4") == "resnet50_layer4"


def test_numbers_of_numpy_become_plain_json():
    value = {"a": np.float32(0.5), "b": np.arange(3), "c": float("nan"), "d": (1, {2}), "e": Path("x")}
    assert as_json(value) == {"a": 0.5, "b": [0, 1, 2], "c": None, "d": [1, [2]], "e": "x"}
