"""Addresses of random draws: different ones differ, and the values are frozen."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.common.seeding import generator, integer_seed, seed_sequence

# A change here changes every result that was ever published.
FROZEN = {
    (0,): 1190568545,
    (0, "perturb", "probe-000017", "snow", 3, 0): 2969853149,
    (7, "a", 1): 2917415354,
    (7, "a", "1"): 3353570620,
}

parts = st.integers() | st.text()


def entropy(seed, *address):
    return seed_sequence(seed, *address).entropy


@pytest.mark.parametrize(("address", "expected"), FROZEN.items())
def test_integer_seeds_are_frozen(address, expected):
    assert integer_seed(*address) == expected


def test_draws_are_frozen():
    assert generator(0, "dnd", "shuffle", 3).permutation(8).tolist() == [6, 2, 7, 1, 5, 0, 3, 4]
    assert generator(1, "units", "t").random() == 0.4929168728889787


def test_the_entropy_is_the_seed_and_a_hash_of_the_address():
    digest = hashlib.sha256(b"str:perturb\x1fint:-3").digest()
    words = [int.from_bytes(digest[place : place + 4], "little") for place in range(0, 16, 4)]
    assert entropy(11, "perturb", -3) == [11, *words]
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence([11, *words]))).random(4)
    assert np.array_equal(generator(11, "perturb", -3).random(4), expected)


def test_look_alikes_have_addresses_of_their_own():
    addresses = [
        (),
        ("",),
        ("", ""),
        ("a", "bc"),
        ("ab", "c"),
        ("abc",),
        ("a", "b", "c"),
        ("a\x1fstr:b", "c"),
        ("a\x1eb",),
        ("a\x1e0b",),
        ("a\x1fb",),
        ("a\x1e1b",),
        (1,),
        ("1",),
        ("int:1",),
        (1, 2),
        (12,),
        ("\ud800",),
        ("�",),
    ]
    for one, two in combinations(addresses, 2):
        assert entropy(0, *one) != entropy(0, *two), (one, two)
    assert entropy(0, "a") != entropy(1, "a")


@given(st.lists(parts, max_size=4), st.lists(parts, max_size=4))
def test_only_equal_addresses_are_equal(one, two):
    assert (entropy(0, *one) == entropy(0, *two)) == (one == two)


@given(
    st.lists(st.text("ab\x1e\x1f:01", max_size=4), max_size=3),
    st.lists(st.text("ab\x1e\x1f:01", max_size=4), max_size=3),
)
def test_separators_in_texts_part_nothing(one, two):
    assert (entropy(0, *one) == entropy(0, *two)) == (one == two)


def test_numpy_integers_are_integers():
    assert entropy(np.int64(3), np.int64(5), np.uint8(7), np.str_("a")) == entropy(3, 5, 7, "a")


@pytest.mark.parametrize("part", [1.0, None, b"a", ("a",)])
def test_other_parts_are_refused(part):
    with pytest.raises(TypeError, match="texts and whole numbers"):
        seed_sequence(0, "a", part)


def test_generators_share_nothing():
    first = generator(0, "x")
    first.random(10)
    assert generator(0, "x").random() == generator(0, "x").random()
    draws = np.array([generator(0, "x", unit).random() for unit in range(2000)])
    assert abs(draws.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.08
    assert len({integer_seed(0, "x", unit) for unit in range(2000)}) == 2000


def test_the_hash_seed_of_python_does_not_matter():
    said = [
        subprocess.run(
            [sys.executable, "-c", "from tasks.common.seeding import integer_seed; print(integer_seed(7, 'a', 1))"],
            env={**os.environ, "PYTHONHASHSEED": value},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for value in ("1", "2")
    ]
    assert said == [str(FROZEN[7, "a", 1])] * 2
