"""Use of language models in tokens, and its cost by the dated price table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from baselines.costs import NOTHING, UNKNOWN, Amount, Cost
from tasks.language.chat import Message
from tasks.language.config import OpenAISource, TransformersSource
from tasks.language.prices import cost, most_prompt_tokens, price_table
from tasks.language.prompts import (
    MOST_LETTERS,
    corrected_messages,
    propose_messages,
    simplify_messages,
    summarise_messages,
)
from tasks.profiles.schema import Profile
from tasks.profiles.sources import FactorySource

LETTERS_A_TOKEN: Final = 4
"""Rule of thumb for English text."""
CAPTION_LETTERS: Final = 60
REPLY_TOKENS: Final = 8
_WIDEST: Final = "\U00010400" * MOST_LETTERS
"""The longest caption or reply that is sent, in letters of four bytes each."""


def language_roles(profile: Profile) -> set[str]:
    """The roles that are filled by a language model, or by a user's own function, which may ask one."""
    sources = {"summariser": profile.summariser, "describer": profile.describer}
    return {role for role, source in sources.items() if source is not None and not isinstance(source, str)}


def language_counts(cost: Cost, profile: Profile) -> tuple[Amount, Amount, Amount]:
    """Answers requested from language models, prompt tokens and completion tokens.

    At most, each summary and proposal is requested twice and every text has its maximum length; a request that fails in
    transit is repeated, which counts once. Tokens of images and of a user's own function are unknown.

    Args:
        cost: Use of the summariser, which also proposes, and of the describer.
        profile: Defines the two roles; a role that is not a language model counts as none.
    """
    source = profile.summariser
    simplified = cost.simplified
    summarised, proposed = (Amount(_twice(one.most), one.expected) for one in (cost.summarised, cost.proposed))
    if "summariser" not in language_roles(profile):
        simplified = summarised = proposed = NOTHING
    elif isinstance(source, OpenAISource | TransformersSource) and source.mode == "llama2":
        simplified = NOTHING
    described = NOTHING if profile.describer is None else cost.described
    calls = simplified + summarised + proposed + described
    if calls == NOTHING:
        return NOTHING, NOTHING, NOTHING
    if described != NOTHING or not isinstance(source, OpenAISource | TransformersSource):
        return calls, UNKNOWN, UNKNOWN
    read = _tokens(simplified, _simplify(_WIDEST, exact=False), _simplify("x" * CAPTION_LETTERS, exact=True))
    captions = cost.summary_captions
    usual = "x" * (CAPTION_LETTERS // 2)
    summaries = (summarise_messages([text] * captions, source.mode) for text in (_WIDEST, usual))
    proposals = (propose_messages([(text, 0.0)] * cost.proposal_concepts) for text in (_WIDEST, usual))
    read += _asked(summarised, *summaries) + _asked(proposed, *proposals)
    return calls, read, _tokens(calls, source.max_tokens, REPLY_TOKENS)


def money(profile: Profile, read: Amount, written: Amount) -> dict[str, Any]:
    """Cost of a run's tokens.

    Returns:
        ``usd``: an amount, unknown without a price; ``model``, ``price`` (see ``tasks.language.config.PriceEntry``;
        null where unknown), ``cap`` in USD, null without one.
    """
    source = profile.summariser
    if not isinstance(source, OpenAISource) and read.most is None:
        source = profile.describer or source
    if not isinstance(source, OpenAISource):
        asked = isinstance(source, FactorySource) and read.most is None
        return {"usd": UNKNOWN if asked else NOTHING, "model": None, "price": None, "cap": None}
    price = source.price or price_table().get(source.model)
    usd = UNKNOWN
    if price is not None:
        most = None if read.most is None or written.most is None else _usd(price, read.most, written.most)
        both = read.expected is not None and written.expected is not None
        usd = Amount(most, _usd(price, read.expected or 0, written.expected or 0) if both else None)
    shown = None if price is None else price.model_dump(mode="json")
    return {"usd": usd, "model": source.model, "price": shown, "cap": source.price_cap_usd}


def _usd(price: Any, read: float, written: float) -> float:
    return cost(price, round(read), round(written))


def _asked(calls: Amount, widest: Sequence[Message], usual: Sequence[Message]) -> Amount:
    # The second request contains the first one, its reply and more; each is half of what is counted.
    most = (most_prompt_tokens(widest) + most_prompt_tokens(corrected_messages(widest, _WIDEST))) / 2
    return _tokens(calls, most, sum(len(m.content) for m in usual) / LETTERS_A_TOKEN)


def _simplify(caption: str, exact: bool) -> float:
    messages = simplify_messages(caption)
    return sum(len(m.content) for m in messages) / LETTERS_A_TOKEN if exact else most_prompt_tokens(messages)


def _tokens(calls: Amount, most: float, usual: float) -> Amount:
    return Amount(
        None if calls.most is None else calls.most * most, None if calls.expected is None else calls.expected * usual
    )


def _twice(number: float | None) -> float | None:
    return None if number is None else 2 * number
