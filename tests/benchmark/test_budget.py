from __future__ import annotations

import pytest
import typer

from benchmark.commands.arguments import budgets
from benchmark.core.budget import BudgetReached, TimeBudget, with_budget
from tasks.common.errors import UserError
from tasks.language.client import OpenAIChat
from tasks.language.config import OpenAISource, PriceEntry
from tasks.profiles.schema import load_profile

PRICE = PriceEntry(input=1, output=1, as_of="2026-01-01", source="a test")


class Clock:
    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("texts", "fields"),
    [
        (None, {}),
        (["5USD"], {"budget_usd": 5.0}),
        (["0.5 usd", "2h"], {"budget_usd": 0.5, "budget_seconds": 7200.0}),
        (["30min,1.5USD"], {"budget_usd": 1.5, "budget_seconds": 1800.0}),
        (["90 s"], {"budget_seconds": 90.0}),
    ],
)
def test_budgets_are_an_amount_and_a_unit(texts, fields):
    assert budgets(texts) == fields


@pytest.mark.parametrize("text", ["5", "USD", "5EUR", "-5USD", "2h30", "1e3USD", "nanUSD", "5USD!", "$5"])
def test_anything_else_is_no_budget(text):
    with pytest.raises(typer.BadParameter, match="is not a budget: give an amount with a unit"):
        budgets([text])


@pytest.mark.parametrize(
    ("texts", "message"), [(["2h", "30min"], "time twice"), (["1USD,2USD"], "money twice"), (["0h"], "more than 0")]
)
def test_budgets_that_contradict_or_allow_nothing(texts, message):
    with pytest.raises(UserError, match=message):
        budgets(texts)


def test_time_runs_out_before_work_that_would_not_end_in_time():
    clock = Clock()
    budget = TimeBudget(100.0, clock)
    clock.now += 60
    budget.check("dnd fog 3")
    budget.check("dnd fog 3", 40.0)
    with pytest.raises(BudgetReached) as caught:
        budget.check("dnd fog 3", 40.5)
    assert str(caught.value) == (
        "The time budget of 1 min 40 s is reached: 1 min 00 s spent, 40.0 s remaining, the next step is dnd fog 3, "
        "which takes about 40.5 s. Run the same command again, with a higher --budget if necessary: finished work is "
        "not repeated."
    )


def test_work_of_unknown_cost_begins_while_there_is_time_and_not_after():
    clock = Clock()
    budget = TimeBudget(100.0, clock)
    clock.now += 99.9
    budget.check("faithfulness")
    clock.now += 0.1
    with pytest.raises(BudgetReached, match=r"0\.0 s remaining, the next step is faithfulness\. Run"):
        budget.check("faithfulness")


def test_without_a_budget_time_never_runs_out():
    clock = Clock()
    budget = TimeBudget(None, clock)
    clock.now += 1e9
    budget.check("dnd", 1e9)


@pytest.mark.parametrize("usd", [2.0, 500.0])
def test_the_cap_of_the_client_is_that_of_the_budget(usd):
    source = OpenAISource(loader="openai", model="new", price=PRICE, price_cap_usd=10.0, licence="none")
    profile = load_profile("miniature").model_copy(update={"summariser": source})
    changed = with_budget(profile, usd)
    assert isinstance(changed.summariser, OpenAISource)
    assert OpenAIChat(changed.summariser)._spending.cap == usd
    assert with_budget(profile, None) is profile
    assert changed.identity((), ()) == profile.identity((), ())


def test_a_budget_needs_a_price():
    source = OpenAISource(loader="openai", model="new", licence="none")
    profile = load_profile("miniature").model_copy(update={"summariser": source})
    with pytest.raises(UserError, match="The price of the model 'new' is unknown, so --budget 5USD cannot be enforced"):
        with_budget(profile, 5.0)


def test_money_caps_nothing_where_nothing_is_paid_for():
    profile = load_profile("miniature")
    assert with_budget(profile, 5.0) is profile
