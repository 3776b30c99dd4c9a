"""What requests cost, and the cap on it: a price that nobody wrote down is unknown, never zero."""

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
# Chat templates put a few tokens around each turn; no known one needs as many.
_TOKENS_A_TURN = 32
# No server says beforehand what a picture counts. The most that is known of one of at most 512 px a side are the 8,500
# of gpt-4o-mini (gpt-4o: 255; Llama 3.2 at a public host: 1,601).
_TOKENS_A_PICTURE = 10_000


@cache
def price_table() -> dict[str, PriceEntry]:
    """Model → price, from the dated table in this package."""
    return parse(RootModel[dict[str, PriceEntry]], read_yaml(_TABLE), str(_TABLE)).root


def cost(price: PriceEntry, prompt_tokens: int, completion_tokens: int) -> float:
    """USD of one request."""
    return (prompt_tokens * price.input + completion_tokens * price.output) / 1e6


def most_prompt_tokens(messages: Sequence[Message]) -> int:
    """More tokens than any byte-level tokenizer makes of a chat: one for each byte, and some for each turn.

    A picture counts 10,000, above what is known of any model; the reply corrects it.
    """
    said = sum(len(message.content.encode()) + _TOKENS_A_TURN for message in messages) + _TOKENS_A_TURN
    return said + _TOKENS_A_PICTURE * sum(len(message.pictures) for message in messages)


class Spending:
    """Books each request before it is made, at the most it can cost, and corrects the booking by its reply.

    A request whose reply never came keeps its booking, since a server may bill it. Bookings live in the store, so the
    cap holds over resumed runs and over all processes that share the store.

    Args:
        store: Where requests are booked.
        model: Whose price counts.
        price: The price; None looks it up in the table.
        cap: Most USD that all requests of the store together may cost; None sets no cap.

    Raises:
        PriceCapError: There is a cap, but the model's price is unknown.
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
        """Book one request at its highest cost, and return the booking's number.

        Raises:
            PriceCapError: It could exceed the cap; the sentence says what is spent and what remains.
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
        """Correct a booking by what the reply says; a reply that does not count its tokens keeps the highest cost."""
        known = prompt_tokens is not None and completion_tokens is not None
        usd = cost(self.price, prompt_tokens or 0, completion_tokens or 0) if known and self.price else None
        self.store.settle(booking, prompt_tokens, completion_tokens, usd)
