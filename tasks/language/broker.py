"""One process asks the language models on servers for all workers of a run.

So that an equal request in flight is joined instead of made, the price cap and the rate limit hold for the whole run,
and no worker holds a key. The order is that of ``CachedChat``: book, ask, store, answer. A worker that is lost costs no
second payment; a broker that is lost at most the requests in flight, which stay booked at their highest price.

How an engine hosts it:

* One process, on the host of the driver and with the key in its environment, makes ``Roles(...).broker()``. It calls
  ``ask`` from as many threads as there may be requests in flight.
* Each worker builds its roles with ``ask=``, a function with the signature of ``Ask`` that carries the call to that
  process. Arguments and result are plain dataclasses; of a summariser they take a few kB, of a describer they hold its
  pictures (up to 0.8 MB each).
* A worker is started with each of ``key_variables(profile)`` set to an empty text.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tasks.common.errors import UserError
from tasks.language import chat
from tasks.language.chat import ChatModel, LanguageModelError, Message, Reply
from tasks.language.config import OpenAISource

Role: TypeAlias = Literal["summariser", "describer"]


@dataclass(frozen=True)
class Refused:
    """An error as plain text, as it travels between processes.

    Attributes:
        kind: Name of a class in ``tasks.language.chat``.
    """

    kind: str
    reason: str


Ask: TypeAlias = Callable[[Role, Sequence[Message], float, int, int], Reply | Refused]
"""``ask(role, messages, temperature, max_tokens, seed)``, see ``ChatModel.chat``."""


class Broker:
    """Asks for all processes of a run; safe for several threads.

    Args:
        model: Returns the model of a role, e.g. a ``CachedChat``; called with one thread at a time.
    """

    def __init__(self, model: Callable[[Role], ChatModel]) -> None:
        self._model = model
        self._making = threading.Lock()

    def ask(
        self, role: Role, messages: Sequence[Message], temperature: float, max_tokens: int, seed: int
    ) -> Reply | Refused:
        """The reply, which is stored before this returns, or why there is none; see ``Ask``."""
        try:
            with self._making:
                model = self._model(role)
                _ = model.identity  # what is made on first use is made here, by one thread
            return model.chat(messages, temperature=temperature, max_tokens=max_tokens, seed=seed)
        except UserError as error:
            return Refused(type(error).__name__, str(error))


class BrokeredChat:
    """A worker's language model: every request goes to the broker.

    Args:
        identity: The model's name.
        ask: Carries a request to the broker.
    """

    def __init__(self, role: Role, identity: str, ask: Ask) -> None:
        self.role: Role = role
        self.identity = identity
        self._ask = ask

    def chat(self, messages: Sequence[Message], *, temperature: float, max_tokens: int, seed: int) -> Reply:
        """Answer the last message; see ``tasks.language.chat.ChatModel``."""
        found = self._ask(self.role, messages, temperature, max_tokens, seed)
        if isinstance(found, Reply):
            return found
        known = getattr(chat, found.kind, None)
        raise (known if known in LanguageModelError.__subclasses__() else LanguageModelError)(found.reason)


def key_variables(sources: Iterable[object]) -> tuple[str, ...]:
    """The environment variables that hold keys of these entries of a profile, which no worker needs."""
    found = (source.key_variable for source in sources if isinstance(source, OpenAISource))
    return tuple(dict.fromkeys(name for name in found if name))
