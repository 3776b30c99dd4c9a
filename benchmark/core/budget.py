"""``--budget``: a run stops before it costs more, in money or in time, and finished work is kept.

Money is tracked by the language model's client, which books each request before it is made (``tasks.language.prices``);
here the run's cap replaces the profile's. It applies to all sessions of a run together. Time counts from the start of
one session and is checked before each piece of work: work that would not finish in time at the measured rate is not
started. Work that has never been measured is started while there is any time left.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmark.core.progress import duration
from tasks.common.errors import UserError
from tasks.language.config import OpenAISource
from tasks.language.prices import price_table
from tasks.profiles.schema import Profile


class BudgetReached(UserError):
    """The time of ``--budget`` does not suffice for the next piece of work."""


class TimeBudget:
    """Time limit of one session.

    Args:
        seconds: The limit; None for no limit.
        clock: Seconds from any origin; for tests.
    """

    def __init__(self, seconds: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._started = clock()

    def check(self, what: str, expected: float | None = None) -> None:
        """Stop before work that would not finish in time.

        Args:
            what: The next piece of work, for the message.
            expected: Its duration in seconds, if known.

        Raises:
            BudgetReached: It would not; the message gives the time spent, the time remaining and how to continue.
        """
        if self.seconds is None:
            return
        spent = self._clock() - self._started
        left = self.seconds - spent
        if left > 0 and (expected or 0.0) <= left:
            return
        needs = "" if expected is None else f", which takes about {duration(expected)}"
        raise BudgetReached(
            f"The time budget of {duration(self.seconds)} is reached: {duration(spent)} spent, "
            f"{duration(max(left, 0.0))} remaining, the next step is {what}{needs}. "
            "Run the same command again, with a higher --budget if necessary: finished work is not repeated."
        )


def with_budget(profile: Profile, usd: float | None) -> Profile:
    """The profile with the run's cap on money instead of its own; unchanged if nothing costs money.

    Args:
        usd: ``--budget``, in USD; None keeps the profile's cap.

    Raises:
        UserError: The price of the language model is unknown, so that no cap can be enforced.
    """
    update = {}
    for role in ("summariser", "describer"):
        source = getattr(profile, role)
        if usd is None or not isinstance(source, OpenAISource):
            continue
        if source.price is None and source.model not in price_table():
            raise UserError(
                f"The price of the model {source.model!r} is unknown, so --budget {usd:g}USD cannot be enforced: give "
                "'price' (input, output, as_of, source) in the profile, or omit the budget."
            )
        # Both roles book their requests in the same file, so this is a cap on their sum.
        update[role] = source.model_copy(update={"price_cap_usd": usd})
    return profile.model_copy(update=update) if update else profile
