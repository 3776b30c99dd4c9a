"""From replies to candidate concepts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from baselines.dnd.candidates import candidate_concepts, clean_reply


def refuse(pieces):
    raise AssertionError(f"summarised again: {pieces}")


@pytest.mark.parametrize(
    ("reply", "concept"),
    [
        ("red things", "red things"),
        ("Label: red things", "red things"),
        ("Label: red: things", "red"),
        ("  red \n", "red"),
        ("", ""),
        ("label:", ""),
        (" , ", ""),
    ],
)
def test_colons(reply, concept):
    assert clean_reply(reply, refuse) == concept


def test_a_list_is_summarised_once_more():
    asked = []

    def summarise(pieces):
        asked.append(list(pieces))
        return "Answer: warm, bright colours: yes"

    assert clean_reply("Label: red,  orange , yellow", summarise) == "warm, bright colours"
    assert asked == [["red", "orange", "yellow"]]


def test_lower_case_one_stop_and_stable_order_without_repeats():
    replies = ["Zebra stripes.", "brick wall", "zebra  Stripes", "", "  ", ".", "ah.."]
    assert candidate_concepts(replies) == ["zebra stripes", "brick wall", "ah."]


@pytest.mark.parametrize("word", ["design", "designs", "graphic", "graphics"])
def test_background_rule(word):
    assert candidate_concepts([f"floral {word}"], "code") == [f"floral {word}", f"floral {word} background"]
    assert candidate_concepts([f"floral {word}"]) == [f"floral {word}", f"floral {word} background"]
    assert candidate_concepts([f"{word} of a floor"]) == [f"{word} of a floor"]


def test_a_stop_hides_the_background_word_in_code_mode_only():
    assert candidate_concepts(["Floral design."], "code") == ["floral design"]
    assert candidate_concepts(["Floral design."], "fixed") == ["floral design", "floral design background"]


def test_the_order_does_not_follow_the_hash_seed():
    code = """
import json
from baselines.dnd import select_concepts
from baselines.dnd.candidates import candidate_concepts
from tasks.models.counting_summariser import CountingSummariser, caption_background
captions = ["a red fish on sand", "a red striped fish", "red fish and a tree", "a blue fish", "a red tree", "a boat"]
background = caption_background(captions * 2 + ["a boat", "a blue cup on sand", "tree"] * 8)
summariser = CountingSummariser()
names = candidate_concepts(summariser.summarise(captions, seed, background) for seed in range(12))
ranks = [[n + 7 * i for i in range(10)] for n in range(len(names))]
print(json.dumps([names, list(background), select_concepts(ranks, [0.5] * len(names))]))
"""
    root = Path(__file__).parents[2]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert len(json.loads(outputs.pop())[0]) >= 2
