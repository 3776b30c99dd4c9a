from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import pytest

from baselines import registry
from tasks.common.errors import UserError

NAMES = (
    "clip_dissect", "network_dissection", "dnd", "dnd_refined", "dnd_vision", "clear", "semantic_lens", "csp",
    "linear", "invert", "line", "random_label", "constant_label",
)  # fmt: skip


def test_listing_imports_no_torch():
    code = "import sys; from baselines import registry; registry.entries(); print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "False"


def test_names_and_summaries():
    assert registry.names() == NAMES
    assert [entry.name for entry in registry.entries()][: len(NAMES)] == list(NAMES)
    for entry in registry.entries():
        assert 0 < len(entry.summary) < 110
        assert "\n" not in entry.summary


@pytest.mark.parametrize("name", NAMES)
def test_the_entry_says_what_the_class_says(name):
    method = registry.load(name)
    entry = registry.entry(name)
    assert (method.name, method.version, tuple(sorted(method.needs))) == (name, entry.version, entry.needs)
    assert callable(method.label)


def test_what_can_be_needed_is_part_of_what_a_method_sees():
    from tasks.observation import Observation, Toolbox

    parts = {field.name for one in (Observation, Toolbox) for field in fields(one)}
    assert set(registry.NEEDS) <= parts
    assert {need for name in NAMES for need in registry.entry(name).needs} <= set(registry.NEEDS)


def test_types_that_are_imported_for_checkers_alone_are_no_hindrance():
    class Hinted:
        def __init__(self, weight: Tensor | None = None, top_images: int = 5) -> None:
            pass

    assert registry._checked("hinted", Hinted, {"top_images": "7", "weight": "x"}) == {"top_images": 7, "weight": "x"}
    assert registry._checked("hinted", Hinted, {}) == {}


def test_options_reach_the_method_and_text_is_converted():
    method = registry.load("clip_dissect", similarity="wpmi", mode="code", top_k="12")
    assert (method.similarity, method.mode, method.top_k) == ("wpmi", "code", 12)
    assert registry.load("network_dissection", quantile="0.01").quantile == 0.01


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clip_disect", {}, "Unknown method 'clip_disect'. Did you mean clip_dissect"),
        ("CLIP-Dissect", {}, "Did you mean clip_dissect"),
        ("clip_dissect", {"similarty": "cos"}, "Unknown option of clip_dissect 'similarty'. Did you mean similarity"),
        ("clip_dissect", {"similarity": "soft_wpm"}, "option similarity: 'soft_wpm'. Did you mean soft_wpmi"),
        ("clip_dissect", {"mode": "paper"}, "Available: code, fixed"),
        ("clip_dissect", {"top_k": "many"}, "option top_k of clip_dissect cannot be 'many'"),
        ("network_dissection", {"quantile": 2.0}, "must lie between 0 and 1"),
        ("constant_label", {"text": "x"}, "constant_label has no options"),
    ],
)
def test_mistakes_get_one_sentence(name, options, message):
    with pytest.raises(UserError, match=message):
        registry.load(name, **options)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "baselines.trivial", None)
    entry = registry.MethodEntry("lost", "", (), "1", "no_such_package.sub:Thing")
    monkeypatch.setitem(registry._BUILT_IN, "lost", entry)
    with pytest.raises(UserError, match=r"needs the package no_such_package.*pip install no_such_package"):
        registry.load("lost")


class Plugin:
    """Names units after their number.

    More text.
    """

    name = "numbers"
    version = "3"
    needs = frozenset({"maps", "clip"})

    def label(self, observation, units, tools):
        return []


class NoVersion:
    name = "broken"
    needs = frozenset()


class Mistyped(Plugin):
    name = "mistyped"
    needs = frozenset({"map", "clip"})


@pytest.fixture
def plugins(monkeypatch):
    module = type(sys)("sample_plugin")
    module.Plugin, module.NoVersion, module.Mistyped = Plugin, NoVersion, Mistyped
    monkeypatch.setitem(sys.modules, "sample_plugin", module)
    points = [
        metadata.EntryPoint("numbers", "sample_plugin:Plugin", registry.ENTRY_POINT_GROUP),
        metadata.EntryPoint("broken", "sample_plugin:NoVersion", registry.ENTRY_POINT_GROUP),
        metadata.EntryPoint("absent", "no_such_module:Thing", registry.ENTRY_POINT_GROUP),
        metadata.EntryPoint("dnd", "sample_plugin:Plugin", registry.ENTRY_POINT_GROUP),
        metadata.EntryPoint("mistyped", "sample_plugin:Mistyped", registry.ENTRY_POINT_GROUP),
    ]
    asked = []

    def entry_points(group):
        asked.append(group)
        return points

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    registry._plugins.cache_clear()
    yield asked
    registry._plugins.cache_clear()


def test_plugins_are_found_and_broken_ones_named(plugins):
    with pytest.warns(UserWarning, match="left out") as caught:
        listed = {entry.name: entry for entry in registry.entries()}
    assert listed["numbers"].summary == "Names units after their number."
    assert (listed["numbers"].version, listed["numbers"].needs) == ("3", ("clip", "maps"))
    assert set(listed) == {*NAMES, "numbers"}
    messages = sorted(str(warning.message) for warning in caught)
    assert [message.split("'")[1] for message in messages] == ["absent", "broken", "dnd", "mistyped"]
    assert "name is taken" in messages[2]
    assert "Unknown need 'map'. Did you mean maps" in messages[3]
    assert "summariser" in messages[3]
    assert listed["dnd"].package == ""


@pytest.mark.filterwarnings("ignore:The method")
def test_plugins_are_loaded_and_consulted_only_for_unknown_names(plugins):
    registry.load("random_label")
    assert plugins == []
    assert isinstance(registry.load("numbers"), Plugin)
    with pytest.raises(UserError, match="Did you mean numbers"):
        registry.load("number")
