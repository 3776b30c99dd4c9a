"""What a run states of its methods, perturbations and profile, and what is known of runs that state nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from baselines import registry
from benchmark.core.facts import about_methods
from leaderboard.board.facts import RunFacts, merged, run_facts
from leaderboard.board.names import AboutMethod, unstated

MINE = {
    "summary": "Mine: the first word that comes to mind.",
    "citation": ["A. Author. Mine. 2026."],
    "trivial": True,
    "uses_perturbations": ["fog", "haze"],
    "trace": "candidates",
}


def info(methods: dict[str, Any] | None = None, options: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
    ran = {"clear": "1", "mine": "1", "random_label": "1"}
    said = {"methods": methods} if methods is not None else {}
    identity = {"seed": 7, "method_options": options or {}, "content": {"methods": ran}}
    return {"identity": identity, "facts": {**said, **facts}}


def test_what_a_run_states_is_what_is_known():
    found = run_facts(info({"mine": MINE}, profile={"note": "Measured in a garden."}))
    assert (found.seed, found.note) == (7, "Measured in a garden.")
    assert found.method("mine") == AboutMethod(
        MINE["summary"], ("A. Author. Mine. 2026.",), True, ("fog", "haze"), "candidates"
    )
    assert found.ordered({"mine", "random_label", "clear"}) == ("clear", "random_label", "mine")


def test_an_older_run_is_read_as_its_methods_were():
    found = run_facts(info())
    assert found.floors(["mine", "random_label", "constant_label"]) == ("random_label", "constant_label")
    assert found.method("clear").uses_perturbations == ("foreground_blur", "background_blur", "gaussian_blur")
    assert found.method("mine") == AboutMethod()
    assert found.notes == ()


def test_a_run_from_before_methods_stated_what_they_were_tuned_on_is_not_called_unseen():
    stated = about_methods({"clear": registry.load("clear")})["clear"]
    tuned = ("gaussian_noise", "frost", "fog", "contrast")
    assert run_facts(info({"clear": {**stated, "tuned_on": ["snow"]}})).method("clear").tuned_on == ("snow",)
    del stated["tuned_on"]
    assert run_facts(info({"clear": stated})).method("clear").tuned_on == tuned


def test_of_an_older_run_with_other_options_nobody_knows_what_a_method_uses():
    found = run_facts(info(options={"clear": {"contexts": "fog:3"}}))
    assert found.method("clear").uses_perturbations == ()
    assert found.method("clear").summary == unstated("clear").summary
    assert RunFacts().method("clear (contexts=fog:3)").uses_perturbations == ()


# "clear" of such runs was another method, which used three perturbations.
@pytest.mark.parametrize("name", sorted({*registry.names()} - {"clear"}))
def test_what_is_known_of_older_runs_is_what_the_methods_state_today(name):
    stated = about_methods({name: registry.load(name)})
    found = run_facts(info(stated)).method(name)
    assert found.summary
    # An older run lacks the words, and nothing that its numbers depend on.
    assert replace(found, summary="", citation=()) == unstated(name)


def test_a_plugin_that_states_nothing_has_the_first_line_of_its_docstring():
    class Mine:
        """Says the same of every unit.

        More.
        """

        needs = frozenset()

    assert about_methods({"mine": Mine()})["mine"] == {  # type: ignore[dict-item]
        "summary": "Says the same of every unit.", "citation": [], "trivial": False, "uses_perturbations": [],
        "tuned_on": [], "trace": "", "annotation": False,
    }  # fmt: skip


def test_an_added_perturbation_joins_the_group_of_its_family():
    haze = {"family": "weather", "description": "Haze (share)"}
    facts = run_facts(info(perturbations={"haze": haze, "odd": {"family": "sound", "description": ""}}))
    groups = facts.in_groups(["odd", "haze", "fog", "gaussian_noise", "unknown"])
    assert groups == (("gaussian_noise",), ("fog", "haze"), ("odd", "unknown"))
    assert [facts.kind(name) for name in ("haze", "fog", "odd", "unknown")] == ["weather", "weather", "sound", "other"]


def test_of_several_runs_the_first_that_knows_a_method_describes_it():
    first = RunFacts(3, "Note.", {"a": AboutMethod("new")})
    both = merged([first, RunFacts(4, "Other.", {"a": AboutMethod("old"), "b": AboutMethod("b")})])
    assert (both.seed, both.note, both.method("a").summary, both.method("b").summary) == (3, "Note.", "new", "b")
    assert merged([]) == RunFacts()


@pytest.mark.parametrize(
    ("name", "options", "reads"),
    [
        ("network_dissection", {}, True),
        ("invert", {}, True),
        ("linear", {}, True),
        ("linear", {"concepts": "clip"}, False),
        ("csp", {}, False),
    ],
)
def test_a_run_says_which_methods_read_the_annotation(name, options, reads):
    stated = about_methods({name: registry.load(name, **options)})
    assert run_facts(info(stated)).method(name).annotation is reads
