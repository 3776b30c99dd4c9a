"""The plan of a run: what is counted, what is unknown, and what the probe says of the real miniature."""

from __future__ import annotations

import io
import json
import time
from functools import cached_property
from types import SimpleNamespace

import pytest
import torch
import typer
from rich.console import Console
from typer.testing import CliRunner

from baselines import registry
from baselines.base import UnitLabels
from baselines.concepts import load_concepts
from baselines.costs import NOTHING, UNKNOWN, UNSTATED, Amount, Cost
from baselines.dnd.cost import dnd_cost, refined_cost
from baselines.dnd.method import DescribeAndDissect
from baselines.dnd.refined import RefinedDescribeAndDissect
from baselines.dnd.vision import VisionDescribeAndDissect
from benchmark.commands.console import guarded
from benchmark.commands.plan import plan
from benchmark.commands.run import run
from benchmark.core.display import Display
from benchmark.core.options import RunOptions
from benchmark.core.work import Work
from benchmark.plan.clock import ProbeClock
from benchmark.plan.count import Counts, RunCount, count_run
from benchmark.plan.estimate import stage_seconds, total
from benchmark.plan.language import language_counts, language_roles, money
from benchmark.plan.make import make_plan
from benchmark.plan.measure import FEW_IMAGES, _Measuring, measure
from benchmark.plan.outcome import record_outcome
from benchmark.plan.rates import MethodTime, Rates
from benchmark.plan.tally import CountedRoles
from leaderboard.store.run_folder import RunFolder
from report.plan import outcome_lines, terminal_plan
from tasks.cache import Cache
from tasks.catalogue import load_task
from tasks.language.config import OpenAISource, PriceEntry, VisionOpenAISource
from tasks.language.prices import most_prompt_tokens
from tasks.language.prompts import simplify_messages, summarise_messages
from tasks.language.summariser import LanguageModelSummariser
from tasks.models.counting_summariser import caption_background
from tasks.observe import CLEAN, Condition
from tasks.perturbations.settings import Settings
from tasks.profiles.schema import load_profile
from tasks.profiles.sources import FactorySource

MINIATURE = load_profile("miniature")
FOG, SNOW = Condition("fog", 3), Condition("snow", 3)
PRICE = PriceEntry(input=2.0, output=10.0, as_of="2026-01-01", source="a test")
PAID = OpenAISource(loader="openai", model="paid", price=PRICE, price_cap_usd=5.0, max_tokens=100, licence="none")
COST = Cost(
    activated=Amount(40, 10),
    embedded=Amount(20, 5),
    captioned=Amount.of(30),
    generated=Amount(200, 50),
    simplified=Amount.of(30),
    summarised=Amount.of(6),
    summary_captions=10,
    shared=0.8,
)
"""Of a cell."""


def asking(summariser=None, describer=None):
    return MINIATURE.model_copy(update={"summariser": summariser, "describer": describer})


class Costly:
    needs = frozenset({"captioner", "summariser", "generator"})

    def cost(self, units: int, images: int) -> Cost:
        assert (units, images) == (3, 50)
        return COST


class Free:
    def cost(self, units: int, images: int) -> Cost:
        return Cost()


class Silent:
    """States nothing."""


class Broken:
    def cost(self, units: int, images: int) -> Cost:
        raise ZeroDivisionError(f"{units}\n by nothing")


class Wrong:
    def cost(self, units: int, images: int) -> int:
        return units * images


METHODS = {"costly": Costly(), "free": Free(), "silent": Silent(), "broken": Broken(), "wrong": Wrong()}
WHY = {
    "silent": "does not state its cost",
    "broken": "failed when asked for its cost (ZeroDivisionError: 3 by nothing)",
    "wrong": "states its cost as int, not as baselines.costs.Cost",
}


def work(*methods: str, **changes) -> Work:
    task = load_task(changes.pop("task", "resnet50_layer4"))
    values = {"conditions": (CLEAN, FOG, SNOW), "repeats": 2, "images": 50, "units": (1, 2, 3)} | changes
    return Work(task=task, profile="miniature", methods=methods, **values)


def counted(*works: Work, done=lambda key, kind: False, profile=MINIATURE, scope: str = "none") -> RunCount:
    return count_run([works], METHODS, profile, scope, done)


# ---- counting ----


def test_amounts_with_an_unknown_part_are_unknown_and_never_zero():
    assert Amount(3, 2) + Amount.of(1) == Amount(4, 3)
    assert Amount(3) + Amount.of(1) == Amount(4, None)
    assert UNKNOWN + NOTHING == UNKNOWN
    assert Amount(3) * 2 == Amount(6, None)
    assert (Amount(3).likely, Amount(3, 2).likely, UNKNOWN.likely) == (3, 2, None)


def test_cells_and_passes_follow_from_conditions_repeats_and_methods():
    count = counted(work("free", "costly"))
    assert count.cells == (8, 8)  # clean twice, two perturbations, two methods
    assert count.tasks[0].passes == (CLEAN, FOG, SNOW)
    assert count.shared.target == count.shared.clip == Amount.of(150)


def test_a_method_costs_what_it_states_and_cells_share_what_was_generated():
    counts = counted(work("costly")).tasks[0].methods["costly"].counts
    assert counts.captioned == Amount.of(120)
    assert counts.generated.most == 800
    # Repeat 0 has three cells, two of which share; repeat 1 has one.
    assert counts.generated.expected == pytest.approx(50 + 2 * 10 + 50)
    assert counts.target.expected == pytest.approx(40 + 120)
    assert counts.clip.most == 4 * 20 + 800


def test_summarisers_that_count_words_need_the_captions_of_all_images():
    assert counted(work("costly")).shared.captioned == Amount.of(50)
    assert counted(work("free")).shared.captioned == NOTHING
    assert counted(work("costly"), profile=asking(PAID)).shared.captioned == NOTHING


def test_tasks_of_one_group_share_their_passes():
    one, other = work("free"), work("free", task="resnet50_layer3", conditions=(CLEAN, FOG))
    count = counted(one, other)
    assert [task.counts.target for task in count.tasks] == [Amount.of(150), Amount.of(100)]
    assert count.total.target == Amount.of(150)


@pytest.mark.parametrize("name", WHY)
def test_a_method_that_states_no_cost_is_unknown(name):
    count = counted(work("free", name))
    assert count.tasks[0].methods[name].unstated == WHY[name]
    assert not count.tasks[0].methods[name].stated
    assert count.total.generated == count.total.target == UNKNOWN
    assert count.total.cells == Amount.of(8)
    # An unknown method asks no language model where there is none, but captions may be its own.
    assert count.total.captioned == UNKNOWN


def test_every_built_in_method_that_states_its_cost_states_one():
    for name in registry.names():
        method = registry.load(name)
        if hasattr(method, "cost"):
            assert isinstance(method.cost(4, 50), Cost), name


def test_a_wrapper_is_timed_by_the_method_inside(monkeypatch):
    class Timed(_Measuring):
        def _label(self, name, method, *others):
            self.rates.basis[name] = method.name
            return MethodTime(5.0, 2.0, 0.5, 10.0, 1.0)

        def _tools(self, target):
            return None

        def __init__(self):
            self.rates = Rates()

    timed = Timed()
    for name, expected in (("set_of(csp)", (200.0, 50.0)), ("several(csp)", (0.0, 12.5))):
        timed.work = work("csp")
        found = timed._time(name, registry.load(name), None, None, 1.0)
        assert (found.once, found.cell, found.unit) == (5.0, *expected)
    assert timed.rates.basis["several(csp)"] == "csp by csp, 5 times"


def test_what_the_folder_holds_is_subtracted():
    own = work("free", "costly")

    def done(key, kind):
        return kind == "evidence" or key.condition != "fog" or key.method == "free"

    count = counted(own, done=done, scope="clean")
    assert count.cells == (8, 1)
    assert count.tasks[0].passes == (FOG,)
    assert count.total.generated.most == 200 + count.faithfulness.generated.most


def test_evidence_that_misses_is_told_against_the_clean_images():
    count = counted(work("free"), done=lambda key, kind: kind == "labels" or key.condition != "fog")
    assert count.tasks[0].passes == (CLEAN, FOG)


def test_a_finished_run_has_nothing_left():
    count = counted(work("free", "costly", "silent"), done=lambda key, kind: True, scope="all")
    assert count.total == Counts()
    assert count.texts == NOTHING


@pytest.mark.parametrize("scope", ["clean", "all"])
def test_faithfulness_draws_each_different_label(scope):
    count = counted(work("free", "costly"), scope=scope)
    labels = count.texts
    assert labels.most == (6 if scope == "clean" else 24)
    assert labels.expected is None if scope == "all" else 3.5 < labels.expected < 4
    assert count.faithfulness.generated == labels * 10
    assert count.faithfulness.target == labels * 10 + Amount.of(50)
    without = MINIATURE.model_copy(update={"generator": None})
    assert counted(work("free"), profile=without, scope=scope).faithfulness.generated == NOTHING


def test_labels_of_many_units_are_the_concepts_over_again():
    def texts(units: int) -> float:
        return counted(work("free", units=tuple(range(units))), scope="clean").texts.expected

    concepts = load_concepts(MINIATURE.concept_set("scenes"))
    assert 0 < texts(4) < texts(64) < texts(1024) <= len(concepts)
    assert texts(64) / 64 < texts(4) / 4


@pytest.mark.parametrize(("units", "found"), [(32, 89), (256, 295), (2048, 577)])
def test_different_labels_are_about_as_many_as_runs_had(units, found):
    names = registry.default_names()
    asked = work(*names, units=tuple(range(units)), images=300)
    methods = {name: registry.load(name) for name in names}
    texts = count_run([[asked]], methods, MINIATURE, "clean").texts
    assert texts.expected == pytest.approx(found, rel=0.1)


def test_drawings_of_many_units_recur():
    class Drawing:
        def cost(self, units: int, images: int) -> Cost:
            return Cost(generated=Amount(100 * units, 10 * units))

    def drawn(units: int) -> Amount:
        mine = work("costly", units=tuple(range(units)))
        return count_run([[mine]], {"costly": Drawing()}, MINIATURE, "none").total.generated

    assert drawn(48).expected == 4 * 480
    assert drawn(96).most == 2 * drawn(48).most
    assert drawn(48).expected < drawn(96).expected < 2 * drawn(48).expected


# ---- Describe-and-Dissect ----


def test_describe_and_dissect_states_its_own_options():
    cost = dnd_cost(DescribeAndDissect(), 4, 500)
    assert cost.simplified == Amount.of(40)
    assert cost.captioned.most == 40
    assert cost.summarised == Amount.of(20)
    assert cost.generated.most == 4 * 5 * 2 * 10
    assert cost.activated.most == 160
    assert dnd_cost(DescribeAndDissect(), 4, 6).simplified == Amount.of(24)


@pytest.mark.parametrize(
    ("changes", "nothing"),
    [
        ({"crops": False}, ["activated", "embedded"]),
        ({"scoring": "none"}, ["generated"]),
        ({"simplify": False}, ["simplified"]),
        ({"summarise": False}, ["simplified", "summarised"]),
        ({"describe": "words"}, ["captioned", "simplified"]),
        ({"describe": "vision"}, ["captioned", "simplified", "summarised"]),
    ],
)
def test_what_an_option_turns_off_costs_nothing(changes, nothing):
    cost = dnd_cost(DescribeAndDissect(**changes), 4, 500)
    usual = dnd_cost(DescribeAndDissect(), 4, 500)
    for name in nothing:
        assert getattr(cost, name) == NOTHING
        assert getattr(usual, name) != NOTHING


def test_contrast_asks_three_times_and_csp_draws_nothing():
    cost = VisionDescribeAndDissect(contrast=True).cost(4, 500)
    assert cost.described == Amount.of(4 * 3)
    assert (cost.activated, cost.embedded) == (NOTHING, NOTHING), "there are no crops"
    assert cost.generated.most == 2 * 4 * 3 * 10
    assert VisionDescribeAndDissect(contrast=True, scoring="csp").cost(4, 500).generated == NOTHING
    assert VisionDescribeAndDissect().cost(4, 500).described == Amount.of(4 * 5)


def test_further_rounds_have_a_bound_and_no_expectation():
    once = refined_cost(RefinedDescribeAndDissect(max_rounds=1), 4, 500)
    assert once == dnd_cost(RefinedDescribeAndDissect(), 4, 500)
    thrice = refined_cost(RefinedDescribeAndDissect(), 4, 500)
    assert thrice.generated == Amount(once.generated.most + 2 * 4 * (100 + 50))
    assert thrice.summarised == Amount(3 * once.summarised.most)


# ---- language models and money ----


class Verbose:
    """A chat model whose replies are never labels, so that every summary is asked for twice."""

    identity = "verbose"

    def __init__(self):
        self.asked, self.most = 0, 0

    def chat(self, messages, *, temperature, max_tokens, seed):
        self.asked += 1
        self.most += most_prompt_tokens(messages)
        return SimpleNamespace(text="\U00010400 " * 400)


def test_no_summariser_asks_more_than_the_bound():
    model = Verbose()
    summariser = LanguageModelSummariser(model, max_tokens=100)
    caption = "\U00010400" * 1000
    for number in range(3):
        summariser.simplify(caption, number)
        summariser.summarise([caption] * 10, number)
        summariser.propose([(caption, 0.5)] * 8, number)
    cost = Cost(
        simplified=Amount.of(3),
        summarised=Amount.of(3),
        summary_captions=10,
        proposed=Amount.of(3),
        proposal_concepts=8,
    )
    calls, read, written = language_counts(cost, asking(PAID))
    assert calls == Amount(15, 9)
    assert model.asked == 15
    assert model.most <= read.most
    assert written.most == 1500
    # The vocabulary's proposer is no language model.
    assert language_counts(cost, MINIATURE) == (NOTHING, NOTHING, NOTHING)


def test_expected_tokens_are_a_quarter_of_the_letters():
    cost = Cost(simplified=Amount.of(1))
    letters = sum(len(message.content) for message in simplify_messages("x" * 60))
    assert language_counts(cost, asking(PAID))[1].expected == letters / 4
    cost = Cost(summarised=Amount.of(2), summary_captions=10)
    letters = sum(len(message.content) for message in summarise_messages(["x" * 30] * 10))
    assert language_counts(cost, asking(PAID))[1].expected == 2 * letters / 4


def test_counting_words_is_no_language_model():
    assert language_counts(COST, MINIATURE) == (NOTHING, NOTHING, NOTHING)
    assert language_counts(UNSTATED, MINIATURE) == (NOTHING, NOTHING, NOTHING)
    assert money(MINIATURE, NOTHING, NOTHING)["usd"] == NOTHING


def test_tokens_of_pictures_are_unknown():
    seeing = VisionOpenAISource(loader="openai", model="seeing", price=PRICE, licence="none")
    calls, read, written = language_counts(Cost(described=Amount.of(5)), asking(None, seeing))
    assert calls == Amount.of(5)
    assert read == written == UNKNOWN
    found = money(asking(None, seeing), read, written)
    assert (found["usd"], found["model"]) == (UNKNOWN, "seeing")


def test_a_function_of_the_users_may_ask_a_language_model():
    own = FactorySource(loader="factory", factory="my_models:build", licence=None)
    calls, read, written = language_counts(COST, asking(own))
    assert (calls, read, written) == (Amount(30 + 2 * 6, 36), UNKNOWN, UNKNOWN)
    assert money(asking(own), read, written)["usd"] == UNKNOWN
    assert language_counts(Cost(), asking(own)) == (NOTHING, NOTHING, NOTHING)
    assert language_roles(asking(own, own)) == {"summariser", "describer"}
    assert counted(work("costly"), profile=asking(own)).shared.captioned == Amount.of(50)


def test_money_goes_by_the_price_and_is_unknown_without_one():
    found = money(asking(PAID), Amount(1_000_000, 500_000), Amount(200_000, 100_000))
    assert found["usd"] == Amount(4.0, 2.0)
    assert found["price"]["as_of"] == "2026-01-01"
    assert found["cap"] == 5.0
    assert money(asking(PAID), Amount(1_000_000), Amount(200_000, 100_000))["usd"] == Amount(4.0, None)
    nowhere = PAID.model_copy(update={"model": "nowhere", "price": None})
    assert money(asking(nowhere), NOTHING, NOTHING)["usd"] == UNKNOWN


def test_every_method_that_asks_a_language_model_is_paid_for():
    total = counted(work("costly"), profile=asking(PAID)).total
    assert total.language_calls == Amount(4 * (30 + 2 * 6), 4 * 36)
    unknown = counted(work("silent"), profile=asking(PAID)).total
    assert unknown.prompt_tokens == UNKNOWN


# ---- time ----


def rates(**methods: MethodTime) -> Rates:
    seconds = {"images": 0.01, "target": 0.1, "clip": 0.02, "captions": 0.05, "generated": 0.03}
    seconds |= {"evidence": 1.0, "thumbnails": 0.5, "tables": 2.0, "tables_unit": 0.5}
    seconds |= {"compared": 4.0, "compared_unit": 0.25, "faithfulness": 0.125}
    return Rates(seconds, {"fog": 0.2, "snow": 0.4}, methods, 100.0, 10.0)


def stages_of(*methods: str, **times: MethodTime) -> dict[str, float | None]:
    return stage_seconds(counted(work(*methods)), {"resnet50_layer4": rates(**times)}, 7.0, thumbnails=4)


def test_stages_add_up_from_rates_and_counts():
    stages = stages_of("free", "costly", free=MethodTime(1, 2, 3, 0, 0), costly=MethodTime(0, 0, 1, 0, 0))
    drawn = 50 + 2 * 10 + 50
    assert stages == {
        "start": 7.0,
        "images and masks": pytest.approx(0.5),
        "perturbations": pytest.approx(50 * 0.6),
        "target network": pytest.approx(15.0),
        "CLIP": pytest.approx(3.0),
        "captions of all images": pytest.approx(2.5),
        "evidence": pytest.approx(3 * (3 * 1.0 + 12 * 0.5)),
        "free": pytest.approx(1 + 4 * (2 + 3 * 3)),
        "costly": pytest.approx(4 * 3 + drawn * 0.15),
        "faithfulness": 0.0,
        "tables": pytest.approx(2 * 3 * (2.0 + 3 * 0.5) + 4.0 + 3 * 0.25),
    }
    assert total(stages) == pytest.approx(sum(stages.values()))


def test_a_method_that_was_not_measured_leaves_the_sum_unknown():
    stages = stages_of("free", "costly", free=MethodTime(1, 2, 3, 0, 0))
    assert stages["costly"] is None
    assert total(stages) is None


# ---- the command ----


class Describing:
    """Looks at pictures, and is no language model."""

    def describe(self, pictures, seed):
        return "red"


class DescribingRoles(CountedRoles):
    @cached_property
    def describer(self):
        return Describing()


class Recording:
    """Keeps the toolbox it is given."""

    needs = frozenset({"clip", "captioner", "summariser", "generator", "describer"})

    def label(self, observation, units, tools):
        self.tools = tools
        return [UnitLabels(unit, (), (), {}) for unit in units]


def probed(name: str, method, roles: CountedRoles) -> Rates:
    mine = work(name, task="resnet18_layer4", images=20, conditions=(CLEAN,))
    # On a busy machine the probe must not end before the method.
    clock = ProbeClock(roles.device, time.monotonic() + 600)
    return measure(mine, {name: method}, ("red", "blue"), roles, Settings(), 0, None, clock)


def test_a_method_without_time_has_the_rate_of_its_stated_cost():
    class Captioning:
        needs = frozenset({"captioner"})

        def cost(self, units: int, images: int) -> Cost:
            return Cost(captioned=Amount.of(1_000_000 * units))

        def label(self, observation, units, tools):
            raise AssertionError("there was no time for it")

    roles = CountedRoles(MINIATURE, torch.device("cpu"))
    mine = work("dnd", task="resnet18_layer4", images=20, conditions=(CLEAN,))
    clock = ProbeClock(roles.device, time.monotonic())
    found = measure(mine, {"dnd": Captioning()}, ("red", "blue"), roles, Settings(), 0, None, clock)
    assert found.unmeasured == {}
    assert found.methods["dnd"].unit == pytest.approx(1_000_000 * found.seconds["captions"])
    assert "stated cost" in found.basis["dnd"]


def test_a_busy_machine_is_timed_by_the_processor(monkeypatch):
    for others, busy in ((0.1, False), (1.5, True), (None, False)):
        monkeypatch.setattr("benchmark.plan.clock._others", lambda others=others: others)
        clock = ProbeClock(torch.device("cpu"), time.monotonic() + 1)
        assert clock.busy is busy
        before = torch.get_num_threads()
        with clock.threads() as speedup:
            started = clock()
            time.sleep(0.2)
            assert (clock() - started > 0.15) is not busy
            assert (speedup > 1) == (busy and before > 1)
            assert torch.get_num_threads() == (1 if busy else before)
        assert torch.get_num_threads() == before


def test_the_probe_gives_a_method_the_toolbox_of_the_run():
    roles, method = DescribingRoles(MINIATURE, torch.device("cpu")), Recording()
    assert "dnd" in probed("dnd", method, roles).methods
    tools = method.tools
    target, pixels = roles.target("resnet18"), torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    assert torch.equal(tools.activate(pixels), target.read(pixels, {"layer4": "mean"})["layer4"].pooled)
    assert (tools.clip, tools.captioner, tools.summariser) == (roles.clip, roles.captioner, roles.summariser)
    assert isinstance(tools.describer, Describing)
    assert tools.generator == roles.generator_for(roles.view("resnet18"))
    images = roles.probing_set("scenes", 20, roles.view("resnet18")).load(range(2 * FEW_IMAGES))
    assert tools.background() == caption_background(roles.captioner.caption(images))


def test_the_probe_measures_a_method_that_asks_a_describer():
    options = {"candidates": 1, "images_per_concept": 1, "crops": False, "crop_px": 64}
    found = probed(
        "dnd_vision", registry.load("dnd_vision", **options), DescribingRoles(MINIATURE, torch.device("cpu"))
    )
    assert found.unmeasured == {}
    assert found.methods["dnd_vision"].unit_bytes > 0


def test_the_probe_asks_no_language_model_by_the_roles_that_the_options_ask():
    seeing = VisionOpenAISource(loader="openai", model="seeing", price=PRICE, licence="none")
    seen = Recording()
    seen.asks = ["describer", "clip"]
    roles = CountedRoles(asking("counting", seeing), torch.device("cpu"))
    assert probed("dnd", seen, roles).unmeasured == {"dnd": "a plan sends no requests to language models"}
    seen.asks = ["clip"]
    assert "dnd" in probed("dnd", seen, roles).methods
    assert seen.tools.describer is None, "it could be asked without being declared"


APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(guarded(plan))
APP.command()(guarded(run))


def call(*arguments: str):
    return CliRunner().invoke(APP, list(arguments))


def test_plan_takes_the_very_options_of_run():
    group = typer.main.get_command(APP)
    own = {name: [parameter.opts for parameter in group.commands[name].params] for name in ("plan", "run")}
    assert own["plan"] == own["run"]
    assert group.commands["plan"].help != group.commands["run"].help


def test_a_mistake_is_the_same_sentence_as_of_run():
    for command in ("plan", "run"):
        result = call(command, "--task", "resnet50_layer5")
        assert result.exit_code == 1
        assert "resnet50_layer4" in result.stderr


SMALL = ("--task", "resnet50_fc", "--images", "100", "--units", "3", "--suites", "fog", "--device", "cpu")


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("plan") / "run"
    result = call("plan", *SMALL, "--methods", "clip_dissect,random_label", "--out", str(out), "--json")
    assert result.exit_code == 0, result.output
    assert not out.exists()
    return json.loads(result.stdout)


def test_the_probe_measures_every_stage_and_leaves_no_trace(planned):
    stages = planned["seconds"]["stages"]
    wanted = {"start", "images and masks", "perturbations", "target network", "CLIP", "clip_dissect", "random_label"}
    assert all(stages[name] > 0 for name in wanted)
    assert stages["captions of all images"] == 0
    assert planned["seconds"]["total"] == pytest.approx(sum(stages.values()))
    assert planned["bytes"]["folder"] > 10_000
    assert planned["cells"] == {"all": 6, "done": 0}
    assert planned["tasks"][0]["passes"] == 2
    assert planned["money"]["usd"] == {"expected": 0, "most": 0}


def shown(facts: dict) -> str:
    stream = io.StringIO()
    console = Console(width=200, file=stream)
    for part in terminal_plan(facts):
        console.print(part)
    return stream.getvalue()


def test_the_terminal_shows_the_same_facts(planned):
    text = shown(planned | {"notes": ["[red]a note\x1b[31m"]})
    assert "clip_dissect" in text
    assert "0 USD, nothing here is paid for" in text
    assert "Note: [red]a note[31m" in text


def test_unknown_amounts_are_shown_as_unknown(planned):
    nowhere = {"expected": None, "most": None}
    facts = json.loads(json.dumps(planned))
    facts["total"]["generated"] = nowhere
    facts["seconds"]["total"] = facts["bytes"]["folder"] = None
    facts["money"] = {"usd": nowhere, "model": "new", "price": None, "cap": None, "spent": None}
    text = shown(facts)
    assert "run folder unknown, cache unknown" in text
    assert "unknown for new; its price is not in the table; no cap; spent so far: unknown" in text
    assert "time: unknown" in text


def test_a_profile_whose_files_miss_is_counted_and_not_measured(tmp_path, monkeypatch):
    options = RunOptions(tasks=("resnet50_layer4",), profile="paper", units=4, out=tmp_path / "run", device="cpu")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    facts = make_plan(options, Display("quiet"))
    assert facts["cells"]["all"] > 0
    assert facts["seconds"]["total"] is None
    assert any("needs a key" in note for note in facts["notes"])
    assert any("are not on this machine" in note for note in facts["notes"])
    assert facts["money"]["model"] == "gpt-4-0125-preview"
    assert facts["money"]["price"]["as_of"] == "2024-03-04"


def test_a_folder_of_another_run_is_told(tmp_path):
    folder = RunFolder(tmp_path / "run")
    options = RunOptions(tasks=("resnet50_layer4",), units=4, out=folder.path, device="cpu", profile="paper")
    folder.create_or_continue(options.identity() | {"seed": 7, "content": {}}, {})
    notes = make_plan(options, Display("quiet"))["notes"]
    assert any("holds a different one (seed: 7 before, 0 now)" in note for note in notes)


# ---- planned and actual ----


def test_a_session_is_recorded_beside_its_plan(tmp_path):
    folder, display = RunFolder(tmp_path / "run"), Display("quiet")
    folder.create_or_continue({"test": 1}, {})
    roles = CountedRoles(MINIATURE, torch.device("cpu"))
    roles.tally.update(target=190, clip=150, generated=40)
    with display.stage("cells", 4, parts={"free": 4}) as stage:
        for _ in range(4):
            with stage.part("free", 1):
                pass
    for _ in range(2):
        record_outcome(folder, counted(work("free")), roles, display)
    sessions = folder.info()["facts"]["plan"]["sessions"]
    assert len(sessions) == 2
    assert sessions[0]["planned"]["target"] == {"expected": 150, "most": 150}
    actual = sessions[0]["actual"]
    assert (actual["cells"], actual["target"], actual["generated"]) == (4, 190, 40)
    assert (actual["language_calls"], actual["usd"]) == (0, 0)
    assert "cells: free" in actual["seconds"]
    lines = outcome_lines(sessions[0])
    assert lines[0].startswith("done of planned: cells 4 of 4, images 0 of 50, target passes 190 of 150")
    record_outcome(folder, counted(work("free"), done=lambda key, kind: True), roles, display)
    assert len(folder.info()["facts"]["plan"]["sessions"]) == 2


def test_roles_count_what_their_models_are_given():
    roles = CountedRoles(MINIATURE, torch.device("cpu"))
    images = torch.zeros(5, 3, 64, 64, dtype=torch.uint8)
    target = roles.target("resnet18")
    target.read(images, {"layer4": "mean"})
    roles.target("resnet18").read(images[:2], {"layer4": "mean"})
    roles.clip.encode_images(images)
    drawn = roles.generator.generate("red car", 3, 1)
    assert len(drawn) == 3
    assert roles.tally == {"target": 7, "clip": 5, "generated": 3}
    assert roles.unknown_texts() == 0
    roles.generator.generate("zzz", 1, 1)
    assert roles.unknown_texts() == 1


def test_what_a_cache_gives_is_not_counted(tmp_path):
    images = torch.zeros(5, 3, 64, 64, dtype=torch.uint8) + torch.arange(5, dtype=torch.uint8)[:, None, None, None]
    for left in (5, 0):
        roles = CountedRoles(MINIATURE, torch.device("cpu"), cache=Cache(tmp_path))
        roles.clip.encode_images(images)
        roles.captioner.caption(images)
        assert (roles.tally["clip"], roles.tally["captioned"]) == (left, left)
    roles.plain_clip.encode_images(images)
    assert roles.tally["clip"] == 5
