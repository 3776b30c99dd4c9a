"""The cost of requests and the cap on it: a price that is not given is unknown, never zero."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pydantic import RootModel

from tasks.common.validation import parse
from tasks.common.yamlfile import read_yaml
from tasks.language.chat import Message, PriceCapError
from tasks.language.config import PriceEntry
from tasks.language.replies import ReplyStore

_TABLE = Path(__file__).parent / "prices.yaml"
# Chat templates add a few tokens to each turn; no known template adds this many.
_TOKENS_A_TURN = 32
# No server says in advance how many tokens an image counts. The highest known number for an image of at most 512 px
# per side is 8,500 for gpt-4o-mini (gpt-4o: 255; Llama 3.2 at a public host: 1,601).
_TOKENS_A_PICTURE = 10_000


@cache
def price_table() -> dict[str, PriceEntry]:
    """Model → price, from the dated table in this package."""
    return parse(RootModel[dict[str, PriceEntry]], read_yaml(_TABLE), str(_TABLE)).root


def cost(price: PriceEntry, prompt_tokens: int, completion_tokens: int) -> float:
    """USD of one request."""
    return (prompt_tokens * price.input + completion_tokens * price.output) / 1e6


def most_prompt_tokens(messages: Sequence[Message]) -> int:
    """An upper bound on the tokens of a chat for any byte-level tokenizer: one per byte, and some per turn.

    An image counts 10,000, more than is known of any model; the reply corrects it.
    """
    said = sum(len(message.content.encode()) + _TOKENS_A_TURN for message in messages) + _TOKENS_A_TURN
    return said + _TOKENS_A_PICTURE * sum(len(message.pictures) for message in messages)


class Spending:
    """Books each request before it is made, at its highest possible cost, and corrects the booking by the reply.

    A request without a reply keeps its booking, since a server may bill it. Bookings are kept in the store, so the cap
    holds over resumed runs and over all processes that share the store.

    Args:
        model: Name of the model whose price is looked up.
        price: USD per million tokens; None looks it up in the table.
        cap: Maximum USD that all requests of the store together may cost; None sets no cap.

    Raises:
        PriceCapError: A cap is set, but the model's price is unknown.
    """

    def __init__(
        self, store: ReplyStore, model: str, price: PriceEntry | None = None, cap: float | None = None
    ) -> None:
        self.store = store
        self.model = model
        self.price = price or price_table().get(model)
        self.cap = cap
        if cap is not None and self.price is None:
            raise PriceCapError(
                f"The price of the model {model!r} is unknown, so a price cap cannot be kept: give 'price' (input, "
                "output, as_of, source) in the profile, or remove price_cap_usd."
            )

    def book(self, messages: Sequence[Message], max_tokens: int) -> int:
        """Book one request at its highest possible cost, and return the booking's number.

        Raises:
            PriceCapError: The request could exceed the cap; the message gives the spent and the remaining amount.
        """
        most = None if self.price is None else cost(self.price, most_prompt_tokens(messages), max_tokens)
        booking, spent = self.store.book(self.model, most, self.cap)
        if booking is None and self.cap is not None and most is not None:
            raise PriceCapError(
                f"The price cap of ${self.cap:.2f} is reached: ${spent:.4f} spent, ${max(self.cap - spent, 0):.4f} "
                f"remaining, and the next request could cost ${most:.4f}. Raise --budget (or price_cap_usd in the "
                "profile) and run the same command again: what is done is not paid for again."
            )
        assert booking is not None  # noqa: S101 - only a cap refuses
        return booking

    def settle(self, booking: int, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Correct a booking by the reply's token counts; a reply without counts keeps the highest cost."""
        known = prompt_tokens is not None and completion_tokens is not None
        usd = cost(self.price, prompt_tokens or 0, completion_tokens or 0) if known and self.price else None
        self.store.settle(booking, prompt_tokens, completion_tokens, usd)
